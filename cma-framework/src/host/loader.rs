//! Loads allocator plug-ins while the host runs, and refuses files that are not plug-ins.
//!
//! [`Plugin::load`] loads one file, [`load_all`] every plug-in on a [`SearchPath`], and
//! [`Arrivals`] reports files that appear later. Every refusal is a [`LoadError`] with the file,
//! the reason and a remedy.
//!
//! # Terms
//!
//! - *Sealed copy*: the content of the file in a memory file (memfd) that can't be changed. The
//!   file is read once; every later step uses the copy, so what was checked is what runs.
//! - *Image*: a sealed copy that has passed the checks of its content.
//! - *Trial*: a load in child processes, so that a crash doesn't end the host. Optional.
//! - *Supervisor*: the child process that starts the subject, limits its time and kills what it
//!   leaves running.
//! - *Subject*: the child process that loads the image.
//! - *Plug-in*: an algorithm that is loaded into this process, in Rust or in C, or linked into the
//!   program.
//!
//! # Order of the checks
//!
//! 1. The file: kind, first bytes (ELF header, machine) and size (`image`).
//! 2. The sealed copy: ELF structure and plug-in header (`elf`). No code of the library has run.
//! 3. The trial, if there is one: steps 4 to 6 in the subject, a panic that the plug-in must catch,
//!    and an allocator for a small region (`trial`).
//! 4. The dynamic linker opens the image and runs its constructors (`library`).
//! 5. The ABI. Of a plug-in in Rust, by abi_stable: the version of `cma-api`, and the layout of
//!    every type that crosses the ABI boundary. Of one in C: the version and the size of its table,
//!    and that it has every function that it must have (`library`).
//! 6. The plug-in's name, version and description.
//!
//! Nothing can check that a library does what its types promise. A plug-in is trusted like any
//! other native code that a program links to.

mod arrivals;
mod elf;
mod failure;
mod image;
mod library;
mod origin;
mod search;
mod trial;

use crate::vocabulary::allocator_name_fault;
pub use arrivals::{Arrival, Arrivals};
use cma_api::abi_stable::std_types::RString;
use cma_api::text_fault;
use cma_api::v1::AllocatorBox;
use cma_api::{Algorithm, PageRange};
pub use failure::{LoadError, LoadFailure};
use image::Image;
pub use origin::{Origin, SEARCH_VARIABLE};
pub use search::{Candidate, SearchPath, is_plugin_name};
use std::any::TypeId;
use std::fmt;
use std::iter;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Builder};
use trial::Supervisors;
pub use trial::{Trial, Tried, trial_child};

/// An allocator algorithm that can manage regions, loaded from a library or linked into the
/// program. Clones are the same plug-in.
#[derive(Clone)]
pub struct Plugin {
    algorithm: Algorithm,
    code: Code,
    interface_version: &'static str,
    path: Option<Arc<Path>>,
}

/// Identifies an algorithm's code. Addresses of functions and constants don't: the compiler may
/// duplicate or merge them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Code {
    BuiltIn(TypeId),
    /// The address of the module's name in the library.
    Library(usize),
}

impl Plugin {
    /// The algorithm `A`, which is linked into the program. A name, version or description that
    /// [`load`](Self::load) would refuse doesn't compile.
    pub fn built_in<A: cma_api::Allocator>() -> Plugin {
        const {
            assert!(
                allocator_name_fault(A::INFO.name).is_none(),
                "unfit name in the allocator's INFO"
            );
            assert!(text_fault(A::INFO.version).is_none(), "unfit version in the allocator's INFO");
            assert!(
                text_fault(A::INFO.description).is_none(),
                "unfit description in the allocator's INFO"
            );
        }
        let code = Code::BuiltIn(TypeId::of::<A>());
        Plugin {
            algorithm: Algorithm::of::<A>(),
            code,
            interface_version: library::interface(),
            path: None,
        }
    }

    /// Loads the library at `path`. Loading the same content again, from any path, returns the same
    /// plug-in. If the file has been rebuilt, the new code is loaded beside the old code, which
    /// remains in use by its allocators. Libraries are never unloaded.
    ///
    /// The library runs from a copy in memory, so the file may be replaced, overwritten or removed
    /// at any time. This has two consequences: `$ORIGIN` doesn't find libraries that it depends on,
    /// and a profiler that looks up symbols by the path of a mapping (`/memfd:<file name>`) must be
    /// given the path of the file.
    ///
    /// # Errors
    ///
    /// See [`LoadFailure`].
    pub fn load(path: impl AsRef<Path>) -> Result<Plugin, LoadError> {
        let path = path.as_ref();
        let image = Image::read(path).map_err(|reason| LoadError::new(path, reason))?;
        Plugin::from_image(path, image)
    }

    /// Loads the library that was read from `path`.
    fn from_image(path: &Path, image: Image) -> Result<Plugin, LoadError> {
        let load = || {
            let (algorithm, interface_version) = library::algorithm(image)?;
            let code = Code::Library(algorithm.name().as_ptr().addr());
            let plugin = Plugin { algorithm, code, interface_version, path: Some(path.into()) };
            plugin.check_info()?;
            Ok(plugin)
        };
        load().map_err(|reason| LoadError::new(path, reason))
    }

