//! Files of a process that has ended, which are verified before they are memory again.

use crate::system::errno;
use rustix::fs::{FileType, OFlags, SealFlags, fcntl_get_seals, fcntl_getfl, fstat, fstatfs};
use rustix::process::geteuid;
use std::collections::HashSet;
use std::fmt::Display;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a file has to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected<'a> {
    /// The name with which it was made.
    pub(crate) label: &'a str,
    /// The size of its huge pages in bytes; `None` for ordinary ones.
    pub(crate) huge_page: Option<u64>,
    pub(crate) size: Size,
    /// The seals that it has, and no other, except that it may be not executable.
    pub(crate) seals: SealFlags,
}

/// The size of a file in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Size {
    /// This one.
    Exactly(u64),
    /// This one or more. A writable mapping past the end of a file of huge pages grows it in spite
    /// of its seals.
    AtLeast(u64),
    /// Whatever it is.
    Any,
}

/// The inode of a file that is memory here. No other file of that inode is accepted as long as this
/// exists.
#[derive(Debug)]
pub(crate) struct SoleUse(Inode);

/// Device and number.
type Inode = (u64, u64);

/// The restored files that are in use, in all regions of this process.
static IN_USE: Mutex<Option<HashSet<Inode>>> = Mutex::new(None);

/// Checks that `file` is a file in memory as `expected`, open for reading and writing, of this
/// user, and in no other use. Returns its size in bytes.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn verify(
    file: BorrowedFd<'_>,
    expected: Expected<'_>,
) -> Result<(u64, SoleUse), String> {
    let failed = |call: &'static str| move |error: rustix::io::Errno| format!("{call}: {error}");
    let status = fstat(file).map_err(failed("fstat"))?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err("its descriptor is no file".to_string());
    }
    // Only files in memory have seals, so this fails for any other file.
    let seals = fcntl_get_seals(file)
        .map_err(|_| "its file is no file in memory, or not open for access".to_string())?
        .difference(NOT_EXECUTABLE);
    if seals != expected.seals {
        return Err(format!("its file has the seals {seals:?} instead of {:?}", expected.seals));
    }
    let flags = fcntl_getfl(file).map_err(failed("fcntl(F_GETFL)"))?;
    if !flags.contains(OFlags::RDWR) {
        return Err("its file is not open for reading and writing".to_string());
    }
    let pages = fstatfs(file).map_err(failed("fstatfs"))?;
    let huge_page = (pages.f_type == HUGETLBFS_MAGIC).then_some(pages.f_bsize as u64);
    if huge_page != expected.huge_page {
        let named = |page: Option<u64>| match page {
            Some(page) => format!("huge pages of {page} bytes"),
            None => "ordinary pages".to_string(),
        };
        return Err(differs("its file has", named(huge_page), named(expected.huge_page)));
    }
    let name = name(file)?;
    if name != expected.label {
        return Err(differs("its file is named", format!("{name:?}"), expected.label));
    }
    let size = status.st_size as u64;
    match expected.size {
        Size::Exactly(expected) if size != expected => {
            return Err(differs("its file has", format!("{size} bytes"), expected));
        }
        Size::AtLeast(least) if size < least => {
            return Err(differs("its file has", format!("{size} bytes"), least));
        }
        Size::Exactly(_) | Size::AtLeast(_) | Size::Any => {}
    }
    let (uid, own) = (status.st_uid, geteuid().as_raw());
    if uid != own {
        return Err(differs("its file belongs to user", uid, own));
    }
    let sole = SoleUse::of((status.st_dev, status.st_ino))
        .ok_or_else(|| "its file is other memory already".to_string())?;
    Ok((size, sole))
}

/// The text about a property that is not as it has to be.
fn differs(what: &str, found: impl Display, expected: impl Display) -> String {
    format!("{what} {found} instead of {expected}")
}

/// The name with which a file in memory was made.
fn name(file: BorrowedFd<'_>) -> Result<String, String> {
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let target = std::fs::read_link(&path).map_err(|error| format!("{path}: {}", errno(&error)))?;
    let target = target.to_string_lossy();
    let name = target.strip_prefix("/memfd:").and_then(|name| name.strip_suffix(" (deleted)"));
    name.map(String::from).ok_or_else(|| "its file is no file in memory".to_string())
}

impl SoleUse {
    fn of(inode: Inode) -> Option<Self> {
        in_use().get_or_insert_default().insert(inode).then(|| SoleUse(inode))
    }
}

impl Drop for SoleUse {
    fn drop(&mut self) {
        if let Some(in_use) = &mut *in_use() {
            in_use.remove(&self.0);
        }
    }
}

fn in_use() -> MutexGuard<'static, Option<HashSet<Inode>>> {
    IN_USE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `F_SEAL_EXEC`, which the kernel sets by itself where `vm.memfd_noexec` is set.
const NOT_EXECUTABLE: SealFlags = SealFlags::from_bits_retain(0x20);

/// The file system of files of huge pages (`linux/magic.h`).
const HUGETLBFS_MAGIC: rustix::fs::FsWord = 0x958458f6;
