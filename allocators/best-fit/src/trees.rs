//! Ordered sets of holes: B+ trees over a common pool of blocks.
//!
//! Most trees are one leaf, in which every operation is a step in one block; [`deep`] has the
//! operations on trees with inner blocks. For each hole a tree stores the rank, which is its
//! position in the order, and the node.

mod deep;

use crate::block::{Block, Entry};
use crate::hole::{Grid, Hole};
use cma_bits::{Nodes, push};
use deep::BlockReaches;
pub(crate) use deep::MOST_GRIDS;

/// No block: the end of the list of vacant blocks.
const NONE: u32 = u32::MAX;

/// What a search that is not by size alone looks for: a hole with a place on a grid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) pages: u32,
    pub(crate) grid: Grid,
}

impl Wanted {
    #[inline]
    pub(crate) fn fits(&self, hole: Hole) -> bool {
        self.grid.fits(hole, self.pages)
    }
}

/// The place of a hole in a tree, until the tree changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Spot {
    leaf: u32,
    at: u32,
}

impl Spot {
    #[inline]
    fn new(leaf: u32, at: usize) -> Self {
        Spot { leaf, at: at as u32 }
    }

    /// The index in the leaf.
    #[inline]
    fn at(self) -> usize {
        self.at as usize
    }
}

/// All trees of an allocator. A tree is identified by its root, which may change when the tree
/// does.
#[derive(Debug)]
pub(crate) struct Trees {
    blocks: Vec<Block>,
    vacant: u32,
    /// One for each grid with which a search had to descend a tree.
    reaches: Vec<BlockReaches>,
}

impl Trees {
    pub(crate) fn new() -> Self {
        Trees { blocks: Vec::new(), vacant: NONE, reaches: Vec::new() }
    }

    #[cfg(test)]
    pub(crate) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    #[cfg(test)]
    pub(crate) fn grids(&self) -> usize {
        self.reaches.len()
    }

    #[inline]
    fn block(&self, index: u32) -> &Block {
        &self.blocks[index as usize]
    }

    #[inline]
    fn block_mut(&mut self, index: u32) -> &mut Block {
        &mut self.blocks[index as usize]
    }

    /// Allocates an empty leaf.
    fn add_leaf(&mut self) -> u32 {
        let index = self.vacant;
        if index == NONE {
            return self.add_at_end();
        }
        self.vacant = self.block_mut(index).occupy();
        index
    }

    #[cold]
    fn add_at_end(&mut self) -> u32 {
        push(&mut self.blocks, Block::new(0));
        for reach in &mut self.reaches {
            reach.push();
        }
        u32::try_from(self.blocks.len() - 1).expect("a region has fewer than 2^32 pages")
    }

    #[inline]
    fn release(&mut self, index: u32) {
        let vacant = self.vacant;
        self.block_mut(index).vacate(vacant);
        self.vacant = index;
    }

    /// The leaf for `rank`.
    #[inline]
    fn leaf_for(&self, root: u32, rank: u32) -> u32 {
        let mut index = root;
        while !self.block(index).is_leaf() {
            let block = self.block(index);
            index = block.entry(block.floor(rank)).number();
        }
        index
    }

    /// A tree of one hole.
    pub(crate) fn single(&mut self, rank: u32, node: u32) -> u32 {
        let leaf = self.add_leaf();
        self.block_mut(leaf).insert(Entry::new(rank, node));
        leaf
    }

    /// Adds a hole to a tree and returns its root.
    #[inline]
    pub(crate) fn insert(&mut self, root: u32, rank: u32, node: u32, nodes: &Nodes) -> u32 {
        let leaf = self.leaf_for(root, rank);
        if self.block(leaf).is_full() || (leaf != root && !self.reaches.is_empty()) {
            return self.insert_deep(root, Entry::new(rank, node), nodes);
        }
        self.block_mut(leaf).insert(Entry::new(rank, node));
        root
    }

