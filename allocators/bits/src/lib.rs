//! What the allocators are built on: a set of numbers below a fixed limit, as a tree of bits
//! ([`BitTree`]), and a number for each of many places, under a tree of maxima ([`Maxima`]).
//!
//! The rest of this text is about the set.
//!
//! # Structure
//!
//! Level 0 has a bit for each number, in words of 64. Every further level has a bit for each word
//! of the level below it, up to a level of one word. The levels lie one behind the other in one
//! vector, level 0 first, so that asking for a number needs no offset. This is the 64-ary form of
//! the tree of van Emde Boas, *Preserving order in a forest in less than logarithmic time* (1975),
//! cut down to the operations that machines have instructions for.
//!
//! # Invariants
//!
//! [`check`](BitTree::check) asserts them by number.
//!
//! 1. Bit `i` of level `l + 1` is set iff word `i` of level `l` is not 0.
//! 2. No bit at or above the limit is set in level 0.
//!
//! # Cost
//!
//! A bit and 1/63 for each number. Every operation on one number, and every search, takes at most
//! one word a level: 3 of them for 2^18 numbers (a gigabyte of pages), 6 for 2^36, which is the
//! largest limit. An operation on a range takes 1/64 of the range's length more. A new set is
//! zeroed memory from the system, so a large set costs memory only where it was touched.
#![forbid(unsafe_code)]

mod maxima;

pub use maxima::Maxima;

/// The most levels a set has: 64^6 numbers are 256 TiB of pages.
const MAX_LEVELS: usize = 6;

/// A set of numbers below a limit that is fixed when it is made.
#[derive(Clone, Debug)]
pub struct BitTree {
    words: Vec<u64>,
    /// Where each level begins in `words`; all behind the last one are where it ends.
    starts: [usize; MAX_LEVELS + 1],
    levels: usize,
    limit: u64,
}

/// The set, or the vector, is larger than this host can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} bits of bookkeeping are more than this host can hold")]
pub struct TooLarge(pub u64);

/// A vector of `count` numbers, all 0. Where it is large it is the system's own zeroed pages: what
/// isn't touched costs no memory.
///
/// # Errors
///
/// The memory can't be had.
pub fn zeroed<T: Copy + Default>(count: u64) -> Result<Vec<T>, TooLarge> {
    let too_large = TooLarge(count.saturating_mul(size_of::<T>() as u64 * 8));
    let count = usize::try_from(count).map_err(|_| too_large)?;
    // `vec!` is the only safe way to the system's zeroed pages and ends the process when it gets
    // none: so ask first in the way that can be refused.
    Vec::<T>::new().try_reserve_exact(count).map_err(|_| too_large)?;
    Ok(vec![T::default(); count])
}

/// `number` as an index.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "a set that usize can't index was never made")]
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

    /// One past the largest number the set can hold.
    #[inline]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Whether `number` is in the set.
    ///
    /// # Panics
    ///
    /// This and the other operations may panic when a number is not below the limit.
    #[inline]
    pub fn contains(&self, number: u64) -> bool {
        self.words[at(number >> 6)] >> (number & 63) & 1 != 0
    }

    /// Numbers `64 * index` to `64 * index + 63`, as bits from the lowest up.
    #[inline]
    fn word(&self, index: u64) -> u64 {
        self.words[at(index)]
    }

    /// Whether no number is in the set.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.words[self.starts[self.levels - 1]] == 0
    }

    /// Adds `number`. Answers whether the set was empty before.
    #[inline]
    pub fn insert(&mut self, number: u64) -> bool {
        self.insert_in_word(number >> 6, 1 << (number & 63))
    }

    /// Takes `number` away, which must be in the set. Answers whether the set is empty now.
    #[inline]
    pub fn remove(&mut self, number: u64) -> bool {
        self.remove_in_word(number >> 6, 1 << (number & 63))
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

    /// Takes all numbers from `from` to `to - 1` away.
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

    /// Adds the numbers of word `index` that are in `mask`, which is not 0. Answers whether the set
    /// was empty before.
    #[inline]
    fn insert_in_word(&mut self, index: u64, mask: u64) -> bool {
        let word = &mut self.words[at(index)];
        let before = *word;
        *word |= mask;
        before == 0 && self.word_filled(index)
    }

    /// Word `index` is not 0 any more. Answers whether the set was empty before.
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

    /// Takes the numbers of word `index` away that are in `mask`. If one of them was in the set,
    /// this answers whether the set is empty now.
    #[inline]
    fn remove_in_word(&mut self, index: u64, mask: u64) -> bool {
        let word = &mut self.words[at(index)];
        *word &= !mask;
        *word == 0 && self.word_emptied(index)
    }

    /// Word `index` is 0 now. Answers whether the set is empty.
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
            // Only the words at the ends can have bits left.
            from = first + u64::from(words[0] != 0);
            to = last + u64::from(words[words.len() - 1] == 0);
        }
    }

    /// Where the numbers in the set that follow each other from `from` on end: at `to` or before.
    /// Takes a step for 64.
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

    /// Where the numbers in the set that follow each other up to `to - 1` begin: at `from` or
    /// above. Takes a step for 64.
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
        if self.is_empty() { None } else { Some(self.descend(self.levels, 0)) }
    }

    /// The lowest number in the set that is not below `from`, which may be anything.
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

    /// The lowest number of words from `index` on.
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

    /// The highest number of words below `end`.
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

    /// The lowest number under bit `number` of `level`, which is set.
    #[inline]
    fn descend(&self, level: usize, mut number: u64) -> u64 {
        for start in self.starts[..level].iter().rev() {
            number = number << 6 | u64::from(self.words[start + at(number)].trailing_zeros());
        }
        number
    }

    /// Verifies the invariants; takes a step for each word.
    ///
    /// # Errors
    ///
    /// The first invariant that doesn't hold, with the evidence.
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
                    "invariant 2: a number from the limit {} on is in the set",
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
