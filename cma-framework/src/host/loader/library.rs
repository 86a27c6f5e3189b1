//! Loads the algorithm of an image: with the dynamic linker (libloading), then abi_stable for a
//! plug-in in Rust, or `cma_api::c_v1` for one in C.
//!
//! Libraries are never unloaded: a thread that the plug-in has started, or a destructor of a thread
//! local, would run unmapped code.

use super::elf::abi_stable_mismatch;
use super::image::Image;
use super::{LoadFailure, PluginInterface};
use cma_api::Algorithm;
use cma_api::abi_stable::library::{
    AbiHeaderRef, LibHeader, LibraryError, ROOT_MODULE_LOADER_NAME_WITH_NUL, RootModule,
    RootModuleError,
};
use cma_api::c_v1::{self, CAllocator, Table, TableFault};
use cma_api::v1::AllocatorModuleRef;
use cma_descendants::check_proc;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use once_cell::sync::OnceCell;
use std::error::Error;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::process;
use std::sync::{Arc, Mutex, PoisonError};

/// The libraries that this process has loaded or is loading.
static LOADED: Mutex<Vec<Arc<LoadedLibrary>>> = Mutex::new(Vec::new());

/// A library, which is loaded at most once for the same content. One that the dynamic linker
/// refuses is removed from [`LOADED`].
struct LoadedLibrary {
    /// Open while the library is loaded, with or without a header: the dynamic linker identifies
    /// the library by a path with the number of this descriptor, and would take a later file with
    /// the same number for this one. Debuggers use the path, too.
    image: Image,
    header: OnceCell<Header>,
}

/// What the dynamic linker has found in a library.
#[derive(Clone)]
enum Header {
    /// Nothing that makes it a plug-in.
    None,
    /// The header of abi_stable.
    Rust(AbiHeaderRef),
    /// The table of a plug-in in C, checked.
    C(Result<&'static CAllocator, TableFault>),
}

/// Loads the library in `image`. Returns its algorithm and the version of the interface that it is
/// built for.
pub(super) fn algorithm(image: Image) -> Result<(Algorithm, &'static str), LoadFailure> {
    match link(image)? {
        Header::None => Err(LoadFailure::NoHeader),
        Header::Rust(header) => {
            let (module, version) = bind(header.upgrade().map_err(failure)?)?;
            Ok((module.into(), version))
        }
        Header::C(plugin) => Ok((Algorithm::C(plugin?), C_INTERFACE)),
    }
}

/// The interface of a plug-in in C.
const C_INTERFACE: &str = "C 1";
const _: () = assert!(c_v1::VERSION == 1);

/// Opens the library with the dynamic linker, unless the same content is loaded already. Another
/// caller with the same content waits until the constructors have returned; callers with other
/// libraries don't.
///
/// The dynamic linker opens the copy in memory and not the file. It identifies libraries by path
/// and inode, so for a rebuilt file it would return the old code. It maps a library instead of
/// reading it, so overwriting the file, as `cp` does, or truncating it would change running code.
fn link(image: Image) -> Result<Header, LoadFailure> {
    let loaded = || LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let library = {
        let mut loaded = loaded();
        // A copy that can't be compared counts as different.
        let same =
            loaded.iter().find(|other| other.image.is_same(&image).unwrap_or(false)).cloned();
        same.unwrap_or_else(|| {
            let library = Arc::new(LoadedLibrary { image, header: OnceCell::new() });
            loaded.push(library.clone());
            library
        })
    };
    let header = library.header.get_or_try_init(|| open(&library.image)).cloned();
    if header.is_err() {
        // Another caller that is opening it now holds a third reference.
        let is_unused = |other: &Arc<LoadedLibrary>| {
            Arc::ptr_eq(other, &library) && Arc::strong_count(other) == 2
        };
        loaded().retain(|other| !is_unused(other));
    }
    header
}

/// Opens the library with the dynamic linker and looks up its header. All symbols are bound now,
/// and other libraries can't see them. A library with both headers is one in Rust.
fn open(image: &Image) -> Result<Header, LoadFailure> {
    let interface = image.interface().map_err(LoadFailure::NoCopy)?;
    check_proc().map_err(LoadFailure::NoProc)?;
    // With the process number instead of `self`, so that a debugger can open it, too.
    let path = format!("/proc/{}/fd/{}", process::id(), image.file().as_raw_fd());
    // SAFETY: opening runs the library's constructors. The caller trusts the plug-in's code, as the
    // documentation of `loader` says; the copy was checked to be a complete library for this
    // process, and it is sealed.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
    // Never closed, even if it is refused below.
    let library = ManuallyDrop::new(library.map_err(|error| unlinkable(&error))?);
    // The dynamic linker also finds the symbols of libraries that this one needs. The interface is
    // the one that was checked in the file, not that of another plug-in among those.
    Ok(match interface {
        PluginInterface::Rust => {
            // SAFETY: the symbol of this name is abi_stable's and is the header of a library
            // (`LibHeader`), whose first field `AbiHeaderRef` refers to. `elf::check` has checked
            // that the constant at its start is abi_stable's, and the library is never unloaded.
            let header = unsafe { library.get::<AbiHeaderRef>(ROOT_MODULE_LOADER_NAME_WITH_NUL) };
            header.map_or(Header::None, |header| Header::Rust(*header))
        }
        PluginInterface::C => {
            // SAFETY: nothing but the address of the symbol is used here.
            let table = unsafe { library.get::<*const Table>(c_v1::SYMBOL) };
            table.map_or(Header::None, |table| {
                // SAFETY: `elf::check` has checked that the symbol of this name starts with version
                // and size, and is a whole table if both are right. What the table says is the
                // plug-in's word, which is trusted as its code is. The library is never unloaded.
                Header::C(unsafe { Table::read(*table) })
            })
        }
    })
}

/// The refusal with the dynamic linker's message.
fn unlinkable(error: &libloading::Error) -> LoadFailure {
    let message = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    LoadFailure::Unlinkable(one_line(&message))
}

/// Checks the library's interface and calls its start function.
///
/// A later version of the interface is to be tried here before this one: both use the same header,
/// and a module of the older version is converted to the newer.
fn bind(header: &'static LibHeader) -> Result<(AllocatorModuleRef, &'static str), LoadFailure> {
    let theirs = header.root_mod_consts().name();
    if theirs != AllocatorModuleRef::NAME {
        return Err(LoadFailure::Application {
            theirs: theirs.into(),
            ours: AllocatorModuleRef::NAME,
        });
    }
    // abi_stable accepts a library without a layout unchecked.
    if header.layout().is_none() {
        return Err(LoadFailure::Unchecked);
    }
    let version = header.version_strings().version.as_str();
    match header.init_root_module::<AllocatorModuleRef>() {
        Ok(module) => Ok((module, version)),
        Err(
            LibraryError::IncompatibleVersionNumber { .. } | LibraryError::ParseVersionError(_),
        ) => Err(LoadFailure::Interface { theirs: one_line(version), ours: interface() }),
        Err(error) => Err(failure(error)),
    }
}

/// The version of the interface that this program supports.
pub(super) fn interface() -> &'static str {
    AllocatorModuleRef::VERSION_STRINGS.version.as_str()
}

