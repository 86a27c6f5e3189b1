//! Which pages of a region live chunks cover, so that a faulty placement is noticed before it is booked.
//!
//! One bit a page says whether a chunk covers it. A chunk of up to 57 pages lies within eight bytes, wherever it starts, so looking at
//! it is looking at one word; a larger one is a pass over its words. The memory is zeroed lazily by the
//! system: what no chunk ever touched costs nothing.
//!
//! A region of more than [`MAX_BITMAP_PAGES`] keeps a search tree instead: its chunks are few, or large enough for the pass to
//! be felt.

use cma_api::PageRange;
use std::collections::BTreeMap;

/// Regions up to this size (64 GiB) have bits: 2 MiB of them at most.
const MAX_BITMAP_PAGES: u64 = 1 << 24;

#[derive(Debug)]
pub(super) struct Occupancy {
    region: PageRange,
    taken: Taken,
}

#[derive(Debug)]
enum Taken {
    Bits(Bits),
    /// From first page to end page.
    Tree(BTreeMap<u64, u64>),
}

impl Occupancy {
    pub(super) fn new(region: PageRange) -> Self {
        let pages = region.pages().get();
        let taken = if pages <= MAX_BITMAP_PAGES {
            // Words begin in any byte, also in that of the last page.
            Taken::Bits(Bits(vec![0; pages as usize / 8 + 2 * WORD]))
        } else {
            Taken::Tree(BTreeMap::new())
        };
        Occupancy { region, taken }
    }

    /// Marks `range`, which lies in the region, unless a marked one overlaps it.
    #[must_use]
    #[inline]
    pub(super) fn take(&mut self, range: PageRange) -> bool {
        match &mut self.taken {
            Taken::Bits(bits) => bits.take((range.first_page() - self.region.first_page()) as usize, range),
            Taken::Tree(tree) => {
                let below = tree.range(..range.end_page()).next_back();
                below.is_none_or(|(_, end)| *end <= range.first_page()) && {
                    tree.insert(range.first_page(), range.end_page());
                    true
                }
            }
        }
    }

    /// Whether a marked range covers page `page` of the region.
    pub(super) fn is_taken(&self, page: u64) -> bool {
        match &self.taken {
            Taken::Bits(Bits(bytes)) => {
                let offset = page - self.region.first_page();
                bytes[offset as usize / 8] >> (offset % 8) & 1 == 1
            }
            Taken::Tree(tree) => tree.range(..=page).next_back().is_some_and(|(_, end)| page < *end),
        }
    }

    /// Unmarks a range that was marked.
    #[inline]
    pub(super) fn release(&mut self, range: PageRange) {
        match &mut self.taken {
            Taken::Bits(bits) => {
                bits.release((range.first_page() - self.region.first_page()) as usize, range);
            }
            Taken::Tree(tree) => {
                tree.remove(&range.first_page());
            }
        }
    }
}

/// In bytes.
const WORD: usize = 8;

/// The pages of a chunk that lies within a word, wherever in its first byte it starts.
const NEAR: u64 = 57;

/// Bit p, counted from the lowest of the first byte, is set exactly when a chunk covers page p of the region.
#[derive(Debug)]
struct Bits(Vec<u8>);

impl Bits {
    #[inline]
    fn take(&mut self, first: usize, range: PageRange) -> bool {
        let pages = range.pages().get();
        if pages > NEAR {
            return self.take_far(first, pages as usize);
        }
        let (word, bits) = self.near(first, pages);
        let there = u64::from_le_bytes(*word);
        let free = there & bits == 0;
        if free {
            *word = (there | bits).to_le_bytes();
        }
        free
    }

    #[inline]
    fn release(&mut self, first: usize, range: PageRange) {
        let pages = range.pages().get();
        if pages > NEAR {
            return self.flip_far(first, pages as usize);
        }
        let (word, bits) = self.near(first, pages);
        *word = (u64::from_le_bytes(*word) & !bits).to_le_bytes();
    }

    /// The word and the bits in it of up to [`NEAR`] pages.
    #[inline]
    fn near(&mut self, first: usize, pages: u64) -> (&mut [u8; WORD], u64) {
        let bits = u64::MAX >> (64 - pages) << (first % 8);
        let word = self.0[first / 8..].first_chunk_mut();
        (word.expect("a word more than there are bytes with pages"), bits)
    }

    /// The words of more pages; which bits of the first are theirs, and which of the last.
    fn far(&mut self, first: usize, pages: usize) -> (&mut [[u8; WORD]], u64, u64) {
        let end = first % 8 + pages;
        let count = end.div_ceil(64);
        let (words, _) = self.0[first / 8..].as_chunks_mut();
        (&mut words[..count], u64::MAX << (first % 8), u64::MAX >> (count * 64 - end))
    }

    #[inline(never)]
    fn take_far(&mut self, first: usize, pages: usize) -> bool {
        let free = match self.far(first, pages) {
            ([], ..) => true,
            ([only], first, last) => u64::from_le_bytes(*only) & first & last == 0,
            ([head, whole @ .., tail], first, last) => {
                let ends = u64::from_le_bytes(*head) & first | u64::from_le_bytes(*tail) & last;
                // Without looking after each word whether that was it: it takes several words at a time.
                whole.iter().fold(ends, |any, word| any | u64::from_le_bytes(*word)) == 0
            }
        };
        if free {
            self.flip_far(first, pages);
        }
        free
    }

    /// Makes all bits what they are not; they are alike.
    #[inline(never)]
    fn flip_far(&mut self, first: usize, pages: usize) {
        let flip =
            |word: &mut [u8; WORD], bits: u64| *word = (u64::from_le_bytes(*word) ^ bits).to_le_bytes();
        match self.far(first, pages) {
            ([], ..) => {}
            ([only], first, last) => flip(only, first & last),
            ([head, whole @ .., tail], first, last) => {
                flip(head, first);
                // Filling them would be a call, which takes longer for the few words that most chunks have.
                whole.iter_mut().for_each(|word| flip(word, u64::MAX));
                flip(tail, last);
            }
        }
    }
}

#[cfg(test)]
mod tests;
