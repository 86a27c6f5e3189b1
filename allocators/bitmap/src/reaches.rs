//! The sizes of chunks at aligned places: for each alignment that needs it, an index that finds the
//! lowest place for a request.

use crate::Span;
use cma_bits::{Maxima, TooLarge};

/// The aligned places of a region, grouped into *cells*: a cell is one place, or all places of one
/// word if it has several.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    /// The absolute number of the region's first page.
    base: u64,
    /// In pages, a power of two.
    pub(crate) alignment: u64,
    /// The start of cell 0, relative to the region's start.
    origin: u64,
    /// log2 of the pages of a cell.
    shift: u32,
}

impl Grid {
    #[inline]
    pub(crate) fn new(base: u64, alignment: u64) -> Self {
        let shift = alignment.trailing_zeros().max(6);
        let origin = if alignment < 64 { 0 } else { base.wrapping_neg() & (alignment - 1) };
        Grid { base, alignment, origin, shift }
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

/// For one alignment: bounds on the pages of a chunk with that alignment.
///
/// A chunk fits a hole iff it fits at the first aligned place in the hole. So a hole is recorded
/// once, in the cell of this place.
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

    /// The cell of the first aligned place in `hole`, and the pages from there to the hole's end.
    #[inline]
    fn first_in(&self, hole: Span) -> Option<(u64, u64)> {
        let place = self.grid.place_from(hole.first);
        let pages = hole.end.checked_sub(place).filter(|pages| *pages > 0)?;
        Some((self.grid.cell_from(place), pages))
    }

    /// Raises the bound for `hole`.
    #[inline]
    pub(crate) fn raise(&mut self, hole: Span) {
        if let Some((cell, pages)) = self.first_in(hole) {
            self.most.raise(cell, saturated(pages));
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

    /// Verifies the bound of `hole`.
    pub(crate) fn check(&self, hole: Span) -> Result<(), String> {
        match self.first_in(hole) {
            Some((cell, pages)) if self.most.get(cell) < saturated(pages) => Err(format!(
                "{hole:?} reaches {pages} pages on {:?}, bound {}",
                self.grid,
                self.most.get(cell)
            )),
            _ => Ok(()),
        }
    }

    /// Verifies the tree.
    pub(crate) fn check_tree(&self) -> Result<(), String> {
        self.most.check()
    }
}
