//! Trees of more than one leaf, and how a search on a grid skips holes that have no place.

use super::{NONE, Spot, Trees, Wanted};
use crate::block::{Block, CAPACITY, Entry};
use crate::hole::{Grid, Hole};
use cma_bits::{Nodes, push};

/// A block with this many entries or fewer is merged with a neighbour if possible.
pub(super) const FEW: usize = CAPACITY / 4;

/// The most entries of a merged block, so that the next insertions don't split it again.
const MERGED: usize = CAPACITY * 3 / 4;

/// The most grids with reaches; a further one replaces the oldest.
pub(crate) const MOST_GRIDS: usize = 32;

/// For one grid: the pages of the largest chunk on that grid in a block or below it.
#[derive(Debug)]
pub(super) struct BlockReaches {
    grid: Grid,
    /// By block. Meaningful only for blocks that are children.
    most: Vec<u32>,
}

impl BlockReaches {
    pub(super) fn push(&mut self) {
        push(&mut self.most, 0);
    }

    fn of(&self, block: &Block, nodes: &Nodes) -> u32 {
        let numbers = block.entries().iter().map(|entry| entry.number());
        let most = if block.is_leaf() {
            numbers.map(|node| self.grid.reach(Hole::of_node(nodes, node))).max()
        } else {
            numbers.map(|child| self.most[child as usize]).max()
        };
        most.unwrap_or(0)
    }
}

impl Trees {
    /// Splits full blocks on the way down, so that a parent always has room for another child.
    #[cold]
    pub(super) fn insert_deep(&mut self, root: u32, entry: Entry, nodes: &Nodes) -> u32 {
        let mut root = root;
        if self.block(root).is_full() {
            let mut above = Block::new(self.block(root).height() + 1);
            above.insert(Entry::new(0, root));
            root = self.add_leaf();
            *self.block_mut(root) = above;
            self.split_child(root, 0, nodes);
        }
        let mut index = root;
        while !self.block(index).is_leaf() {
            let mut at = self.block(index).floor(entry.rank());
            if self.block(self.block(index).entry(at).number()).is_full() {
                self.split_child(index, at, nodes);
                at = self.block(index).floor(entry.rank());
            }
            index = self.block(index).entry(at).number();
            for reach in &mut self.reaches {
                let most = &mut reach.most[index as usize];
                *most = (*most).max(reach.grid.reach(Hole::of_node(nodes, entry.number())));
            }
        }
        self.block_mut(index).insert(entry);
        root
    }

    fn split_child(&mut self, parent: u32, at: usize, nodes: &Nodes) {
        let lower = self.block(parent).entry(at).number();
        let (bound, block) = self.block_mut(lower).split_off_upper();
        let upper = self.add_leaf();
        *self.block_mut(upper) = block;
        self.block_mut(parent).insert(Entry::new(bound, upper));
        self.refresh(lower, nodes);
        self.refresh(upper, nodes);
    }

    #[cold]
    pub(super) fn remove_deep(&mut self, root: u32, entry: Entry, nodes: &Nodes) -> u32 {
        self.remove_below(root, entry, nodes);
        let mut root = root;
        while !self.block(root).is_leaf() && self.block(root).len() == 1 {
            let child = self.block(root).entry(0).number();
            self.release(root);
            root = child;
        }
        root
    }

    /// Recurses to the height of the tree.
    fn remove_below(&mut self, index: u32, entry: Entry, nodes: &Nodes) {
        let block = self.block_mut(index);
        if block.is_leaf() {
            let at = block.find(entry);
            debug_assert_eq!(block.entry(at), entry);
            block.remove(at);
        } else {
            let at = block.floor(entry.rank());
            let child = block.entry(at).number();
            self.remove_below(child, entry, nodes);
            self.rebalance_child(index, at, nodes);
        }
    }

    /// Releases an empty child, and merges a nearly empty one with a neighbour that has room.
    fn rebalance_child(&mut self, parent: u32, at: usize, nodes: &Nodes) {
        let block = self.block(parent);
        let child = block.entry(at);
        let is_lowest = at + 1 == block.len();
        match self.block(child.number()).len() {
            0 => {
                self.block_mut(parent).remove(at);
                self.release(child.number());
                // The range of a removed child goes to the child below it; that of the lowest child
                // goes to the one above it.
                if is_lowest && at > 0 {
                    self.extend_lowest(parent, at - 1, child.rank());
                }
            }
            1..=FEW if !is_lowest && self.have_room(parent, at) => self.merge(parent, at, nodes),
            1..=FEW if at > 0 && self.have_room(parent, at - 1) => {
                self.merge(parent, at - 1, nodes);
            }
            _ => self.refresh(child.number(), nodes),
        }
    }

    /// Whether a child and the one below it can be merged.
    fn have_room(&self, parent: u32, at: usize) -> bool {
        let [upper, lower] =
            [at, at + 1].map(|at| self.block(self.block(parent).entry(at).number()));
        upper.len() + lower.len() <= MERGED
    }

    /// Moves the entries of a child to the one below it.
    fn merge(&mut self, parent: u32, at: usize, nodes: &Nodes) {
        let [upper, lower] = [at, at + 1].map(|at| self.block(parent).entry(at).number());
        for entry in self.block(upper).clone().entries() {
            self.block_mut(lower).insert(*entry);
        }
        self.block_mut(parent).remove(at);
        self.release(upper);
        self.refresh(lower, nodes);
    }

