//! Trees of more than one leaf, and how an aligned search skips what doesn't fit.

use super::{NONE, Trees, Wanted};
use crate::block::{Block, CAPACITY};
use crate::hole::{Grid, Hole};

/// With this many entries or fewer a block looks for a neighbour to merge with.
const FEW: usize = CAPACITY / 4;

/// And merges if this is what they have together, so that the next insertions don't split it again.
const ENOUGH: usize = CAPACITY * 3 / 4;

/// For one alignment: the most pages that a chunk so aligned can have, anywhere in a block or below it.
#[derive(Debug)]
pub(super) struct Reach {
    grid: Grid,
    /// By block. Only for blocks that are children; of the others it means nothing.
    most: Vec<u32>,
}

impl Reach {
    pub(super) fn push(&mut self) {
        self.most.push(0);
    }

    fn of(&self, block: &Block) -> u32 {
        let most = if block.is_leaf() {
            block.entries().map(|(hole, _)| self.grid.reach(hole)).max()
        } else {
            block.values().iter().map(|&child| self.most[child as usize]).max()
        };
        most.unwrap_or(0)
    }
}

/// The first hole of a leaf with a place for what is wanted.
#[inline]
pub(super) fn first_in_leaf(leaf: &Block, wanted: &Wanted) -> Option<(Hole, u32)> {
    leaf.entries().rev().find(|&(hole, _)| wanted.grid.reach(hole) >= wanted.pages)
}

impl Trees {
    /// Full blocks are split on the way down, so that a parent always has room for the half of its child.
    #[cold]
    pub(super) fn insert_deep(&mut self, root: u32, hole: Hole, node: u32) -> u32 {
        let mut root = root;
        if self.block(root).is_full() {
            let mut above = Block::new(self.block(root).height() + 1);
            above.insert(0, Hole::NONE, root);
            root = self.add(above);
            self.split_child(root, 0);
        }
        let mut index = root;
        while !self.block(index).is_leaf() {
            let mut at = self.block(index).child_for(hole);
            if self.block(self.block(index).entry(at).1).is_full() {
                self.split_child(index, at);
                at = self.block(index).child_for(hole);
            }
            index = self.block(index).entry(at).1;
            for reach in &mut self.reaches {
                let most = &mut reach.most[index as usize];
                *most = (*most).max(reach.grid.reach(hole));
            }
        }
        let leaf = self.block_mut(index);
        let at = leaf.above(hole);
        leaf.insert(at, hole, node);
        root
    }

    fn split_child(&mut self, parent: u32, at: usize) {
        let (bound, child) = self.block(parent).entry(at);
        let lower = self.block_mut(child).split_off_lower();
        let middle = self.block(child).last().0;
        let lower = self.add(lower);
        let parent = self.block_mut(parent);
        // A last bound may lie above what has come to its child, and so above the middle.
        let bound = if at + 1 == parent.len() { Hole::NONE } else { bound };
        parent.set_bound(at, middle);
        parent.insert(at + 1, bound, lower);
        self.refresh(child);
        self.refresh(lower);
    }

    #[cold]
    pub(super) fn remove_deep(&mut self, root: u32, hole: Hole) -> u32 {
        self.remove_below(root, hole);
        let mut root = root;
        while !self.block(root).is_leaf() && self.block(root).len() == 1 {
            let child = self.block(root).last().1;
            self.release(root);
            root = child;
        }
        self.unless_empty(root)
    }

    /// As deep as the tree is high: at most a dozen calls.
    fn remove_below(&mut self, index: u32, hole: Hole) {
        let block = self.block_mut(index);
        if block.is_leaf() {
            let at = block.above(hole);
            debug_assert_eq!(block.entry(at).0, hole);
            block.remove(at);
        } else {
            let at = block.child_for(hole);
            let child = block.entry(at).1;
            self.remove_below(child, hole);
            self.mend_child(index, at);
        }
    }

    /// Releases a child that is empty and merges one that is nearly so with a neighbour that has room.
    fn mend_child(&mut self, parent: u32, at: usize) {
        let child = self.block(parent).entry(at).1;
        let len = self.block(child).len();
        if len == 0 {
            self.block_mut(parent).remove(at);
            self.release(child);
            return;
        }
        self.refresh(child);
        if len > FEW {
            return;
        }
        let last = self.block(parent).len() - 1;
        let pairs = [(at > 0).then(|| at - 1), (at < last).then_some(at)];
        for upper_at in pairs.into_iter().flatten() {
            let (middle, upper) = self.block(parent).entry(upper_at);
            let (bound, lower) = self.block(parent).entry(upper_at + 1);
            if self.block(upper).len() + self.block(lower).len() <= ENOUGH {
                let entries = self.block(lower).clone();
                self.block_mut(upper).append(middle, &entries);
                self.release(lower);
                let parent = self.block_mut(parent);
                parent.set_bound(upper_at, bound);
                parent.remove(upper_at + 1);
                self.refresh(upper);
                return;
            }
        }
    }

