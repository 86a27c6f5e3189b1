//! A live chunk in its owner's hands.

use super::Region;
use super::chunks::Slot;
use cma_api::{DmaAddr, PageRange, Pages, Tag};
use std::fmt;

/// A live chunk. Dropping it frees it; [`into_addr`](Self::into_addr) turns it into a plain address.
///
/// It has all that it takes to free it, in half a cache line.
#[must_use = "a chunk that is dropped is freed"]
pub struct Chunk {
    region: Region,
    first: u64,
    /// The tag it was placed with.
    tag: Tag,
    /// [`HUGE`] for more than fit.
    pages: u32,
    /// [`Slot::NONE`] once the chunk has outgrown its guard.
    slot: Slot,
}

/// As many pages, or more: 16 TiB. The region's books know how many.
const HUGE: u32 = u32::MAX;

impl Chunk {
    #[inline]
    pub(super) fn new(region: Region, first: u64, pages: Pages, tag: Tag, slot: Slot) -> Self {
        Chunk { region, first, tag, pages: u32::try_from(pages.get()).unwrap_or(HUGE), slot }
    }

    /// The lowest address.
    pub fn start(&self) -> DmaAddr {
        PageRange::from_pages(self.first, 1).start()
    }

    /// The size in bytes: what was asked for, rounded up to a page.
    pub fn size(&self) -> u64 {
        self.range().bytes()
    }

    /// The pages it covers.
    #[inline]
    pub fn range(&self) -> PageRange {
        if self.pages == HUGE {
            self.huge()
        } else {
            PageRange::from_pages(self.first, u64::from(self.pages))
        }
    }

    #[cold]
    fn huge(&self) -> PageRange {
        self.region.range_of(self.slot)
    }

    /// The region it is in.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Frees all of it but `part`. All of it stays when its region's allocator can't have a chunk there.
    pub(crate) fn narrowed(mut self, part: PageRange) -> Self {
        let (left, tag, slot) = self.region.narrow(self.slot, self.range(), self.tag, part);
        self.slot = Slot::NONE;
        Chunk::new(self.region.clone(), left.first_page(), left.pages(), tag, slot)
    }

    /// Keeps the chunk alive without this guard. [`Cma::free`](crate::Cma::free) with the address frees it.
    pub fn into_addr(mut self) -> DmaAddr {
        self.region.release_guard(self.slot, self.tag);
        self.slot = Slot::NONE;
        self.start()
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if self.slot != Slot::NONE {
            self.region.take_back(self.slot, self.range(), self.tag);
        }
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({} in {})", self.range(), self.region)
    }
}
