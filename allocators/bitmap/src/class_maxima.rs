//! A class for each word of the bitmap, under a tree of maxima, which finds the next word with a
//! high enough class.

use cma_bits::{TooLarge, zeroed};

/// The highest class. All bytes are below 128: the top bit of each is needed to compare all bytes
/// of a node at once.
const HIGHEST: u64 = 127;

/// The class of a length in pages: the number of positive lengths with up to three significant bits
/// that are not above it. Lengths 0 to 7 are their own classes; further classes start at 8, 10, 12,
/// 14, 16, 20 and so on, four per octave. All lengths from 7 * 2^30 pages (28 TiB) up have the
/// highest class.
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
const TOPS: u64 = ONES << 7;
/// The lowest bit of each of eight bytes.
const ONES: u64 = u64::MAX / 0xff;

/// The top bit of each byte of `a` that is not below that of `b`. The bit is set before the
/// subtraction, so that no byte borrows from its neighbour, and remains set where the byte itself
/// didn't borrow.
#[inline]
const fn not_below(a: u64, b: u64) -> u64 {
    ((a | TOPS) - b) & TOPS
}

/// The larger of each pair of bytes.
#[inline]
const fn maxima(a: u64, b: u64) -> u64 {
    let from_a = not_below(a, b);
    // Spreads each bit over the seven below it; the top bit of all bytes is 0.
    let from_a = from_a - (from_a >> 7);
    a & from_a | b & !from_a
}

/// Sixteen bytes, the lowest first.
#[derive(Clone, Copy, Debug, Default)]
struct Node([u64; 2]);

impl Node {
    /// The byte of `number` modulo 16.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "selects one byte")]
    fn get(self, number: u64) -> u8 {
        (self.0[at(number >> 3 & 1)] >> ((number & 7) * 8)) as u8
    }

    #[inline]
    fn set(&mut self, number: u64, class: u8) {
        let (half, shift) = (&mut self.0[at(number >> 3 & 1)], (number & 7) * 8);
        *half = *half & !(0xff << shift) | u64::from(class) << shift;
    }

    /// In each half, the top bit of each byte that is at least `class`.
    #[inline]
    fn at_least(self, class: u8) -> [u64; 2] {
        self.0.map(|half| not_below(half, u64::from(class) * ONES))
    }

    /// The index of the first byte that is at least `class`; 16 if none is.
    #[inline]
    fn first(self, class: u8) -> u64 {
        Self::first_of(self.at_least(class))
    }

    /// The same from the byte of `number` up.
    #[inline]
    fn first_from(self, number: u64, class: u8) -> u64 {
        let ([low, high], from) = (self.at_least(class), !0 << ((number & 7) * 8));
        Self::first_of(if number & 8 == 0 { [low & from, high] } else { [0, high & from] })
    }

    #[inline]
    fn first_of([low, high]: [u64; 2]) -> u64 {
        u64::from(if low != 0 { low.trailing_zeros() / 8 } else { 8 + high.trailing_zeros() / 8 })
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "all bytes are equal after the last step")]
    fn maximum(self) -> u8 {
        // Where chunks are dense, most nodes are 0.
        if self.0 == [0, 0] {
            return 0;
        }
        let all = maxima(self.0[0], self.0[1]);
        let all = maxima(all, all.rotate_left(32));
        let all = maxima(all, all.rotate_left(16));
        maxima(all, all.rotate_left(8)) as u8
    }
}

/// A class for each of a fixed number of words, initially 0.
#[derive(Debug)]
pub(crate) struct ClassMaxima {
    /// Level 0 has the bounds. Byte `i` of a further level is the maximum of node `i` of the level
    /// below. The last level is one node.
    nodes: Vec<Node>,
    /// The start of each level in `nodes`, and the end of the last one.
    starts: Vec<usize>,
}

impl ClassMaxima {
    pub(crate) fn new(words: u64) -> Result<Self, TooLarge> {
        let (mut starts, mut end, mut width) = (vec![0], 0, words);
        while width > 1 || end == 0 {
            width = width.div_ceil(16);
            end += width;
            starts.push(usize::try_from(end).map_err(|_| TooLarge(words))?);
        }
        Ok(ClassMaxima { nodes: zeroed(end)?, starts })
    }

    /// The bound of `word`.
    #[inline]
    pub(crate) fn get(&self, word: u64) -> u8 {
        self.nodes[at(word >> 4)].get(word)
    }

    /// Raises the bound of `word` to 1, if it is 0. Mostly it isn't where chunks are single pages.
    #[inline]
    pub(crate) fn raise_to_one(&mut self, word: u64) {
        if self.get(word) == 0 {
            self.raise(word, 1);
        }
    }

    /// Raises the bound of `word` to `class`, if it is lower.
    #[inline]
    pub(crate) fn raise(&mut self, mut word: u64, class: u8) {
        for start in &self.starts[..self.starts.len() - 1] {
            let node = &mut self.nodes[start + at(word >> 4)];
            if node.get(word) >= class {
                return;
            }
            node.set(word, class);
            word >>= 4;
        }
    }

    /// Lowers the bound of `word` to `class`, and returns whether it was higher.
    #[inline]
    pub(crate) fn lower(&mut self, mut word: u64, mut class: u8) -> bool {
        for (level, start) in self.starts[..self.starts.len() - 1].iter().enumerate() {
            let node = &mut self.nodes[start + at(word >> 4)];
            let before = node.get(word);
            if before <= class {
                return level > 0;
            }
            node.set(word, class);
            // Mostly another byte is as high as this one was, and the levels above don't change.
            if node.first(before) < 16 {
                return true;
            }
            class = node.maximum();
            word >>= 4;
        }
        true
    }

    /// The lowest word from `from` up with a bound of at least `class`, which must not be 0.
    #[inline]
    pub(crate) fn next(&self, from: u64, class: u8) -> Option<u64> {
        if from == 0 {
            let top = self.starts.len() - 2;
            let number = self.nodes[self.starts[top]].first(class);
            return (number < 16).then(|| self.descend(top, number, class));
        }
        let mut word = from;
        for (level, pair) in self.starts.windows(2).enumerate() {
            let index = pair[0] + at(word >> 4);
            if index >= pair[1] {
                return None;
            }
            let number = self.nodes[index].first_from(word, class);
            if number < 16 {
                return Some(self.descend(level, word & !15 | number, class));
            }
            word = (word >> 4) + 1;
        }
        None
    }

    /// The lowest word below byte `number` of `level` with a bound of at least `class`. That byte
    /// must itself be at least `class`.
    #[inline]
    fn descend(&self, level: usize, mut number: u64, class: u8) -> u64 {
        for start in self.starts[..level].iter().rev() {
            number = number << 4 | self.nodes[start + at(number)].first(class);
        }
        number
    }

    /// Verifies that every node has the maxima of those below.
    pub(crate) fn check(&self) -> Result<(), String> {
        for level in 2..self.starts.len() {
            let below = &self.nodes[self.starts[level - 2]..self.starts[level - 1]];
            for (index, node) in (0..).zip(below) {
                let above = self.nodes[self.starts[level - 1] + at(index >> 4)].get(index);
                if above != node.maximum() {
                    let level = level - 2;
                    return Err(format!(
                        "node {index} of level {level} is {node:x?}, the class above it is {above}"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// `number` as an index.
#[inline]
#[allow(
    clippy::cast_possible_truncation,
    reason = "nodes that usize can't index are never created"
)]
const fn at(number: u64) -> usize {
    number as usize
}

#[cfg(test)]
mod tests;
