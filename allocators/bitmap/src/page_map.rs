//! The used pages of a region: a bit per page, and sets of the words of 64 pages with used and with
//! free pages.
//!
//! Pages are counted from the region's start. The invariants are those of the crate's
//! documentation.

use cma_bits::{BitTree, TooLarge, zeroed};

/// The used and free pages of a region.
#[derive(Debug)]
pub(crate) struct PageMap {
    count: u64,
    /// Set for a used page. Valid only for words that are both in `used` and in `open`; stale for
    /// others, so that a large chunk doesn't write the words that it covers.
    bits: Vec<u64>,
    /// The words with a used page.
    used: BitTree,
    /// The words with a free page.
    open: BitTree,
}

/// The bits of a word from page `from` to page `to - 1`, both below 64; up to the last if `to`
/// is 0.
#[inline]
const fn mask(from: u64, to: u64) -> u64 {
    (!0 << from) & (!0 >> (to.wrapping_neg() & 63))
}

impl PageMap {
    /// `count` free pages.
    pub(crate) fn new(count: u64) -> Result<Self, TooLarge> {
        let words = count.div_ceil(64);
        let (used, mut open) = (BitTree::new(words)?, BitTree::new(words)?);
        open.insert_range(0, words);
        let mut pages = PageMap { count, bits: zeroed(words)?, used, open };
        if !count.is_multiple_of(64) {
            pages.take(count, words * 64);
        }
        Ok(pages)
    }

    /// The number of pages.
    #[inline]
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The number of words.
    #[inline]
    pub(crate) fn words(&self) -> u64 {
        self.open.limit()
    }

    /// The used pages of word `index`.
    #[inline]
    pub(crate) fn word(&self, index: u64) -> u64 {
        if !self.used.contains(index) {
            0
        } else if !self.open.contains(index) {
            !0
        } else {
            self.bits[at(index)]
        }
    }

    /// The first word from `index` up with a free page.
    pub(crate) fn next_open(&self, index: u64) -> Option<u64> {
        self.open.next(index)
    }

    /// The first word with a free page.
    #[inline]
    pub(crate) fn first_open(&self) -> Option<u64> {
        self.open.first()
    }

    /// Changes the used pages of word `index` from `before` to `after`.
    #[inline]
    fn change(&mut self, index: u64, before: u64, after: u64) {
        self.bits[at(index)] = after;
        if before == 0 {
            self.used.insert(index);
        }
        if before == !0 {
            self.open.insert(index);
        }
        if after == 0 {
            self.used.remove(index);
        }
        if after == !0 {
            self.open.remove(index);
        }
    }

    /// Marks the first free page of word `index`, which must have one, as used, and returns it.
    ///
    /// Where chunks are single pages, the word often becomes full, and whether it does can't be
    /// predicted, so no branch depends on it.
    #[inline]
    pub(crate) fn take_first_in(&mut self, index: u64) -> u64 {
        let bits = &mut self.bits[at(index)];
        if !self.used.contains(index) {
            *bits = 0;
            self.used.insert(index);
        }
        let before = *bits;
        *bits = before | (before + 1);
        self.open.remove_evenly(index, *bits == !0);
        index * 64 + u64::from(before.trailing_ones())
    }

    /// Marks `page` as free, if it and both its neighbours are used pages of one word. Otherwise
    /// returns false and changes nothing.
    ///
    /// No branch depends on whether the word was full.
    #[inline]
    pub(crate) fn release_between(&mut self, page: u64) -> bool {
        let (index, bit) = (page / 64, page & 63);
        let bits = &mut self.bits[at(index)];
        let all_if_full = u64::from(self.open.contains(index)).wrapping_sub(1);
        let before = *bits | all_if_full;
        // The first and the last page of a word get less than three bits here.
        let are_used = before >> (bit.wrapping_sub(1) & 63) & 0b111 == 0b111;
        if !are_used || !self.used.contains(index) {
            return false;
        }
        *bits = before & !(1 << bit);
        self.open.insert_evenly(index);
        true
    }

    fn take_in_word(&mut self, index: u64, mask: u64) {
        let word = self.word(index);
        self.change(index, word, word | mask);
    }

    fn release_in_word(&mut self, index: u64, mask: u64) {
        let word = self.word(index);
        self.change(index, word, word & !mask);
    }

    /// Marks the pages from `from` to `to - 1` as used. They must be free, and at least one.
    #[inline]
    pub(crate) fn take(&mut self, from: u64, to: u64) {
        let (first, last) = (from.div_ceil(64), to / 64);
        if first > last {
            self.take_in_word(last, mask(from & 63, to & 63));
            return;
        }
        if !from.is_multiple_of(64) {
            self.take_in_word(first - 1, mask(from & 63, 0));
        }
        self.used.insert_range(first, last);
        self.open.remove_range(first, last);
        if !to.is_multiple_of(64) {
            self.take_in_word(last, mask(0, to & 63));
        }
    }

