//! The aligned search, and how it skips the bins with holes that are large enough and hold no chunk
//! with its alignment.

use super::{Bins, EMPTY, Place, TREE};
use crate::hole::{Grid, Hole};
use crate::nodes::Nodes;
use crate::trees::Wanted;
use cma_bits::{Maxima, TooLarge};

/// How many bins an aligned search may pass in vain, on average, before it keeps the reaches of
/// bins for its alignment. (Where few bins are passed, keeping costs every change more than it
/// saves.)
pub(crate) const VAIN: u32 = 128;

/// How many more that may be in a few searches.
const MORE: u32 = 1024;

/// For one alignment: the most pages that a chunk so aligned can have in each bin.
#[derive(Debug)]
pub(crate) struct Aligned {
    grid: Grid,
    /// By bin. An upper bound.
    most: Maxima,
}

impl Bins {
    /// Takes out the first hole in which `pages` pages have a place on `grid`, and returns it with
    /// its node.
    pub(crate) fn take_aligned(
        &mut self,
        pages: u32,
        grid: Grid,
        nodes: &Nodes,
    ) -> Option<(Hole, u32)> {
        let wanted = Wanted { pages, grid };
        let mut least = self.place_of(Hole::least(pages));
        let mut kept = self.aligned.iter().position(|aligned| aligned.grid == grid);
        if kept.is_none() {
            self.passed = self.passed.saturating_sub(VAIN);
        }
        loop {
            let bin = match kept {
                None => self.first_from(least.bin)?,
                Some(kept) => self.first_reaching(kept, least.bin, pages)?,
            };
            let rank = if bin == least.bin { least.rank } else { 0 };
            if let Some(taken) = self.take_aligned_in(bin, rank, &wanted, nodes) {
                return Some(taken);
            }
            if let Some(kept) = kept {
                self.settle(kept, bin, nodes);
            } else if self.passed < VAIN + MORE {
                self.passed += 1;
            } else {
                self.passed = 0;
                kept = self.keep(grid, nodes).ok();
            }
            least = Place { bin: bin + 1, rank: 0 };
        }
    }

    /// The first from a bin. None in it with a rank below `least` has a place.
    #[inline]
    fn take_aligned_in(
        &mut self,
        bin: u32,
        least: u32,
        wanted: &Wanted,
        nodes: &Nodes,
    ) -> Option<(Hole, u32)> {
        #[cfg(test)]
        {
            self.looks += 1;
        }
        let root = self.roots[bin as usize];
        if root >= TREE {
            let (entry, left) = self.trees.take_aligned(root - TREE, least, wanted, nodes)?;
            self.set_root(bin, left);
            return Some((nodes.hole(entry.number()), entry.number()));
        }
        if root == EMPTY || !wanted.fits(nodes.hole(root)) {
            return None;
        }
        self.set_root(bin, None);
        Some((nodes.hole(root), root))
    }

    /// The first bin from `bin` on that may have a place for `pages` pages.
    fn first_reaching(&self, kept: usize, bin: u32, pages: u32) -> Option<u32> {
        let bin = self.aligned[kept].most.next(u64::from(bin), pages)?;
        #[allow(clippy::cast_possible_truncation, reason = "there are fewer than 2^32 bins")]
        Some(bin as u32)
    }

    /// Takes note that `hole` is put into `bin`.
    #[cold]
    pub(super) fn note(&mut self, bin: u32, hole: Hole) {
        for Aligned { grid, most } in &mut self.aligned {
            most.raise(u64::from(bin), grid.reach(hole));
        }
    }

    /// Lowers the bound of a bin to what is true.
    fn settle(&mut self, kept: usize, bin: u32, nodes: &Nodes) {
        let reach = self.reach_in(bin, self.aligned[kept].grid, nodes);
        self.aligned[kept].most.lower(u64::from(bin), reach);
    }

    /// The most pages that a chunk on `grid` can have in the holes of a bin.
    fn reach_in(&self, bin: u32, grid: Grid, nodes: &Nodes) -> u32 {
        match self.roots[bin as usize] {
            EMPTY => 0,
            root @ TREE.. => self.trees.reach(root - TREE, grid, nodes),
            node => grid.reach(nodes.hole(node)),
        }
    }

    /// Begins to keep the reaches of bins for an alignment.
    #[cold]
    fn keep(&mut self, grid: Grid, nodes: &Nodes) -> Result<usize, TooLarge> {
        let mut most = Maxima::new(self.roots.len() as u64)?;
        for bin in 0..self.roots.len() {
            #[allow(clippy::cast_possible_truncation, reason = "there are fewer than 2^32 bins")]
            most.raise(bin as u64, self.reach_in(bin as u32, grid, nodes));
        }
        self.aligned.push(Aligned { grid, most });
        Ok(self.aligned.len() - 1)
    }

    /// Asserts invariant 7 of one bin, the numbers above all bins included.
    pub(super) fn check_noted(&self, bin: u32, nodes: &Nodes) -> Result<(), String> {
        for Aligned { grid, most } in &self.aligned {
            let (reach, bound) = (self.reach_in(bin, *grid, nodes), most.get(u64::from(bin)));
            if reach > bound {
                return Err(format!(
                    "invariant 7: bin {bin} reaches {reach} pages on {grid:?}, bound {bound}"
                ));
            }
            if bin == 0 {
                most.check().map_err(|broken| format!("invariant 7: {broken}"))?;
            }
        }
        Ok(())
    }
}
