//! Pinned pages: memory registered as buffers of `io_uring`, each page as a buffer of its own.
//!
//! The kernel may move pages, to make room for contiguous memory or when memory is removed from the
//! machine, and a process with which a page is shared can free it (`fallocate` with a hole) while a
//! device still writes to it. A pinned page is neither moved nor allocated to another process.
//!
//! Pinned memory counts as locked memory of the user (`RLIMIT_MEMLOCK`), except for processes with
//! `CAP_IPC_LOCK`.

use rustix::io::Errno;
use rustix::io_uring::{
    IoringRegisterOp, io_uring_params, io_uring_ptr, io_uring_register, io_uring_rsrc_update2,
    io_uring_setup, iovec,
};
use std::os::fd::OwnedFd;
use std::ptr;

/// A page that is mapped in this process. It may be unmapped while it is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its address in this process.
    pub address: usize,
    /// Its bytes, 1 GiB at most.
    pub len: usize,
}

/// Slots for pages: an `io_uring` instance, to which nothing is ever submitted. Dropping it unpins
/// them before it returns.
#[derive(Debug)]
pub struct Ring(OwnedFd);

impl Ring {
    /// The most slots of a ring, which is the kernel's limit.
    pub const MAX_SLOTS: usize = 1 << 14;

    /// A ring without slots, which takes one descriptor.
    ///
    /// # Errors
    ///
    /// That of `io_uring_setup`: `EMFILE`; `EPERM` where `io_uring` is switched off; `ENOSYS` in a
    /// kernel or container without it.
    pub fn new() -> Result<Self, Errno> {
        // SAFETY: the ring is never mapped and nothing is ever submitted to it.
        unsafe { io_uring_setup(1, &mut io_uring_params::default()) }.map(Ring)
    }

    /// Gives a ring without slots one for each of `pages`, at most [`MAX_SLOTS`](Self::MAX_SLOTS),
    /// and pins those that are some.
    ///
    /// # Errors
    ///
    /// That of `io_uring_register`, `ENOMEM` when too much memory is locked. No page is pinned
    /// then.
    pub fn register(&self, pages: impl Iterator<Item = Option<Page>>) -> Result<(), Errno> {
        let buffers: Vec<iovec> = pages.map(buffer).collect();
        // SAFETY: the kernel pins the pages and, as nothing is submitted, neither reads nor writes
        // them. They may be unmapped before they are unpinned.
        let registered = unsafe {
            io_uring_register(
                &self.0,
                IoringRegisterOp::RegisterBuffers,
                buffers.as_ptr().cast(),
                buffers.len() as u32,
            )
        };
        registered.map(drop)
    }

    /// Pins `page` in slot number `slot`, in place of the one that was pinned there.
    ///
    /// # Errors
    ///
    /// As of [`register`](Self::register). The slot has the page before then.
    pub fn set(&self, slot: usize, page: Option<Page>) -> Result<(), Errno> {
        let buffer = buffer(page);
        let mut update = io_uring_rsrc_update2::default();
        update.offset = slot as u32;
        update.data = io_uring_ptr::new(ptr::from_ref(&buffer).cast_mut().cast());
        update.nr = 1;
        // SAFETY: as above. The kernel expects the size of the structure as the number of
        // arguments, and reads one buffer.
        let updated = unsafe {
            io_uring_register(
                &self.0,
                IoringRegisterOp::RegisterBuffersUpdate,
                ptr::from_ref(&update).cast(),
                size_of_val(&update) as u32,
            )
        };
        updated.map(drop)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // Closing the ring would unpin the pages too, but asynchronously: whoever needs them next
        // might not find them free yet. SAFETY: nothing uses the buffers.
        let _ = unsafe {
            io_uring_register(&self.0, IoringRegisterOp::UnregisterBuffers, ptr::null(), 0)
        };
    }
}

/// What the kernel is given for a slot: one without a page has no address and no length.
fn buffer(page: Option<Page>) -> iovec {
    let Page { address, len } = page.unwrap_or(Page { address: 0, len: 0 });
    iovec { iov_base: ptr::without_provenance_mut(address), iov_len: len }
}
