//! Ordered sets of holes: B+ trees over a common pool of blocks.
//!
//! Most trees are one leaf, for which every operation is a step in one block; what a tree does once it has inner
//! blocks is in [`deep`].

mod deep;

use crate::block::Block;
use crate::hole::{Grid, Hole};
use deep::Reach;

/// No block: an empty tree, or the end of the list of vacant blocks.
pub(crate) const NONE: u32 = u32::MAX;

/// What an aligned search looks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) pages: u32,
    pub(crate) grid: Grid,
}

/// All trees of an allocator. A tree is known by its root, which changing it may change.
#[derive(Debug)]
pub(crate) struct Trees {
    blocks: Vec<Block>,
    vacant: u32,
    /// One for each alignment that a search had to descend a tree with.
    reaches: Vec<Reach>,
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

    #[inline]
    fn add(&mut self, block: Block) -> u32 {
        if self.vacant == NONE {
            return self.add_at_end(block);
        }
        let index = self.vacant;
        let place = &mut self.blocks[index as usize];
        self.vacant = place.next_vacant();
        *place = block;
        index
    }

    #[cold]
    fn add_at_end(&mut self, block: Block) -> u32 {
        self.blocks.push(block);
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

    /// A tree of one hole.
    #[inline]
    pub(crate) fn single(&mut self, hole: Hole, node: u32) -> u32 {
        let mut leaf = Block::new(0);
        leaf.insert(0, hole, node);
        self.add(leaf)
    }

    /// Adds a hole to a tree and returns its root.
    #[inline]
    pub(crate) fn insert(&mut self, root: u32, hole: Hole, node: u32) -> u32 {
        let block = self.block_mut(root);
        if !block.is_leaf() || block.is_full() {
            return self.insert_deep(root, hole, node);
        }
        let at = block.above(hole);
        block.insert(at, hole, node);
        root
    }

    /// Takes a hole, which must be there, out of a tree and returns its root.
    #[inline]
    pub(crate) fn remove(&mut self, root: u32, hole: Hole) -> u32 {
        let block = self.block_mut(root);
        if !block.is_leaf() {
            return self.remove_deep(root, hole);
        }
        let at = block.above(hole);
        debug_assert_eq!(block.entry(at).0, hole);
        block.remove(at);
        self.unless_empty(root)
    }

    /// Takes out the first hole of at least `pages` pages and returns it, its node and the root.
    #[inline]
    pub(crate) fn take(&mut self, root: u32, pages: u32) -> Option<(Hole, u32, u32)> {
        let least = Hole::least(pages);
        let block = self.block_mut(root);
        if !block.is_leaf() {
            let (hole, node) = self.first_deep(root, least)?;
            return Some((hole, node, self.remove_deep(root, hole)));
        }
        // Holes of one size, or all large enough: the common case, in which nothing need be searched.
        let at = if block.last().0 >= least { block.len() } else { block.above_or_equal(least) };
        let at = at.checked_sub(1)?;
        let (hole, node) = block.entry(at);
        block.remove(at);
        Some((hole, node, self.unless_empty(root)))
    }

    /// The first hole with a place for what is wanted, and its node.
    pub(crate) fn first(&mut self, root: u32, wanted: &Wanted) -> Option<(Hole, u32)> {
        if !self.block(root).is_leaf() {
            return self.first_aligned_deep(root, wanted);
        }
        deep::first_in_leaf(self.block(root), wanted)
    }

    /// The last hole: of the largest, the highest.
    pub(crate) fn largest(&self, root: u32) -> Hole {
        let mut block = self.block(root);
        while !block.is_leaf() {
            block = self.block(block.entry(0).1);
        }
        block.entry(0).0
    }

    #[inline]
    fn unless_empty(&mut self, root: u32) -> u32 {
        if self.block(root).len() > 0 {
            return root;
        }
        self.release(root);
        NONE
    }
}

#[cfg(test)]
mod tests;
