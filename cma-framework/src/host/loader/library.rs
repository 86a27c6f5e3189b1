//! From a checked copy to an allocator module: the dynamic linker through libloading, then
//! abi_stable.
//!
//! Libraries are never unloaded: what a plug-in started, a thread or a destructor of a thread
//! local, would run code that is gone.

use super::LoadFailure;
use super::elf::other_abi_stable;
use super::image::Image;
use cma_api::abi_stable::library::{
    AbiHeaderRef, LibHeader, LibraryError, ROOT_MODULE_LOADER_NAME_WITH_NUL, RootModule,
    RootModuleError,
};
use cma_api::v1::AllocatorModuleRef;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use once_cell::sync::OnceCell;
use std::error::Error;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::process;
use std::sync::{Arc, Mutex, PoisonError};

/// What this process has loaded, or is loading.
static LOADED: Mutex<Vec<Arc<Loaded>>> = Mutex::new(Vec::new());

/// One content, which is loaded at most once. What the dynamic linker refuses is not kept.
struct Loaded {
    /// Kept open as long as the library is loaded, whether it has a header or not: the dynamic
    /// linker knows the library by a path that leads to this descriptor, and would take a later
    /// file under the same number for this one. Debuggers follow the path, too.
    image: Image,
    header: OnceCell<Option<AbiHeaderRef>>,
}

/// The module that the library in `image` exports, and the version of the interface it is built
/// for.
pub(super) fn module(image: Image) -> Result<(AllocatorModuleRef, &'static str), LoadFailure> {
    bind(link(image)?.upgrade().map_err(failure)?)
}

/// Gives the library to the dynamic linker, unless this very content is loaded already. Who asks
/// for the same content meanwhile waits; other libraries don't, however long a constructor takes.
///
/// The dynamic linker gets the copy in memory and not the file. It tells libraries apart by their
/// path and inode, so for a file that was rebuilt it would answer with the old code; and it maps a
/// library instead of reading it, so a file that is written over, as `cp` does, or cut short would
/// pull running code away.
fn link(image: Image) -> Result<AbiHeaderRef, LoadFailure> {
    let all = || LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let library = {
        let mut all = all();
        // A copy that can't be compared is loaded as another one.
        let same = all.iter().find(|loaded| loaded.image.is_same(&image).unwrap_or(false)).cloned();
        same.unwrap_or_else(|| {
            let library = Arc::new(Loaded { image, header: OnceCell::new() });
            all.push(library.clone());
            library
        })
    };
    let header = library.header.get_or_try_init(|| open(&library.image)).copied();
    if header.is_err() {
        // Unless somebody else is trying it now.
        let is_mine =
            |loaded: &Arc<Loaded>| Arc::ptr_eq(loaded, &library) && Arc::strong_count(loaded) == 2;
        all().retain(|loaded| !is_mine(loaded));
    }
    header?.ok_or(LoadFailure::NoHeader)
}

/// Lets the dynamic linker open the library, with every symbol bound now and none of them seen by
/// other libraries, and looks up its header. `None` is a library that is loaded and in which the
/// dynamic linker doesn't find the header.
fn open(image: &Image) -> Result<Option<AbiHeaderRef>, LoadFailure> {
    // By the number of the process, not as `self`, so that a debugger finds it too.
    let path = format!("/proc/{}/fd/{}", process::id(), image.file().as_raw_fd());
    // SAFETY: opening runs the library's constructors. The caller trusts the plug-in's code, as the
    // module's documentation says; the file was checked to be a whole library for this process, and
    // nobody can change it.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
    // Never closed, also when it is refused below.
    let library = ManuallyDrop::new(library.map_err(|error| unlinkable(&error))?);
    // SAFETY: the symbol of this name is abi_stable's, and is the header of a library
    // (`LibHeader`), whose first field `AbiHeaderRef` refers to. `elf::check` has seen that the
    // constant at its start is abi_stable's, and the library is never unloaded.
    let header = unsafe { library.get::<AbiHeaderRef>(ROOT_MODULE_LOADER_NAME_WITH_NUL) };
    Ok(header.ok().map(|header| *header))
}

/// What the dynamic linker says.
fn unlinkable(error: &libloading::Error) -> LoadFailure {
    let said = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    LoadFailure::Unlinkable(one_line(&said))
}

/// Starts the library, when its interface is ours.
///
/// A later version of the interface is tried here before this one: both questions go to the same
/// header, and the answer of the older is converted into the newer.
fn bind(header: &'static LibHeader) -> Result<(AllocatorModuleRef, &'static str), LoadFailure> {
    let theirs = header.root_mod_consts().name();
    if theirs != AllocatorModuleRef::NAME {
        return Err(LoadFailure::Application {
            theirs: theirs.into(),
            ours: AllocatorModuleRef::NAME,
        });
    }
    // Without a layout abi_stable takes a library on trust.
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

/// The version of the interface that this program speaks.
pub(super) fn interface() -> &'static str {
    AllocatorModuleRef::VERSION_STRINGS.version.as_str()
}

/// What abi_stable says, in our words.
fn failure(error: LibraryError) -> LoadFailure {
    match error {
        LibraryError::InvalidAbiHeader(theirs) => {
            other_abi_stable(format!("{}.{}", theirs.abi_major, theirs.abi_minor))
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

/// The essence of abi_stable's layout report, which prints both layouts of every type on the way to
/// a difference and so has hundreds of lines: for each difference the innermost type, what differs,
/// and both values.
fn differences(report: &str) -> Vec<String> {
    const ENOUGH: usize = 4;
    let mut found = Vec::new();
    // "N error(s)inside:", the types from the outermost on, "Layout of ...", then "Error:",
    // "Expected:" and "Found:".
    for part in report.split("error(s)inside:") {
        let place = part.split("Layout of expected type:").next().unwrap_or_default();
        let within = place.lines().filter_map(|line| line.trim().strip_prefix("type:")).next_back();
        for error in part.split("\nError:").skip(1) {
            let mut lines = error.lines().map(str::trim);
            let what = lines.next().unwrap_or_default();
            let mut after = |label| {
                lines.by_ref().skip_while(|line| *line != label).nth(1).unwrap_or("nothing")
            };
            let (expected, theirs) = (after("Expected:"), after("Found:"));
            let within = within.map(|name| format!("in {name}, ")).unwrap_or_default();
            found.push(one_line(&format!("{within}{what}: expected {expected}, found {theirs}")));
        }
    }
    let left = found.len().saturating_sub(ENOUGH);
    found.truncate(ENOUGH);
    if left > 0 {
        found.push(format!("and {left} more"));
    }
    found
}

/// Other people's text, fit for the middle of a line.
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
