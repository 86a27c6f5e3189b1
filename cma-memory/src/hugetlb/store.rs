//! A region of huge pages as the framework's memory port, and the memory of its chunks.

use super::region::HugeRegion;
use cma_framework::memory::{Backing, Claim, Memory, Piece, Store};
use cma_framework::{MemoryError, PAGE_SIZE, PageRange};
use std::ops::Range;
use std::sync::Arc;

/// The framework's reference to a region; each chunk's store has another.
#[derive(Debug)]
pub(super) struct RegionMemory(Arc<HugeRegion>);

impl RegionMemory {
    pub(super) fn new(region: HugeRegion) -> Self {
        RegionMemory(Arc::new(region))
    }
}

// SAFETY: a store has the claim's part of the region's one mapping, once no other process has a
// page of it: a page that was shared before has been allocated anew. It hands out nothing but
// descriptors, on request. Claims for other addresses are refused.
unsafe impl Memory for RegionMemory {
    fn backing(&self) -> Backing {
        Backing { kind: "hugetlb", contiguity: self.0.contiguity(), granule: self.0.granule() }
    }

    fn store(&self, claim: Claim) -> Result<Box<dyn Store>, MemoryError> {
        let region = &self.0;
        let range = claim.range();
        if !range.within(region.range) {
            return Err(MemoryError::Elsewhere { range });
        }
        let start = ((range.first_page() - region.range.first_page()) * PAGE_SIZE) as usize;
        let place = start..start + range.bytes() as usize;
        let store = ChunkStore { region: region.clone(), range, place, mapped: false };
        let is_zero =
            store.pages().try_fold(true, |all, index| Ok(region.reclaim(index)? && all))?;
        if !is_zero {
            // SAFETY: by the framework's claim nothing else has the chunk's bytes. Files are mapped
            // throughout the region and keep their pages, and no other process has any of them.
            unsafe { region.mapping.bytes_mut(store.place.clone()) }.fill(0);
        }
        Ok(Box::new(store))
    }
}

/// A chunk's memory: a part of the region's mapping.
#[derive(Debug)]
struct ChunkStore {
    region: Arc<HugeRegion>,
    range: PageRange,
    /// Its position in the region's mapping.
    place: Range<usize>,
    mapped: bool,
}

impl ChunkStore {
    /// The huge pages it touches.
    fn pages(&self) -> Range<usize> {
        self.place.start / self.region.step..self.place.end.div_ceil(self.region.step)
    }
}

impl Store for ChunkStore {
    fn map(&mut self) -> Result<(), MemoryError> {
        self.mapped = true;
        Ok(())
    }

    fn bytes(&self) -> &[u8] {
        let place = if self.mapped { self.place.clone() } else { 0..0 };
        // SAFETY: `RegionMemory::store` made sure that the bytes are this chunk's alone, and the
        // framework borrows them only of chunks that were not shared since.
        unsafe { self.region.mapping.bytes(place) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        let place = if self.mapped { self.place.clone() } else { 0..0 };
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { self.region.mapping.bytes_mut(place) }
    }

    fn pieces(&self) -> Result<usize, MemoryError> {
        let step = self.region.step;
        if !self.place.start.is_multiple_of(step) || !self.place.end.is_multiple_of(step) {
            return Err(MemoryError::Granule { range: self.range, granule: self.region.granule() });
        }
        Ok(self.pages().len())
    }

    fn piece(&self, index: usize) -> Result<Piece<'_>, MemoryError> {
        let mut page = self.region.pages[self.pages().start + index].lock();
        let file = page.file.reopen()?;
        page.shared = true;
        Ok(Piece::new(file, 0, self.region.step as u64))
    }

    fn held(&self) -> bool {
        self.pages().any(|index| {
            let page = self.region.pages[index].lock();
            let held = page.shared && !page.file.is_exclusive();
            if !held {
                // The pool can use the pages that a process added to the file. Those that can't be
                // freed now are freed at the page's next use.
                let _ = page.file.trim();
            }
            held
        })
    }
}