    /// Marks the pages from `from` to `to - 1`, at least one, as free, and returns the start and
    /// end of the hole that contains them. Returns `None` and changes nothing if one of them is
    /// free already.
    #[inline]
    pub(crate) fn release(&mut self, from: u64, to: u64) -> Option<(u64, u64)> {
        let (index, first_bit, last_bit) = (from / 64, from & 63, (to - 1) & 63);
        if index != (to - 1) / 64 {
            return self.release_words(from, to);
        }
        let (word, mask) = (self.word(index), mask(first_bit, to & 63));
        if !word & mask != 0 {
            return None;
        }
        let left = word & !mask;
        self.change(index, word, left);
        let (below, above) = (left & !(!0 << first_bit), left & (!1 << last_bit));
        let first = if below == 0 {
            self.free_from(index * 64)
        } else {
            index * 64 + u64::from(below.ilog2()) + 1
        };
        let end = if above == 0 {
            self.free_to(index * 64 + 64)
        } else {
            index * 64 + u64::from(above.trailing_zeros())
        };
        Some((first, end))
    }

    /// The same for pages in several words.
    fn release_words(&mut self, from: u64, to: u64) -> Option<(u64, u64)> {
        if !self.are_taken(from, to) {
            return None;
        }
        let (first, last) = (from.div_ceil(64), to / 64);
        if !from.is_multiple_of(64) {
            self.release_in_word(first - 1, mask(from & 63, 0));
        }
        self.open.insert_range(first, last);
        self.used.remove_range(first, last);
        if !to.is_multiple_of(64) {
            self.release_in_word(last, mask(0, to & 63));
        }
        Some((self.free_from(from), self.free_to(to)))
    }

    /// Whether all pages from `from` to `to - 1`, which lie in several words, are used.
    fn are_taken(&self, from: u64, to: u64) -> bool {
        let taken = |index, mask| !self.word(index) & mask == 0;
        let (first, last) = (from.div_ceil(64), to / 64);
        (from.is_multiple_of(64) || taken(first - 1, mask(from & 63, 0)))
            && (first == last || self.open.next(first).is_none_or(|open| open >= last))
            && (to.is_multiple_of(64) || taken(last, mask(0, to & 63)))
    }

    /// The end of the free pages that start at `page`: `page` itself if that is used or after the
    /// last page.
    #[inline]
    pub(crate) fn free_to(&self, page: u64) -> u64 {
        if page >= self.count {
            return page;
        }
        let index = page / 64;
        let taken = self.word(index) & mask(page & 63, 0);
        if taken != 0 {
            return index * 64 + u64::from(taken.trailing_zeros());
        }
        match self.used.next(index + 1) {
            Some(index) => index * 64 + u64::from(self.word(index).trailing_zeros()),
            None => self.count,
        }
    }

    /// The start of the free pages that end before `page`.
    #[inline]
    pub(crate) fn free_from(&self, page: u64) -> u64 {
        let Some(last) = page.checked_sub(1) else { return 0 };
        let index = last / 64;
        let taken = self.word(index) & mask(0, page & 63);
        if taken != 0 {
            return index * 64 + u64::from(taken.ilog2()) + 1;
        }
        match self.used.previous(index) {
            Some(index) => index * 64 + 64 - u64::from(self.word(index).leading_zeros()),
            None => 0,
        }
    }

    /// Verifies invariants 1 to 3.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (name, words) in [("used", &self.used), ("open", &self.open)] {
            words.check().map_err(|broken| format!("invariant 1: {name}: {broken}"))?;
        }
        for index in 0..self.words() {
            let sets = (self.used.contains(index), self.open.contains(index));
            let bits = self.bits[at(index)];
            if sets == (false, false) || sets == (true, true) && (bits == 0 || bits == !0) {
                return Err(format!(
                    "invariant 2: word {index}, {bits:#x}, is in (used, open): {sets:?}"
                ));
            }
        }
        let excess = self.words() * 64 - self.count;
        if excess > 0 && u64::from(self.word(self.words() - 1).leading_ones()) < excess {
            return Err("invariant 3: a page after the region's end is free".to_string());
        }
        Ok(())
    }
}

/// `number` as an index.
#[inline]
#[allow(
    clippy::cast_possible_truncation,
    reason = "words that usize can't index are never created"
)]
const fn at(number: u64) -> usize {
    number as usize
}
