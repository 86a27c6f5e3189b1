//! Ordered sets of holes: B+ trees over a common pool of blocks.
//!
//! Most trees are one leaf, in which every operation is a step in one block; [`deep`] has the
//! operations on trees with inner blocks. For each hole a tree stores the rank, which is its
//! position in the order, and the node.

mod deep;

use crate::block::{Block, Entry};
use crate::hole::{Grid, Hole};
use crate::nodes::{Nodes, push};
use deep::BlockReaches;

/// No block: the end of the list of vacant blocks.
const NONE: u32 = u32::MAX;

/// The request of an aligned search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AlignedRequest {
    pub(crate) pages: u32,
    pub(crate) grid: Grid,
}

impl AlignedRequest {
    #[inline]
    pub(crate) fn fits(&self, hole: Hole) -> bool {
        self.grid.reach(hole) >= self.pages
    }
}

/// All trees of an allocator. A tree is identified by its root, which may change when the tree
/// does.
#[derive(Debug)]
pub(crate) struct Trees {
    blocks: Vec<Block>,
    vacant: u32,
    /// One for each alignment with which a search had to descend a tree.
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
        self.remove_at(root, leaf, at, nodes)
    }

    #[inline]
    fn remove_at(&mut self, root: u32, leaf: u32, at: usize, nodes: &Nodes) -> Option<u32> {
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

    /// Removes the first hole whose rank is `least` or more, and returns its entry and the new
    /// root.
    #[inline]
    pub(crate) fn take_from(
        &mut self,
        root: u32,
        least: u32,
        nodes: &Nodes,
    ) -> Option<(Entry, Option<u32>)> {
        let block = self.block_mut(root);
        if block.is_leaf() && block.last().rank() >= least {
            // The common case: no entry is skipped.
            let entry = block.pop();
            return Some((entry, self.root_unless_empty(root)));
        }
        let leaf = self.leaf_for(root, least);
        if let Some(at) = self.block(leaf).lowest_from(least) {
            let entry = self.block(leaf).entry(at);
            return Some((entry, self.remove_at(root, leaf, at, nodes)));
        }
        if leaf == root {
            return None;
        }
        let entry = self.first_deep(root, least)?;
        Some((entry, Some(self.remove_deep(root, entry, nodes))))
    }

    /// Removes the first hole with a place for `wanted`, and returns its entry and the new root. No
    /// hole with a rank below `least` has such a place.
    #[inline]
    pub(crate) fn take_aligned(
        &mut self,
        root: u32,
        least: u32,
        wanted: &AlignedRequest,
        nodes: &Nodes,
    ) -> Option<(Entry, Option<u32>)> {
        let leaf = self.leaf_for(root, least);
        let block = self.block(leaf);
        if let Some(at) = block.lowest_that(|entry| wanted.fits(nodes.hole(entry.number()))) {
            let entry = block.entry(at);
            return Some((entry, self.remove_at(root, leaf, at, nodes)));
        }
        if leaf == root {
            return None;
        }
        let entry = self.first_aligned_deep(root, wanted, nodes)?;
        Some((entry, Some(self.remove_deep(root, entry, nodes))))
    }

    /// The pages of the largest chunk on `grid` in the holes of a tree. Takes a step for each hole,
    /// unless reaches are stored for `grid`.
    pub(crate) fn reach(&self, root: u32, grid: Grid, nodes: &Nodes) -> u32 {
        let block = self.block(root);
        let reaches = block.entries().iter().map(|entry| {
            if block.is_leaf() {
                grid.reach(nodes.hole(entry.number()))
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
