//! From a checked file to an allocator module: the dynamic linker, then abi_stable.
//!
//! Libraries are never unloaded: what a plug-in started, a thread or a destructor of a thread local, would run into nothing.

use super::LoadFailure;
use super::image::{Image, other_abi_stable};
use cma_api::abi_stable::library::{
    AbiHeaderRef, LibHeader, LibraryError, RootModule, RootModuleError, abi_header_from_path,
};
use cma_api::v1::AllocatorModuleRef;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::process;
use std::sync::{Mutex, PoisonError};

/// What this process has loaded.
static LOADED: Mutex<Vec<Loaded>> = Mutex::new(Vec::new());

struct Loaded {
    header: AbiHeaderRef,
    /// Kept open: the dynamic linker knows the library by a path that leads to this descriptor, and would take a later
    /// file under the same number for this one. Debuggers follow the path, too.
    copy: File,
}

/// The module that the library in `image` exports, and the version of the interface it is built for.
pub(super) fn module(image: &Image) -> Result<(AllocatorModuleRef, &'static str), LoadFailure> {
    bind(link(image)?.upgrade().map_err(failure)?)
}

/// Gives the library to the dynamic linker, unless this very content is loaded already.
///
/// It gets a copy in memory and not the file. The dynamic linker tells libraries apart by their path and inode, so
/// for a file that was rebuilt it would answer with the old code; and it maps a library instead of
/// reading it, so a file that is written over, as `cp` does, or cut short would pull running code away. What was
/// checked is what runs, whatever becomes of the file.
fn link(image: &Image) -> Result<AbiHeaderRef, LoadFailure> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(same) = loaded.iter().find(|l| holds(&l.copy, &image.bytes)) {
        return Ok(same.header);
    }
    let copy = copy(image).map_err(LoadFailure::NoCopy)?;
    // By the number of the process, not as `self`, so that a debugger finds it too.
    let path = format!("/proc/{}/fd/{}", process::id(), copy.as_raw_fd());
    let header = abi_header_from_path(path.as_ref()).map_err(failure)?;
    loaded.push(Loaded { header, copy });
    Ok(header)
}

/// A sealed copy in memory, which shows in the process's maps under the file's name.
fn copy(image: &Image) -> io::Result<File> {
    const LONGEST: usize = 249; // memfd_create(2)
    let name = image.path.file_name().unwrap_or_default().as_encoded_bytes();
    let name = &name[..name.len().min(LONGEST)];
    let mut copy = File::from(memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    copy.write_all(&image.bytes)?;
    fcntl_add_seals(&copy, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(copy)
}

/// Whether `bytes` are the content of `copy`.
fn holds(copy: &File, bytes: &[u8]) -> bool {
    if !copy.metadata().is_ok_and(|about| about.len() == bytes.len() as u64) {
        return false;
    }
    let mut content = vec![0; bytes.len()];
    copy.read_exact_at(&mut content, 0).is_ok() && content == bytes
}

/// Starts the library, when its interface is ours.
///
/// A later version of the interface is tried here before this one: both questions go to the same header, and
/// the answer of the older is converted into the newer.
fn bind(header: &'static LibHeader) -> Result<(AllocatorModuleRef, &'static str), LoadFailure> {
    let theirs = header.root_mod_consts().name();
    if theirs != AllocatorModuleRef::NAME {
        return Err(LoadFailure::Application { theirs: theirs.into(), ours: AllocatorModuleRef::NAME });
    }
    // Without a layout abi_stable takes a library on trust.
    if header.layout().is_none() {
        return Err(LoadFailure::Unchecked);
    }
    let version = header.version_strings().version.as_str();
    match header.init_root_module::<AllocatorModuleRef>() {
        Ok(module) => Ok((module, version)),
        Err(LibraryError::IncompatibleVersionNumber { .. } | LibraryError::ParseVersionError(_)) => {
            Err(LoadFailure::Interface { theirs: one_line(version), ours: interface() })
        }
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
        LibraryError::OpenError { err, .. } => LoadFailure::Unlinkable(one_line(&err.to_string())),
        LibraryError::GetSymbolError { .. } => LoadFailure::NoHeader,
        LibraryError::InvalidAbiHeader(theirs) => {
            other_abi_stable(format!("{}.{}", theirs.abi_major, theirs.abi_minor))
        }
        LibraryError::RootModule { err: RootModuleError::Unwound, .. } => LoadFailure::Panicked,
        LibraryError::RootModule { err: RootModuleError::Returned(reason), .. } => {
            LoadFailure::Declined(one_line(&reason.to_string()))
        }
        LibraryError::AbiInstability(report) => {
            LoadFailure::Layout { version: interface(), differences: differences(&report.to_string()) }
        }
        other => {
            LoadFailure::Layout { version: interface(), differences: vec![one_line(&other.to_string())] }
        }
    }
}

/// The essence of abi_stable's layout report, which prints both layouts of every type on the way to a difference and
/// so has hundreds of lines: for each difference the innermost type, what differs, and both values.
fn differences(report: &str) -> Vec<String> {
    const ENOUGH: usize = 4;
    let mut found = Vec::new();
    // "N error(s)inside:", the types from the outermost on, "Layout of ...", then "Error:", "Expected:" and "Found:".
    for part in report.split("error(s)inside:") {
        let place = part.split("Layout of expected type:").next().unwrap_or_default();
        let within = place.lines().filter_map(|line| line.trim().strip_prefix("type:")).next_back();
        for error in part.split("\nError:").skip(1) {
            let mut lines = error.lines().map(str::trim);
            let what = lines.next().unwrap_or_default();
            let mut after =
                |label| lines.by_ref().skip_while(|line| *line != label).nth(1).unwrap_or("nothing");
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
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let mut line = words.collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(LIMIT) {
        line.truncate(end);
        line.push_str(" ...");
    }
    line
}

#[cfg(test)]
mod tests;
