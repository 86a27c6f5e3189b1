//! Which pages of a region live chunks cover, so that a faulty placement is noticed before it is
//! booked.
//!
//! One bit a page says whether a chunk covers it. A chunk of up to 57 pages lies within eight
//! bytes, wherever it starts, so looking at it is looking at one word; one of up to 313 pages
//! within five words, which are looked at together; a larger one is a pass over its words. The
//! memory is zeroed lazily by the system: what no chunk ever touched costs nothing.
//!
//! A region of more than [`MAX_BITMAP_PAGES`] keeps a search tree instead: its chunks are few, or
//! large enough for the pass to be felt.

use std::collections::BTreeMap;

/// Regions up to this size (64 GiB) have bits: 2 MiB of them at most.
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
            // Windows begin in any byte, also in that of the last page.
            Occupancy::Bits(Bits(vec![0; pages as usize / 8 + 1 + WINDOW]))
        } else {
            Occupancy::Tree(BTreeMap::new())
        }
    }

    /// Marks `pages` pages from `first` on, which lie in the region, unless one of them is marked.
    #[must_use]
    #[inline]
    pub(super) fn take(&mut self, first: u64, pages: u64) -> bool {
        match self {
            Occupancy::Bits(bits) => bits.take(first as usize, pages as usize),
            Occupancy::Tree(tree) => {
                let end = first + pages;
                let below = tree.range(..end).next_back();
                below.is_none_or(|(_, end)| *end <= first) && {
                    tree.insert(first, end);
                    true
                }
            }
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

    /// The maximal ranges of pages below `pages` that are not marked, each as its first page and
    /// its length, ascending. Takes as long as there are words, or marked ranges, and ranges found.
    pub(super) fn holes(&self, pages: u64) -> impl Iterator<Item = (u64, u64)> {
        let mut from = 0;
        std::iter::from_fn(move || {
            let first = self.next(from, pages, false)?;
            let end = self.next(first, pages, true).unwrap_or(pages);
            from = end;
            Some((first, end - first))
        })
    }

    /// The first page from `from` on and below `pages` that is marked, or that isn't.
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

    /// Unmarks what was marked at a time.
    #[inline]
    pub(super) fn release(&mut self, first: u64, pages: u64) {
        match self {
            Occupancy::Bits(bits) => bits.release(first as usize, pages as usize),
            Occupancy::Tree(tree) => {
                tree.remove(&first);
            }
        }
    }
}

/// In bytes.
const WORD: usize = 8;

/// The pages of a chunk that lies within a word, wherever in its first byte it starts.
const NEAR: usize = 8 * WORD - 7;

/// In bytes.
const WINDOW: usize = 5 * WORD;

/// The same of a window: a MiB and some.
const MIDDLE: usize = 8 * WINDOW - 7;

/// Row r has a window of ones, r more ones, and zeros: what begins n bytes before the window's end
/// begins with 8n + r ones.
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

/// Bit p, counted from the lowest of the first byte, is set exactly when a chunk covers page p of
/// the region.
#[derive(Debug)]
pub(super) struct Bits(Vec<u8>);

impl Bits {
    /// The first page from `from` on that is marked, or that isn't, if it is below `pages`.
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

    #[inline]
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

    #[inline]
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

    /// The word and the bits in it of up to [`NEAR`] pages.
    #[inline]
    fn near(&mut self, first: usize, pages: usize) -> (&mut [u8; WORD], u64) {
        let bits = u64::MAX >> (64 - pages) << (first % 8);
        let word = self.0[first / 8..].first_chunk_mut();
        (word.expect("a window more than there are bytes with pages"), bits)
    }

    /// The window of up to [`MIDDLE`] pages, and their bits in it.
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

    /// Looks at the whole window, however much of it the chunk covers: where a loop ends, nobody
    /// could foresee.
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

    /// The words of more pages; which bits of the first are theirs, and which of the last.
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
                // Without looking after each word whether that was it: it takes several words at a
                // time.
                whole.iter().fold(ends, |any, word| any | u64::from_le_bytes(*word)) == 0
            }
        };
        if free {
            self.flip_far(first, pages);
        }
        free
    }

    /// Makes all bits what they are not; they are alike.
    fn flip_far(&mut self, first: usize, pages: usize) {
        let flip = |word: &mut [u8; WORD], bits: u64| {
            *word = (u64::from_le_bytes(*word) ^ bits).to_le_bytes();
        };
        match self.far(first, pages) {
            ([], ..) => {}
            ([only], first, last) => flip(only, first & last),
            ([head, whole @ .., tail], first, last) => {
                flip(head, first);
                // Filling them would be a call, which takes longer for the few words that most
                // chunks have.
                whole.iter_mut().for_each(|word| flip(word, u64::MAX));
                flip(tail, last);
            }
        }
    }
}

#[cfg(test)]
mod tests;