    /// The first hole that is not below `least`, and its node.
    #[cold]
    pub(super) fn first_deep(&self, root: u32, least: Hole) -> Option<(Hole, u32)> {
        let block = self.block(root);
        if block.is_leaf() {
            return block.above_or_equal(least).checked_sub(1).map(|at| block.entry(at));
        }
        // All of the child before are above `least`, so no more than two are tried.
        let at = block.child_for(least);
        let children = block.values()[..=at].iter().rev();
        children.take(2).find_map(|&child| self.first_deep(child, least))
    }

    /// The first hole with a place for what is wanted, and its node.
    #[cold]
    pub(super) fn first_aligned_deep(&mut self, root: u32, wanted: &Wanted) -> Option<(Hole, u32)> {
        let reach = self.reaches.iter().position(|reach| reach.grid == wanted.grid);
        let reach = reach.unwrap_or_else(|| self.add_reach(wanted.grid));
        self.first_reaching(root, wanted, &self.reaches[reach].most)
    }

    /// A child is entered only if it has what is sought, so that this is one path down. As deep as the tree is high.
    fn first_reaching(&self, index: u32, wanted: &Wanted, most: &[u32]) -> Option<(Hole, u32)> {
        let block = self.block(index);
        if block.is_leaf() {
            return first_in_leaf(block, wanted);
        }
        let child = block.values().iter().rev().find(|&&child| most[child as usize] >= wanted.pages)?;
        self.first_reaching(*child, wanted, most)
    }

    /// Begins to keep reaches for an alignment: once in an allocator's life for each alignment that needs it, all blocks
    /// are visited, children before parents.
    fn add_reach(&mut self, grid: Grid) -> usize {
        let mut reach = Reach { grid, most: vec![0; self.blocks.len()] };
        let highest = self.blocks.iter().map(Block::height).max().unwrap_or(0);
        for height in 0..highest {
            for (index, block) in self.blocks.iter().enumerate().filter(|(_, block)| block.height() == height)
            {
                reach.most[index] = reach.of(block);
            }
        }
        self.reaches.push(reach);
        self.reaches.len() - 1
    }

    fn refresh(&mut self, index: u32) {
        for reach in &mut self.reaches {
            reach.most[index as usize] = reach.of(&self.blocks[index as usize]);
        }
    }

    /// Asserts invariants 4 to 6 of one tree, visits its holes with their nodes, and counts its blocks.
    pub(crate) fn check(&self, root: u32, visit: &mut impl FnMut(Hole, u32)) -> Result<usize, String> {
        self.check_below(root, Hole::NONE, Hole::MAX, visit)
    }

    fn check_below(
        &self,
        index: u32,
        least: Hole,
        limit: Hole,
        visit: &mut impl FnMut(Hole, u32),
    ) -> Result<usize, String> {
        let block = self.block(index);
        let mut limit = limit;
        if block.len() == 0 || !block.unused_are_none() {
            return Err(format!("invariant 4: block {index} is empty or unclean: {block:?}"));
        }
        let mut blocks = 1;
        for (at, (hole, value)) in block.entries().enumerate() {
            let is_last = at + 1 == block.len();
            if hole >= limit || (hole < least && (block.is_leaf() || !is_last)) {
                return Err(format!(
                    "invariant 4: block {index}: {hole:?} is not from {least:?} to {limit:?}"
                ));
            }
            if block.is_leaf() {
                visit(hole, value);
            } else {
                let child = self.block(value);
                if child.height() + 1 != block.height() {
                    return Err(format!(
                        "invariant 5: block {value} is not one level below its parent {index}"
                    ));
                }
                if let Some(reach) =
                    self.reaches.iter().find(|reach| reach.most[value as usize] != reach.of(child))
                {
                    return Err(format!(
                        "invariant 6: block {value} doesn't reach so far on {:?}",
                        reach.grid
                    ));
                }
                let least = if is_last { least } else { hole };
                blocks += self.check_below(value, least, limit, visit)?;
            }
            limit = hole;
        }
        Ok(blocks)
    }

    /// Asserts that `in_use` blocks and the vacant ones are all there are.
    pub(crate) fn check_pool(&self, in_use: usize) -> Result<(), String> {
        let mut counted = in_use;
        let mut vacant = self.vacant;
        while vacant != NONE && counted <= self.blocks.len() {
            counted += 1;
            vacant = self.block(vacant).next_vacant();
        }
        if counted != self.blocks.len() {
            return Err(format!(
                "invariant 5: {counted} of {} blocks are in a tree or vacant",
                self.blocks.len()
            ));
        }
        Ok(())
    }
}
