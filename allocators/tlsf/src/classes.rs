//! The holes by size: lists under two levels of bits.
//!
//! The invariants are those of the crate's documentation.

use crate::nodes::{Node, Nodes, SENTINEL};

/// log2 of the classes of an octave: one word of bits.
const DIVISION: u32 = 6;

/// Words of bits: one for each power of two from 2^6 up to 2^30, one for the sizes below, and one
/// that stays empty, so that a search may start above the largest class.
const WORDS: usize = 27;

/// Sizes of holes that are treated alike: one size up to 127 pages, above that 1/64 of the sizes of
/// an octave. Numbered in ascending order, so that the lowest class is the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Class(u32);

impl Class {
    /// The class of holes of `pages` pages, which must be below 2^31.
    #[inline]
    pub(crate) fn of(pages: u32) -> Self {
        let shift = Self::shift(pages);
        Class((shift << DIVISION) + (pages >> shift))
    }

    /// The lowest class whose holes all have at least `pages` pages, which must be below 2^31.
    #[inline]
    pub(crate) fn of_at_least(pages: u32) -> Self {
        let shift = Self::shift(pages);
        // If the size rounds up to the next power of two, the quotient is 2^7, and the sum is the
        // first class of that power.
        Class((shift << DIVISION) + ((pages + (1 << shift) - 1) >> shift))
    }

