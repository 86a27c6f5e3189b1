//! The guard that owns a live chunk.

use super::Region;
use super::deferred::Deferred;
use crate::core::books::{Holder, LiveChunk, Slot};
use crate::core::memory::Unusable;
use crate::core::shape::Shape;
use crate::host::events::Served;
use crate::vocabulary::errors::Stuck;
use cma_api::{DmaAddr, PageRange, Pages, Request, Tag};
use std::fmt;
use std::sync::Arc;

/// A live chunk. Dropping it frees it; [`into_addr`](Self::into_addr) turns it into a plain
/// address.
///
/// It has all that freeing it needs, in half a cache line.
#[must_use = "a chunk that is dropped is freed"]
pub struct Chunk {
    region: Region,
    first: u64,
    /// The tag it was placed with.
    tag: Tag,
    /// The size of a chunk of [`Shape::HUGE`] pages or more is in a table beside the region's
    /// state, so that reading it doesn't take the region's lock.
    shape: Shape,
    /// [`Slot::NONE`] once the chunk has no guard.
    slot: Slot,
}

impl Chunk {
    #[inline(always)]
    pub(super) fn new(
        region: Region,
        first: u64,
        pages: Pages,
        shape: Shape,
        tag: Tag,
        slot: Slot,
    ) -> Self {
        let chunk = Chunk { region, first, tag, shape, slot };
        if shape.pages() == Shape::HUGE {
            chunk.note_huge(pages);
        }
        chunk
    }

    /// The lowest address.
    pub fn start(&self) -> DmaAddr {
        PageRange::from_pages(self.first, 1).start()
    }

    /// The size in bytes: the requested size, rounded up to a page.
    pub fn size(&self) -> u64 {
        self.range().bytes()
    }

    /// The pages it covers.
    #[inline]
    pub fn range(&self) -> PageRange {
        match self.shape.pages() {
            Shape::HUGE => self.huge(),
            pages => PageRange::from_pages(self.first, u64::from(pages)),
        }
    }

    #[cold]
    fn huge(&self) -> PageRange {
        let pages = self.region.huge_guards().get(&self.slot).copied().unwrap_or_default();
        PageRange::from_pages(self.first, pages.get())
    }

    #[cold]
    fn note_huge(&self, pages: Pages) {
        self.region.huge_guards().insert(self.slot, pages);
    }

    /// The values that freeing it needs, when the guard gives up its slot.
    #[inline]
    fn detach(&self) -> LiveChunk {
        let range = match self.shape.pages() {
            Shape::HUGE => self.detach_huge(),
            pages => PageRange::from_pages(self.first, u64::from(pages)),
        };
        LiveChunk { range, tag: self.tag, slot: self.slot }
    }

    #[cold]
    fn detach_huge(&self) -> PageRange {
        // Before the slot is reused for another chunk.
        let pages = self.region.huge_guards().remove(&self.slot).unwrap_or_default();
        PageRange::from_pages(self.first, pages.get())
    }

    /// Its region.
    pub fn region(&self) -> &Region {
        // What a device keeps is for its own requests alone.
        self.region.plain()
    }

    /// Moves the chunk to another place: of the same region if possible, else of a region that the
    /// map has for the device and type that requested it. The `unusable` part of its place is set
    /// aside.
    ///
    /// # Errors
    ///
    /// The chunk, when there is no other place. It is where it was.
    pub(crate) fn elsewhere(mut self, unusable: &Unusable) -> Result<Chunk, Chunk> {
        let Ok((Some(request), holder)) = self.origin() else { return Err(self) };
        let live = self.detach();
        let moved = self.region.move_away(live, &request, unusable);
        let (Ok(live) | Err(live)) = moved;
        (self.first, self.tag, self.slot) = (live.range.first_page(), live.tag, live.slot);
        if self.shape.pages() == Shape::HUGE {
            self.note_huge(live.range.pages());
        }
        if moved.is_ok() {
            self.hold_for(holder);
            return Ok(self);
        }
        let framework = self.region.framework();
        let Some(other) =
            framework.and_then(|framework| framework.alloc_elsewhere(&request, &self.region))
        else {
            self.hold_for(holder);
            return Err(self);
        };
        other.hold_for(holder);
        let live = self.detach();
        self.slot = Slot::NONE;
        self.region.set_aside(live, unusable);
        Ok(other)
    }

    /// Frees the chunk, whose memory can't be restored, as if it had not been booked.
    pub(crate) fn undo_restore(mut self) {
        let live = self.detach();
        self.slot = Slot::NONE;
        self.region.undo_restore(live);
    }

    /// The request that it serves, and its holder if a front end noted one.
    fn origin(&self) -> Result<(Option<Request>, Option<Arc<Holder>>), Stuck> {
        let (pages, alignment) = (self.range().pages(), self.shape.alignment());
        let books = &self.region.enter()?.books;
        let request = books.request(self.slot, pages, alignment);
        Ok((request, books.holder(self.slot).cloned()))
    }

    fn hold_for(&self, holder: Option<Arc<Holder>>) {
        if let Some(holder) = holder {
            self.region.now_or_deferred(Deferred::Hold { slot: self.slot, holder });
        }
    }

    /// Notes for which process the host has this chunk. [`Cma::owners`](crate::Cma::owners) reports
    /// it. A front end that serves other processes calls this.
    pub fn set_holder(&mut self, holder: Holder) {
        // Whoever gets the memory next is another holder.
        self.region = self.region.plain().clone();
        self.hold_for(Some(Arc::new(holder)));
    }

    /// Keeps the chunk alive without this guard. [`Cma::free`](crate::Cma::free) with the address
    /// frees it.
    pub fn into_addr(mut self) -> DmaAddr {
        self.detach();
        self.region.now_or_deferred(Deferred::Index { slot: self.slot, tag: self.tag });
        self.slot = Slot::NONE;
        self.start()
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if self.slot != Slot::NONE {
            self.region.free_guarded(self.detach(), self.shape);
        }
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({} in {})", self.range(), self.region)
    }
}

impl Served for Chunk {
    fn region(&self) -> &dyn fmt::Display {
        &self.region
    }

    fn start(&self) -> DmaAddr {
        Chunk::start(self)
    }
}
