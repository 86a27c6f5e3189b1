//! The sizes of chunks at aligned places: for each grid that needs it, an index that finds the
//! lowest place for a request.

use crate::Span;
use cma_api::{Boundary, PageRange, Request};
use cma_bits::{Maxima, TooLarge};

/// The places of a region that an alignment and a boundary allow, grouped into *cells*: a cell is
/// one aligned page, or all aligned pages of one word if it has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    /// The absolute number of the region's first page.
    base: u64,
    /// In pages, a power of two.
    alignment: u64,
    /// In pages, a power of two: a chunk crosses no multiple of it.
    boundary: u64,
    /// The start of cell 0, relative to the region's start.
    origin: u64,
    /// log2 of the pages of a cell.
    shift: u32,
}

impl Grid {
    /// The grid of an alignment in pages.
    #[inline]
    pub(crate) fn new(base: u64, alignment: u64) -> Self {
        let shift = alignment.trailing_zeros().max(6);
        let origin = if alignment < 64 { 0 } else { base.wrapping_neg() & (alignment - 1) };
        Grid { base, alignment, boundary: Boundary::NONE.pages().get(), origin, shift }
    }

    /// The grid of a request's alignment and boundary. Requests that have the same places have the
    /// same grid, so that they share its tree.
    pub(crate) fn of(request: &Request, region: PageRange) -> Self {
        let aligned = Grid::new(region.first_page(), request.alignment().pages().get());
        let boundary = request.boundary().pages().get();
        let cuts_region = region.first_page() ^ (region.end_page() - 1) >= boundary;
        // An aligned chunk, which is never larger than the boundary, only crosses multiples of a
        // boundary that is larger than the alignment.
        if cuts_region && boundary > aligned.alignment {
            Grid { boundary, ..aligned }
        } else {
            aligned
        }
    }

    /// The largest chunks in `hole` at its first aligned page and, if they are more than one
    /// boundary allows, at the first multiple of the boundary after that. A chunk of any size that
    /// has a place in the hole is part of one of them, from its start.
    #[inline]
    pub(crate) fn places_in(self, hole: Span) -> impl Iterator<Item = Span> {
        let first = self.place_from(hole.first);
        // No sum here can wrap: page numbers, alignments and boundaries are at most 2^52.
        let next = ((self.base + first) | (self.boundary - 1)) + 1 - self.base;
        let below = Span { first, end: hole.end.min(next) };
        let above = Span { first: next, end: hole.end.min(next + self.boundary) };
        [below, above].into_iter().filter(|place| place.first < place.end)
    }

    /// The number of cells in a region of `pages` pages.
    #[inline]
    pub(crate) fn cells(self, pages: u64) -> u64 {
        match pages.checked_sub(self.origin + 1) {
            Some(last) => (last >> self.shift) + 1,
            None => 0,
        }
    }

    /// The word of the places of `cell`.
    #[inline]
    pub(crate) fn word_of(self, cell: u64) -> u64 {
        (self.origin + (cell << self.shift)) / 64
    }

    /// The cell of the lowest aligned page from `page` up. May be past the last one.
    #[inline]
    pub(crate) fn cell_from(self, page: u64) -> u64 {
        (self.place_from(page) - self.origin) >> self.shift
    }

    /// The lowest aligned page from `page` up. No sum here can wrap: page numbers have 52 bits.
    #[inline]
    pub(crate) fn place_from(self, page: u64) -> u64 {
        page + ((self.base + page).wrapping_neg() & (self.alignment - 1))
    }
}

/// For one grid: bounds on the pages of a chunk in each cell.
///
/// A chunk fits a hole iff it fits at the first aligned page in the hole, or at the first multiple
/// of the boundary after that. So a hole is recorded in the cells of these two places.
#[derive(Debug)]
pub(crate) struct CellReaches {
    pub(crate) grid: Grid,
    /// An upper bound for each cell.
    most: Maxima,
    /// The number of holes after which the tree is dropped.
    left: u64,
}

/// `pages` as it is stored: saturated at 2^32 - 1 pages, 16 TiB.
#[inline]
fn saturated(pages: u64) -> u32 {
    u32::try_from(pages).unwrap_or(u32::MAX)
}

impl CellReaches {
    /// An index without holes, for a region of `pages` pages.
    pub(crate) fn new(grid: Grid, pages: u64) -> Result<Self, TooLarge> {
        Ok(CellReaches { grid, most: Maxima::new(grid.cells(pages))?, left: pages })
    }

    /// Raises the bounds for `hole`.
    #[inline]
    pub(crate) fn raise(&mut self, hole: Span) {
        for place in self.grid.places_in(hole) {
            self.most.raise(self.grid.cell_from(place.first), saturated(place.pages()));
        }
    }

    /// The same for a hole created after the tree was built. Returns whether to keep the tree: it
    /// is kept until as many holes were created as the region has pages.
    #[inline]
    pub(crate) fn record(&mut self, hole: Span) -> bool {
        self.raise(hole);
        self.left -= 1;
        self.left > 0
    }

    /// Lowers the bound of `cell` to `pages`, its true reach.
    pub(crate) fn lower(&mut self, cell: u64, pages: u64) {
        self.most.lower(cell, saturated(pages));
    }

    /// The lowest cell from `from` up that may have a place for `pages` pages.
    pub(crate) fn next(&self, from: u64, pages: u64) -> Option<u64> {
        self.most.next(from, saturated(pages))
    }

    /// Verifies the bounds of `hole`.
    pub(crate) fn check(&self, hole: Span) -> Result<(), String> {
        for place in self.grid.places_in(hole) {
            let bound = self.most.get(self.grid.cell_from(place.first));
            if bound < saturated(place.pages()) {
                return Err(format!("{hole:?} has {place:?} on {:?}, bound {bound}", self.grid));
            }
        }
        Ok(())
    }

    /// Verifies the tree.
    pub(crate) fn check_tree(&self) -> Result<(), String> {
        self.most.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cma_api::{Alignment, Asker, Pages};

    #[test]
    fn the_recorded_places_decide_for_every_size_and_have_the_lowest_place() {
        for (base, alignment) in [(0, 1), (3, 1), (0, 4), (61, 2), ((1 << 52) - 64, 1)] {
            for boundary in [1, 2, 8, 16, 32, 64] {
                let bytes = Boundary::new(boundary << 12).unwrap();
                let alignment_bytes = Alignment::new(alignment << 12).unwrap();
                let request = Request::new(Pages::new(1), alignment_bytes, Asker::NOBODY).unwrap();
                let request = request.limited(PageRange::ADDRESS_SPACE, bytes).unwrap();
                let grid = Grid::of(&request, PageRange::from_pages(base, 64));
                for (first, end) in
                    (0..30).flat_map(|first| (first + 1..64).map(move |n| (first, n)))
                {
                    let recorded: Vec<Span> = grid.places_in(Span { first, end }).collect();
                    for pages in 1..=boundary.min(end - first) {
                        let serves = |&at: &u64| {
                            (base + at).is_multiple_of(alignment)
                                && (base + at) / boundary == (base + at + pages - 1) / boundary
                        };
                        let lowest = (first..=end - pages).find(serves);
                        let found = recorded.iter().find(|place| place.pages() >= pages);
                        assert_eq!(
                            found.map(|place| place.first),
                            lowest,
                            "{pages} pages from {first} to {end} on {grid:?}"
                        );
                    }
                    let is_allowed = |place: &Span| place.pages() <= grid.boundary;
                    assert!(recorded.iter().all(is_allowed), "{recorded:?} on {grid:?}");
                }
            }
        }
    }
}