    /// Removes a hole, which must be in the tree, and returns the new root unless the tree is
    /// empty.
    #[inline]
    pub(crate) fn remove(&mut self, root: u32, rank: u32, node: u32, nodes: &Nodes) -> Option<u32> {
        let leaf = self.leaf_for(root, rank);
        let at = self.block(leaf).find(Entry::new(rank, node));
        self.remove_at(root, Spot::new(leaf, at), nodes)
    }

    /// The same for the hole at a place of the tree.
    #[inline]
    pub(crate) fn remove_at(&mut self, root: u32, spot: Spot, nodes: &Nodes) -> Option<u32> {
        let (leaf, at) = (spot.leaf, spot.at());
        let keeps_no_reach = self.reaches.is_empty();
        let block = self.block_mut(leaf);
        if leaf == root {
            block.remove(at);
            self.root_unless_empty(root)
        } else if keeps_no_reach && block.len() > deep::FEW + 1 {
            block.remove(at);
            Some(root)
        } else {
            let entry = block.entry(at);
            Some(self.remove_deep(root, entry, nodes))
        }
    }

    #[inline]
    fn root_unless_empty(&mut self, root: u32) -> Option<u32> {
        if self.block(root).len() > 0 {
            return Some(root);
        }
        self.release(root);
        None
    }

    /// The entry of a hole.
    #[inline]
    pub(crate) fn entry(&self, spot: Spot) -> Entry {
        self.block(spot.leaf).entry(spot.at())
    }

    /// The first hole whose rank is `least` or more.
    #[inline]
    pub(crate) fn first_from(&self, root: u32, least: u32) -> Option<Spot> {
        let block = self.block(root);
        if block.is_leaf() && block.last().rank() >= least {
            // The common case: no entry is skipped.
            return Some(Spot::new(root, block.len() - 1));
        }
        let leaf = self.leaf_for(root, least);
        match self.block(leaf).lowest_from(least) {
            Some(at) => Some(Spot::new(leaf, at)),
            None if leaf == root => None,
            None => self.first_deep(root, least),
        }
    }

    /// The first hole whose rank is `least` or more and that has a place for `wanted`.
    #[inline]
    pub(crate) fn first_placing(
        &mut self,
        root: u32,
        least: u32,
        wanted: &Wanted,
        nodes: &Nodes,
    ) -> Option<Spot> {
        let leaf = self.leaf_for(root, least);
        match self.lowest_placing(leaf, least, wanted, nodes) {
            None if leaf != root => self.first_placing_deep(root, least, wanted, nodes),
            spot => spot,
        }
    }

    /// The same in one leaf.
    #[inline]
    fn lowest_placing(
        &self,
        leaf: u32,
        least: u32,
        wanted: &Wanted,
        nodes: &Nodes,
    ) -> Option<Spot> {
        let fits = |entry: Entry| {
            entry.rank() >= least && wanted.fits(Hole::of_node(nodes, entry.number()))
        };
        self.block(leaf).lowest_that(fits).map(|at| Spot::new(leaf, at))
    }

    /// The pages of the largest chunk on `grid` in the holes of a tree. Takes a step for each hole,
    /// unless reaches are stored for `grid`.
    pub(crate) fn reach(&self, root: u32, grid: Grid, nodes: &Nodes) -> u32 {
        let block = self.block(root);
        let reaches = block.entries().iter().map(|entry| {
            if block.is_leaf() {
                grid.reach(Hole::of_node(nodes, entry.number()))
            } else {
                self.reach_below(entry.number(), grid, nodes)
            }
        });
        reaches.max().unwrap_or(0)
    }

    /// The node of the last hole.
    pub(crate) fn last(&self, root: u32) -> u32 {
        let mut block = self.block(root);
        while !block.is_leaf() {
            block = self.block(block.entry(0).number());
        }
        block.entry(0).number()
    }
}

#[cfg(test)]
mod tests;
