//! Memory of the server process itself, kept in reserve. Without it, a request is refused with
//! `ENOMEM`; an allocation that failed in the middle of a request would abort the process.

use parking_lot::Mutex;
use std::hint::black_box;

/// More than one request takes: messages, accounts, and growing tables of the framework. The
/// reserve consists of blocks, because memory freed by many clients is fragmented.
const BLOCKS: usize = 8;

/// The size of a block in bytes.
const BLOCK: usize = 32 << 10;

type Blocks = [Vec<u8>; BLOCKS];

/// The reserve. It is released when memory runs out, so that the server can still send errors and
/// free chunks.
#[derive(Debug)]
pub(crate) struct MemoryReserve(Mutex<Option<Blocks>>);

impl MemoryReserve {
    pub(crate) fn new() -> Self {
        MemoryReserve(Mutex::new(allocate_blocks(BLOCK)))
    }

    /// Whether the process can allocate enough memory for one more request. This is a probe, not a
    /// reservation: other threads allocate at the same time.
    pub(crate) fn is_available(&self) -> bool {
        let reserve = &mut *self.0.lock();
        if reserve.is_none() {
            *reserve = allocate_blocks(BLOCK);
        }
        // The probe's blocks return to the heap, where the request finds them.
        let is_available = reserve.is_some() && allocate_blocks(BLOCK).is_some();
        if !is_available {
            *reserve = None;
        }
        is_available
    }
}

/// Allocates all blocks with `bytes` each, or none.
fn allocate_blocks(bytes: usize) -> Option<Blocks> {
    let mut blocks = Blocks::default();
    let succeeded = blocks.iter_mut().all(|block| block.try_reserve_exact(bytes).is_ok());
    // Keeps the compiler from removing an allocation that nothing uses.
    succeeded.then(|| black_box(blocks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_allocation_is_reported_without_a_panic() {
        assert!(allocate_blocks(isize::MAX as usize).is_none());
        let reserve = MemoryReserve::new();
        assert!(reserve.is_available() && reserve.0.lock().is_some());
    }
}
