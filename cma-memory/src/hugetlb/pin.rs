//! Memory that stays where it is: registered with `io_uring` as buffers, which the kernel pins.
//!
//! The kernel may move huge pages (to make room for other contiguous memory, or when memory is
//! taken out of the machine), and a process that was given one can give it back to the pool
//! (`fallocate` with a hole) while a device still writes to it. Pinned, a page is neither moved nor
//! given to anybody else.

use crate::mapping::Mapping;
use crate::refusal::{refused, with_room};
use cma_framework::MemoryError;
use rustix::io_uring::{
    IoringRegisterOp, io_uring_params, io_uring_ptr, io_uring_register, io_uring_rsrc_update2,
    io_uring_setup, iovec,
};
use std::os::fd::OwnedFd;
use std::ptr;

/// Pins a mapping's pages as long as it lives, but for those that are let go meanwhile. Each page
/// is pinned by itself: letting go of one never concerns another.
#[derive(Debug)]
pub(super) struct Pin {
    /// As many as it takes for a buffer each; all but the last have [`MOST_BUFFERS`] pages.
    rings: Vec<Ring>,
    /// Where the mapping starts.
    address: usize,
    /// The size of a page in bytes.
    page: usize,
}

impl Pin {
    /// Pins `mapping`, which is made of pages of `page` bytes.
    pub(super) fn new(mapping: &Mapping, page: usize) -> Result<Self, MemoryError> {
        let mut pin = Pin { rings: Vec::new(), address: mapping.address(), page };
        let pages: Vec<iovec> = (0..mapping.len()).step_by(page).map(|at| pin.buffer(at)).collect();
        pin.rings = pages.chunks(MOST_BUFFERS).map(Ring::new).collect::<Result<_, _>>()?;
        Ok(pin)
    }

    /// Lets go of the page at byte `at` of the mapping.
    pub(super) fn let_go(&self, at: usize) -> Result<(), MemoryError> {
        self.update(at, iovec { iov_base: ptr::null_mut(), iov_len: 0 })
    }

    /// Pins the page that is at byte `at` of the mapping now.
    pub(super) fn hold(&self, at: usize) -> Result<(), MemoryError> {
        self.update(at, self.buffer(at))
    }

    /// The page at byte `at` of the mapping.
    fn buffer(&self, at: usize) -> iovec {
        iovec { iov_base: ptr::without_provenance_mut(self.address + at), iov_len: self.page }
    }

    fn update(&self, at: usize, buffer: iovec) -> Result<(), MemoryError> {
        let page = at / self.page;
        self.rings[page / MOST_BUFFERS].update(page % MOST_BUFFERS, buffer)
    }
}

/// Some pages, each registered as a buffer of its own.
#[derive(Debug)]
struct Ring(OwnedFd);

impl Ring {
    fn new(buffers: &[iovec]) -> Result<Self, MemoryError> {
        // SAFETY: the ring is never mapped and nothing is ever submitted to it.
        let ring = with_room(|| unsafe { io_uring_setup(1, &mut io_uring_params::default()) })
            .map_err(refused("io_uring_setup"))?;
        let ring = Ring(ring);
        // SAFETY: the kernel pins the pages and, as nothing is submitted, reads and writes none.
        // They may be unmapped before they are let go.
        unsafe {
            io_uring_register(
                &ring.0,
                IoringRegisterOp::RegisterBuffers,
                buffers.as_ptr().cast(),
                buffers.len() as u32,
            )
        }
        .map_err(refused("io_uring_register"))?;
        Ok(ring)
    }

    /// Puts `buffer` in the place of buffer number `index`.
    fn update(&self, index: usize, buffer: iovec) -> Result<(), MemoryError> {
        let mut update = io_uring_rsrc_update2::default();
        update.offset = index as u32;
        update.data = io_uring_ptr::new(ptr::from_ref(&buffer).cast_mut().cast());
        update.nr = 1;
        // SAFETY: as above. The kernel takes the size of what it is to read for the number of
        // arguments, and reads the one buffer.
        let updated = unsafe {
            io_uring_register(
                &self.0,
                IoringRegisterOp::RegisterBuffersUpdate,
                ptr::from_ref(&update).cast(),
                size_of_val(&update) as u32,
            )
        };
        updated.map(|_| ()).map_err(refused("io_uring_register"))
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // Closing the ring would do it too, but some time later: a region that comes next might not
        // find the pages yet. SAFETY: nothing uses the buffers.
        let _ = unsafe {
            io_uring_register(&self.0, IoringRegisterOp::UnregisterBuffers, ptr::null(), 0)
        };
    }
}

/// The kernel takes no more buffers for one ring, nor one of more than a GiB.
const MOST_BUFFERS: usize = 1 << 14;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sealed::Sealed;
    use rustix::fs::MemfdFlags;
    use std::io::Write;

    const PAGE: usize = cma_framework::PAGE_SIZE as usize;

    /// How many bytes this process has pinned. No other test of this program pins any.
    fn pinned() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmPin:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
    }

    fn skipped(why: &MemoryError) {
        writeln!(std::io::stderr(), "skipped: {why}").unwrap();
    }

    /// Above 16,384 pages several were let go together, so that an exchange that failed left
    /// neighbours unpinned.
    #[test]
    fn each_page_is_pinned_by_itself_however_many_there_are() {
        let pages = MOST_BUFFERS + 2;
        let file = Sealed::create("pinned", (pages * PAGE) as u64, MemfdFlags::empty()).unwrap();
        let mapping = Mapping::of(&file, pages * PAGE).unwrap();
        mapping.populate(0..mapping.len()).unwrap();
        let pin = match Pin::new(&mapping, PAGE) {
            Ok(pin) => pin,
            Err(why) => return skipped(&why),
        };
        assert_eq!(pinned(), pages * PAGE);
        for page in [0, 1, MOST_BUFFERS - 1, MOST_BUFFERS, MOST_BUFFERS + 1] {
            pin.let_go(page * PAGE).unwrap();
            assert_eq!(pinned(), (pages - 1) * PAGE, "page {page} alone is let go");
            pin.hold(page * PAGE).unwrap();
            assert_eq!(pinned(), pages * PAGE);
        }
        drop(pin);
        assert_eq!(pinned(), 0);
    }
}
