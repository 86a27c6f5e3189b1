//! A file of huge pages, and whether another process has it.

use super::pool::Pool;
use crate::sealed::SealedFile;
use crate::system::{system_error, with_raised_limit};
use cma_framework::MemoryError;
use rustix::fs::MemfdFlags;
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A file of huge pages. Its pages return to the pool when it is dropped.
#[derive(Debug)]
pub(super) struct PoolFile {
    file: SealedFile,
    pool: Pool,
    /// The pages of the region that it is for.
    pages: Range<usize>,
    /// Whether a descriptor of it was ever handed out. Locked while one is opened, and while a
    /// lease is tried: a lease belongs to the open file description, and with it to all threads.
    shared: Mutex<bool>,
}

impl PoolFile {
    /// A file for these pages of a region. It has none of them yet.
    pub(super) fn create(
        pool: Pool,
        label: &str,
        pages: Range<usize>,
    ) -> Result<Self, MemoryError> {
        let len = pages.len() as u64 * pool.size;
        PoolFile::with_len(pool, label, pages, len)
    }

    /// The same with a length of `len` bytes.
    pub(super) fn with_len(
        pool: Pool,
        label: &str,
        pages: Range<usize>,
        len: u64,
    ) -> Result<Self, MemoryError> {
        let size = MemfdFlags::from_bits_retain(pool.size.trailing_zeros() << libc::MFD_HUGE_SHIFT);
        let file = SealedFile::create(label, len, MemfdFlags::HUGETLB | size)?;
        Ok(PoolFile { file, pool, pages, shared: Mutex::new(false) })
    }

    /// A file for these pages of a region that a process made which has ended. `shared` tells
    /// whether a descriptor of it was ever handed out.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn restored(
        pool: Pool,
        file: OwnedFd,
        label: &str,
        pages: Range<usize>,
        len: u64,
        shared: bool,
    ) -> Result<Self, String> {
        let file = SealedFile::restored(file, label, len, Some(pool.size))?;
        Ok(PoolFile { file, pool, pages, shared: Mutex::new(shared) })
    }

    /// The same file for other pages of the region.
    pub(super) fn of_pages(self, pages: Range<usize>) -> Self {
        PoolFile { pages, ..self }
    }

    /// The pages of the region that it is for.
    pub(super) fn pages(&self) -> Range<usize> {
        self.pages.clone()
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.file.len()
    }

    /// Takes a page out of the pool, to `offset`. Returns whether the pool had one.
    pub(super) fn take(&self, offset: u64) -> Result<bool, MemoryError> {
        match self.file.allocate(offset, self.pool.size) {
            Ok(()) => Ok(true),
            Err(Errno::NOSPC | Errno::NOMEM) => Ok(false),
            Err(errno) => Err(system_error("fallocate")(errno)),
        }
    }

    /// Removes the page at `offset`, if there is one. A page that nobody has mapped or pinned
    /// returns to the pool.
    pub(super) fn remove(&self, offset: u64) -> Result<(), MemoryError> {
        self.file.free(offset, self.pool.size).map_err(system_error("fallocate"))
    }

    /// Another descriptor of the same open file description.
    pub(super) fn duplicate(&self) -> Result<OwnedFd, MemoryError> {
        with_raised_limit(|| fcntl_dupfd_cloexec(self, 0))
            .map_err(system_error("fcntl(F_DUPFD_CLOEXEC)"))
    }

    /// A descriptor for another process.
    pub(super) fn open(&self) -> Result<OwnedFd, MemoryError> {
        let mut shared = self.shared();
        let file = self.file.reopen()?;
        *shared = true;
        Ok(file)
    }

    /// Whether another process ever could have it.
    pub(super) fn was_shared(&self) -> bool {
        *self.shared()
    }

    /// Whether another process still has it open or mapped.
    pub(super) fn is_held(&self) -> bool {
        let shared = self.shared();
        let held = *shared && !self.file.is_exclusive();
        if *shared && !held {
            // The pool can use the pages that a process added to the file. Those that can't be
            // freed now are freed with the file.
            let _ = self.file.trim();
        }
        held
    }

    fn shared(&self) -> MutexGuard<'_, bool> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for PoolFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
