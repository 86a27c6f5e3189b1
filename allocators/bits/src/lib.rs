//! Data structures of the allocators: a set of numbers below a fixed limit, as a tree of bits
//! ([`BitTree`]), a number for each of many places, under a tree of maxima ([`Maxima`]), and the
//! chunks and holes of a region in the order of addresses ([`Nodes`]).
//!
//! The rest of this text describes the set.
//!
//! # Structure
//!
//! Level 0 has a bit for each number, in words of 64. Every further level has a bit for each word
//! of the level below it, up to a level of one word. The levels are concatenated in one vector,
//! level 0 first, so that a lookup needs no offset. This is the 64-ary form of the tree of van Emde
//! Boas, *Preserving order in a forest in less than logarithmic time* (1975), reduced to the
//! operations that are single machine instructions.
//!
//! # Invariants
//!
//! [`check`](BitTree::check) verifies them, by these numbers.
//!
//! 1. Bit `i` of level `l + 1` is set iff word `i` of level `l` is not 0.
//! 2. No bit at or above the limit is set in level 0.
//!
//! # Cost
//!
//! 1 + 1/63 bits for each number. Every operation on one number, and every search, accesses at most
//! one word per level: 3 words for 2^18 numbers (1 GiB of pages), 6 for 2^36, which is the largest
//! limit. An operation on a range takes one more step for each 64 numbers of the range. A new set
//! is zeroed memory from the system, so a large set uses memory only where it was accessed.
#![forbid(unsafe_code)]

mod maxima;
mod nodes;

pub use maxima::Maxima;
pub use nodes::{Node, Nodes, SENTINEL, push};

/// The most levels a set has: 64^6 numbers are 256 TiB of pages.
const MAX_LEVELS: usize = 6;

/// A set of numbers below a limit that is fixed when it is made.
#[derive(Clone, Debug)]
pub struct BitTree {
    words: Vec<u64>,
    /// The start of each level in `words`; the entries after the last level are its end.
    starts: [usize; MAX_LEVELS + 1],
    levels: usize,
    limit: u64,
}

/// The set or vector is too large for this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} bits of bookkeeping are more than this host can hold")]
pub struct TooLarge(pub u64);

/// A vector of `count` zeros. A large one is zeroed pages of the system, which use no memory until
/// they are accessed.
///
/// # Errors
///
/// There is not enough memory.
pub fn zeroed<T: Copy + Default>(count: u64) -> Result<Vec<T>, TooLarge> {
    let too_large = TooLarge(count.saturating_mul(size_of::<T>() as u64 * 8));
    let count = usize::try_from(count).map_err(|_| too_large)?;
    // `vec!` is the only safe way to get zeroed pages of the system, and it aborts the process
    // without memory. So a fallible reservation comes first.
    Vec::<T>::new().try_reserve_exact(count).map_err(|_| too_large)?;
    Ok(vec![T::default(); count])
}

/// `number` as an index.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "a set that usize can't index is never created")]
const fn at(number: u64) -> usize {
    number as usize
}

/// The bits from `low` to `high`, both inclusive and under 64.
#[inline]
const fn mask(low: u64, high: u64) -> u64 {
    (!0 << low) & (!0 >> (63 - high))
}

impl BitTree {
    /// The largest limit a set can have.
    pub const MAX_LIMIT: u64 = 1 << (6 * MAX_LEVELS);

    /// An empty set of numbers below `limit`.
    ///
    /// # Errors
    ///
    /// The limit is above [`MAX_LIMIT`](Self::MAX_LIMIT), or there is no memory for so many bits.
    pub fn new(limit: u64) -> Result<Self, TooLarge> {
        if limit > Self::MAX_LIMIT {
            return Err(TooLarge(limit));
        }
        let mut starts = [0; MAX_LEVELS + 1];
        let (mut levels, mut end, mut width) = (0, 0, limit);
        loop {
            width = width.div_ceil(64).max(1);
            end += width;
            levels += 1;
            starts[levels..].fill(usize::try_from(end).map_err(|_| TooLarge(limit))?);
            if width == 1 {
                return Ok(BitTree { words: zeroed(end)?, starts, levels, limit });
            }
        }
    }

    /// One past the largest number that the set can have.
    #[inline]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Whether `number` is in the set.
    ///
    /// # Panics
    ///
    /// This and the other operations may panic if a number is not below the limit.
    #[inline]
    pub fn contains(&self, number: u64) -> bool {
        self.words[at(number >> 6)] >> (number & 63) & 1 != 0
    }

    /// The numbers `64 * index` to `64 * index + 63`, as bits from the lowest up.
    #[inline]
    fn word(&self, index: u64) -> u64 {
        self.words[at(index)]
    }

