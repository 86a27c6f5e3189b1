//! Pinned memory: pages registered as buffers of `io_uring`.
//!
//! The kernel may move huge pages, to make room for other contiguous memory or when memory is
//! removed from the machine. And a process with which a page is shared can return it to the pool
//! (`fallocate` with a hole) while a device still writes to it. A pinned page is neither moved nor
//! allocated to another process.

use crate::system::{system_error, with_raised_limit};
use cma_framework::MemoryError;
use rustix::io_uring::{
    IoringRegisterOp, io_uring_params, io_uring_ptr, io_uring_register, io_uring_rsrc_update2,
    io_uring_setup, iovec,
};
use std::os::fd::OwnedFd;
use std::ptr;

/// Pins pages as long as it lives, each separately, so that unpinning one never unpins another. A
/// page may be unmapped before it is unpinned.
#[derive(Debug)]
pub(super) struct Pin {
    /// All but the last have [`MAX_BUFFERS`] pages.
    rings: Vec<Ring>,
    /// The size of a page in bytes.
    page: usize,
}

impl Pin {
    /// Pins the pages of `page` bytes that are mapped at these addresses.
    pub(super) fn new(
        addresses: impl Iterator<Item = usize>,
        page: usize,
    ) -> Result<Self, MemoryError> {
        let pages: Vec<iovec> = addresses.map(|address| buffer(address, page)).collect();
        let rings = pages.chunks(MAX_BUFFERS).map(Ring::new).collect::<Result<_, _>>()?;
        Ok(Pin { rings, page })
    }

    /// Unpins page number `index`.
    pub(super) fn unpin(&self, index: usize) -> Result<(), MemoryError> {
        self.update(index, iovec { iov_base: ptr::null_mut(), iov_len: 0 })
    }

    /// Pins the page that is mapped at `address` now, as number `index`.
    pub(super) fn pin(&self, index: usize, address: usize) -> Result<(), MemoryError> {
        self.update(index, buffer(address, self.page))
    }

    fn update(&self, index: usize, buffer: iovec) -> Result<(), MemoryError> {
        self.rings[index / MAX_BUFFERS].update(index % MAX_BUFFERS, buffer)
    }
}

/// The page of `page` bytes at `address`, as a buffer.
fn buffer(address: usize, page: usize) -> iovec {
    iovec { iov_base: ptr::without_provenance_mut(address), iov_len: page }
}

/// An `io_uring` instance with a registered buffer for each of some pages.
#[derive(Debug)]
struct Ring(OwnedFd);

impl Ring {
    fn new(buffers: &[iovec]) -> Result<Self, MemoryError> {
        // SAFETY: the ring is never mapped and nothing is ever submitted to it.
        let ring =
            with_raised_limit(|| unsafe { io_uring_setup(1, &mut io_uring_params::default()) })
                .map_err(system_error("io_uring_setup"))?;
        let ring = Ring(ring);
        // SAFETY: the kernel pins the pages and, as nothing is submitted, neither reads nor writes
        // them. They may be unmapped before they are unpinned.
        unsafe {
            io_uring_register(
                &ring.0,
                IoringRegisterOp::RegisterBuffers,
                buffers.as_ptr().cast(),
                buffers.len() as u32,
            )
        }
        .map_err(system_error("io_uring_register"))?;
        Ok(ring)
    }

    /// Replaces buffer number `index` by `buffer`.
    fn update(&self, index: usize, buffer: iovec) -> Result<(), MemoryError> {
        let mut update = io_uring_rsrc_update2::default();
        update.offset = index as u32;
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
        updated.map(|_| ()).map_err(system_error("io_uring_register"))
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // Closing the ring would unpin the pages too, but asynchronously: the next region might not
        // find them in the pool yet. SAFETY: nothing uses the buffers.
        let _ = unsafe {
            io_uring_register(&self.0, IoringRegisterOp::UnregisterBuffers, ptr::null(), 0)
        };
    }
}

/// The kernel's limit of buffers for one ring. A buffer has at most 1 GiB.
const MAX_BUFFERS: usize = 1 << 14;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::Mapping;
    use crate::sealed::SealedFile;
    use rustix::fs::MemfdFlags;
    use std::io::Write;

    const PAGE: usize = cma_framework::PAGE_SIZE as usize;

    /// The bytes that this process has pinned. No other test of this program pins any.
    fn pinned() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmPin:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
    }

    fn skipped(why: &MemoryError) {
        writeln!(std::io::stderr(), "skipped: {why}").unwrap();
    }

    /// Above 16,384 pages several were unpinned together, so that a failed exchange left neighbours
    /// unpinned.
    #[test]
    fn each_of_many_pages_is_pinned_separately() {
        let pages = MAX_BUFFERS + 2;
        let file =
            SealedFile::create("pinned", (pages * PAGE) as u64, MemfdFlags::empty()).unwrap();
        let mapping = Mapping::of(&file, pages * PAGE).unwrap();
        mapping.populate(0..mapping.len()).unwrap();
        let address = |page: usize| mapping.address() + page * PAGE;
        let pin = match Pin::new((0..pages).map(address), PAGE) {
            Ok(pin) => pin,
            Err(why) => return skipped(&why),
        };
        assert_eq!(pinned(), pages * PAGE);
        for page in [0, 1, MAX_BUFFERS - 1, MAX_BUFFERS, MAX_BUFFERS + 1] {
            pin.unpin(page).unwrap();
            assert_eq!(pinned(), (pages - 1) * PAGE, "page {page} alone is unpinned");
            pin.pin(page, address(page)).unwrap();
            assert_eq!(pinned(), pages * PAGE);
        }
        drop(pin);
        assert_eq!(pinned(), 0);
    }
}
