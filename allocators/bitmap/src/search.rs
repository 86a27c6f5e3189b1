//! The search for the lowest place after the first open word.

use crate::class_maxima::class_of;
use crate::reaches::{CellReaches, Grid};
use crate::wanted::Wanted;
use crate::{Bitmap, FEW_CELLS, MOST_TREES, Span, WASTED_LIMIT, WASTED_PER_SEARCH};
use cma_bits::TooLarge;

impl Bitmap {
    /// The lowest place, and the word in which its hole starts.
    pub(crate) fn find(&mut self, wanted: &impl Wanted) -> Option<(Span, u64)> {
        let starts = wanted.starts();
        // A hole that extends into the window is recorded before it.
        let first = self.pages.free_from(*starts.start());
        if first < *starts.start() {
            let hole = Span { first, end: self.pages.free_to(*starts.start()) };
            if let Some(place) = wanted.place_in_hole(hole) {
                return Some((place, first / 64));
            }
        }
        match self.reaches.iter().position(|reach| reach.grid == wanted.grid()) {
            Some(reach) => self.find_reaching(reach, wanted),
            None => self.find_by_class(wanted),
        }
    }

    /// The same among the holes that start in the words of the window.
    fn find_by_class(&mut self, wanted: &impl Wanted) -> Option<(Span, u64)> {
        self.wasted = self.wasted.saturating_sub(WASTED_PER_SEARCH);
        let (class, starts) = (class_of(wanted.aligned().pages), wanted.starts());
        let mut from = starts.start() / 64;
        while let Some(word) = self.longest.next(from, class)
            && word * 64 <= *starts.end()
        {
            let started = self.started_in(word);
            if let Some(place) = self.place_among(word, started, wanted) {
                return Some((place, word));
            }
            // An outdated bound is lowered once. Only a look at a word with a true bound is
            // repeated by the next search.
            if !self.tighten(word, started) {
                self.wasted += 1;
                if self.wasted >= WASTED_LIMIT {
                    return self.find_exactly(wanted);
                }
            }
            from = word + 1;
        }
        None
    }

    /// The same without classes, by the tree for the grid, which it builds. If there are few
    /// cells, or no memory for a tree, it looks at every cell.
    #[cold]
    fn find_exactly(&mut self, wanted: &impl Wanted) -> Option<(Span, u64)> {
        let (grid, starts) = (wanted.grid(), wanted.starts());
        let cells = grid.cells(self.pages.count());
        if cells > FEW_CELLS {
            self.wasted = 0;
            if self.keep_reach(grid).is_ok() {
                return self.find_reaching(self.reaches.len() - 1, wanted);
            }
        }
        let place = (grid.cell_from(*starts.start())..cells)
            .take_while(|&cell| grid.word_of(cell) * 64 <= *starts.end())
            .find_map(|cell| self.place_in_cell(grid, cell, wanted))?;
        Some((place, self.pages.free_from(place.first) / 64))
    }

    /// The same by the tree with index `reach`.
    #[inline(never)]
    fn find_reaching(&mut self, reach: usize, wanted: &impl Wanted) -> Option<(Span, u64)> {
        let (grid, starts) = (self.reaches[reach].grid, wanted.starts());
        let mut from = grid.cell_from(*starts.start());
        while let Some(cell) = self.reaches[reach].next(from, wanted.aligned().pages)
            && grid.word_of(cell) * 64 <= *starts.end()
        {
            if let Some(place) = self.place_in_cell(grid, cell, wanted) {
                return Some((place, self.pages.free_from(place.first) / 64));
            }
            let most = self.reach_in(grid, cell);
            self.reaches[reach].lower(cell, most);
            from = cell + 1;
        }
        None
    }

    /// The lowest place in the holes that overlap `cell`.
    fn place_in_cell(&self, grid: Grid, cell: u64, wanted: &impl Wanted) -> Option<Span> {
        let word = grid.word_of(cell);
        self.place_among(word, !self.pages.word(word), wanted)
    }

    /// The pages of the largest chunk that starts in `cell`.
    fn reach_in(&self, grid: Grid, cell: u64) -> u64 {
        let word = grid.word_of(cell);
        let mut free = !self.pages.word(word);
        let mut most = 0;
        while free != 0 {
            let first = word * 64 + u64::from(free.trailing_zeros());
            let hole = Span { first, end: self.pages.free_to(first) };
            let places = grid.places_in(hole).filter(|place| grid.cell_from(place.first) == cell);
            most = places.map(Span::pages).fold(most, u64::max);
            // Adding the lowest set bit clears the run that starts with it.
            free &= free.wrapping_add(free & free.wrapping_neg());
        }
        most
    }

    /// Builds the tree for a grid.
    pub(crate) fn keep_reach(&mut self, grid: Grid) -> Result<(), TooLarge> {
        if self.reaches.len() == MOST_TREES {
            self.reaches.remove(0);
        }
        let mut reach = CellReaches::new(grid, self.pages.count())?;
        self.each_hole(|hole| reach.raise(hole));
        self.reaches.push(reach);
        Ok(())
    }
}
