//! All holes by size and address: bins, and two levels of bits that record which of them are not
//! empty.

mod grids;

use crate::block::Entry;
use crate::hole::Hole;
use crate::trees::{Spot, Trees};
use cma_bits::Nodes;
use grids::BinReaches;

#[cfg(test)]
pub(crate) use grids::WASTED_PER_SEARCH;

/// log2 of the most bins in a low octave. (An octave has the sizes from a power of two to the
/// next.)
const MOST_BIN_BITS: u32 = 10;

/// The first high octave, with holes of 1 MiB and more.
const HIGH: u32 = 8;

/// log2 of the factor by which high octaves have fewer bins than low ones.
const HIGH_BITS: u32 = 3;

/// Sizes have up to 31 bits, so there are 31 octaves.
const MOST_BINS: u32 = bin_of(31 << MOST_BIN_BITS, MOST_BIN_BITS);

/// One more, so that a word follows the last bin's.
const MOST_WORDS: usize = MOST_BINS as usize / 64 + 1;

/// The root of an empty bin. (Node 0 is never a hole.)
const EMPTY: u32 = 0;

/// Added to the index of a tree's root block; lower values are the node of a bin's only hole.
const TREE: u32 = 1 << 31;

/// All holes of a region, by size and then by address.
#[derive(Debug)]
pub(crate) struct Bins {
    /// The bit of a word of `bits` is set iff the word is not 0.
    words: [u64; MOST_WORDS.div_ceil(64)],
    /// The bit of a bin is set iff it is not empty.
    bits: [u64; MOST_WORDS],
    /// For each bin: [`EMPTY`], the node of the only hole, or [`TREE`] plus a tree.
    roots: Box<[u32]>,
    /// The most bits of page numbers and of ranks.
    page_bits: u32,
    /// A low octave has 2^`bin_bits` bins.
    bin_bits: u32,
    trees: Trees,
    /// One for each grid whose searches looked into many bins without a place.
    reaches: Vec<BinReaches>,
    /// The bins that searches looked into without finding a place, less `WASTED_PER_SEARCH` for
    /// each search: it stays low as long as the average is below that.
    wasted: u32,
    /// The number of bins that searches on grids looked into.
    #[cfg(test)]
    pub(crate) looks: u64,
}

/// The sort key of a hole: bins are in the order of their holes, and ranks in the order of the
/// holes of an octave.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Key {
    bin: u32,
    rank: u32,
}

/// A hole in its bin, until the bins change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) hole: Hole,
    pub(crate) node: u32,
    bin: u32,
    /// `None` for the only hole of the bin.
    spot: Option<Spot>,
}

/// The bin that would have the index `even` if all octaves had as many bins as the low ones.
#[inline]
const fn bin_of(even: u32, bin_bits: u32) -> u32 {
    if even >> bin_bits < HIGH { even } else { high_bin(even, bin_bits) }
}

/// The same in a high octave. Out of line, so that the caller keeps a branch, which is predictable:
/// nearly all holes are small, or nearly none.
#[cold]
const fn high_bin(even: u32, bin_bits: u32) -> u32 {
    let high = HIGH << bin_bits;
    let merged = if bin_bits < HIGH_BITS { bin_bits } else { HIGH_BITS };
    high + ((even - high) >> merged)
}

impl Bins {
    /// No holes, for a region of `pages` pages.
    ///
    /// More pages get more bins, because there may be more holes.
    pub(crate) fn new(pages: u32) -> Self {
        let page_bits = pages.next_power_of_two().trailing_zeros();
        let bin_bits = page_bits.saturating_sub(7).min(MOST_BIN_BITS);
        let bins = bin_of((pages.ilog2() + 1) << bin_bits, bin_bits);
        Bins {
            words: [0; MOST_WORDS.div_ceil(64)],
            bits: [0; MOST_WORDS],
            roots: vec![EMPTY; bins as usize].into(),
            page_bits,
            bin_bits,
            trees: Trees::new(),
            reaches: Vec::new(),
            wasted: 0,
            #[cfg(test)]
            looks: 0,
        }
    }

