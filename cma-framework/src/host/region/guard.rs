//! A live chunk in its owner's hands.

use super::Region;
use super::aside::Live;
use super::chunks::Slot;
use super::holder::Holder;
use crate::core::memory::Unusable;
use cma_api::{Alignment, DmaAddr, PageRange, Pages, Request, Tag};
use std::fmt;
use std::sync::Arc;

/// A live chunk. Dropping it frees it; [`into_addr`](Self::into_addr) turns it into a plain
/// address.
///
/// It has all that it takes to free it, in half a cache line.
#[must_use = "a chunk that is dropped is freed"]
pub struct Chunk {
    region: Region,
    first: u64,
    /// The tag it was placed with.
    tag: Tag,
    shape: Shape,
    /// [`Slot::NONE`] once the chunk has outgrown its guard.
    slot: Slot,
}

/// The size and the alignment that were asked for: the number of pages, and above it log2 of the
/// alignment in pages.
#[derive(Clone, Copy)]
struct Shape(u32);

/// As many pages, or more: 256 GiB. A table beside the region's books knows how many, so that
/// asking for it takes no lock that an allocator is called under.
const HUGE: u32 = (1 << 26) - 1;

impl Shape {
    #[inline]
    fn new(pages: Pages, alignment: Alignment) -> Self {
        let pages = pages.get().min(u64::from(HUGE)) as u32;
        Shape(pages | (alignment.log2() - Alignment::PAGE.log2()) << HUGE.count_ones())
    }

    /// [`HUGE`] for more than fit.
    #[inline]
    fn pages(self) -> u32 {
        self.0 & HUGE
    }

    fn alignment(self) -> Alignment {
        let log2 = (self.0 >> HUGE.count_ones()) + Alignment::PAGE.log2();
        Alignment::new(1 << log2).unwrap_or(Alignment::PAGE)
    }
}

impl Chunk {
    #[inline(always)]
    pub(super) fn new(
        region: Region,
        first: u64,
        pages: Pages,
        alignment: Alignment,
        tag: Tag,
        slot: Slot,
    ) -> Self {
        let shape = Shape::new(pages, alignment);
        let chunk = Chunk { region, first, tag, shape, slot };
        if shape.pages() == HUGE {
            chunk.enter_huge(pages);
        }
        chunk
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
        match self.shape.pages() {
            HUGE => self.huge(),
            pages => PageRange::from_pages(self.first, u64::from(pages)),
        }
    }

    #[cold]
    fn huge(&self) -> PageRange {
        let pages = self.region.huge_guards().get(&self.slot).copied().unwrap_or_default();
        PageRange::from_pages(self.first, pages.get())
    }

    #[cold]
    fn enter_huge(&self, pages: Pages) {
        self.region.huge_guards().insert(self.slot, pages);
    }

    /// Its range, when the guard gives its slot up.
    #[inline]
    fn leave(&self) -> PageRange {
        match self.shape.pages() {
            HUGE => self.leave_huge(),
            pages => PageRange::from_pages(self.first, u64::from(pages)),
        }
    }

    #[cold]
    fn leave_huge(&self) -> PageRange {
        // Before the slot is free for another chunk.
        let pages = self.region.huge_guards().remove(&self.slot).unwrap_or_default();
        PageRange::from_pages(self.first, pages.get())
    }

    /// The region it is in.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The chunk at another place, of the same region if possible, else of one that the map has for
    /// the device and type that asked for it. What is `unusable` of its place is set aside.
    ///
    /// # Errors
    ///
    /// The chunk, when there is no other place. It is where it was.
    pub(crate) fn elsewhere(mut self, unusable: &Unusable) -> Result<Chunk, Chunk> {
        let Ok((asker, holder)) = self.region.held_by(self.slot) else { return Err(self) };
        let Some(request) = Request::new(self.range().pages(), self.shape.alignment(), asker)
        else {
            return Err(self);
        };
        let live = Live { range: self.leave(), tag: self.tag, slot: self.slot };
        let moved = self.region.move_away(live, &request, unusable);
        let (Ok(live) | Err(live)) = moved;
        (self.first, self.tag, self.slot) = (live.range.first_page(), live.tag, live.slot);
        if self.shape.pages() == HUGE {
            self.enter_huge(live.range.pages());
        }
        if moved.is_ok() {
            self.keep_holder(holder);
            return Ok(self);
        }
        let framework = self.region.framework();
        let Some(other) = framework.and_then(|all| all.alloc_elsewhere(&request, &self.region))
        else {
            self.keep_holder(holder);
            return Err(self);
        };
        other.keep_holder(holder);
        let live = Live { range: self.leave(), tag: self.tag, slot: self.slot };
        self.slot = Slot::NONE;
        self.region.set_aside(live, unusable);
        Ok(other)
    }

    fn keep_holder(&self, holder: Option<Arc<Holder>>) {
        if let Some(holder) = holder {
            self.region.hold(self.slot, holder);
        }
    }

    /// Notes for whom this chunk is, in place of the host itself: what
    /// [`Cma::owners`](crate::Cma::owners) tells of it. A front end that serves other processes
    /// calls this.
    pub fn set_holder(&self, holder: Holder) {
        self.region.hold(self.slot, Arc::new(holder));
    }

    /// Keeps the chunk alive without this guard. [`Cma::free`](crate::Cma::free) with the address
    /// frees it.
    pub fn into_addr(mut self) -> DmaAddr {
        self.leave();
        self.region.release_guard(self.slot, self.tag);
        self.slot = Slot::NONE;
        self.start()
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if self.slot != Slot::NONE {
            self.region.take_back(self.slot, self.leave(), self.tag);
        }
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({} in {})", self.range(), self.region)
    }
}

#[cfg(test)]
mod tests {
    use super::{HUGE, Shape};
    use cma_api::{Alignment, Pages};

    #[test]
    fn a_shape_has_the_size_up_to_its_limit_and_every_alignment() {
        let most = u64::from(HUGE);
        for log2 in 12..64 {
            let alignment = Alignment::new(1 << log2).unwrap();
            for (pages, kept) in
                [(1, 1), (most - 1, most - 1), (most, most), (most + 1, most), (1 << 51, most)]
            {
                let shape = Shape::new(Pages::new(pages), alignment);
                assert_eq!((u64::from(shape.pages()), shape.alignment()), (kept, alignment));
            }
        }
    }
}