    /// Extends the range of a child that has become the lowest down to `bound`, and so on down the
    /// tree: a block's lowest bound is its own.
    fn extend_lowest(&mut self, parent: u32, lowest: usize, bound: u32) {
        let (mut index, mut at) = (parent, lowest);
        while !self.block(index).is_leaf() {
            let block = self.block_mut(index);
            let child = block.entry(at).number();
            block.replace(at, Entry::new(bound, child));
            index = child;
            at = self.block(child).len() - 1;
        }
    }

    /// The first hole of rank `least` or more. Recurses to the height of the tree.
    #[cold]
    pub(super) fn first_deep(&self, index: u32, least: u32) -> Option<Spot> {
        let block = self.block(index);
        if block.is_leaf() {
            return block.lowest_from(least).map(|at| Spot::new(index, at));
        }
        block
            .children_from(least)
            .find_map(|child| self.first_deep(child.number(), least.max(child.rank())))
    }

    /// The first hole of rank `least` or more that has a place for `wanted`.
    #[cold]
    pub(super) fn first_placing_deep(
        &mut self,
        root: u32,
        least: u32,
        wanted: &Wanted,
        nodes: &Nodes,
    ) -> Option<Spot> {
        let reach = self.reaches.iter().position(|reach| reach.grid == wanted.grid);
        let reach = reach.unwrap_or_else(|| self.add_reach(wanted.grid, nodes));
        self.first_reaching(root, least, wanted, &self.reaches[reach].most, nodes)
    }

    /// Enters a child only if it has a hole with a place. Only the first child may have such holes
    /// below `least` alone, so these are at most two paths down the tree.
    fn first_reaching(
        &self,
        index: u32,
        least: u32,
        wanted: &Wanted,
        most: &[u32],
        nodes: &Nodes,
    ) -> Option<Spot> {
        let block = self.block(index);
        if block.is_leaf() {
            return self.lowest_placing(index, least, wanted, nodes);
        }
        block
            .children_from(least)
            .filter(|child| most[child.number() as usize] >= wanted.pages)
            .find_map(|child| {
                let least = least.max(child.rank());
                self.first_reaching(child.number(), least, wanted, most, nodes)
            })
    }

    /// Starts to keep reaches for a grid. Visits all blocks, children before parents.
    fn add_reach(&mut self, grid: Grid, nodes: &Nodes) -> usize {
        let mut reach = BlockReaches { grid, most: vec![0; self.blocks.len()] };
        let highest = self.blocks.iter().map(Block::height).max().unwrap_or(0);
        for height in 0..highest {
            for (index, block) in
                self.blocks.iter().enumerate().filter(|(_, block)| block.height() == height)
            {
                reach.most[index] = reach.of(block, nodes);
            }
        }
        if self.reaches.len() == MOST_GRIDS {
            self.reaches.remove(0);
        }
        self.reaches.push(reach);
        self.reaches.len() - 1
    }

    /// [`reach`](Self::reach) of a child.
    pub(super) fn reach_below(&self, child: u32, grid: Grid, nodes: &Nodes) -> u32 {
        match self.reaches.iter().find(|reach| reach.grid == grid) {
            Some(reach) => reach.most[child as usize],
            None => self.reach(child, grid, nodes),
        }
    }

    fn refresh(&mut self, index: u32, nodes: &Nodes) {
        for reach in &mut self.reaches {
            reach.most[index as usize] = reach.of(&self.blocks[index as usize], nodes);
        }
    }

    /// Checks invariants 4 to 6 of one tree, visits its entries in no particular order, and counts
    /// its blocks.
    pub(crate) fn check(
        &self,
        root: u32,
        nodes: &Nodes,
        visit: &mut impl FnMut(Entry),
    ) -> Result<usize, String> {
        self.check_below(root, (0, u32::MAX), nodes, visit)
    }

    /// The same for a block and all blocks below it, whose ranks must be from `least` to `most`.
    fn check_below(
        &self,
        index: u32,
        (least, most): (u32, u32),
        nodes: &Nodes,
        visit: &mut impl FnMut(Entry),
    ) -> Result<usize, String> {
        let block = self.block(index);
        let entries: Vec<Entry> = block.entries().iter().rev().copied().collect();
        if entries.is_empty() || !block.unused_are_unused() {
            return Err(format!(
                "invariant 4: block {index} is empty, or an unused entry is not 0: {block:?}"
            ));
        }
        if !block.is_leaf() && entries[0].rank() != least {
            return Err(format!(
                "invariant 4: the bounds of block {index} begin above {least}: {block:?}"
            ));
        }
        let mut blocks = 1;
        let ends = entries.iter().skip(1).map(|next| next.rank() - 1).chain([most]);
        for (entry, end) in entries.iter().zip(ends) {
            if entry.rank() < least || entry.rank() > end {
                return Err(format!(
                    "invariant 4: in block {index} {entry:?} is not from {least} to {most}"
                ));
            }
            if block.is_leaf() {
                visit(*entry);
                continue;
            }
            let child = self.block(entry.number());
            if child.height() + 1 != block.height() {
                return Err(format!(
                    "invariant 5: {entry:?} is not one level below its parent {index}"
                ));
            }
            let kept = |reach: &BlockReaches| {
                reach.most[entry.number() as usize] == reach.of(child, nodes)
            };
            if let Some(reach) = self.reaches.iter().find(|reach| !kept(reach)) {
                return Err(format!(
                    "invariant 6: the stored reach of {entry:?} on {:?} is wrong",
                    reach.grid
                ));
            }
            blocks += self.check_below(entry.number(), (entry.rank(), end), nodes, visit)?;
        }
        Ok(blocks)
    }

    /// Checks that `in_use` blocks and the vacant ones are all blocks.
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
