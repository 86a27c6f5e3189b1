//! A file in memory that nobody can resize, and whether anybody else has it.

use crate::refusal::{refused, with_room};
use cma_framework::MemoryError;
use rustix::fs::{
    FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags, fallocate, fchmod, fcntl_add_seals, fstat,
    ftruncate, memfd_create, open,
};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// A file in memory, sealed against growing and shrinking.
#[derive(Debug)]
pub(crate) struct Sealed {
    file: OwnedFd,
    len: u64,
}

impl Sealed {
    /// A file of `len` zero bytes. `pages` says of what pages, where not of ordinary ones. None of
    /// them is taken yet.
    pub(crate) fn create(label: &str, len: u64, pages: MemfdFlags) -> Result<Self, MemoryError> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | pages;
        let file = with_room(|| memfd_create(label, flags)).map_err(refused("memfd_create"))?;
        ftruncate(&file, len).map_err(refused("ftruncate"))?;
        // Who has a descriptor that stands for the file alone (O_PATH) isn't seen by the lease
        // below, and can open it only with the file's permission.
        fchmod(&file, Mode::RUSR | Mode::WUSR).map_err(refused("fchmod"))?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        fcntl_add_seals(&file, seals).map_err(refused("fcntl(F_ADD_SEALS)"))?;
        // The description that memfd_create makes isn't counted among those that have the file
        // open. This one is.
        Ok(Sealed { file: open_again(file.as_fd())?, len })
    }

    /// A descriptor for somebody else: a description of its own.
    pub(crate) fn open_again(&self) -> Result<OwnedFd, MemoryError> {
        open_again(self.as_fd())
    }

    /// Whether nobody else has the file open or mapped. It is false, too, where the system can't
    /// tell.
    ///
    /// A write lease is granted only on a file that no other description has open, and a mapping
    /// holds its description. Not seen are descriptors that stand for the file alone (`O_PATH`),
    /// and pages that somebody had the kernel pin (a pipe filled by `vmsplice`, buffers registered
    /// with `io_uring`): of those the kernel tells nobody.
    pub(crate) fn is_ours_alone(&self) -> bool {
        // Who opens the file while it is leased makes the kernel signal this process, by default
        // with a signal that kills. Nobody minds this one.
        let command = |command, argument: libc::c_int| {
            // SAFETY: these commands take an integer and touch no memory; the descriptor is open as
            // long as `self`.
            unsafe { libc::fcntl(self.file.as_raw_fd(), command, argument) == 0 }
        };
        command(F_SETSIG, libc::SIGURG)
            && command(libc::F_SETLEASE, libc::F_WRLCK)
            && command(libc::F_SETLEASE, libc::F_UNLCK)
    }

    /// Takes the file's pages now.
    pub(crate) fn fill(&self) -> Result<(), Errno> {
        fallocate(&self.file, FallocateFlags::empty(), 0, self.len)
    }

    /// Gives the file's pages back to where they came from.
    pub(crate) fn empty(&self) -> Result<(), Errno> {
        self.punch(0)
    }

    /// Gives back what was added behind the end. A writable mapping past the end of a file of huge
    /// pages grows it in spite of its seals.
    pub(crate) fn cut(&self) -> Result<(), Errno> {
        if fstat(&self.file)?.st_size as u64 > self.len { self.punch(self.len) } else { Ok(()) }
    }

    fn punch(&self, from: u64) -> Result<(), Errno> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&self.file, flags, from, i64::MAX as u64 - from)
    }
}

impl AsFd for Sealed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn open_again(file: BorrowedFd<'_>) -> Result<OwnedFd, MemoryError> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    with_room(|| open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()))
        .map_err(refused("open"))
}

/// Chooses the signal that says that a lease is wanted by others (`asm-generic/fcntl.h`; libc has
/// no name for it).
const F_SETSIG: libc::c_int = 10;
