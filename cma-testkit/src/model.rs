//! The shadow model: what a region looks like, kept so plainly that it can be believed.
//!
//! It stores the live chunks and derives everything else from them each time it is asked, so it
//! can't forget to merge, split or count. An allocator's answers are judged against it.

use crate::violation::Violation;
use cma_api::{PageRange, Pages, Placement, Request, Tag};
use std::collections::BTreeMap;

/// A region and its live chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    region: PageRange,
    live: BTreeMap<u64, Placement>,
}

impl Model {
    /// An empty `region`.
    pub fn new(region: PageRange) -> Self {
        Model { region, live: BTreeMap::new() }
    }

    /// The region.
    pub fn region(&self) -> PageRange {
        self.region
    }

    /// The live chunks in ascending order of address.
    pub fn live(&self) -> impl DoubleEndedIterator<Item = Placement> {
        self.live.values().copied()
    }

    /// How many chunks are live.
    pub fn users(&self) -> usize {
        self.live.len()
    }

    /// The `n`th live chunk in ascending order of address, counting round; `None` when none is
    /// live.
    pub fn nth(&self, n: usize) -> Option<Placement> {
        self.live().nth(n.checked_rem(self.users())?)
    }

    /// The holes (maximal free ranges) in ascending order of address.
    pub fn holes(&self) -> impl Iterator<Item = PageRange> {
        let end = PageRange::from_pages(self.region.end_page(), 0);
        let mut free_from = self.region.first_page();
        self.live.values().map(|chunk| chunk.range).chain([end]).filter_map(move |taken| {
            let hole = PageRange::from_pages(free_from, taken.first_page() - free_from);
            free_from = taken.end_page();
            (hole.pages() > Pages::ZERO).then_some(hole)
        })
    }

    /// The size of the largest hole; 0 when the region is full.
    pub fn largest_hole(&self) -> Pages {
        self.holes().map(PageRange::pages).max().unwrap_or(Pages::ZERO)
    }

    /// Whether some hole can hold the request with its alignment.
    pub fn fits(&self, request: &Request) -> bool {
        self.first_fit(request).is_some()
    }

    /// The lowest place there is for the request.
    pub fn first_fit(&self, request: &Request) -> Option<PageRange> {
        self.holes().find_map(|hole| lowest_place(hole, request))
    }

    /// Where best fit (section 4 of the specification) puts the request: in the smallest hole that
    /// can hold it with its alignment, of equal ones the lowest. There it is the lowest aligned
    /// place, except when that leaves a gap in front and a multiple of the alignment behind: then
    /// it is the hole's end, so that one hole stays instead of two.
    pub fn best_fit(&self, request: &Request) -> Option<PageRange> {
        let (hole, lowest) = self
            .holes()
            .filter_map(|hole| Some((hole, lowest_place(hole, request)?)))
            .min_by_key(|(hole, _)| (hole.pages(), hole.first_page()))?;
        let behind = hole.end_page() - lowest.end_page();
        let gap_in_front = lowest.first_page() > hole.first_page();
        if gap_in_front && behind.is_multiple_of(request.alignment().pages().get()) {
            Some(PageRange::from_pages(lowest.first_page() + behind, request.pages().get()))
        } else {
            Some(lowest)
        }
    }

    /// Whether `range` could become a chunk: it lies in the region and over no live chunk.
    ///
    /// # Errors
    ///
    /// [`Violation::Outside`] or [`Violation::Overlap`].
    pub fn judge(&self, range: PageRange) -> Result<(), Violation> {
        if !range.within(self.region) {
            return Err(Violation::Outside { range, region: self.region });
        }
        // The chunks lie apart, so the highest one that starts below the range's end is the only
        // one to ask first.
        match self.live.range(..range.end_page()).next_back() {
            Some((_, chunk)) if chunk.range.overlaps(range) => {
                Err(Violation::Overlap { range, live: chunk.range })
            }
            _ => Ok(()),
        }
    }

    /// Books the chunk an allocator placed for `request`.
    ///
    /// # Errors
    ///
    /// [`Violation::WrongSize`], [`Violation::Misaligned`], [`Violation::Outside`] or
    /// [`Violation::Overlap`]; then nothing is booked.
    pub fn allocate(&mut self, request: &Request, chunk: Placement) -> Result<(), Violation> {
        let range = chunk.range;
        if range.pages() != request.pages() {
            return Err(Violation::WrongSize { asked: request.pages(), range });
        }
        self.judge(range)?;
        if !range.start().is_aligned(request.alignment()) {
            return Err(Violation::Misaligned { range, alignment: request.alignment() });
        }
        self.live.insert(range.first_page(), chunk);
        Ok(())
    }

    /// Books the chunk an allocator adopted.
    ///
    /// # Errors
    ///
    /// [`Violation::Outside`] or [`Violation::Overlap`]; then nothing is booked.
    pub fn adopt(&mut self, range: PageRange, tag: Tag) -> Result<(), Violation> {
        self.judge(range)?;
        self.live.insert(range.first_page(), Placement { range, tag });
        Ok(())
    }

    /// Strikes the chunk that starts at `first_page` out of the books and answers what it was;
    /// `None` when there is none.
    pub fn free(&mut self, first_page: u64) -> Option<Placement> {
        self.live.remove(&first_page)
    }

    /// Compares the holes an allocator tells of with those there are.
    ///
    /// # Errors
    ///
    /// [`Violation::Holes`] with the first difference.
    pub fn compare_holes(&self, told: &[PageRange]) -> Result<(), Violation> {
        let holes: Vec<PageRange> = self.holes().collect();
        match (0..holes.len().max(told.len())).find(|&i| holes.get(i) != told.get(i)) {
            None => Ok(()),
            Some(i) => Err(Violation::Holes {
                position: i,
                told: told.get(i).copied(),
                is: holes.get(i).copied(),
            }),
        }
    }
}

/// The lowest aligned place for `request` in `hole`. Nothing here can overflow: pages are counted,
/// of which an address space has 2^52, and neither a request nor an alignment has more.
fn lowest_place(hole: PageRange, request: &Request) -> Option<PageRange> {
    let first = hole.first_page().next_multiple_of(request.alignment().pages().get());
    let place = PageRange::from_pages(first, request.pages().get());
    place.within(hole).then_some(place)
}

#[cfg(test)]
mod tests;
