//! Which pages of a region live chunks cover, so that a faulty placement is noticed before it is booked.
//!
//! One bit a page says whether a chunk covers it. Looking at a chunk of up to 64 pages is looking at two words, without a branch
//! on where in them it lies; a larger one is a pass over its words, some 10 ns for each 16 MiB of it. The memory is zeroed lazily by
//! the system: what no chunk ever touched costs nothing.
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
    /// Bit p is set exactly when a chunk covers page p of the region. There is one word more than that takes.
    Bits(Vec<u64>),
    /// From first page to end page.
    Tree(BTreeMap<u64, u64>),
}

impl Occupancy {
    pub(super) fn new(region: PageRange) -> Self {
        let pages = region.pages().get();
        let taken = if pages <= MAX_BITMAP_PAGES {
            Taken::Bits(vec![0; pages as usize / 64 + 2])
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
            Taken::Bits(words) => {
                let (word, place) = place(self.region, range);
                match (place, &mut words[word..]) {
                    (Place::Near(low, high), [first, second, ..]) => {
                        let free = *first & low | *second & high == 0;
                        if free {
                            *first |= low;
                            *second |= high;
                        }
                        free
                    }
                    (Place::Far(far), words) => far.take(words),
                    (Place::Near(..), _) => false,
                }
            }
            Taken::Tree(tree) => {
                let below = tree.range(..range.end_page()).next_back();
                below.is_none_or(|(_, end)| *end <= range.first_page()) && {
                    tree.insert(range.first_page(), range.end_page());
                    true
                }
            }
        }
    }

    /// Unmarks a range that was marked.
    #[inline]
    pub(super) fn release(&mut self, range: PageRange) {
        match &mut self.taken {
            Taken::Bits(words) => {
                let (word, place) = place(self.region, range);
                match (place, &mut words[word..]) {
                    (Place::Near(low, high), [first, second, ..]) => {
                        *first &= !low;
                        *second &= !high;
                    }
                    (Place::Far(far), words) => far.release(words),
                    (Place::Near(..), _) => {}
                }
            }
            Taken::Tree(tree) => {
                tree.remove(&range.first_page());
            }
        }
    }
}

/// The bits of a range, from the word on that has its first page.
enum Place {
    /// In the first word and the second.
    Near(u64, u64),
    Far(Far),
}

/// More bits than that.
struct Far {
    /// Those of the first word.
    head: u64,
    /// How many whole words follow.
    whole: usize,
    /// Those of the word behind them; perhaps none.
    tail: u64,
}

/// The word of the range's first page, and its bits from there.
#[inline]
fn place(region: PageRange, range: PageRange) -> (usize, Place) {
    let (first, pages) = (range.first_page() - region.first_page(), range.pages().get());
    let shift = first % 64;
    let bits = if pages <= 64 {
        let bits = u128::from(u64::MAX.checked_shr(64 - pages as u32).unwrap_or(0)) << shift;
        Place::Near(bits as u64, (bits >> 64) as u64)
    } else {
        let behind = pages - (64 - shift);
        Place::Far(Far {
            head: u64::MAX << shift,
            whole: behind as usize / 64,
            tail: (1 << (behind % 64)) - 1,
        })
    };
    ((first / 64) as usize, bits)
}

impl Far {
    /// The parts of `words`, whose first is that of the range's first page.
    fn parts<'a>(&self, words: &'a mut [u64]) -> (&'a mut u64, &'a mut [u64], &'a mut u64) {
        let (head, rest) = words.split_at_mut(1);
        let (whole, rest) = rest.split_at_mut(self.whole);
        (&mut head[0], whole, &mut rest[0])
    }

    fn take(&self, words: &mut [u64]) -> bool {
        let (head, whole, tail) = self.parts(words);
        // All of it, without looking after each word whether it is over: that takes several words at a time.
        let any = whole.iter().fold(*head & self.head | *tail & self.tail, |any, word| any | word);
        if any == 0 {
            *head |= self.head;
            whole.fill(u64::MAX);
            *tail |= self.tail;
        }
        any == 0
    }

    fn release(&self, words: &mut [u64]) {
        let (head, whole, tail) = self.parts(words);
        *head &= !self.head;
        whole.fill(0);
        *tail &= !self.tail;
    }
}

#[cfg(test)]
mod tests;
