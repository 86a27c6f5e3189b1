//! Memory that stays where it is: registered with `io_uring` as buffers, which the kernel pins.
//!
//! The kernel may move huge pages (to make room for other contiguous memory, or when memory is taken out of the machine), and a
//! process that was given one can give it back to the pool (`fallocate` with a hole) while a device still writes to it. Pinned, a
//! page is neither moved nor given to anybody else.

use crate::mapping::Mapping;
use crate::refusal::{refused, with_room};
use cma_framework::MemoryError;
use rustix::io_uring::{IoringRegisterOp, io_uring_params, io_uring_register, io_uring_setup, iovec};
use std::os::fd::OwnedFd;
use std::ptr;

/// Pins a mapping's pages as long as it lives.
#[derive(Debug)]
pub(super) struct Pin(OwnedFd);

impl Pin {
    pub(super) fn new(mapping: &Mapping) -> Result<Self, MemoryError> {
        // SAFETY: the ring is never mapped and nothing is ever submitted to it.
        let ring = with_room(|| unsafe { io_uring_setup(1, &mut io_uring_params::default()) })
            .map_err(refused("io_uring_setup"))?;
        let part = |from: usize| iovec {
            iov_base: ptr::without_provenance_mut(mapping.address() + from),
            iov_len: LARGEST.min(mapping.len() - from),
        };
        let parts: Vec<iovec> = (0..mapping.len()).step_by(LARGEST).map(part).collect();
        // SAFETY: the kernel pins the pages and, as nothing is submitted, reads and writes none. They may be unmapped before they
        // are let go.
        unsafe {
            io_uring_register(
                &ring,
                IoringRegisterOp::RegisterBuffers,
                parts.as_ptr().cast(),
                parts.len() as u32,
            )
        }
        .map_err(refused("io_uring_register"))?;
        Ok(Pin(ring))
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        // Closing the ring would do it too, but some time later: a region that comes next might not find the pages yet.
        // SAFETY: nothing uses the buffers.
        let _ = unsafe { io_uring_register(&self.0, IoringRegisterOp::UnregisterBuffers, ptr::null(), 0) };
    }
}

/// The kernel takes no larger buffer, in bytes.
const LARGEST: usize = 1 << 30;
