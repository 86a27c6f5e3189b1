//! The shadow model: the state of a region, in a form that is simple enough to be trusted.
//!
//! It stores the live chunks and derives everything else from them on each call, so it can't forget
//! to merge, split or count. An allocator's results are checked against it.

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

    /// The number of live chunks.
    pub fn users(&self) -> usize {
        self.live.len()
    }

    /// Live chunk `n` modulo their number, in ascending order of address; `None` when none is live.
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

    /// Whether some hole can hold the request within its limits.
    pub fn fits(&self, request: &Request) -> bool {
        self.first_fit(request).is_some()
    }

    /// The lowest free place for the request.
    pub fn first_fit(&self, request: &Request) -> Option<PageRange> {
        self.holes().find_map(|hole| request.lowest_place(hole))
    }

    /// The place that best fit (section 4 of the specification) chooses: in the smallest hole that
    /// can hold the request within its limits, the lowest of equal ones. In that hole it is the
    /// lowest place. But if that leaves a gap before the chunk, and the request accepts the very
    /// end of the hole, it is that end, so that one hole remains instead of two.
    pub fn best_fit(&self, request: &Request) -> Option<PageRange> {
        let (hole, lowest) = self
            .holes()
            .filter_map(|hole| Some((hole, request.lowest_place(hole)?)))
            .min_by_key(|(hole, _)| (hole.pages(), hole.first_page()))?;
        let pages = request.pages().get();
        let end = PageRange::from_pages(hole.end_page() - pages, pages);
        let gap_before = lowest.first_page() > hole.first_page();
        Some(if gap_before && request.accepts(end) { end } else { lowest })
    }

    /// Checks that `range` could become a chunk: it lies in the region and overlaps no live chunk.
    ///
    /// # Errors
    ///
    /// [`Violation::Outside`] or [`Violation::Overlap`].
    pub fn judge(&self, range: PageRange) -> Result<(), Violation> {
        if !range.within(self.region) {
            return Err(Violation::Outside { range, region: self.region });
        }
        // Chunks don't overlap. So if any chunk overlaps the range, the highest chunk that starts
        // below the range's end does.
        match self.live.range(..range.end_page()).next_back() {
            Some((_, chunk)) if chunk.range.overlaps(range) => {
                Err(Violation::Overlap { range, live: chunk.range })
            }
            _ => Ok(()),
        }
    }

    /// Records the chunk that an allocator placed for `request`.
    ///
    /// # Errors
    ///
    /// [`Violation::WrongSize`], [`Violation::Misaligned`], [`Violation::Outside`],
    /// [`Violation::Overlap`], [`Violation::OutsideWindow`] or [`Violation::CrossesBoundary`]; then
    /// nothing is recorded.
    pub fn allocate(&mut self, request: &Request, chunk: Placement) -> Result<(), Violation> {
        let range = chunk.range;
        if range.pages() != request.pages() {
            return Err(Violation::WrongSize { requested: request.pages(), range });
        }
        self.judge(range)?;
        if !range.start().is_aligned(request.alignment()) {
            return Err(Violation::Misaligned { range, alignment: request.alignment() });
        }
        if !range.within(request.window()) {
            return Err(Violation::OutsideWindow { range, window: request.window() });
        }
        if !request.accepts(range) {
            return Err(Violation::CrossesBoundary { range, boundary: request.boundary() });
        }
        self.live.insert(range.first_page(), chunk);
        Ok(())
    }

    /// Records the chunk that an allocator adopted.
    ///
    /// # Errors
    ///
    /// [`Violation::Outside`] or [`Violation::Overlap`]; then nothing is recorded.
    pub fn adopt(&mut self, range: PageRange, tag: Tag) -> Result<(), Violation> {
        self.judge(range)?;
        self.live.insert(range.first_page(), Placement { range, tag });
        Ok(())
    }

    /// Removes the chunk that starts at `first_page` and returns it; `None` when there is none.
    pub fn free(&mut self, first_page: u64) -> Option<Placement> {
        self.live.remove(&first_page)
    }

    /// Compares the holes that an allocator reports with those of the model.
    ///
    /// # Errors
    ///
    /// [`Violation::Holes`] with the first difference.
    pub fn compare_holes(&self, reported: &[PageRange]) -> Result<(), Violation> {
        let holes: Vec<PageRange> = self.holes().collect();
        match (0..holes.len().max(reported.len())).find(|&i| holes.get(i) != reported.get(i)) {
            None => Ok(()),
            Some(i) => Err(Violation::Holes {
                position: i,
                reported: reported.get(i).copied(),
                actual: holes.get(i).copied(),
            }),
        }
    }
}

#[cfg(test)]
mod tests;
