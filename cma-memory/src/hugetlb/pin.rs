//! Memory that stays where it is: registered with `io_uring` as buffers, which the kernel pins.
//!
//! The kernel may move huge pages (to make room for other contiguous memory, or when memory is taken out of the machine), and a
//! process that was given one can give it back to the pool (`fallocate` with a hole) while a device still writes to it. Pinned, a
//! page is neither moved nor given to anybody else.

use crate::mapping::Mapping;
use crate::refusal::{refused, with_room};
use cma_framework::MemoryError;
use rustix::io_uring::{
    IoringRegisterOp, io_uring_params, io_uring_ptr, io_uring_register, io_uring_rsrc_update2,
    io_uring_setup, iovec,
};
use std::os::fd::OwnedFd;
use std::ptr;

/// Pins a mapping's pages as long as it lives, but for those that are let go meanwhile.
#[derive(Debug)]
pub(super) struct Pin {
    ring: OwnedFd,
    /// Where the mapping starts.
    address: usize,
    len: usize,
    /// The bytes of a buffer: a huge page; or, of a mapping of more than 16384 of them, several, which are let go of together.
    step: usize,
}

impl Pin {
    /// Pins `mapping`, which is made of pages of `page` bytes.
    pub(super) fn new(mapping: &Mapping, page: usize) -> Result<Self, MemoryError> {
        // SAFETY: the ring is never mapped and nothing is ever submitted to it.
        let ring = with_room(|| unsafe { io_uring_setup(1, &mut io_uring_params::default()) })
            .map_err(refused("io_uring_setup"))?;
        let step = mapping.len().div_ceil(MOST_BUFFERS).next_multiple_of(page);
        let pin = Pin { ring, address: mapping.address(), len: mapping.len(), step };
        let buffers: Vec<iovec> = (0..pin.len).step_by(step).map(|at| pin.buffer(at)).collect();
        // SAFETY: the kernel pins the pages and, as nothing is submitted, reads and writes none. They may be unmapped before they
        // are let go.
        unsafe {
            io_uring_register(
                &pin.ring,
                IoringRegisterOp::RegisterBuffers,
                buffers.as_ptr().cast(),
                buffers.len() as u32,
            )
        }
        .map_err(refused("io_uring_register"))?;
        Ok(pin)
    }

    /// Lets go of the page at byte `at` of the mapping.
    pub(super) fn let_go(&self, at: usize) -> Result<(), MemoryError> {
        self.update(at, iovec { iov_base: ptr::null_mut(), iov_len: 0 })
    }

    /// Pins what is at byte `at` of the mapping now.
    pub(super) fn hold(&self, at: usize) -> Result<(), MemoryError> {
        self.update(at, self.buffer(at / self.step * self.step))
    }

    /// The buffer that starts at byte `from` of the mapping.
    fn buffer(&self, from: usize) -> iovec {
        let iov_base = ptr::without_provenance_mut(self.address + from);
        iovec { iov_base, iov_len: self.step.min(self.len - from) }
    }

    /// Puts `buffer` in the place of the one that has byte `at` of the mapping.
    fn update(&self, at: usize, buffer: iovec) -> Result<(), MemoryError> {
        let mut update = io_uring_rsrc_update2::default();
        update.offset = (at / self.step) as u32;
        update.data = io_uring_ptr::new(ptr::from_ref(&buffer).cast_mut().cast());
        update.nr = 1;
        // SAFETY: as above. The kernel takes the size of what it is to read for the number of arguments, and reads the one buffer.
        let updated = unsafe {
            io_uring_register(
                &self.ring,
                IoringRegisterOp::RegisterBuffersUpdate,
                ptr::from_ref(&update).cast(),
                size_of_val(&update) as u32,
            )
        };
        updated.map(|_| ()).map_err(refused("io_uring_register"))
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        // Closing the ring would do it too, but some time later: a region that comes next might not find the pages yet.
        // SAFETY: nothing uses the buffers.
        let _ = unsafe { io_uring_register(&self.ring, IoringRegisterOp::UnregisterBuffers, ptr::null(), 0) };
    }
}

/// The kernel takes no more buffers, nor one of more than a GiB.
const MOST_BUFFERS: usize = 1 << 14;
