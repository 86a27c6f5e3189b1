//! Memory of the server process itself, kept in reserve. Without it, a request is refused with
//! `ENOMEM`; an allocation that failed in the middle of a request would abort the process.

use crate::accounts::Accounts;
use parking_lot::Mutex;
use std::hint::black_box;
use std::sync::Arc;

/// More than one request takes: messages, accounts, and small tables. The reserve consists of
/// blocks, because memory freed by many clients is fragmented.
const BLOCKS: usize = 8;

/// The size of a block in bytes.
const BLOCK: usize = 32 << 10;

/// The most bytes for each chunk that one block of a growing table has. The largest table of the
/// framework has 89 bytes an entry, and doubles when seven eighths of it are taken.
const TABLE_BYTES: u64 = 256;

/// The longest block for a table that is probed: a server of so many connections runs out of other
/// memory first.
const MOST_TABLE: u64 = 64 << 20;

type Blocks = [Vec<u8>; BLOCKS];

/// The reserve. It is released when memory runs out, so that the server can still send errors and
/// free chunks.
#[derive(Debug)]
pub(crate) struct MemoryReserve {
    blocks: Mutex<Option<Blocks>>,
    accounts: Arc<Accounts>,
}

impl MemoryReserve {
    /// For the connections of `accounts`, each of which may have a chunk.
    pub(crate) fn new(accounts: Arc<Accounts>) -> Self {
        MemoryReserve { blocks: Mutex::new(allocate_blocks(BLOCK)), accounts }
    }

    /// Whether the process can allocate enough memory for one more request. This is a probe, not a
    /// reservation: other threads allocate at the same time.
    pub(crate) fn is_available(&self) -> bool {
        let reserve = &mut *self.blocks.lock();
        if reserve.is_none() {
            *reserve = allocate_blocks(BLOCK);
        }
        // The probe's blocks return to the heap, where the request finds them.
        let table = self.accounts.slots().saturating_mul(TABLE_BYTES).min(MOST_TABLE) as usize;
        let is_available = reserve.is_some() && {
            let blocks = allocate_blocks(BLOCK);
            let mut block = Vec::<u8>::new();
            let has_table = block.try_reserve_exact(table).is_ok();
            black_box(block);
            blocks.is_some() && has_table
        };
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
    use crate::limits::Limits;

    #[test]
    fn a_failed_allocation_is_reported_without_a_panic() {
        assert!(allocate_blocks(isize::MAX as usize).is_none());
        let reserve = MemoryReserve::new(Accounts::new(Limits::default()));
        assert!(reserve.is_available() && reserve.blocks.lock().is_some());
    }
}