/// The refusal for an error of abi_stable.
fn failure(error: LibraryError) -> LoadFailure {
    match error {
        LibraryError::InvalidAbiHeader(theirs) => {
            abi_stable_mismatch(format!("{}.{}", theirs.abi_major, theirs.abi_minor))
        }
        LibraryError::RootModule { err: RootModuleError::Unwound, .. } => LoadFailure::Panicked,
        LibraryError::RootModule { err: RootModuleError::Returned(reason), .. } => {
            LoadFailure::Declined(one_line(&reason.to_string()))
        }
        LibraryError::AbiInstability(report) => LoadFailure::Layout {
            version: interface(),
            differences: differences(&report.to_string()),
        },
        other => LoadFailure::Layout {
            version: interface(),
            differences: vec![one_line(&other.to_string())],
        },
    }
}

/// A summary of abi_stable's layout report: for each difference the innermost type, the property,
/// and both values. The report has hundreds of lines, because it prints both layouts of every type
/// that contains a difference.
fn differences(report: &str) -> Vec<String> {
    const MOST: usize = 4;
    let mut found = Vec::new();
    // Each part: "N error(s)inside:", the types from the outermost inwards, "Layout of ...", then
    // "Error:", "Expected:" and "Found:".
    for part in report.split("error(s)inside:") {
        let types = part.split("Layout of expected type:").next().unwrap_or_default();
        let within = types.lines().filter_map(|line| line.trim().strip_prefix("type:")).next_back();
        for error in part.split("\nError:").skip(1) {
            let mut lines = error.lines().map(str::trim);
            let property = lines.next().unwrap_or_default();
            let mut after = |label| {
                lines.by_ref().skip_while(|line| *line != label).nth(1).unwrap_or("nothing")
            };
            let (expected, theirs) = (after("Expected:"), after("Found:"));
            let within = within.map(|name| format!("in {name}, ")).unwrap_or_default();
            found.push(one_line(&format!(
                "{within}{property}: expected {expected}, found {theirs}"
            )));
        }
    }
    let left = found.len().saturating_sub(MOST);
    found.truncate(MOST);
    if left > 0 {
        found.push(format!("and {left} more"));
    }
    found
}

/// Text of a library or the system as one short line, to be quoted in a message.
pub(super) fn one_line(text: &str) -> String {
    const LIMIT: usize = 300;
    let words =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let mut line = words.collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(LIMIT) {
        line.truncate(end);
        line.push_str(" ...");
    }
    line
}

#[cfg(test)]
mod tests;
