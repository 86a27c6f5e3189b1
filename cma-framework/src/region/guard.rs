//! A live chunk in its owner's hands.

use super::{Region, Slot};
use cma_api::{DmaAddr, PageRange};
use std::fmt;

/// A live chunk. Dropping it frees it; [`into_addr`](Self::into_addr) turns it into a plain address.
#[must_use = "a chunk that is dropped is freed"]
pub struct Chunk {
    pub(super) region: Region,
    pub(super) range: PageRange,
    /// [`Slot::NONE`] once the chunk has outgrown its guard.
    pub(super) slot: Slot,
}

impl Chunk {
    /// The lowest address.
    pub fn start(&self) -> DmaAddr {
        self.range.start()
    }

    /// The size in bytes: what was asked for, rounded up to a page.
    pub fn size(&self) -> u64 {
        self.range.bytes()
    }

    /// The pages it covers.
    pub fn range(&self) -> PageRange {
        self.range
    }

    /// The region it is in.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Keeps the chunk alive without this guard. [`Cma::free`](crate::Cma::free) with the address frees it.
    pub fn into_addr(mut self) -> DmaAddr {
        self.region.lock().chunks.index(self.slot);
        self.slot = Slot::NONE;
        self.range.start()
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if self.slot != Slot::NONE {
            self.region.free_slot(&mut self.region.lock(), self.slot);
        }
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({} in {})", self.range, self.region)
    }
}
