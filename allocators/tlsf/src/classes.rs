//! The holes by size: two levels of bits over lists.
//!
//! The invariants are the crate's.

use crate::nodes::{Node, Nodes, SENTINEL};

/// log2 of the classes that a power of two of sizes is divided into: one word of bits.
const DIVISION: u32 = 6;

/// Words of bits: one for each power of two from 2^6 up to 2^30, one for the sizes below, and one that stays
/// empty, so that a search may begin above the largest class.
const WORDS: usize = 27;

/// Sizes of holes that are treated alike: up to 127 pages one size, from there on a 64th of a power of two of them. Numbered
/// in ascending order, so that the lowest class is the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Class(u32);

impl Class {
    /// The class that holes of `pages` pages are in; under 2^31.
    #[inline]
    pub(crate) fn of(pages: u32) -> Self {
        let shift = Self::shift(pages);
        Class((shift << DIVISION) + (pages >> shift))
    }

    /// The lowest class of which every hole has `pages` pages; under 2^31.
    #[inline]
    pub(crate) fn of_at_least(pages: u32) -> Self {
        let shift = Self::shift(pages);
        // Rounded up to the next power of two the quotient is 2^7, and the sum is the next power's first class.
        Class((shift << DIVISION) + ((pages + (1 << shift) - 1) >> shift))
    }

    /// log2 of how many sizes the class of `pages` has.
    #[inline]
    fn shift(pages: u32) -> u32 {
        (pages | 1 << DIVISION).ilog2() - DIVISION
    }

    #[inline]
    fn word(self) -> usize {
        (self.0 >> DIVISION) as usize
    }

    #[inline]
    fn bit(self) -> u32 {
        self.0 % (1 << DIVISION)
    }
}

/// The lists of all classes.
#[derive(Debug)]
pub(crate) struct Classes {
    /// Bit `w` is set iff `words[w]` is not 0.
    summary: u32,
    /// Bit `b` of word `w` is set iff there is a hole of class `64 w + b`.
    words: [u64; WORDS],
    /// The first hole of each class, or [`SENTINEL`].
    first: [u32; WORDS << DIVISION],
}

impl Classes {
    pub(crate) fn new() -> Self {
        Classes { summary: 0, words: [0; WORDS], first: [SENTINEL; WORDS << DIVISION] }
    }

    /// The lowest class from `class` up that has a hole.
    #[inline]
    pub(crate) fn next(&self, class: Class) -> Option<Class> {
        let mut word = class.word();
        let mut bits = self.words[word] & (!0 << class.bit());
        if bits == 0 {
            let words = self.summary & (!1 << word);
            if words == 0 {
                return None;
            }
            word = words.trailing_zeros() as usize;
            bits = self.words[word];
        }
        Some(Class(((word as u32) << DIVISION) + bits.trailing_zeros()))
    }

    /// The highest class that has a hole.
    pub(crate) fn highest(&self) -> Option<Class> {
        let word = self.summary.checked_ilog2()?;
        Some(Class((word << DIVISION) + self.words[word as usize].ilog2()))
    }

    /// The first hole of `class`, or [`SENTINEL`].
    #[inline]
    pub(crate) fn first(&self, class: Class) -> u32 {
        self.first[class.0 as usize]
    }

    /// The holes of `class`.
    #[inline]
    pub(crate) fn holes(&self, class: Class, nodes: &Nodes) -> impl Iterator<Item = (u32, Node)> {
        let from = |index: u32| (index != SENTINEL).then(|| (index, nodes.get(index)));
        std::iter::successors(from(self.first(class)), move |(_, node)| from(node.next))
    }

    /// Adds the hole `index` of `pages` pages.
    #[inline]
    pub(crate) fn insert(&mut self, index: u32, pages: u32, nodes: &mut Nodes) {
        let class = Class::of(pages);
        let next = std::mem::replace(&mut self.first[class.0 as usize], index);
        nodes.get_mut(index).next = next;
        if next == SENTINEL {
            self.words[class.word()] |= 1 << class.bit();
            self.summary |= 1 << class.word();
        } else {
            nodes.get_mut(next).prev = index;
        }
    }

    /// Takes the hole `index` of `pages` pages away.
    #[inline]
    pub(crate) fn remove(&mut self, index: u32, pages: u32, nodes: &mut Nodes) {
        let class = Class::of(pages);
        let Node { prev, next, .. } = nodes.get(index);
        if self.first[class.0 as usize] != index {
            nodes.get_mut(prev).next = next;
            if next != SENTINEL {
                nodes.get_mut(next).prev = prev;
            }
            return;
        }
        // Nothing looks at what the new first one has before it.
        self.first[class.0 as usize] = next;
        if next == SENTINEL {
            self.words[class.word()] &= !(1 << class.bit());
            if self.words[class.word()] == 0 {
                self.summary &= !(1 << class.word());
            }
        }
    }
}