    /// The key of `hole`, which is not larger than the region.
    ///
    /// In octave k sizes differ in k bits, and a hole has at least 2^k pages. So the starts of two
    /// holes of one size still differ, and in the same order, without their lower k bits. Size and
    /// start together have as many bits as a page number, and form the rank. Its upper bits select
    /// the bin: small sizes, of which there are many holes, are distinguished by size and then by
    /// part of the region, large ones by the upper bits of the size.
    #[inline]
    fn key_of(&self, hole: Hole) -> Key {
        let octave = hole.pages().ilog2();
        let size = hole.pages() - (1 << octave);
        let rank = size << (self.page_bits - octave) | hole.start() >> octave;
        let even = octave << self.bin_bits | rank >> (self.page_bits - self.bin_bits);
        Key { bin: bin_of(even, self.bin_bits), rank }
    }

    #[inline]
    pub(crate) fn insert(&mut self, hole: Hole, node: u32, nodes: &Nodes) {
        let Key { bin, rank } = self.key_of(hole);
        if !self.reaches.is_empty() {
            self.record(bin, hole);
        }
        let root = self.roots[bin as usize];
        if root == EMPTY {
            self.roots[bin as usize] = node;
            let word = bin / 64;
            self.bits[word as usize] |= 1 << (bin % 64);
            self.words[word as usize / 64] |= 1 << (word % 64);
        } else {
            self.insert_beside(Key { bin, rank }, node, nodes);
        }
    }

    /// Adds a hole to a bin that has others. Out of line, so that the common path saves no
    /// registers for it.
    #[inline(never)]
    fn insert_beside(&mut self, Key { bin, rank }: Key, node: u32, nodes: &Nodes) {
        let root = self.roots[bin as usize];
        let tree = if root < TREE {
            let other = self.key_of(Hole::of_node(nodes, root));
            self.trees.single(other.rank, root)
        } else {
            root - TREE
        };
        self.roots[bin as usize] = self.trees.insert(tree, rank, node, nodes) + TREE;
    }

    /// Removes a hole, which must be in its bin.
    #[inline]
    pub(crate) fn remove(&mut self, hole: Hole, node: u32, nodes: &Nodes) {
        let Key { bin, rank } = self.key_of(hole);
        let root = self.roots[bin as usize];
        let left =
            if root < TREE { None } else { self.trees.remove(root - TREE, rank, node, nodes) };
        self.set_root(bin, left);
    }

    /// Removes a hole that a search found.
    #[inline]
    pub(crate) fn take(&mut self, found: &Found, nodes: &Nodes) {
        let left = match found.spot {
            None => None,
            Some(spot) => {
                let tree = self.roots[found.bin as usize] - TREE;
                self.trees.remove_at(tree, spot, nodes)
            }
        };
        self.set_root(found.bin, left);
    }

    /// The first hole that is not below `least` in the order of holes.
    #[inline]
    pub(crate) fn first_from(&self, least: Hole, nodes: &Nodes) -> Option<Found> {
        let Key { bin: least_bin, rank: least_rank } = self.key_of(least);
        let mut bin = self.first_from_bin(least_bin)?;
        loop {
            let root = self.roots[bin as usize];
            if root < TREE {
                let hole = Hole::of_node(nodes, root);
                if hole >= least {
                    return Some(Found { hole, node: root, bin, spot: None });
                }
            } else {
                // Only the bin of `least` itself may have holes that are below it.
                let rank = if bin == least_bin { least_rank } else { 0 };
                if let Some(spot) = self.trees.first_from(root - TREE, rank) {
                    return Some(self.found(bin, spot, nodes));
                }
            }
            bin = self.first_from_bin(bin + 1)?;
        }
    }

    /// The hole at a place of a bin's tree.
    #[inline]
    fn found(&self, bin: u32, spot: Spot, nodes: &Nodes) -> Found {
        let entry = self.trees.entry(spot);
        // The rank of a single page is its start, which saves fetching a node that may not be
        // cached.
        let is_page = bin >> self.bin_bits == 0;
        let hole =
            if is_page { Hole::new(1, entry.rank()) } else { Hole::of_node(nodes, entry.number()) };
        Found { hole, node: entry.number(), bin, spot: Some(spot) }
    }

    /// The pages of the largest hole; 0 if there is none.
    pub(crate) fn largest(&self, nodes: &Nodes) -> u32 {
        let Some(above) = self.words.iter().rposition(|&words| words != 0) else { return 0 };
        let word = above * 64 + self.words[above].ilog2() as usize;
        let bin = word as u32 * 64 + self.bits[word].ilog2();
        let root = self.roots[bin as usize];
        let last = if root < TREE { root } else { self.trees.last(root - TREE) };
        Hole::of_node(nodes, last).pages()
    }

