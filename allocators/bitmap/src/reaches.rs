//! How far a chunk can reach from the aligned places: for each alignment that needs it, an index
//! that leads to the lowest place for a request.

use crate::Span;
use cma_bits::{Maxima, TooLarge};

/// The aligned places of a region, cut into *cells*: a cell is one place, or the places of one word
/// if there are several in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    /// The absolute number of the region's first page.
    base: u64,
    /// In pages, a power of two.
    pub(crate) alignment: u64,
    /// Where cell 0 begins, counted from the region's start.
    origin: u64,
    /// The pages of a cell, as a power of two.
    shift: u32,
}

impl Grid {
    #[inline]
    pub(crate) fn new(base: u64, alignment: u64) -> Self {
        let shift = alignment.trailing_zeros().max(6);
        let origin = if alignment < 64 { 0 } else { base.wrapping_neg() & (alignment - 1) };
        Grid { base, alignment, origin, shift }
    }

    /// How many cells there are in a region of `pages` pages.
    #[inline]
    pub(crate) fn cells(self, pages: u64) -> u64 {
        match pages.checked_sub(self.origin + 1) {
            Some(last) => (last >> self.shift) + 1,
            None => 0,
        }
    }

    /// The word with the places of `cell`.
    #[inline]
    pub(crate) fn word_of(self, cell: u64) -> u64 {
        (self.origin + (cell << self.shift)) / 64
    }

    /// The lowest aligned page from `page` on. No sum here can wrap: page numbers have 52 bits.
    #[inline]
    pub(crate) fn place_from(self, page: u64) -> u64 {
        page + ((self.base + page).wrapping_neg() & (self.alignment - 1))
    }
}

/// For one alignment: the most pages that a chunk so aligned can have.
///
/// A chunk fits a hole if it fits at the first aligned place in the hole. So only this place
/// counts, and a hole is noted once, in the cell of this place.
#[derive(Debug)]
pub(crate) struct Reach {
    pub(crate) grid: Grid,
    /// By cell. An upper bound.
    most: Maxima,
    /// How many more holes are noted before the tree is dropped.
    left: u64,
}

/// `pages` as it is noted. What is above stands for itself and everything larger: 16 TiB.
#[inline]
fn noted(pages: u64) -> u32 {
    u32::try_from(pages).unwrap_or(u32::MAX)
}

impl Reach {
    /// No hole in a region of `pages` pages.
    pub(crate) fn new(grid: Grid, pages: u64) -> Result<Self, TooLarge> {
        Ok(Reach { grid, most: Maxima::new(grid.cells(pages))?, left: pages })
    }

    /// The cell of the first aligned place in `hole`, and what can be had there.
    #[inline]
    fn first_in(&self, hole: Span) -> Option<(u64, u64)> {
        let place = self.grid.place_from(hole.first);
        let pages = hole.end.checked_sub(place).filter(|pages| *pages > 0)?;
        Some(((place - self.grid.origin) >> self.grid.shift, pages))
    }

    /// Takes note that there is `hole`.
    #[inline]
    pub(crate) fn raise(&mut self, hole: Span) {
        if let Some((cell, pages)) = self.first_in(hole) {
            self.most.raise(cell, noted(pages));
        }
    }

    /// The same for a hole that arose since the tree was made, and answers whether to keep the
    /// tree: it is kept until as many holes arose as the region has pages.
    #[inline]
    pub(crate) fn note(&mut self, hole: Span) -> bool {
        self.raise(hole);
        self.left -= 1;
        self.left > 0
    }

    /// Lowers the bound of `cell` to what is true.
    pub(crate) fn settle(&mut self, cell: u64, pages: u64) {
        self.most.lower(cell, noted(pages));
    }

    /// The lowest cell from `from` on that may have a place for `pages` pages.
    pub(crate) fn next(&self, from: u64, pages: u64) -> Option<u64> {
        self.most.next(from, noted(pages))
    }

    /// Verifies that `hole` is noted.
    pub(crate) fn check(&self, hole: Span) -> Result<(), String> {
        match self.first_in(hole) {
            Some((cell, pages)) if self.most.get(cell) < noted(pages) => Err(format!(
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
