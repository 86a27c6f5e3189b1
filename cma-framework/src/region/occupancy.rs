//! Which pages of a region live chunks cover, so that a faulty placement is noticed before it is booked.
//!
//! Two bits a page, side by side, say whether a chunk *starts* at it and whether one *ends* with it. Chunks are disjoint, so
//! the first such edge at or above a page tells everything: a range is free exactly when that edge lies behind the range and
//! is a start. The words that have an edge are marked in a 64-ary tree of summaries, so looking costs a step a level,
//! whatever the size of chunks and region. The memory is zeroed lazily by the system: what no chunk ever touched costs
//! nothing.
//!
//! A region of more than [`MAX_BITMAP_PAGES`] keeps a search tree instead.

use cma_api::PageRange;
use std::collections::BTreeMap;

/// Regions up to this size (8 TiB) have bits; their worst case is 512 MiB of them.
const MAX_BITMAP_PAGES: u64 = 1 << 31;

#[derive(Debug)]
pub(super) struct Occupancy {
    region: PageRange,
    chunks: Chunks,
}

#[derive(Debug)]
enum Chunks {
    Edges(Edges),
    /// From first page to end page.
    Tree(BTreeMap<u64, u64>),
}

impl Occupancy {
    pub(super) fn new(region: PageRange) -> Self {
        let pages = region.pages().get();
        let chunks = if pages <= MAX_BITMAP_PAGES {
            Chunks::Edges(Edges::new(usize::try_from(pages).unwrap_or_default()))
        } else {
            Chunks::Tree(BTreeMap::new())
        };
        Occupancy { region, chunks }
    }

    /// Marks `range`, which lies in the region, unless a marked one overlaps it.
    #[must_use]
    #[inline]
    pub(super) fn take(&mut self, range: PageRange) -> bool {
        match &mut self.chunks {
            Chunks::Edges(edges) => {
                let (first, last) = offsets(self.region, range);
                edges.is_free(first, last) && {
                    edges.mark(first, last);
                    true
                }
            }
            Chunks::Tree(tree) => {
                let below = tree.range(..range.end_page()).next_back();
                below.is_none_or(|(_, end)| *end <= range.first_page()) && {
                    tree.insert(range.first_page(), range.end_page());
                    true
                }
            }
        }
    }

    /// Whether a marked range starts at page `first` of the region.
    pub(super) fn starts_at(&self, first: u64) -> bool {
        match &self.chunks {
            Chunks::Edges(edges) => {
                let (first, _) = offsets(self.region, PageRange::from_pages(first, 1));
                edges.words[first / PAGES_A_WORD] >> (first % PAGES_A_WORD * 2) & 1 == 1
            }
            Chunks::Tree(tree) => tree.contains_key(&first),
        }
    }

    /// Unmarks a range that was marked.
    #[inline]
    pub(super) fn release(&mut self, range: PageRange) {
        match &mut self.chunks {
            Chunks::Edges(edges) => {
                let (first, last) = offsets(self.region, range);
                edges.unmark(first, last);
            }
            Chunks::Tree(tree) => {
                tree.remove(&range.first_page());
            }
        }
    }
}

/// First and last page of `range`, counted from the start of `region`.
#[inline]
fn offsets(region: PageRange, range: PageRange) -> (usize, usize) {
    let first = range.first_page() - region.first_page();
    (first as usize, (first + range.pages().get() - 1) as usize)
}

const PAGES_A_WORD: usize = 32;

/// How many words are looked at one by one before the summaries are.
const NEAR: usize = 5;

/// Whether the first edge in `word`, which is word `at`, is a start behind page `last`.
#[inline]
fn starts_behind(at: usize, word: u64, last: usize) -> bool {
    let edge = word.trailing_zeros() as usize;
    edge.is_multiple_of(2) && at * PAGES_A_WORD + edge / 2 > last
}

#[derive(Debug)]
struct Edges {
    /// Bit 2p is set exactly when a chunk starts at page p, bit 2p + 1 exactly when one ends with it.
    words: Vec<u64>,
    /// Bit w of level 0 is set exactly when word w is not 0; bit v of level n + 1 exactly when word v of level n is not 0.
    summaries: Vec<Vec<u64>>,
}

impl Edges {
    fn new(pages: usize) -> Self {
        let mut len = pages.div_ceil(PAGES_A_WORD);
        let words = vec![0; len];
        let mut summaries = Vec::new();
        while len > 1 {
            len = len.div_ceil(64);
            summaries.push(vec![0; len]);
        }
        Edges { words, summaries }
    }

    #[inline]
    fn is_free(&self, first: usize, last: usize) -> bool {
        // The next words are likely to have an edge; the summaries are for large holes.
        let mut at = first / PAGES_A_WORD;
        let mut word = self.words[at] & u64::MAX << (first % PAGES_A_WORD * 2);
        let near = self.words.len().min(at + NEAR);
        while word == 0 {
            at += 1;
            if at >= near {
                return self.is_free_beyond(at, last);
            }
            word = self.words[at];
        }
        starts_behind(at, word, last)
    }

    /// The same, when there is no edge below word `from`.
    #[cold]
    fn is_free_beyond(&self, from: usize, last: usize) -> bool {
        self.next_word(from).is_none_or(|at| starts_behind(at, self.words[at], last))
    }

    /// The first word from `from` on that has an edge.
    fn next_word(&self, from: usize) -> Option<usize> {
        let mut at = from;
        for (level, summary) in self.summaries.iter().enumerate() {
            let word = *summary.get(at / 64)? & (u64::MAX << (at % 64));
            if word != 0 {
                let mut found = at / 64 * 64 + word.trailing_zeros() as usize;
                for below in self.summaries[..level].iter().rev() {
                    found = found * 64 + below[found].trailing_zeros() as usize;
                }
                return Some(found);
            }
            at = at / 64 + 1;
        }
        None
    }

    #[inline]
    fn mark(&mut self, first: usize, last: usize) {
        self.set(first * 2);
        self.set(last * 2 + 1);
    }

    #[inline]
    fn unmark(&mut self, first: usize, last: usize) {
        self.clear(first * 2);
        self.clear(last * 2 + 1);
    }

    #[inline]
    fn set(&mut self, edge: usize) {
        let word = &mut self.words[edge / 64];
        let first = *word == 0;
        *word |= 1 << (edge % 64);
        if first {
            self.summarise(edge / 64);
        }
    }

    #[inline]
    fn clear(&mut self, edge: usize) {
        let word = &mut self.words[edge / 64];
        *word &= !(1 << (edge % 64));
        if *word == 0 {
            self.unsummarise(edge / 64);
        }
    }

    /// Says upwards that word `word` has an edge, as far as it isn't known.
    fn summarise(&mut self, word: usize) {
        let mut at = word;
        for summary in &mut self.summaries {
            let word = &mut summary[at / 64];
            let known = *word != 0;
            *word |= 1 << (at % 64);
            if known {
                break;
            }
            at /= 64;
        }
    }

    /// Says upwards that word `word` has no edge any more.
    fn unsummarise(&mut self, word: usize) {
        let mut at = word;
        for summary in &mut self.summaries {
            summary[at / 64] &= !(1 << (at % 64));
            if summary[at / 64] != 0 {
                break;
            }
            at /= 64;
        }
    }
}

#[cfg(test)]
mod tests;