    /// The name by which regions select it: printable ASCII, and valid in `cma=` text.
    pub fn name(&self) -> &'static str {
        self.algorithm.name()
    }

    /// The version of the algorithm.
    pub fn version(&self) -> &'static str {
        self.algorithm.version()
    }

    /// A description of the algorithm, in one line.
    pub fn description(&self) -> &'static str {
        self.algorithm.description()
    }

    /// The version of the interface that the plug-in was built for: that of `cma-api`, or `C 1` for
    /// a plug-in in C.
    pub fn interface_version(&self) -> &'static str {
        self.interface_version
    }

    /// The path that the library was loaded from; `None` for an algorithm that is linked into the
    /// program.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The algorithm as it is called, for hosts that call it themselves.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// A new allocator for the empty region `range`, with the parameters `params`.
    ///
    /// # Errors
    ///
    /// The plug-in's reason to refuse the region or the parameters, or the message of its panic.
    pub fn initialise(&self, range: PageRange, params: &str) -> Result<AllocatorBox, String> {
        self.start(range, params).map_err(String::from)
    }

    /// Like [`initialise`](Self::initialise), but returns the plug-in's own string, which the
    /// plug-in's code drops.
    pub(crate) fn start(&self, range: PageRange, params: &str) -> Result<AllocatorBox, RString> {
        self.algorithm.initialise(range, params)
    }

    fn check_info(&self) -> Result<(), LoadFailure> {
        for (field, text, fault) in [
            ("name", self.name(), allocator_name_fault(self.name())),
            ("version", self.version(), text_fault(self.version())),
            ("description", self.description(), text_fault(self.description())),
        ] {
            if let Some(fault) = fault {
                let found = text.chars().take(80).flat_map(char::escape_debug).collect();
                return Err(LoadFailure::BadInfo { what: field, found, fault });
            }
        }
        Ok(())
    }
}

impl PartialEq for Plugin {
    /// Whether both are the same code: of the same library, or of the same algorithm linked into
    /// the program.
    fn eq(&self, other: &Self) -> bool {
        self.code == other.code
    }
}

impl Eq for Plugin {}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin")
            .field("name", &self.name())
            .field("version", &self.version())
            .field("interface_version", &self.interface_version)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// The interface through which a plug-in is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PluginInterface {
    /// That of `cma_api::v1`, for plug-ins in Rust.
    Rust,
    /// That of `cma_allocator.h` (`cma_api::c_v1`), for plug-ins in C.
    C,
}

/// Checks the content `file` as [`Plugin::load`] does before it opens a library. None of its code
/// runs. A host can check a file with it before it stores the file among its plug-ins.
///
/// # Errors
///
/// The content is empty, not an ELF library for this machine, truncated or damaged, or it exports
/// no plug-in header that this program can read.
pub fn check_contents(file: &[u8]) -> Result<(), LoadFailure> {
    elf::check(file).map(drop)
}

/// Loads every plug-in on `search`, each after a `trial` if one is given. A file or folder that
/// can't be loaded has its error in the list; the others are loaded. Two libraries with the same
/// plug-in name are both loaded.
///
/// As many trials run at a time as this process has processors. The libraries are loaded one after
/// the other, in the order of the search path.
pub fn load_all(
    search: &SearchPath,
    trial: Option<&Trial>,
) -> Vec<(PathBuf, Result<Plugin, LoadError>)> {
    let supervisors = Supervisors::default();
    let try_out = |candidate: Result<Candidate, LoadError>| match candidate {
        Ok(Candidate { path, .. }) => {
            let tried = trial.map(|trial| trial.run_by(&supervisors, &path)).transpose();
            (path, tried)
        }
        Err(error) => (error.path().to_path_buf(), Err(error)),
    };
    let load = |(path, tried): (PathBuf, Result<Option<Tried>, LoadError>)| {
        let plugin = tried.and_then(|tried| match tried {
            Some(tried) => tried.load(),
            None => Plugin::load(&path),
        });
        (path, plugin)
    };
    let tried = in_parallel(search.candidates(), try_out);
    // They end while this process loads the libraries.
    supervisors.dismiss();
    tried.into_iter().map(load).collect()
}

/// The results of `work` for `items`, in their order, with a thread for each processor.
fn in_parallel<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let further = processors.min(items.len()).saturating_sub(1);
    let queue = Mutex::new(items.into_iter().enumerate());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let run = || iter::from_fn(next).map(|(at, item)| (at, work(item))).collect::<Vec<_>>();
    let mut results = thread::scope(|scope| {
        // A thread that can't be started is not needed: this one does the work, too.
        let start = |_| Builder::new().spawn_scoped(scope, run).ok();
        let threads: Vec<_> = (0..further).filter_map(start).collect();
        let mut results = run();
        for thread in threads {
            results.extend(thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        results
    });
    results.sort_unstable_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests;
