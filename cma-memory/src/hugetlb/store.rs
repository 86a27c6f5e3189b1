//! A region of huge pages as the framework's memory port, and the memory of its chunks.

use super::file::PoolFile;
use super::region::{Extent, HugeRegion, Location};
use cma_framework::memory::{Backing, Claim, LastingFile, Memory, Piece, Store};
use cma_framework::{MemoryError, PAGE_SIZE, PageRange};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
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
        region.settle();
        let mut store = ChunkStore::new(region.clone(), range);
        let pages = store.pages();
        region.check_released(pages.clone())?;
        let is_zero = if store.is_whole() {
            let is_zero = region.use_in_own_file(pages.clone())?;
            store.extents = region.extents(pages);
            is_zero
        } else {
            region.use_in_place(pages)?
        };
        if !is_zero {
            // SAFETY: by the framework's claim nothing else has the chunk's bytes. Files are mapped
            // throughout its part of the region and keep their pages, and no other process has any
            // of them.
            unsafe { region.mapping.bytes_mut(store.place.clone()) }.fill(0);
        }
        Ok(Box::new(store))
    }

    fn restore(&self, claim: Claim, files: Vec<OwnedFd>) -> Result<Box<dyn Store>, MemoryError> {
        let region = &self.0;
        let range = claim.range();
        if !range.within(region.range) {
            return Err(MemoryError::Elsewhere { range });
        }
        let mut store = ChunkStore::new(region.clone(), range);
        store.check_whole()?;
        let restored = region.restore_chunk(store.pages(), files);
        restored.map_err(|reason| MemoryError::NotRestored { range, reason })?;
        store.extents = region.extents(store.pages());
        Ok(Box::new(store))
    }

    fn lasting(&self) -> Result<Vec<OwnedFd>, MemoryError> {
        self.0.lasting()
    }

    fn missing(&self) -> Vec<PageRange> {
        self.0.settle();
        self.0.missing()
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
    /// The files of a chunk of whole pages; they have no page of another chunk.
    extents: Vec<Extent>,
}

impl ChunkStore {
    fn new(region: Arc<HugeRegion>, range: PageRange) -> Self {
        let start = ((range.first_page() - region.range.first_page()) * PAGE_SIZE) as usize;
        let place = start..start + range.bytes() as usize;
        let store = ChunkStore { region, range, place, mapped: false, extents: Vec::new() };
        store.region.enter(store.pages());
        store
    }

    /// The huge pages it touches.
    fn pages(&self) -> Range<usize> {
        self.place.start / self.region.step..self.place.end.div_ceil(self.region.step)
    }

    /// Whether it consists of whole huge pages.
    fn is_whole(&self) -> bool {
        let step = self.region.step;
        self.place.start.is_multiple_of(step) && self.place.end.is_multiple_of(step)
    }

    fn check_whole(&self) -> Result<(), MemoryError> {
        let (range, granule) = (self.range, self.region.granule());
        if self.is_whole() { Ok(()) } else { Err(MemoryError::Granule { range, granule }) }
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
        self.check_whole()?;
        Ok(self.extents.len())
    }

    fn piece(&self, index: usize) -> Result<Piece<'_>, MemoryError> {
        let Extent { start, len } = &self.extents[index];
        Ok(Piece::new(start.file.open()?, start.offset, *len))
    }

    fn held(&self) -> bool {
        // Every file is checked, because a check also frees what a process added to the file.
        self.extents.iter().filter(|extent| extent.start.file.is_held()).count() > 0
    }

    /// The file of the chunk, and those that have one of its pages each.
    fn lasting(&self) -> Result<Vec<LastingFile<'_>>, MemoryError> {
        self.check_whole()?;
        let mut files: Vec<(&Arc<PoolFile>, Vec<Range<u64>>)> = Vec::new();
        for Extent { start: Location { file, offset }, len } in &self.extents {
            let part = self.region.pin.is_ok().then_some(*offset..*offset + *len);
            match files.iter_mut().find(|(known, _)| Arc::ptr_eq(known, file)) {
                Some((_, pinned)) => pinned.extend(part),
                None => files.push((file, part.into_iter().collect())),
            }
        }
        files.sort_by_key(|(file, _)| file.len() != self.range.bytes());
        let files = files.into_iter();
        Ok(files.map(|(file, pinned)| LastingFile { file: file.as_fd(), pinned }).collect())
    }
}

impl Drop for ChunkStore {
    fn drop(&mut self) {
        self.region.leave(self.pages());
        if self.is_whole() {
            self.region.retire(self.pages());
        }
    }
}
