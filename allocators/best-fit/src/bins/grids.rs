//! The search for places on a grid, and how it skips bins whose holes are large enough but have no
//! such place.

use super::{Bins, EMPTY, Found, TREE};
use crate::hole::{Grid, Hole};
use crate::trees::{MOST_GRIDS, Wanted};
use cma_bits::{Maxima, Nodes, TooLarge};

/// The bins that a search on a grid may look into without finding a place, on average, before the
/// allocator keeps bounds on the reaches of bins for that grid. (For fewer bins, maintaining
/// the bounds costs more than it saves.)
pub(crate) const WASTED_PER_SEARCH: u32 = 128;

/// The bins beyond that average that a few searches may look into.
const WASTED_BURST: u32 = 1024;

/// For one grid: bounds on the pages of a chunk on that grid in each bin.
#[derive(Debug)]
pub(crate) struct BinReaches {
    grid: Grid,
    /// An upper bound for each bin.
    most: Maxima,
}

/// A search for a hole with a place on a grid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search {
    wanted: Wanted,
    /// The index of the bounds for the grid.
    kept: Option<usize>,
}

impl Bins {
    /// Starts a search for a hole with a place for `wanted`.
    #[inline]
    pub(crate) fn search(&mut self, wanted: Wanted) -> Search {
        let kept = self.reaches.iter().position(|reach| reach.grid == wanted.grid);
        if kept.is_none() {
            self.wasted = self.wasted.saturating_sub(WASTED_PER_SEARCH);
        }
        Search { wanted, kept }
    }

    /// The first hole that is not below `least` in the order of holes and has a place.
    pub(crate) fn first_placing(
        &mut self,
        least: Hole,
        search: &mut Search,
        nodes: &Nodes,
    ) -> Option<Found> {
        let Search { wanted, kept } = search;
        let key = self.key_of(least);
        let mut from = key.bin;
        loop {
            let bin = match *kept {
                None => self.first_from_bin(from)?,
                Some(kept) => self.first_reaching(kept, from, wanted.pages)?,
            };
            let rank = if bin == key.bin { key.rank } else { 0 };
            if let Some(found) = self.first_placing_in(bin, rank, least, wanted, nodes) {
                return Some(found);
            }
            if let Some(kept) = *kept {
                self.tighten(kept, bin, nodes);
            } else if self.wasted < WASTED_PER_SEARCH + WASTED_BURST {
                self.wasted += 1;
            } else {
                self.wasted = 0;
                *kept = self.keep(wanted.grid, nodes).ok();
            }
            from = bin + 1;
        }
    }

    /// The same in one bin, in which `rank` and more are not below `least`.
    #[inline]
    fn first_placing_in(
        &mut self,
        bin: u32,
        rank: u32,
        least: Hole,
        wanted: &Wanted,
        nodes: &Nodes,
    ) -> Option<Found> {
        #[cfg(test)]
        {
            self.looks += 1;
        }
        let root = self.roots[bin as usize];
        if root >= TREE {
            let spot = self.trees.first_placing(root - TREE, rank, wanted, nodes)?;
            return Some(self.found(bin, spot, nodes));
        }
        if root == EMPTY {
            return None;
        }
        let hole = Hole::of_node(nodes, root);
        (hole >= least && wanted.fits(hole)).then_some(Found { hole, node: root, bin, spot: None })
    }

    /// The first bin from `bin` up that may have a place for `pages` pages.
    fn first_reaching(&self, kept: usize, bin: u32, pages: u32) -> Option<u32> {
        let bin = self.reaches[kept].most.next(u64::from(bin), pages)?;
        #[allow(clippy::cast_possible_truncation, reason = "there are fewer than 2^32 bins")]
        Some(bin as u32)
    }

    /// Raises the bounds of `bin`, to which `hole` is added.
    #[cold]
    pub(super) fn record(&mut self, bin: u32, hole: Hole) {
        for BinReaches { grid, most } in &mut self.reaches {
            most.raise(u64::from(bin), grid.reach(hole));
        }
    }

    /// Lowers the bound of a bin to its true reach.
    fn tighten(&mut self, kept: usize, bin: u32, nodes: &Nodes) {
        let reach = self.reach_in(bin, self.reaches[kept].grid, nodes);
        self.reaches[kept].most.lower(u64::from(bin), reach);
    }

    /// The pages of the largest chunk on `grid` in the holes of a bin.
    fn reach_in(&self, bin: u32, grid: Grid, nodes: &Nodes) -> u32 {
        match self.roots[bin as usize] {
            EMPTY => 0,
            root @ TREE.. => self.trees.reach(root - TREE, grid, nodes),
            node => grid.reach(Hole::of_node(nodes, node)),
        }
    }

    /// Starts to keep bounds on the reaches of bins for a grid.
    #[cold]
    fn keep(&mut self, grid: Grid, nodes: &Nodes) -> Result<usize, TooLarge> {
        let mut most = Maxima::new(self.roots.len() as u64)?;
        for bin in 0..self.roots.len() {
            #[allow(clippy::cast_possible_truncation, reason = "there are fewer than 2^32 bins")]
            most.raise(bin as u64, self.reach_in(bin as u32, grid, nodes));
        }
        if self.reaches.len() == MOST_GRIDS {
            self.reaches.remove(0);
        }
        self.reaches.push(BinReaches { grid, most });
        Ok(self.reaches.len() - 1)
    }

    /// Checks invariant 7 for one bin, and for bin 0 the trees of maxima as well.
    pub(super) fn check_bounds(&self, bin: u32, nodes: &Nodes) -> Result<(), String> {
        for BinReaches { grid, most } in &self.reaches {
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
