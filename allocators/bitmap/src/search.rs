//! The search for the lowest place after the first open word.

use crate::class_maxima::class_of;
use crate::reaches::{CellReaches, Grid};
use crate::{Bitmap, FEW_CELLS, Span, WASTED_LIMIT, WASTED_PER_SEARCH, word};
use cma_bits::TooLarge;

impl Bitmap {
    /// The lowest aligned place for `pages` pages, and the word in which its hole starts.
    pub(crate) fn find(&mut self, pages: u64, alignment: u64) -> Option<(Span, u64)> {
        if let Some(reach) = self.reaches.iter().position(|reach| reach.grid.alignment == alignment)
        {
            return self.find_reaching(reach, pages);
        }
        self.wasted = self.wasted.saturating_sub(WASTED_PER_SEARCH);
        let (class, mut from) = (class_of(pages), 0);
        while let Some(word) = self.longest.next(from, class) {
            if let Some(place) = self.place_in(word, pages, alignment) {
                return Some((place, word));
            }
            // An outdated bound is lowered once. Only a look at a word with a true bound is
            // repeated by the next search.
            if !self.tighten(word) {
                self.wasted += 1;
                if self.wasted >= WASTED_LIMIT {
                    return self.find_exactly(pages, alignment);
                }
            }
            from = word + 1;
        }
        None
    }

    /// The same without classes, by the tree for the alignment, which it builds. If there are few
    /// cells, or no memory for a tree, it looks at every cell.
    #[cold]
    fn find_exactly(&mut self, pages: u64, alignment: u64) -> Option<(Span, u64)> {
        let grid = Grid::new(self.region.first_page(), alignment);
        let cells = grid.cells(self.pages.count());
        if cells > FEW_CELLS {
            self.wasted = 0;
            if self.keep_reach(grid).is_ok() {
                return self.find(pages, alignment);
            }
        }
        let place = (0..cells).find_map(|cell| self.place_in_cell(grid, cell, pages))?;
        Some((place, self.pages.free_from(place.first) / 64))
    }

    /// The same by the tree with index `reach`.
    #[inline(never)]
    fn find_reaching(&mut self, reach: usize, pages: u64) -> Option<(Span, u64)> {
        let (grid, mut from) = (self.reaches[reach].grid, 0);
        while let Some(cell) = self.reaches[reach].next(from, pages) {
            if let Some(place) = self.place_in_cell(grid, cell, pages) {
                return Some((place, self.pages.free_from(place.first) / 64));
            }
            let most = self.reach_in(grid.word_of(cell), grid.alignment);
            self.reaches[reach].lower(cell, most);
            from = cell + 1;
        }
        None
    }

    /// The lowest place for `pages` pages in the holes that overlap `cell`.
    fn place_in_cell(&self, grid: Grid, cell: u64, pages: u64) -> Option<Span> {
        let word = grid.word_of(cell);
        self.place_among(word, !self.pages.word(word), pages, grid.alignment)
    }

    /// The pages of the largest aligned chunk that starts in `word`.
    fn reach_in(&self, word: u64, alignment: u64) -> u64 {
        let free = !self.pages.word(word);
        let starts = word::aligned(self.region.first_page() + word * 64, alignment);
        let inside = word::longest_run(starts, free);
        // From an aligned place whose word is free to its end, the chunk may extend further.
        match self.last_hole(word, free) {
            Some(hole) if starts >> (hole.first & 63) != 0 => {
                let place = hole.first + u64::from((starts >> (hole.first & 63)).trailing_zeros());
                inside.max(hole.end - place)
            }
            _ => inside,
        }
    }

    /// Builds the tree for an alignment.
    pub(crate) fn keep_reach(&mut self, grid: Grid) -> Result<(), TooLarge> {
        let mut reach = CellReaches::new(grid, self.pages.count())?;
        self.each_hole(|hole| reach.raise(hole));
        self.reaches.push(reach);
        Ok(())
    }
}