    /// log2 of the number of sizes in the class of `pages`.
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
        self.highest_of(self.summary)
    }

    /// The highest class below `class` that has a hole.
    fn previous(&self, class: Class) -> Option<Class> {
        let bits = self.words[class.word()] & !(!0 << class.bit());
        match bits.checked_ilog2() {
            Some(bit) => Some(Class(((class.word() as u32) << DIVISION) + bit)),
            None => self.highest_of(self.summary & !(!0 << class.word())),
        }
    }

    /// The highest class that has a hole in the words of `words`, a part of the summary.
    fn highest_of(&self, words: u32) -> Option<Class> {
        let word = words.checked_ilog2()?;
        Some(Class((word << DIVISION) + self.words[word as usize].ilog2()))
    }

    /// All holes of `lowest` and the classes above it, from the lowest class up. Each takes an
    /// access to its node and a few words of bits.
    pub(crate) fn ascending(
        &self,
        lowest: Class,
        nodes: &Nodes,
    ) -> impl Iterator<Item = (u32, Node)> {
        self.listed(self.next(lowest), nodes, |class| self.next(Class(class.0 + 1)))
    }

    /// All holes of `lowest` and the classes above it, from the highest class down. Each takes an
    /// access to its node and a few words of bits.
    pub(crate) fn descending(
        &self,
        lowest: Class,
        nodes: &Nodes,
    ) -> impl Iterator<Item = (u32, Node)> {
        let from = move |class: Option<Class>| class.filter(|&class| class >= lowest);
        self.listed(from(self.highest()), nodes, move |class| from(self.previous(class)))
    }

    /// The holes of `class`, which has one, and of the classes that follow it.
    fn listed(
        &self,
        class: Option<Class>,
        nodes: &Nodes,
        following: impl Fn(Class) -> Option<Class>,
    ) -> impl Iterator<Item = (u32, Node)> {
        let mut at = class.map(|class| (class, self.first[class.0 as usize]));
        std::iter::from_fn(move || {
            let (class, index) = at?;
            let node = nodes.get(index);
            at = if node.next == SENTINEL {
                following(class).map(|class| (class, self.first[class.0 as usize]))
            } else {
                Some((class, node.next))
            };
            Some((index, node))
        })
    }

    /// The first hole of `class`.
    #[inline]
    pub(crate) fn first(&self, class: Class, nodes: &Nodes) -> Option<(u32, Node)> {
        let index = self.first[class.0 as usize];
        (index != SENTINEL).then(|| (index, nodes.get(index)))
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

    /// Removes the hole `index` of `pages` pages.
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
        // The link of a first hole to the one before it is never read.
        self.first[class.0 as usize] = next;
        if next == SENTINEL {
            self.words[class.word()] &= !(1 << class.bit());
            if self.words[class.word()] == 0 {
                self.summary &= !(1 << class.word());
            }
        }
    }

    /// Breaks invariant 5, for a test of [`check`](Self::check).
    #[cfg(test)]
    pub(crate) fn set_bit_of(&mut self, pages: u32) {
        self.words[Class::of(pages).word()] |= 1 << Class::of(pages).bit();
    }

    /// Checks invariants 4 and 5 of a region with `holes` holes.
    pub(crate) fn check(&self, nodes: &Nodes, holes: usize) -> Result<(), String> {
        let mut listed = 0;
        let words = self.first.chunks_exact(1 << DIVISION);
        for (from, lists) in (0..).step_by(1 << DIVISION).zip(words) {
            // Most words have no hole, and one comparison of memory is enough for them.
            if self.words[Class(from).word()] == 0 && *lists == [SENTINEL; 1 << DIVISION] {
                continue;
            }
            for (class, &first) in (from..).map(Class).zip(lists) {
                listed = self.check_list(nodes, class, first, listed, holes)?;
            }
        }
        if listed != holes {
            return Err(format!("invariant 4: {listed} of {holes} holes are in a list"));
        }
        for (word, bits) in self.words.iter().enumerate() {
            let bit = self.summary >> word & 1 != 0;
            if bit != (*bits != 0) {
                return Err(format!(
                    "invariant 5: the bit of word {word} is {bit}, the word {bits:#x}"
                ));
            }
        }
        Ok(())
    }

    /// Checks the list of `class`, which starts with `first`, after lists with `listed` of `holes`
    /// holes. Returns their number with it.
    fn check_list(
        &self,
        nodes: &Nodes,
        class: Class,
        first: u32,
        mut listed: usize,
        holes: usize,
    ) -> Result<usize, String> {
        let (mut index, mut prev) = (first, SENTINEL);
        while index != SENTINEL {
            let node = nodes.get(index);
            if nodes.is_taken(index) || Class::of(node.pages) != class || listed == holes {
                return Err(format!(
                    "invariant 4: node {index}, {node:?}, is in the list of {class:?}"
                ));
            }
            if prev != SENTINEL && node.prev != prev {
                return Err(format!(
                    "invariant 4: node {index} follows {prev} and links {}",
                    node.prev
                ));
            }
            listed += 1;
            (prev, index) = (index, node.next);
        }
        let bit = self.words[class.word()] >> class.bit() & 1 != 0;
        if bit != (first != SENTINEL) {
            return Err(format!(
                "invariant 5: the bit of {class:?} is {bit}, its first hole {first}"
            ));
        }
        Ok(listed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every size up to 2^13, and those around powers of two and at the top.
    fn sizes() -> impl Iterator<Item = u32> {
        let beside = |bit: u32| ((1 << bit) - 3)..=((1 << bit) + 3);
        (1..1 << 13).chain((13..31).flat_map(beside)).chain((1 << 31) - 3..1 << 31)
    }

    #[test]
    fn classes_ascend_with_sizes_and_are_a_64th_of_a_power_of_two_wide() {
        for pages in sizes().filter(|&pages| pages < (1 << 31) - 1) {
            let (class, next) = (Class::of(pages), Class::of(pages + 1));
            let last_of_class = (pages + 1) % (1 << pages.ilog2().saturating_sub(6)) == 0;
            assert_eq!(next.0 - class.0, u32::from(last_of_class), "{pages} pages");
        }
    }

    #[test]
    fn every_hole_of_a_sure_class_is_large_enough() {
        for pages in sizes() {
            let enough = Class::of_at_least(pages);
            // A hole of one page less is in the class directly below, so no lower class is sure.
            let below = Class::of(pages - 1);
            assert!(
                Class::of(pages) <= enough && below < enough && enough.0 - below.0 <= 1,
                "{pages} pages"
            );
            assert!(enough.word() < WORDS);
        }
    }
}
