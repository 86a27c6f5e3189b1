//! All holes by size: bins, each a tree, and two levels of bits that say which bins are not empty.

use crate::block::Entry;
use crate::hole::{Grid, Hole};
use crate::nodes::Nodes;
use crate::trees::{Trees, Wanted};

/// Sizes below 2^6 pages are small: a bin has holes of one size only.
const SMALL_BITS: u32 = 6;

/// Of small holes there are many: each size has 2^3 bins, each for an eighth of the region.
const STRIPE_BITS: u32 = 3;

/// A power of two of large sizes is divided into 2^6 bins.
const FINE_BITS: u32 = 6;

/// The first bin of large holes.
const LARGE: u32 = 1 << (SMALL_BITS + STRIPE_BITS);

const BINS: usize = (LARGE + ((u32::BITS - SMALL_BITS) << FINE_BITS)) as usize;

/// 64 bins to a word.
const WORDS: usize = BINS / 64;

/// The root of an empty bin. (No hole has node 0.)
const EMPTY: u32 = 0;

/// What the number of a tree's root block is added to; below is the node of a bin's only hole.
const TREE: u32 = 1 << 31;

const _: () = assert!(WORDS <= 64 && BINS.is_multiple_of(64) && SMALL_BITS == FINE_BITS);

/// All holes of a region, by size and then by address.
#[derive(Debug)]
pub(crate) struct Bins {
    /// The bit of a word is set iff the word is not 0.
    words: u64,
    /// The bit of a bin is set iff it is not empty.
    bits: [u64; WORDS],
    /// [`EMPTY`], the node of the only hole, or [`TREE`] and a tree.
    roots: [u32; BINS],
    /// What a start is shifted by to be the number of its eighth of the region.
    stripe_shift: u32,
    trees: Trees,
}

/// Where a hole is kept: bins are in the order of the holes in them, and ranks are in the order of the holes in a bin.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Place {
    bin: u32,
    rank: u32,
}

impl Bins {
    /// No holes, for a region of `pages` pages.
    pub(crate) fn new(pages: u32) -> Self {
        let stripe_shift = (u32::BITS - pages.leading_zeros()).saturating_sub(STRIPE_BITS);
        Bins { words: 0, bits: [0; WORDS], roots: [EMPTY; BINS], stripe_shift, trees: Trees::new() }
    }

    /// Where `hole` is kept.
    ///
    /// A small hole's rank is its start. A bin of large holes has holes of 2^s sizes, all of at least 2^(s + 6) pages. They don't
    /// overlap, so what is left of their starts without the lower s + 6 bits, 26 - s bits, is different and in the same
    /// order; and behind the s bits by which their sizes differ it makes a rank.
    #[inline]
    fn place_of(&self, hole: Hole) -> Place {
        let (pages, start) = (hole.pages(), hole.start());
        let s = (pages | 1 << FINE_BITS).ilog2() - FINE_BITS;
        let size = pages & !(u32::MAX << s);
        let large = Place {
            bin: (LARGE - (1 << FINE_BITS)) + (s << FINE_BITS) + (pages >> s),
            rank: size.wrapping_shl(u32::BITS - FINE_BITS - s) | start >> (FINE_BITS + s),
        };
        let small = Place { bin: pages << STRIPE_BITS | start >> self.stripe_shift, rank: start };
        // Both are computed, because a branch would be mispredicted where sizes are mixed.
        let is_small = pages < 1 << SMALL_BITS;
        Place {
            bin: std::hint::select_unpredictable(is_small, small.bin, large.bin),
            rank: std::hint::select_unpredictable(is_small, small.rank, large.rank),
        }
    }

    #[inline]
    pub(crate) fn insert(&mut self, hole: Hole, node: u32, nodes: &Nodes) {
        let Place { bin, rank } = self.place_of(hole);
        let root = self.roots[bin as usize];
        if root == EMPTY {
            self.roots[bin as usize] = node;
            self.bits[bin as usize / 64] |= 1 << (bin % 64);
            self.words |= 1 << (bin / 64);
        } else {
            let tree = if root < TREE {
                let other = self.place_of(nodes.hole(root));
                self.trees.single(other.rank, root)
            } else {
                root - TREE
            };
            self.roots[bin as usize] = self.trees.insert(tree, rank, node, nodes) + TREE;
        }
    }

    /// Takes out a hole that must be there.
    #[inline]
    pub(crate) fn remove(&mut self, hole: Hole, node: u32, nodes: &Nodes) {
        let Place { bin, rank } = self.place_of(hole);
        let root = self.roots[bin as usize];
        let left = if root < TREE { None } else { self.trees.remove(root - TREE, rank, node, nodes) };
        self.set_root(bin, left);
    }

    /// Takes out the first hole of at least `pages` pages, and returns it with its node.
    #[inline]
    pub(crate) fn take(&mut self, pages: u32, nodes: &Nodes) -> Option<(Hole, u32)> {
        let mut least = self.place_of(Hole::least(pages));
        loop {
            let bin = self.first_from(least.bin)?;
            let root = self.roots[bin as usize];
            if root < TREE {
                let hole = nodes.hole(root);
                if hole.pages() >= pages {
                    self.set_root(bin, None);
                    return Some((hole, root));
                }
            } else {
                // Only in the bin of the size itself some holes may be too small.
                let rank = if bin == least.bin { least.rank } else { 0 };
                if let Some((entry, left)) = self.trees.take_from(root - TREE, rank, nodes) {
                    self.set_root(bin, left);
                    let node = entry.number();
                    // A small hole is known from where it was. That spares a look at its node, which may be far away.
                    let is_small = bin < LARGE;
                    let small = Hole::new(bin >> STRIPE_BITS, entry.rank());
                    return Some((if is_small { small } else { nodes.hole(node) }, node));
                }
            }
            least = Place { bin: bin + 1, rank: 0 };
        }
    }

