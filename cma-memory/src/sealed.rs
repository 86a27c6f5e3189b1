//! A file in memory with a sealed size, and whether another process has it.

use crate::restored::{self, Expected, Size, SoleUse};
use crate::system::{system_error, with_raised_limit};
use cma_framework::MemoryError;
use rustix::fs::{
    FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags, fallocate, fchmod, fcntl_add_seals, fstat,
    ftruncate, memfd_create, open,
};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// A file in memory, sealed against growing and shrinking.
#[derive(Debug)]
pub(crate) struct SealedFile {
    file: OwnedFd,
    len: u64,
    /// Of a file of a process that has ended.
    _sole_use: Option<SoleUse>,
}

/// The seals of a file whose size can't change.
pub(crate) const SIZE_SEALS: SealFlags =
    SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

impl SealedFile {
    /// A file of `len` zero bytes. `pages` are the flags for huge pages, empty for ordinary ones.
    /// No page is allocated yet.
    pub(crate) fn create(label: &str, len: u64, pages: MemfdFlags) -> Result<Self, MemoryError> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | pages;
        let file = with_raised_limit(|| memfd_create(label, flags))
            .map_err(system_error("memfd_create"))?;
        ftruncate(&file, len).map_err(system_error("ftruncate"))?;
        // A lease doesn't detect O_PATH descriptors, which can be reopened with the file's
        // permission alone.
        fchmod(&file, Mode::RUSR | Mode::WUSR).map_err(system_error("fchmod"))?;
        fcntl_add_seals(&file, SIZE_SEALS).map_err(system_error("fcntl(F_ADD_SEALS)"))?;
        // A lease doesn't count the open file description that memfd_create makes. It counts this
        // one.
        Ok(SealedFile { file: reopen(file.as_fd())?, len, _sole_use: None })
    }

    /// A file that [`create`](Self::create) made with this label and length in a process that has
    /// ended, by the open file description that it had there: a lease counts no other. `huge_page`
    /// is the size of its huge pages in bytes, `None` for ordinary ones.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) fn restored(
        file: OwnedFd,
        label: &str,
        len: u64,
        huge_page: Option<u64>,
    ) -> Result<Self, String> {
        let size = if huge_page.is_some() { Size::AtLeast(len) } else { Size::Exactly(len) };
        let expected = Expected { label, huge_page, size, seals: SIZE_SEALS };
        let (_, sole_use) = restored::verify(file.as_fd(), expected)?;
        Ok(SealedFile { file, len, _sole_use: Some(sole_use) })
    }

    /// A descriptor for another process, with an open file description of its own.
    pub(crate) fn reopen(&self) -> Result<OwnedFd, MemoryError> {
        reopen(self.as_fd())
    }

    /// Whether no other process has the file open or mapped. Also false where leases are switched
    /// off, and while a process that this one starts has a copy of a [`reopen`](Self::reopen)ed
    /// descriptor, until it executes its program.
    ///
    /// A write lease is granted only on a file with no other open file description, and a mapping
    /// holds its description. A lease doesn't detect `O_PATH` descriptors, and pages that a process
    /// had the kernel pin (a pipe filled by `vmsplice`, buffers registered with `io_uring`): the
    /// kernel reports such pins nowhere.
    pub(crate) fn is_exclusive(&self) -> bool {
        // If the file is opened while it is leased, the kernel sends this process a signal, by
        // default one that kills. SIGURG is ignored by default.
        let command = |command, argument: libc::c_int| {
            // SAFETY: these commands take an integer and access no memory; `self` keeps the
            // descriptor open.
            unsafe { libc::fcntl(self.file.as_raw_fd(), command, argument) == 0 }
        };
        command(F_SETSIG, libc::SIGURG)
            && command(libc::F_SETLEASE, libc::F_WRLCK)
            && command(libc::F_SETLEASE, libc::F_UNLCK)
    }

    /// The sealed size in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Allocates the `len` bytes at `offset`.
    pub(crate) fn allocate(&self, offset: u64, len: u64) -> Result<(), Errno> {
        fallocate(&self.file, FallocateFlags::empty(), offset, len)
    }

    /// Frees the `len` bytes at `offset`.
    pub(crate) fn free(&self, offset: u64, len: u64) -> Result<(), Errno> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&self.file, flags, offset, len)
    }

    /// Frees pages beyond the sealed size. A writable mapping past the end of a file of huge pages
    /// grows it in spite of its seals.
    pub(crate) fn trim(&self) -> Result<(), Errno> {
        if fstat(&self.file)?.st_size as u64 > self.len {
            return self.free(self.len, i64::MAX as u64 - self.len);
        }
        Ok(())
    }
}

impl AsFd for SealedFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn reopen(file: BorrowedFd<'_>) -> Result<OwnedFd, MemoryError> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    with_raised_limit(|| open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()))
        .map_err(system_error("open"))
}

/// Sets the signal of a lease break (`asm-generic/fcntl.h`; libc has no name for it).
const F_SETSIG: libc::c_int = 10;