    /// The first bin from `bin` up that is not empty.
    #[inline]
    fn first_from_bin(&self, bin: u32) -> Option<u32> {
        let word = bin / 64;
        let here = self.bits.get(word as usize)? & u64::MAX << (bin % 64);
        if here != 0 {
            return Some(word * 64 + here.trailing_zeros());
        }
        let next = word + 1;
        let mut above = next / 64;
        let mut words = self.words.get(above as usize)? & u64::MAX << (next % 64);
        while words == 0 {
            above += 1;
            words = *self.words.get(above as usize)?;
        }
        let word = above * 64 + words.trailing_zeros();
        Some(word * 64 + self.bits[word as usize].trailing_zeros())
    }

    /// Stores the new root of a bin after a removal.
    #[inline]
    fn set_root(&mut self, bin: u32, tree: Option<u32>) {
        if let Some(tree) = tree {
            self.roots[bin as usize] = tree + TREE;
            return;
        }
        self.roots[bin as usize] = EMPTY;
        let word = bin / 64;
        let bits = &mut self.bits[word as usize];
        *bits &= !(1 << (bin % 64));
        self.words[word as usize / 64] &= !(u64::from(*bits == 0) << (word % 64));
    }

    #[cfg(test)]
    pub(crate) fn blocks(&self) -> usize {
        self.trees.blocks()
    }

    /// The numbers of grids with bounds of bins and with reaches of blocks.
    #[cfg(test)]
    pub(crate) fn grids(&self) -> (usize, usize) {
        (self.reaches.len(), self.trees.grids())
    }

    /// Checks invariants 3 to 7 and visits every node that is in a bin.
    pub(crate) fn check(&self, nodes: &Nodes, visit: &mut impl FnMut(u32)) -> Result<(), String> {
        let mut blocks = 0;
        for (bin, &root) in (0..).zip(&self.roots[..]) {
            let word = bin / 64;
            let bits = self.bits[word as usize];
            let is_set = bits >> (bin % 64) & 1 != 0;
            let has_word = self.words[word as usize / 64] >> (word % 64) & 1 != 0;
            if is_set != (root != EMPTY) || has_word != (bits != 0) {
                return Err(format!("invariant 3: the bits of bin {bin} disagree with its root"));
            }
            let mut stray = None;
            let mut look = |node: u32, rank: Option<u32>| {
                let key =
                    nodes.hole(node).map(|hole| self.key_of(Hole::new(hole.pages, hole.start)));
                if !key
                    .is_some_and(|key| key.bin == bin && rank.is_none_or(|rank| rank == key.rank))
                {
                    stray = Some(node);
                }
                visit(node);
            };
            match root {
                EMPTY => {}
                TREE.. => {
                    let visit = &mut |entry: Entry| look(entry.number(), Some(entry.rank()));
                    blocks += self.trees.check(root - TREE, nodes, visit)?;
                }
                node => look(node, None),
            }
            if let Some(node) = stray {
                return Err(format!(
                    "invariant 3: node {node} in bin {bin} is not a hole of that bin"
                ));
            }
            self.check_bounds(bin, nodes)?;
        }
        self.trees.check_pool(blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn keys_are_unique_and_in_the_order_of_holes() {
        for pages in [1, 40, 1 << 12, (1 << 20) + 1, u32::MAX >> 1] {
            let powers =
                (0..31).flat_map(|bit| (0..64).map(move |k| (1u64 << bit) + (k << bit >> 6)));
            let sizes = powers.flat_map(|size| [size - 1, size, size + 1]).map(|size| size as u32);
            let sizes: BTreeSet<u32> =
                sizes.chain([pages]).filter(|size| (1..=pages).contains(size)).collect();
            let bins = Bins::new(pages);
            let mut before = Key { bin: 0, rank: 0 };
            for size in sizes {
                // Holes of one size as close to each other as possible, from the lowest place to
                // the highest.
                let most = (pages + 1) / (size + 1);
                for n in BTreeSet::from([0, 1, 2, 3, most / 2, most - 1])
                    .into_iter()
                    .filter(|&n| n < most)
                {
                    let key = bins.key_of(Hole::new(size, n * (size + 1)));
                    let is_first = size == 1 && n == 0;
                    assert!(
                        key > before || is_first,
                        "{size} pages, {n}: {key:?} is not after {before:?}"
                    );
                    assert!((key.bin as usize) < bins.roots.len());
                    before = key;
                }
            }
        }
    }
}
