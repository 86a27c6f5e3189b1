//! A bound for each word of the bitmap, under a tree of maxima: leads to the next word whose bound is high enough.

use cma_bits::{TooLarge, zeroed};

/// The highest class. All bytes are below 128, which leaves each a bit for comparing eight at once.
const HIGHEST: u64 = 127;

/// The class of a length in pages: the number of lengths with up to three significant bits that are not above it.
/// 0 to 7 are classes themselves, then begin classes at 8, 10, 12, 14, 16, 20 and so on, four to an octave. All
/// lengths from 7 * 2^30 pages (28 TiB) on are of the highest one.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "no class is above 127")]
pub(crate) fn class_of(pages: u64) -> u8 {
    if pages < 4 {
        return pages as u8;
    }
    let octave = pages.ilog2();
    let class = u64::from(octave - 1) << 2 | (pages >> (octave - 2)) & 3;
    class.min(HIGHEST) as u8
}

/// The top bit of each of eight bytes.
const TOPS: u64 = 0x8080_8080_8080_8080;
/// The lowest bit of each of eight bytes.
const ONES: u64 = 0x0101_0101_0101_0101;

/// A byte for each of a fixed number of words, all 0 at first.
#[derive(Debug)]
pub(crate) struct Peaks {
    /// Eight bytes each, the lowest first. Level 0 holds the bounds; byte `i` of a further level is the maximum of node `i`
    /// of the level below; the last level is one node.
    nodes: Vec<u64>,
    /// Where each level begins in `nodes`, and where the last one ends.
    starts: Vec<usize>,
}

impl Peaks {
    pub(crate) fn new(words: u64) -> Result<Self, TooLarge> {
        let (mut starts, mut end, mut width) = (vec![0], 0, words);
        while width > 1 || end == 0 {
            width = width.div_ceil(8);
            end += width;
            starts.push(usize::try_from(end).map_err(|_| TooLarge(words))?);
        }
        Ok(Peaks { nodes: zeroed(end)?, starts })
    }

    /// The bound of `word`.
    pub(crate) fn get(&self, word: u64) -> u8 {
        byte(self.nodes[at(word >> 3)], word)
    }

    /// Raises the bound of `word` to `class`, if it is lower.
    #[inline]
    pub(crate) fn raise(&mut self, mut word: u64, class: u8) {
        for start in &self.starts[..self.starts.len() - 1] {
            let node = &mut self.nodes[start + at(word >> 3)];
            if byte(*node, word) >= class {
                return;
            }
            set(node, word, class);
            word >>= 3;
        }
    }

    /// Lowers the bound of `word` to `class`.
    #[inline]
    pub(crate) fn lower(&mut self, mut word: u64, mut class: u8) {
        for start in &self.starts[..self.starts.len() - 1] {
            let node = &mut self.nodes[start + at(word >> 3)];
            if byte(*node, word) == class {
                return;
            }
            set(node, word, class);
            class = maximum(*node);
            word >>= 3;
        }
    }

    /// The lowest word from `from` on with a bound of at least `class`, which is not 0.
    #[inline]
    pub(crate) fn next(&self, from: u64, class: u8) -> Option<u64> {
        let mut word = from;
        for (level, pair) in self.starts.windows(2).enumerate() {
            let index = pair[0] + at(word >> 3);
            if index >= pair[1] {
                return None;
            }
            let enough = at_least(self.nodes[index], class) & (!0 << ((word & 7) * 8));
            if enough != 0 {
                word = word & !7 | u64::from(enough.trailing_zeros() / 8);
                for start in self.starts[..level].iter().rev() {
                    let enough = at_least(self.nodes[start + at(word)], class);
                    word = word << 3 | u64::from(enough.trailing_zeros() / 8);
                }
                return Some(word);
            }
            word = (word >> 3) + 1;
        }
        None
    }

    /// Verifies that every node holds the maxima of those below.
    pub(crate) fn check(&self) -> Result<(), String> {
        for level in 2..self.starts.len() {
            let below = &self.nodes[self.starts[level - 2]..self.starts[level - 1]];
            for (index, node) in (0..).zip(below) {
                let above = byte(self.nodes[self.starts[level - 1] + at(index >> 3)], index);
                if above != maximum(*node) {
                    let level = level - 2;
                    return Err(format!("above node {index} of level {level}, {node:#x}, stands {above}"));
                }
            }
        }
        Ok(())
    }
}

/// `number` as an index.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "nodes that usize can't index were never made")]
const fn at(number: u64) -> usize {
    number as usize
}

/// Byte `number`, modulo 8, of `node`.
#[inline]
const fn byte(node: u64, number: u64) -> u8 {
    node.to_le_bytes()[at(number & 7)]
}

/// Makes byte `number`, modulo 8, of `node` `class`.
#[inline]
fn set(node: &mut u64, number: u64, class: u8) {
    let shift = (number & 7) * 8;
    *node = *node & !(0xff << shift) | u64::from(class) << shift;
}

/// The largest byte of `node`.
#[inline]
fn maximum(node: u64) -> u8 {
    node.to_le_bytes().into_iter().fold(0, u8::max)
}

/// The top bit of each byte of `node` that is at least `class`: its subtraction borrows nothing from the bit set
/// for it, nor from its neighbour.
#[inline]
fn at_least(node: u64, class: u8) -> u64 {
    ((node | TOPS) - u64::from(class) * ONES) & TOPS
}

#[cfg(test)]
mod tests;
