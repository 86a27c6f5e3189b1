//! All holes by size: bins, each a tree, and two levels of bits that say which bins are not empty.

use crate::hole::{Grid, Hole};
use crate::trees::{NONE, Trees, Wanted};

/// A power of two of sizes is divided into 2^6 bins, so that one word has their bits. Below 2 * 2^6 pages each size has a
/// bin of its own.
const BIN_BITS: u32 = 6;

/// One word for the sizes below 2^6, and one for each power of two from there to 2^32.
const WORDS: usize = (u32::BITS - BIN_BITS + 1) as usize;

/// The bin of holes of `pages` pages: a number whose upper part is an exponent and whose lower part the
/// leading bits of the size, so that larger sizes never have lower bins.
#[inline]
fn bin_of(pages: u32) -> usize {
    let shift = (pages | 1 << BIN_BITS).ilog2() - BIN_BITS;
    ((shift << BIN_BITS) + (pages >> shift)) as usize
}

/// All holes of a region, by size and then by address.
#[derive(Debug)]
pub(crate) struct Bins {
    /// The bit of a word is set iff the word is not 0.
    words: u32,
    /// The bit of a bin is set iff it has a root.
    bits: [u64; WORDS],
    roots: [u32; WORDS << BIN_BITS],
    trees: Trees,
}

impl Bins {
    pub(crate) fn new() -> Self {
        Bins { words: 0, bits: [0; WORDS], roots: [NONE; WORDS << BIN_BITS], trees: Trees::new() }
    }

    #[inline]
    pub(crate) fn insert(&mut self, hole: Hole, node: u32) {
        let bin = bin_of(hole.pages());
        let root = self.roots[bin];
        if root != NONE {
            self.roots[bin] = self.trees.insert(root, hole, node);
        } else {
            self.roots[bin] = self.trees.single(hole, node);
            self.bits[bin >> BIN_BITS] |= 1 << (bin % 64);
            self.words |= 1 << (bin >> BIN_BITS);
        }
    }

    /// Takes out a hole that must be there.
    #[inline]
    pub(crate) fn remove(&mut self, hole: Hole) {
        let bin = bin_of(hole.pages());
        let root = self.trees.remove(self.roots[bin], hole);
        self.set_root(bin, root);
    }

    /// Takes out the first hole of at least `pages` pages, and returns it with its node.
    #[inline]
    pub(crate) fn take(&mut self, pages: u32) -> Option<(Hole, u32)> {
        let mut bin = self.first_from(bin_of(pages))?;
        // The first bin may be that of the size itself, where holes can be too small; in the next all are large enough.
        let (hole, node, root) = match self.trees.take(self.roots[bin], pages) {
            Some(taken) => taken,
            None => {
                bin = self.first_from(bin + 1)?;
                self.trees.take(self.roots[bin], pages)?
            }
        };
        self.set_root(bin, root);
        Some((hole, node))
    }

    /// Takes out the first hole in which `pages` pages have a place on `grid`, and returns it with its node.
    pub(crate) fn take_aligned(&mut self, pages: u32, grid: Grid) -> Option<(Hole, u32)> {
        let wanted = Wanted { pages, grid };
        let mut bin = self.first_from(bin_of(pages))?;
        let (hole, node) = loop {
            match self.trees.first(self.roots[bin], &wanted) {
                Some(found) => break found,
                None => bin = self.first_from(bin + 1)?,
            }
        };
        let root = self.trees.remove(self.roots[bin], hole);
        self.set_root(bin, root);
        Some((hole, node))
    }

    /// The pages of the largest hole, 0 if there is none.
    pub(crate) fn largest(&self) -> u32 {
        let Some(word) = self.words.checked_ilog2() else { return 0 };
        let bin = word << BIN_BITS | self.bits[word as usize].ilog2();
        self.trees.largest(self.roots[bin as usize]).pages()
    }

    /// The first bin from `bin` on that is not empty.
    #[inline]
    fn first_from(&self, bin: usize) -> Option<usize> {
        let word = bin >> BIN_BITS;
        if word >= WORDS {
            return None;
        }
        let here = self.bits[word] & u64::MAX << (bin % 64);
        if here != 0 {
            return Some(word << BIN_BITS | here.trailing_zeros() as usize);
        }
        let above = self.words & (u32::MAX << word) << 1;
        if above == 0 {
            return None;
        }
        let word = above.trailing_zeros() as usize;
        Some(word << BIN_BITS | self.bits[word].trailing_zeros() as usize)
    }

    #[inline]
    fn set_root(&mut self, bin: usize, root: u32) {
        self.roots[bin] = root;
        if root == NONE {
            let word = bin >> BIN_BITS;
            self.bits[word] &= !(1 << (bin % 64));
            if self.bits[word] == 0 {
                self.words &= !(1 << word);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn blocks(&self) -> usize {
        self.trees.blocks()
    }

    /// Asserts invariants 3 to 6 and visits every hole with its node.
    pub(crate) fn check(&self, visit: &mut impl FnMut(Hole, u32)) -> Result<(), String> {
        let mut blocks = 0;
        for (bin, &root) in self.roots.iter().enumerate() {
            let word = bin >> BIN_BITS;
            let is_set = self.bits[word] >> (bin % 64) & 1 != 0;
            if is_set != (root != NONE) || (self.words >> word & 1 != 0) != (self.bits[word] != 0) {
                return Err(format!("invariant 3: the bits of bin {bin} say otherwise than its root"));
            }
            if root == NONE {
                continue;
            }
            let mut stray = None;
            blocks += self.trees.check(root, &mut |hole, node| {
                if bin_of(hole.pages()) != bin {
                    stray = Some(hole);
                }
                visit(hole, node);
            })?;
            if let Some(hole) = stray {
                return Err(format!("invariant 3: {hole:?} is in bin {bin}"));
            }
        }
        self.trees.check_pool(blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_in_the_order_of_sizes_and_cover_them_all() {
        let powers = (0..32).flat_map(|bit| (0..64).map(move |k| (1u64 << bit) + (k << bit >> 6)));
        let mut sizes: Vec<u32> =
            powers.flat_map(|s| [s - 1, s, s + 1]).filter_map(|s| u32::try_from(s).ok()).collect();
        sizes.push(u32::MAX);
        sizes.sort_unstable();
        for pair in sizes.windows(2) {
            let (lower, higher) = (bin_of(pair[0]), bin_of(pair[1]));
            assert!(lower <= higher && higher - lower <= 1, "sizes {pair:?} have bins {lower}, {higher}");
        }
        assert!((0..128).all(|pages| bin_of(pages) == pages as usize));
        assert_eq!(bin_of(u32::MAX), (WORDS << BIN_BITS) - 1);
    }
}
