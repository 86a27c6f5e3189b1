//! The pages of a region that live chunks cover. A placement that overlaps a chunk is found before
//! it is booked.
//!
//! A bitmap has one bit for each page. A chunk of up to 57 pages lies within eight bytes, wherever
//! it starts, so testing it is testing one word. A chunk of up to 313 pages lies within five words,
//! which are tested together. A larger chunk takes a pass over its words. The system zeroes the
//! memory lazily: pages that no chunk has covered cost nothing.
//!
//! A region of more than [`MAX_BITMAP_PAGES`] has a search tree instead. It has few chunks, or
//! chunks so large that a pass over their bits would be slow.

use std::collections::BTreeMap;

/// Regions up to this size (64 GiB) have a bitmap, of 2 MiB at most.
const MAX_BITMAP_PAGES: u64 = 1 << 24;

/// Pages are counted from the region's start.
#[derive(Debug)]
pub(super) enum Occupancy {
    Bits(Bits),
    /// From first page to end page.
    Tree(BTreeMap<u64, u64>),
}

impl Occupancy {
    /// For a region of `pages` pages.
    pub(super) fn new(pages: u64) -> Self {
        if pages <= MAX_BITMAP_PAGES {
            // A window may start at any byte, also at that of the last page.
            Occupancy::Bits(Bits(vec![0; pages as usize / 8 + 1 + WINDOW]))
        } else {
            Occupancy::Tree(BTreeMap::new())
        }
    }

    /// Marks `pages` pages from `first` on, which lie in the region, unless one of them is marked
    /// already. Returns whether it marked them.
    #[must_use]
    #[inline(always)]
    pub(super) fn take(&mut self, first: u64, pages: u64) -> bool {
        match self {
            Occupancy::Bits(bits) => bits.take(first as usize, pages as usize),
            Occupancy::Tree(tree) => take_in_tree(tree, first, pages),
        }
    }

    /// Whether page `page` is marked.
    pub(super) fn is_taken(&self, page: u64) -> bool {
        match self {
            Occupancy::Bits(Bits(bytes)) => bytes[page as usize / 8] >> (page % 8) & 1 == 1,
            Occupancy::Tree(tree) => {
                tree.range(..=page).next_back().is_some_and(|(_, end)| page < *end)
            }
        }
    }

    /// Whether none of the `pages` pages from `first` on is marked.
    pub(super) fn is_free(&self, first: u64, pages: u64) -> bool {
        !self.is_taken(first) && self.next(first, first + pages, true).is_none()
    }

    /// The maximal ranges of unmarked pages below `pages`, each as first page and length, in
    /// ascending order. Time is linear in words, or marked ranges, plus ranges found.
    pub(super) fn holes(&self, pages: u64) -> impl Iterator<Item = (u64, u64)> {
        let mut from = 0;
        std::iter::from_fn(move || {
            let first = self.next(from, pages, false)?;
            let end = self.next(first, pages, true).unwrap_or(pages);
            from = end;
            Some((first, end - first))
        })
    }

    /// The first page from `from` on and below `pages` that is marked, or unmarked.
    fn next(&self, from: u64, pages: u64, marked: bool) -> Option<u64> {
        let found = match self {
            Occupancy::Bits(bits) => bits.next(from, pages, marked)?,
            Occupancy::Tree(tree) if marked => *tree.range(from..).next()?.0,
            Occupancy::Tree(tree) => {
                let mut free =
                    tree.range(..=from).next_back().map_or(from, |(_, end)| from.max(*end));
                while let Some(end) = tree.get(&free) {
                    free = *end;
                }
                free
            }
        };
        (found < pages).then_some(found)
    }

    /// Unmarks the range that one [`take`](Self::take) marked.
    #[inline(always)]
    pub(super) fn release(&mut self, first: u64, pages: u64) {
        match self {
            Occupancy::Bits(bits) => bits.release(first as usize, pages as usize),
            Occupancy::Tree(tree) => release_in_tree(tree, first),
        }
    }
}

/// Out of line, so that the callers save no registers for it.
#[inline(never)]
fn take_in_tree(tree: &mut BTreeMap<u64, u64>, first: u64, pages: u64) -> bool {
    let end = first + pages;
    let below = tree.range(..end).next_back();
    let free = below.is_none_or(|(_, end)| *end <= first);
    if free {
        tree.insert(first, end);
    }
    free
}

#[inline(never)]
fn release_in_tree(tree: &mut BTreeMap<u64, u64>, first: u64) {
    tree.remove(&first);
}

/// The bytes of a word.
const WORD: usize = 8;

/// The most pages that lie within a word, wherever in its first byte they start.
const NEAR: usize = 8 * WORD - 7;

/// The bytes of a window.
const WINDOW: usize = 5 * WORD;

/// The most pages that lie within a window, wherever in its first byte they start: over 1 MiB.
const MIDDLE: usize = 8 * WINDOW - 7;

/// Row r has a window of one bits, r more of them, and zeros. What starts n bytes before the end of
/// the window begins with 8n + r one bits.
static ONES: [[u8; 2 * WINDOW + 1]; 8] = {
    let mut rows = [[0; 2 * WINDOW + 1]; 8];
    let mut row = 0;
    while row < 8 {
        let mut byte = 0;
        while byte < WINDOW {
            rows[row][byte] = u8::MAX;
            byte += 1;
        }
        rows[row][WINDOW] = (1 << row) - 1;
        row += 1;
    }
    rows
};

/// Bit p, counted from the lowest of the first byte, is set if and only if a chunk covers page p.
#[derive(Debug)]
pub(super) struct Bits(Vec<u8>);