    /// Whether the set is empty.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.words.last().is_none_or(|top| *top == 0)
    }

    /// Adds `number`. Returns whether the set was empty before.
    #[inline]
    pub fn insert(&mut self, number: u64) -> bool {
        self.insert_in_word(number >> 6, 1 << (number & 63))
    }

    /// Removes `number`, which must be in the set. Returns whether the set is empty now.
    #[inline]
    pub fn remove(&mut self, number: u64) -> bool {
        self.remove_in_word(number >> 6, 1 << (number & 63))
    }

    /// Adds `number` without a branch that depends on the set: faster than [`insert`](Self::insert)
    /// where the words above change unpredictably.
    #[inline]
    pub fn insert_evenly(&mut self, mut number: u64) {
        for start in &self.starts[..self.levels] {
            self.words[start + at(number >> 6)] |= 1 << (number & 63);
            number >>= 6;
        }
    }

    /// Removes `number`, which must be in the set, if `is_wanted`, without a branch that depends on
    /// either.
    #[inline]
    pub fn remove_evenly(&mut self, mut number: u64, is_wanted: bool) {
        let mut removed = u64::from(is_wanted);
        for start in &self.starts[..self.levels] {
            let word = &mut self.words[start + at(number >> 6)];
            *word &= !(removed << (number & 63));
            removed = u64::from(*word == 0);
            number >>= 6;
        }
    }

    /// Adds all numbers from `from` to `to - 1`.
    #[inline]
    pub fn insert_range(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let (first, last) = (from >> 6, (to - 1) >> 6);
        if first == last {
            self.insert_in_word(first, mask(from & 63, (to - 1) & 63));
        } else {
            self.insert_in_words(from, to);
        }
    }

    /// Removes all numbers from `from` to `to - 1`.
    #[inline]
    pub fn remove_range(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let (first, last) = (from >> 6, (to - 1) >> 6);
        if first == last {
            self.remove_in_word(first, mask(from & 63, (to - 1) & 63));
        } else {
            self.remove_in_words(from, to);
        }
    }

    /// Adds the numbers of word `index` that are in `mask`, which is not 0. Returns whether the set
    /// was empty before.
    #[inline]
    fn insert_in_word(&mut self, index: u64, mask: u64) -> bool {
        let word = &mut self.words[at(index)];
        let before = *word;
        *word |= mask;
        before == 0 && self.word_filled(index)
    }

    /// Updates the levels above after word `index` became non-zero. Returns whether the set was
    /// empty before.
    fn word_filled(&mut self, mut index: u64) -> bool {
        for start in &self.starts[1..self.levels] {
            let word = &mut self.words[start + at(index >> 6)];
            let before = *word;
            *word |= 1 << (index & 63);
            if before != 0 {
                return false;
            }
            index >>= 6;
        }
        true
    }

    /// Removes the numbers of word `index` that are in `mask`. If one of them was in the set,
    /// returns whether the set is empty now.
    #[inline]
    fn remove_in_word(&mut self, index: u64, mask: u64) -> bool {
        let word = &mut self.words[at(index)];
        *word &= !mask;
        *word == 0 && self.word_emptied(index)
    }

    /// Updates the levels above after word `index` became 0. Returns whether the set is empty.
    fn word_emptied(&mut self, mut index: u64) -> bool {
        for start in &self.starts[1..self.levels] {
            let word = &mut self.words[start + at(index >> 6)];
            *word &= !(1 << (index & 63));
            if *word != 0 {
                return false;
            }
            index >>= 6;
        }
        true
    }

    fn insert_in_words(&mut self, mut from: u64, mut to: u64) {
        for start in &self.starts[..self.levels] {
            let (first, last) = (from >> 6, (to - 1) >> 6);
            let words = &mut self.words[start + at(first)..=start + at(last)];
            let mut news = false;
            each_word(words, from & 63, (to - 1) & 63, |word, mask| {
                news |= *word == 0;
                *word |= mask;
            });
            if !news {
                return;
            }
            (from, to) = (first, last + 1);
        }
    }

    fn remove_in_words(&mut self, mut from: u64, mut to: u64) {
        for start in &self.starts[..self.levels] {
            if from >= to {
                return;
            }
            let (first, last) = (from >> 6, (to - 1) >> 6);
            let words = &mut self.words[start + at(first)..=start + at(last)];
            each_word(words, from & 63, (to - 1) & 63, |word, mask| *word &= !mask);
            // Only the first and last word can have bits left.
            from = first + u64::from(words[0] != 0);
            to = last + u64::from(words[words.len() - 1] == 0);
        }
    }

    /// The end of the run of consecutive numbers in the set that starts at `from`; at most `to`.
    /// Takes a step for each 64 numbers.
    #[inline]
    pub fn run_end(&self, from: u64, to: u64) -> u64 {
        let mut number = from;
        while number < to {
            let absent = !self.word(number >> 6) >> (number & 63);
            if absent != 0 {
                return to.min(number + u64::from(absent.trailing_zeros()));
            }
            number = (number | 63) + 1;
        }
        to
    }

    /// The start of the run of consecutive numbers in the set that ends with `to - 1`; at least
    /// `from`. Takes a step for each 64 numbers.
    #[inline]
    pub fn run_start(&self, from: u64, to: u64) -> u64 {
        let mut end = to;
        while end > from {
            let last = end - 1;
            let absent = !self.word(last >> 6) & mask(0, last & 63);
            if absent != 0 {
                return from.max((last & !63) + u64::from(absent.ilog2()) + 1);
            }
            end = last & !63;
        }
        from
    }

    /// The lowest number in the set.
    #[inline]
    pub fn first(&self) -> Option<u64> {
        let top = self.words.last().filter(|top| **top != 0)?;
        Some(self.descend(self.levels - 1, u64::from(top.trailing_zeros())))
    }

    /// The lowest number in the set that is not below `from`, which may exceed the limit.
    #[inline]
    pub fn next(&self, from: u64) -> Option<u64> {
        if from >= self.limit {
            return None;
        }
        let word = self.word(from >> 6) & (!0 << (from & 63));
        if word != 0 {
            return Some(from & !63 | u64::from(word.trailing_zeros()));
        }
        self.next_word((from >> 6) + 1)
    }

    /// The lowest number in the words from `index` up.
    fn next_word(&self, mut index: u64) -> Option<u64> {
        for level in 1..self.levels {
            let at = self.starts[level] + at(index >> 6);
            if at >= self.starts[level + 1] {
                return None;
            }
            let word = self.words[at] & (!0 << (index & 63));
            if word != 0 {
                return Some(self.descend(level, index & !63 | u64::from(word.trailing_zeros())));
            }
            index = (index >> 6) + 1;
        }
        None
    }

    /// The highest number in the set that is below `before`, which is at most the limit.
    #[inline]
    pub fn previous(&self, before: u64) -> Option<u64> {
        let last = before.checked_sub(1)?;
        let word = self.word(last >> 6) & mask(0, last & 63);
        if word != 0 {
            return Some(last & !63 | u64::from(word.ilog2()));
        }
        self.previous_word(last >> 6)
    }

    /// The highest number in the words below `end`.
    fn previous_word(&self, mut end: u64) -> Option<u64> {
        for level in 1..self.levels {
            let index = end.checked_sub(1)?;
            let word = self.words[self.starts[level] + at(index >> 6)] & mask(0, index & 63);
            if word != 0 {
                let mut number = index & !63 | u64::from(word.ilog2());
                for start in self.starts[..level].iter().rev() {
                    number = number << 6 | u64::from(self.words[start + at(number)].ilog2());
                }
                return Some(number);
            }
            end = index >> 6;
        }
        None
    }

    /// The lowest number below bit `number` of `level`, which is set.
    #[inline]
    fn descend(&self, level: usize, mut number: u64) -> u64 {
        for start in self.starts[..level].iter().rev() {
            number = number << 6 | u64::from(self.words[start + at(number)].trailing_zeros());
        }
        number
    }

    /// Verifies the invariants. Takes a step for each word.
    ///
    /// # Errors
    ///
    /// The first broken invariant, with the evidence.
    pub fn check(&self) -> Result<(), String> {
        for level in 1..self.levels {
            let below = &self.words[self.starts[level - 1]..self.starts[level]];
            let summary = &self.words[self.starts[level]..self.starts[level + 1]];
            for (index, bit) in
                (0..summary.len() * 64).map(|i| (i, summary[i / 64] >> (i % 64) & 1 != 0))
            {
                if bit != below.get(index).is_some_and(|word| *word != 0) {
                    return Err(format!("invariant 1: bit {index} of level {level} is {bit}"));
                }
            }
        }
        match self.limit & 63 {
            0 => Ok(()),
            used => match self.word(self.limit >> 6) >> used {
                0 => Ok(()),
                _ => Err(format!(
                    "invariant 2: a number not below the limit {} is in the set",
                    self.limit
                )),
            },
        }
    }
}

/// Applies `change` to the bits from bit `low` of the first word to bit `high` of the last.
#[inline]
fn each_word(words: &mut [u64], low: u64, high: u64, mut change: impl FnMut(&mut u64, u64)) {
    match words {
        [only] => change(only, mask(low, high)),
        [first, inner @ .., last] => {
            change(first, mask(low, 63));
            inner.iter_mut().for_each(|word| change(word, !0));
            change(last, mask(0, high));
        }
        [] => {}
    }
}

#[cfg(test)]
mod tests;
