//! A bound for each word of the bitmap, under a tree of maxima: leads to the next word whose bound is high enough.

use cma_bits::{TooLarge, zeroed};

/// The highest class. All bytes are below 128, which leaves each a bit for comparing a node's at once.
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

/// The top bit of each byte of a node.
const TOPS: u128 = ONES << 7;
/// The lowest bit of each byte of a node.
const ONES: u128 = u128::MAX / 0xff;

/// A byte for each of a fixed number of words, all 0 at first.
#[derive(Debug)]
pub(crate) struct Peaks {
    /// Sixteen bytes each, the lowest first. Level 0 holds the bounds; byte `i` of a further level is the maximum of node `i`
    /// of the level below; the last level is one node.
    nodes: Vec<u128>,
    /// Where each level begins in `nodes`, and where the last one ends.
    starts: Vec<usize>,
}

impl Peaks {
    pub(crate) fn new(words: u64) -> Result<Self, TooLarge> {
        let (mut starts, mut end, mut width) = (vec![0], 0, words);
        while width > 1 || end == 0 {
            width = width.div_ceil(16);
            end += width;
            starts.push(usize::try_from(end).map_err(|_| TooLarge(words))?);
        }
        Ok(Peaks { nodes: zeroed(end)?, starts })
    }

    /// The bound of `word`.
    #[inline]
    pub(crate) fn get(&self, word: u64) -> u8 {
        byte(self.nodes[at(word >> 4)], word)
    }

    /// Raises the bound of `word` to `class`, if it is lower.
    #[inline]
    pub(crate) fn raise(&mut self, mut word: u64, class: u8) {
        for start in &self.starts[..self.starts.len() - 1] {
            let node = &mut self.nodes[start + at(word >> 4)];
            if byte(*node, word) >= class {
                return;
            }
            set(node, word, class);
            word >>= 4;
        }
    }

    /// Lowers the bound of `word` to `class`, if it is higher.
    #[inline]
    pub(crate) fn lower(&mut self, mut word: u64, mut class: u8) {
        for start in &self.starts[..self.starts.len() - 1] {
            let node = &mut self.nodes[start + at(word >> 4)];
            let before = byte(*node, word);
            if before <= class {
                return;
            }
            set(node, word, class);
            // Mostly another byte is as high as this one was, and the levels above stay.
            if at_least(*node, before) != 0 {
                return;
            }
            class = maximum(*node);
            word >>= 4;
        }
    }

    /// The lowest word from `from` on with a bound of at least `class`, which is not 0.
    #[inline]
    pub(crate) fn next(&self, from: u64, class: u8) -> Option<u64> {
        let top = self.starts.len() - 2;
        if from == 0 {
            let enough = at_least(self.nodes[self.starts[top]], class);
            return (enough != 0).then(|| self.descend(top, u64::from(enough.trailing_zeros() / 8), class));
        }
        let mut word = from;
        for (level, pair) in self.starts.windows(2).enumerate() {
            let index = pair[0] + at(word >> 4);
            if index >= pair[1] {
                return None;
            }
            let enough = at_least(self.nodes[index], class) & (!0 << ((word & 15) * 8));
            if enough != 0 {
                return Some(self.descend(level, word & !15 | u64::from(enough.trailing_zeros() / 8), class));
            }
            word = (word >> 4) + 1;
        }
        None
    }

    /// The lowest word under byte `number` of `level`, which is at least `class`, that is so too.
    #[inline]
    fn descend(&self, level: usize, mut number: u64, class: u8) -> u64 {
        for start in self.starts[..level].iter().rev() {
            let enough = at_least(self.nodes[start + at(number)], class);
            number = number << 4 | u64::from(enough.trailing_zeros() / 8);
        }
        number
    }

    /// Verifies that every node holds the maxima of those below.
    pub(crate) fn check(&self) -> Result<(), String> {
        for level in 2..self.starts.len() {
            let below = &self.nodes[self.starts[level - 2]..self.starts[level - 1]];
            for (index, node) in (0..).zip(below) {
                let above = byte(self.nodes[self.starts[level - 1] + at(index >> 4)], index);
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

/// Byte `number`, modulo 16, of `node`.
#[inline]
const fn byte(node: u128, number: u64) -> u8 {
    node.to_le_bytes()[at(number & 15)]
}

/// Makes byte `number`, modulo 16, of `node` `class`.
#[inline]
fn set(node: &mut u128, number: u64, class: u8) {
    let shift = (number & 15) * 8;
    *node = *node & !(0xff << shift) | u128::from(class) << shift;
}

/// The largest byte of `node`.
#[inline]
fn maximum(node: u128) -> u8 {
    node.to_le_bytes().into_iter().fold(0, u8::max)
}

/// The top bit of each byte of `node` that is at least `class`: its subtraction borrows nothing from the bit set
/// for it, nor from its neighbour.
#[inline]
fn at_least(node: u128, class: u8) -> u128 {
    ((node | TOPS) - u128::from(class) * ONES) & TOPS
}

#[cfg(test)]
mod tests;