    /// Takes out the first hole in which `pages` pages have a place on `grid`, and returns it with its node.
    pub(crate) fn take_aligned(&mut self, pages: u32, grid: Grid, nodes: &Nodes) -> Option<(Hole, u32)> {
        let wanted = Wanted { pages, grid };
        let mut least = self.place_of(Hole::least(pages));
        loop {
            let bin = self.first_from(least.bin)?;
            let root = self.roots[bin as usize];
            if root < TREE {
                let hole = nodes.hole(root);
                if wanted.fits(hole) {
                    self.set_root(bin, None);
                    return Some((hole, root));
                }
            } else {
                let rank = if bin == least.bin { least.rank } else { 0 };
                if let Some((entry, left)) = self.trees.take_aligned(root - TREE, rank, &wanted, nodes) {
                    self.set_root(bin, left);
                    return Some((nodes.hole(entry.number()), entry.number()));
                }
            }
            least = Place { bin: bin + 1, rank: 0 };
        }
    }

    /// The pages of the largest hole, 0 if there is none.
    pub(crate) fn largest(&self, nodes: &Nodes) -> u32 {
        let Some(word) = self.words.checked_ilog2() else { return 0 };
        let bin = word * 64 + self.bits[word as usize].ilog2();
        let root = self.roots[bin as usize];
        let last = if root < TREE { root } else { self.trees.last(root - TREE) };
        nodes.hole(last).pages()
    }

    /// The first bin from `bin` on that is not empty.
    #[inline]
    fn first_from(&self, bin: u32) -> Option<u32> {
        let word = bin / 64;
        let here = self.bits.get(word as usize)? & u64::MAX << (bin % 64);
        if here != 0 {
            return Some(word * 64 + here.trailing_zeros());
        }
        let above = self.words & (u64::MAX << word) << 1;
        if above == 0 {
            return None;
        }
        let word = above.trailing_zeros();
        Some(word * 64 + self.bits[word as usize].trailing_zeros())
    }

    /// Notes what is left of a bin's tree.
    #[inline]
    fn set_root(&mut self, bin: u32, tree: Option<u32>) {
        if let Some(tree) = tree {
            self.roots[bin as usize] = tree + TREE;
            return;
        }
        self.roots[bin as usize] = EMPTY;
        let word = &mut self.bits[bin as usize / 64];
        *word &= !(1 << (bin % 64));
        self.words &= !(u64::from(*word == 0) << (bin / 64));
    }

    #[cfg(test)]
    pub(crate) fn blocks(&self) -> usize {
        self.trees.blocks()
    }

    /// Asserts invariants 3 to 6 and visits every node that is in a bin.
    pub(crate) fn check(&self, nodes: &Nodes, visit: &mut impl FnMut(u32)) -> Result<(), String> {
        let mut blocks = 0;
        for (bin, &root) in (0..).zip(&self.roots) {
            let word = bin / 64;
            let is_set = self.bits[word as usize] >> (bin % 64) & 1 != 0;
            if is_set != (root != EMPTY) || (self.words >> word & 1 != 0) != (self.bits[word as usize] != 0) {
                return Err(format!("invariant 3: the bits of bin {bin} say otherwise than its root"));
            }
            let mut stray = None;
            let mut look = |node: u32, rank: Option<u32>| {
                let place = nodes.get_hole(node).map(|hole| self.place_of(hole));
                if !place.is_some_and(|place| place.bin == bin && rank.is_none_or(|rank| rank == place.rank))
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
                return Err(format!("invariant 3: node {node} in bin {bin} is no hole that belongs there"));
            }
        }
        self.trees.check_pool(blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn places_are_in_the_order_of_holes_and_tell_them_apart() {
        let powers = (0..32).flat_map(|bit| (0..64).map(move |k| (1u64 << bit) + (k << bit >> 6)));
        let sizes = powers.flat_map(|size| [size - 1, size, size + 1]).chain([u64::from(u32::MAX)]);
        let mut sizes: Vec<u32> =
            sizes.filter_map(|size| u32::try_from(size).ok()).filter(|&s| s > 0).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let bins = Bins::new(u32::MAX);
        let mut before = Place { bin: 0, rank: 0 };
        for pages in sizes {
            // Holes of one size as close to each other as they can be, from the lowest place to the highest.
            for n in
                BTreeSet::from([0, 1, 2, 3, (u64::from(u32::MAX) / (u64::from(pages) + 1)).saturating_sub(1)])
            {
                let start = n * (u64::from(pages) + 1);
                let Ok(start) = u32::try_from(start) else { break };
                if start.checked_add(pages).is_none() {
                    break;
                }
                let place = bins.place_of(Hole::new(pages, start));
                assert!(
                    place > before,
                    "{pages} pages from {start} are kept at {place:?}, behind {before:?}"
                );
                assert!((place.bin as usize) < BINS);
                before = place;
            }
        }
    }
}
