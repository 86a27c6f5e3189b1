//! The aligned search, and how it skips bins whose holes are large enough but have no aligned
//! place.

use super::{Bins, EMPTY, Key, TREE};
use crate::hole::{Grid, Hole};
use crate::nodes::Nodes;
use crate::trees::AlignedRequest;
use cma_bits::{Maxima, TooLarge};

/// The bins that an aligned search may look into without finding a place, on average, before the
/// allocator keeps bounds on the reaches of bins for that alignment. (For fewer bins, maintaining
/// the bounds costs more than it saves.)
pub(crate) const WASTED_PER_SEARCH: u32 = 128;

/// The bins beyond that average that a few searches may look into.
const WASTED_BURST: u32 = 1024;

/// For one alignment: bounds on the pages of a chunk with that alignment in each bin.
#[derive(Debug)]
pub(crate) struct BinReaches {
    grid: Grid,
    /// An upper bound for each bin.
    most: Maxima,
}

impl Bins {
    /// Removes the first hole with a place for `pages` pages on `grid`, and returns it with its
    /// node.
    pub(crate) fn take_aligned(
        &mut self,
        pages: u32,
        grid: Grid,
        nodes: &Nodes,
    ) -> Option<(Hole, u32)> {
        let wanted = AlignedRequest { pages, grid };
        let mut least = self.key_of(Hole::least(pages));
        let mut kept = self.aligned.iter().position(|aligned| aligned.grid == grid);
        if kept.is_none() {
            self.wasted = self.wasted.saturating_sub(WASTED_PER_SEARCH);
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
                self.tighten(kept, bin, nodes);
            } else if self.wasted < WASTED_PER_SEARCH + WASTED_BURST {
                self.wasted += 1;
            } else {
                self.wasted = 0;
                kept = self.keep(grid, nodes).ok();
            }
            least = Key { bin: bin + 1, rank: 0 };
        }
    }

    /// The same in one bin, in which no hole with a rank below `least` has a place.
    #[inline]
    fn take_aligned_in(
        &mut self,
        bin: u32,
        least: u32,
        wanted: &AlignedRequest,
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

    /// The first bin from `bin` up that may have a place for `pages` pages.
    fn first_reaching(&self, kept: usize, bin: u32, pages: u32) -> Option<u32> {
        let bin = self.aligned[kept].most.next(u64::from(bin), pages)?;
        #[allow(clippy::cast_possible_truncation, reason = "there are fewer than 2^32 bins")]
        Some(bin as u32)
    }

    /// Raises the bounds of `bin`, to which `hole` is added.
    #[cold]
    pub(super) fn record(&mut self, bin: u32, hole: Hole) {
        for BinReaches { grid, most } in &mut self.aligned {
            most.raise(u64::from(bin), grid.reach(hole));
        }
    }

    /// Lowers the bound of a bin to its true reach.
    fn tighten(&mut self, kept: usize, bin: u32, nodes: &Nodes) {
        let reach = self.reach_in(bin, self.aligned[kept].grid, nodes);
        self.aligned[kept].most.lower(u64::from(bin), reach);
    }

    /// The pages of the largest chunk on `grid` in the holes of a bin.
    fn reach_in(&self, bin: u32, grid: Grid, nodes: &Nodes) -> u32 {
        match self.roots[bin as usize] {
            EMPTY => 0,
            root @ TREE.. => self.trees.reach(root - TREE, grid, nodes),
            node => grid.reach(nodes.hole(node)),
        }
    }

    /// Starts to keep bounds on the reaches of bins for an alignment.
    #[cold]
    fn keep(&mut self, grid: Grid, nodes: &Nodes) -> Result<usize, TooLarge> {
        let mut most = Maxima::new(self.roots.len() as u64)?;
        for bin in 0..self.roots.len() {
            #[allow(clippy::cast_possible_truncation, reason = "there are fewer than 2^32 bins")]
            most.raise(bin as u64, self.reach_in(bin as u32, grid, nodes));
        }
        self.aligned.push(BinReaches { grid, most });
        Ok(self.aligned.len() - 1)
    }

    /// Checks invariant 7 for one bin, and for bin 0 the trees of maxima as well.
    pub(super) fn check_bounds(&self, bin: u32, nodes: &Nodes) -> Result<(), String> {
        for BinReaches { grid, most } in &self.aligned {
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
