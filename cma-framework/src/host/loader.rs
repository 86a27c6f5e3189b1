//! Loading allocator plug-ins while the host runs, and refusing what is none.
//!
//! [`Plugin::load`] takes one file, [`load_all`] every plug-in on a [`SearchPath`]. A file is
//! refused by what can be read from it if possible, before any of its code runs; every refusal is a
//! [`LoadError`] that says which file, why, and what to do. What looks sound and still crashes can
//! be found out in another process with a [`Trial`]. The file is read once, into a sealed copy in
//! memory, and that copy is what is checked, tried and run.
//!
//! The contract that a plug-in was built for is checked by abi_stable: the version of `cma-api`,
//! and the layout of every type that crosses the border. Nothing can check that a library does what
//! its types promise: a plug-in is trusted like any other native code that a program links to.

mod arrivals;
mod elf;
mod failure;
mod image;
mod library;
mod search;
mod trial;

use crate::vocabulary::allocator_name_fault;
pub use arrivals::{Arrival, Arrivals};
use cma_api::PageRange;
use cma_api::abi_stable::std_types::RString;
use cma_api::text_fault;
use cma_api::v1::{AllocatorBox, AllocatorModuleRef, module_of};
pub use failure::{LoadError, LoadFailure};
use image::Image;
pub use search::{Candidate, Origin, SEARCH_VARIABLE, SearchPath, is_plugin_name};
use std::any::TypeId;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
pub use trial::{Trial, Tried, trial_child};

/// An allocator algorithm that regions can be given to: loaded from a library or linked into the
/// program. Clones are the same plug-in.
#[derive(Clone)]
pub struct Plugin {
    module: AllocatorModuleRef,
    code: Code,
    interface_version: &'static str,
    path: Option<Arc<Path>>,
}

/// What tells one algorithm's code from another's. (Addresses of functions and constants don't,
/// where the compiler is free to have several of one, or one for several.)
#[derive(Clone, Copy, PartialEq, Eq)]
enum Code {
    BuiltIn(TypeId),
    /// Where the library has its module's name.
    Library(usize),
}

impl Plugin {
    /// The algorithm `A`, which is linked into the program. A name, version or description that a
    /// library would be refused for doesn't compile.
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
            module: module_of::<A>(),
            code,
            interface_version: library::interface(),
            path: None,
        }
    }

    /// Loads the library at `path`. Loading the same content again, from there or from elsewhere,
    /// gives the same plug-in; when the file was rebuilt meanwhile, the new code is loaded beside
    /// the old, which stays in use where it is in use. Libraries are never unloaded.
    ///
    /// The library runs from a copy in memory, so the file may be replaced, written over or removed
    /// at any time. Two things follow: a library that it depends on is not found through `$ORIGIN`,
    /// and a profiler that looks for symbols by the path of a mapping (`/memfd:<file name>`) has to
    /// be told the file.
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
            let (module, interface_version) = library::module(image)?;
            let code = Code::Library(module.name().as_ptr().addr());
            let plugin = Plugin { module, code, interface_version, path: Some(path.into()) };
            plugin.check_info()?;
            Ok(plugin)
        };
        load().map_err(|reason| LoadError::new(path, reason))
    }

    /// The name under which regions ask for it. Printable ASCII, and fit for `cma=` text.
    pub fn name(&self) -> &'static str {
        self.module.name().as_str()
    }

    /// The algorithm's own version.
    pub fn version(&self) -> &'static str {
        self.module.version().as_str()
    }

    /// What it does, in one line.
    pub fn description(&self) -> &'static str {
        self.module.description().as_str()
    }

    /// The version of the interface (`cma-api`) that it was built for.
    pub fn interface_version(&self) -> &'static str {
        self.interface_version
    }

    /// The library, as it was named when it was loaded; `None` for one that is linked into the
    /// program.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// A new allocator for the empty region `range`, with the parameters its owner gave.
    ///
    /// # Errors
    ///
    /// What the plug-in says against the region or the parameters, or the message of its panic.
    pub fn initialise(&self, range: PageRange, params: &str) -> Result<AllocatorBox, String> {
        self.start(range, params).map_err(String::from)
    }

    /// The same; the error is the plug-in's own text, whose end is the plug-in's code.
    pub(crate) fn start(&self, range: PageRange, params: &str) -> Result<AllocatorBox, RString> {
        (self.module.initialise())(range, params.into()).into_result()
    }

    fn check_info(&self) -> Result<(), LoadFailure> {
        for (what, text, fault) in [
            ("name", self.name(), allocator_name_fault(self.name())),
            ("version", self.version(), text_fault(self.version())),
            ("description", self.description(), text_fault(self.description())),
        ] {
            if let Some(fault) = fault {
                let found = text.chars().take(80).flat_map(char::escape_debug).collect();
                return Err(LoadFailure::BadInfo { what, found, fault });
            }
        }
        Ok(())
    }
}

impl PartialEq for Plugin {
    /// Whether both are the same code: the same library's, or the same algorithm linked into the
    /// program.
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

/// Decides by the contents of a file, without running any of its code, whether
/// [`Plugin::load`] would open it as a library. A host can check a file with it before it stores it
/// among its plug-ins.
///
/// # Errors
///
/// What is wrong with the file: it is empty, no ELF library for this machine, cut off or damaged,
/// or it exports no plug-in header that this program reads.
pub fn check_contents(file: &[u8]) -> Result<(), LoadFailure> {
    elf::check(file)
}

/// Loads every plug-in on `search`, each after a `trial` if one is given. What can't be loaded is
/// reported in its place and the rest goes on. Two libraries that call themselves the same are both
/// loaded.
pub fn load_all(
    search: &SearchPath,
    trial: Option<&Trial>,
) -> Vec<(PathBuf, Result<Plugin, LoadError>)> {
    let load = |path: &Path| match trial {
        Some(trial) => trial.run(path)?.load(),
        None => Plugin::load(path),
    };
    let candidates = search.candidates().into_iter();
    candidates
        .map(|candidate| match candidate {
            Ok(Candidate { path, .. }) => {
                let plugin = load(&path);
                (path, plugin)
            }
            Err(error) => (error.path().to_path_buf(), Err(error)),
        })
        .collect()
}

#[cfg(test)]
mod tests;