impl Bits {
    /// The first page from `from` on that is marked, or unmarked, if it is below `pages`.
    fn next(&self, from: u64, pages: u64, marked: bool) -> Option<u64> {
        let (words, _) = self.0.as_chunks::<WORD>();
        let wanted = |word: &[u8; WORD]| {
            let word = u64::from_le_bytes(*word);
            if marked { word } else { !word }
        };
        let at = (from / 64) as usize;
        let first = wanted(words.get(at)?) & u64::MAX << (from % 64);
        let rest = words[at + 1..].iter().map(wanted);
        let (word, bits) =
            std::iter::once(first).chain(rest).enumerate().find(|(_, bits)| *bits != 0)?;
        let found = (at + word) as u64 * 64 + u64::from(bits.trailing_zeros());
        (found < pages).then_some(found)
    }

    #[inline(always)]
    fn take(&mut self, first: usize, pages: usize) -> bool {
        if pages > NEAR {
            return self.take_large(first, pages);
        }
        let (word, bits) = self.near(first, pages);
        let there = u64::from_le_bytes(*word);
        let free = there & bits == 0;
        if free {
            *word = (there | bits).to_le_bytes();
        }
        free
    }

    #[inline(always)]
    fn release(&mut self, first: usize, pages: usize) {
        if pages > NEAR {
            return self.release_large(first, pages);
        }
        let (word, bits) = self.near(first, pages);
        *word = (u64::from_le_bytes(*word) & !bits).to_le_bytes();
    }

    #[inline(never)]
    fn take_large(&mut self, first: usize, pages: usize) -> bool {
        if pages <= MIDDLE { self.take_middle(first, pages) } else { self.take_far(first, pages) }
    }

    #[inline(never)]
    fn release_large(&mut self, first: usize, pages: usize) {
        if pages <= MIDDLE {
            self.release_middle(first, pages);
        } else {
            self.flip_far(first, pages);
        }
    }

    /// The word that has up to [`NEAR`] pages, and their bits in it.
    #[inline(always)]
    fn near(&mut self, first: usize, pages: usize) -> (&mut [u8; WORD], u64) {
        let bits = u64::MAX >> (64 - pages) << (first % 8);
        let word = self.0[first / 8..].first_chunk_mut();
        (word.expect("the bitmap ends a window after the last page"), bits)
    }

    /// The window that has up to [`MIDDLE`] pages, and their bits in it.
    fn middle(&mut self, first: usize, pages: usize) -> (&mut [[u8; WORD]], [u64; WINDOW / WORD]) {
        let end = first % 8 + pages;
        let (ones, _) = ONES[end % 8][WINDOW - end / 8..][..WINDOW].as_chunks();
        let mut bits = [0; WINDOW / WORD];
        for (bits, ones) in bits.iter_mut().zip(ones) {
            *bits = u64::from_le_bytes(*ones);
        }
        bits[0] &= u64::MAX << (first % 8);
        let (words, _) = self.0[first / 8..][..WINDOW].as_chunks_mut();
        (words, bits)
    }

    /// Tests the whole window, however much of it the chunk covers: a loop of variable length would
    /// mispredict its exit.
    fn take_middle(&mut self, first: usize, pages: usize) -> bool {
        let (words, bits) = self.middle(first, pages);
        let mut taken = 0;
        for (word, bits) in words.iter().zip(bits) {
            taken |= u64::from_le_bytes(*word) & bits;
        }
        let free = taken == 0;
        if free {
            for (word, bits) in words.iter_mut().zip(bits) {
                *word = (u64::from_le_bytes(*word) | bits).to_le_bytes();
            }
        }
        free
    }

    fn release_middle(&mut self, first: usize, pages: usize) {
        let (words, bits) = self.middle(first, pages);
        for (word, bits) in words.iter_mut().zip(bits) {
            *word = (u64::from_le_bytes(*word) & !bits).to_le_bytes();
        }
    }

    /// The words of more than [`MIDDLE`] pages; their bits in the first and in the last word.
    fn far(&mut self, first: usize, pages: usize) -> (&mut [[u8; WORD]], u64, u64) {
        let end = first % 8 + pages;
        let count = end.div_ceil(64);
        let (words, _) = self.0[first / 8..].as_chunks_mut();
        (&mut words[..count], u64::MAX << (first % 8), u64::MAX >> (count * 64 - end))
    }

    fn take_far(&mut self, first: usize, pages: usize) -> bool {
        let free = match self.far(first, pages) {
            ([], ..) => true,
            ([only], first, last) => u64::from_le_bytes(*only) & first & last == 0,
            ([head, whole @ .., tail], first, last) => {
                let ends = u64::from_le_bytes(*head) & first | u64::from_le_bytes(*tail) & last;
                // Without an early exit, so that the loop is vectorised.
                whole.iter().fold(ends, |any, word| any | u64::from_le_bytes(*word)) == 0
            }
        };
        if free {
            self.flip_far(first, pages);
        }
        free
    }

    /// Inverts the bits of the pages, which are all marked or all unmarked.
    fn flip_far(&mut self, first: usize, pages: usize) {
        let flip = |word: &mut [u8; WORD], bits: u64| {
            *word = (u64::from_le_bytes(*word) ^ bits).to_le_bytes();
        };
        match self.far(first, pages) {
            ([], ..) => {}
            ([only], first, last) => flip(only, first & last),
            ([head, whole @ .., tail], first, last) => {
                flip(head, first);
                // `fill` would be a call of `memset`, which is slower for the few words that most
                // chunks have.
                whole.iter_mut().for_each(|word| flip(word, u64::MAX));
                flip(tail, last);
            }
        }
    }
}

#[cfg(test)]
mod tests;
