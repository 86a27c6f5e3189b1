//! Bitmap: first fit over a hierarchy of bits.
//!
//! A bit a page says what is taken. Everything else is an index over words of 64 such bits that
//! leads to the lowest hole that can hold a request without looking at what lies before it.
//!
//! # Words
//!
//! Pages are counted from the region's start; only alignment looks at absolute page numbers. A
//! *word* is 64 pages that begin at a multiple of 64. A hole *begins in* the word that its first
//! page lies in, however far it reaches. The *class* of a length rounds it down to three
//! significant bits: 1 to 7 pages are a class each, and from there on four classes make an octave.
//!
//! # Structures
//!
//! - `bits`, a bit a page: set for a taken one. It holds for words that have both taken and free
//!   pages. Of the others it isn't looked at, so that a large chunk touches no more than the two
//!   words at its ends.
//! - `used` and `open`, trees of bits over words ([`BitTree`]): those with a taken page and those
//!   with a free one. They lead to the ends of a hole, however long, and to the first free page.
//! - `longest`, a byte a word under a tree of maxima: a bound on the class of the holes that begin
//!   in the word. It leads to the next word that may hold a request.
//! - `reaches`, for each alignment that needs one, a number for each word, or for each aligned
//!   place where these are further apart, under a tree of maxima ([`Maxima`]): a bound on the
//!   pages that a chunk so aligned can have. A hole counts where its first aligned place is. The
//!   tree leads to the lowest place that may hold a request.
//!
//! # Invariants
//!
//! [`check`](Allocator::check) asserts them by number.
//!
//! 1. The summaries of both trees of bits agree with their bits.
//! 2. Every word is in `used` or in `open`; one in both has both taken and free pages in `bits`.
//! 3. The bits of the last word that lie past the region's end are taken.
//! 4. No hole that begins in a word has a class above the word's in `longest`. (It may be below:
//!    then the next search that believes the bound puts it right.)
//! 5. Every node of `longest` holds the maxima of the nodes below, and so does every node of
//!    `reaches`.
//! 6. In each tree of `reaches` the bound where a hole's first aligned place lies is not below the
//!    pages from there to the hole's end.
//!
//! # How it works
//!
//! *Allocate* first looks at the holes that begin in the first open word: where all chunks are of
//! one size, the place is there. If not, it asks `longest` for the words from the lowest up in
//! which a hole of the request's class or above may begin. The first such hole that holds the
//! aligned request is the place: first fit, exactly. Words that are found without one get their
//! true class. What remains behind the chunk is a hole that begins in the chunk's last word or the
//! one after it, whose bound is raised if need be. *Free* finds the ends of the hole that arises
//! and raises the bound where it begins.
//!
//! A class says nothing about alignment, and little about the lengths within it. A search can look
//! into a word with a true bound in vain, and the next search looks into it again. The allocator
//! counts such looks, and takes off [`USUAL`] for each search. When the count reaches [`VAIN`], the
//! search that is under way makes the tree of `reaches` for its alignment, which may be one page.
//! Searches with this alignment then ask the tree. It counts pages and looks only at aligned
//! places, so it is wrong only where it is outdated. Ordinary loads stay below the count and pay
//! for no tree. As loads change, a tree is dropped when as many holes arose as the region has
//! pages. If it is still needed, the count soon makes it again. Only alignments with more than
//! [`FEW`] cells in the region need a tree. For the others each cell is looked at.
//!
//! # Cost
//!
//! With `n` pages, a request that is served from the first open word, and a free, take O(log64 n)
//! steps. Any other request, of whatever size and alignment and however the holes lie, takes
//! O(log16 n) for each place that it looks at:
//!
//! - the right one;
//! - outdated ones before it, which are corrected at once. Each chunk that is placed or freed makes
//!   at most two bounds outdated in `longest` and in each tree, so there are no more of them than
//!   chunks were placed and freed before;
//! - without a tree for its alignment, others in vain: at most [`VAIN`], and [`USUAL`] for each
//!   request over a long run; or [`USUAL`] and [`FEW`], if the alignment has few cells.
//!
//! So the cost of a long run grows with the logarithm, and a single request can have to correct
//! what many before it left behind. Making a tree takes a step for each 64 pages and O(log n) for
//! each hole, at most once for each alignment while as many holes arise as the region has pages.
//! As long as there is a tree, every placing and freeing takes O(log16 n) more, mostly one step;
//! there are at most log2 n trees. A chunk of `m` pages takes m / 4096 more. Nothing depends on the
//! number of chunks.
//! [`largest_request`](Allocator::largest_request) looks at the words whose bound is not below the
//! largest hole so far: in the worst case, all holes alike, at every word.
//!
//! Memory is 1.17 bits a page: 37 KiB for a gigabyte, 37 MiB for a terabyte. It is zeroed memory
//! from the system, which costs nothing until it is touched, but for a bit a word. The tree of an
//! alignment takes 0.53 bits a page more, 17 KiB for a gigabyte; above 256 KiB half as much for
//! each doubling; all trees that there can be together 4.3 bits a page. A tree for which there is
//! no memory is not made, and the search looks at all cells.
//!
//! # What it leaves out
//!
//! Best fit, and records of chunks: freeing half a chunk, or two neighbours at once, is not
//! noticed.
#![forbid(unsafe_code)]

mod pages;
mod peaks;
mod reaches;
mod search;
mod word;

use cma_api::{
    Allocator, AllocatorInfo, CannotAdopt, InitError, NoRoom, NotMine, PageRange, Params,
    Placement, Request, Tag,
};
use cma_bits::TooLarge;
#[cfg(doc)]
use cma_bits::{BitTree, Maxima};
use pages::Pages;
use peaks::{Peaks, class_of};
use reaches::Reach;

/// How many words searches look into in vain, beyond [`USUAL`] for each, before one of them makes
/// the tree of its alignment.
pub const VAIN: u64 = 512;

/// How many words a search may look into in vain: the upkeep of a tree would cost about as much.
pub const USUAL: u64 = 8;

/// How many cells an alignment may have to do without a tree.
pub const FEW: u64 = 64;

/// The bitmap allocator. See the crate's documentation.
#[derive(Debug)]
pub struct Bitmap {
    region: PageRange,
    pages: Pages,
    longest: Peaks,
    reaches: Vec<Reach>,
    /// How many words with a true bound searches looked into in vain, less [`USUAL`] for each
    /// search, but not below 0.
    vain: u64,
    /// How many words were looked into for a place.
    #[cfg(test)]
    looks: std::cell::Cell<u64>,
}

/// Pages from `first` to `end - 1`, counted from the region's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first: u64,
    end: u64,
}

impl Span {
    fn pages(self) -> u64 {
        self.end - self.first
    }
}

impl Bitmap {
    fn empty(region: PageRange) -> Result<Self, TooLarge> {
        let pages = Pages::new(region.pages().get())?;
        let mut longest = Peaks::new(pages.words())?;
        longest.raise(0, class_of(pages.count()));
        Ok(Bitmap {
            region,
            pages,
            longest,
            reaches: Vec::new(),
            vain: 0,
            #[cfg(test)]
            looks: std::cell::Cell::new(0),
        })
    }

    /// `range` counted from the region's start, if it has a page and lies in the region.
    fn span(&self, range: PageRange) -> Option<Span> {
        let first = range.first_page().wrapping_sub(self.region.first_page());
        let lies_inside = range.pages().get() != 0 && range.within(self.region);
        lies_inside.then(|| Span { first, end: first + range.pages().get() })
    }

    fn range(&self, span: Span) -> PageRange {
        PageRange::from_pages(self.region.first_page() + span.first, span.pages())
    }

    /// The free pages of `word`, less those of a hole that began before it.
    fn begun_in(&self, word: u64) -> u64 {
        let free = !self.pages.word(word);
        let goes_on = word > 0 && self.pages.word(word - 1) >> 63 == 0;
        // Adding 1 changes the lowest run of set bits that begins at bit 0, and no other bit that
        // is set.
        free & free.wrapping_add(u64::from(goes_on))
    }

    /// The hole that begins in `word`, of which `begun` are the pages that do, and reaches its end.
    fn last_hole(&self, word: u64, begun: u64) -> Option<Span> {
        let pages = u64::from(begun.leading_ones());
        (pages > 0).then(|| Span {
            first: word * 64 + 64 - pages,
            end: self.pages.free_to(word * 64 + 64),
        })
    }

    /// The lowest place for `pages` pages, aligned, in the holes that begin in `word`.
    #[inline]
    fn place_in(&self, word: u64, pages: u64, alignment: u64) -> Option<Span> {
        self.place_among(word, self.begun_in(word), pages, alignment)
    }

    /// The same in the holes that have `free`, pages of `word`.
    #[inline]
    fn place_among(&self, word: u64, free: u64, pages: u64, alignment: u64) -> Option<Span> {
        #[cfg(test)]
        self.looks.set(self.looks.get() + 1);
        let base = self.region.first_page();
        if pages <= 64 {
            let places = word::runs_of(pages, free) & word::aligned(base + word * 64, alignment);
            if places != 0 {
                let first = word * 64 + u64::from(places.trailing_zeros());
                return Some(Span { first, end: first + pages });
            }
        }
        let hole = self.last_hole(word, free)?;
        // Neither sum can wrap: all terms are at most 2^52.
        let first = ((base + hole.first + alignment - 1) & !(alignment - 1)) - base;
        (first + pages <= hole.end).then_some(Span { first, end: first + pages })
    }

    /// Visits every hole in ascending order.
    fn each_hole(&self, mut visit: impl FnMut(Span)) {
        let mut next = self.pages.next_open(0);
        while let Some(word) = next {
            let mut begun = self.begun_in(word);
            while begun != 0 {
                let first = word * 64 + u64::from(begun.trailing_zeros());
                visit(Span { first, end: self.pages.free_to(first) });
                // Adding the lowest set bit carries through the run that begins with it.
                begun &= begun.wrapping_add(begun & begun.wrapping_neg());
            }
            next = self.pages.next_open(word + 1);
        }
    }

    /// The pages of the longest hole that begins in `word`.
    fn longest_in(&self, word: u64) -> u64 {
        let begun = self.begun_in(word);
        if begun == 0 {
            return 0;
        }
        self.last_hole(word, begun).map_or(0, Span::pages).max(word::longest_run(!0, begun))
    }

    /// Lowers the bound of `word` to what is true, and answers whether it was higher.
    fn settle(&mut self, word: u64) -> bool {
        self.longest.lower(word, class_of(self.longest_in(word)))
    }

    /// Takes `place`, which is free and part of a hole that begins in `word`.
    fn take(&mut self, place: Span, word: u64) {
        self.pages.take(place.first, place.end);
        // What remains behind the place is a hole that now begins there.
        if place.end / 64 > word || !self.reaches.is_empty() {
            self.begins(place.end);
        }
    }

    /// Takes note that a hole begins at `page`, if it is free.
    fn begins(&mut self, page: u64) {
        let end = self.pages.free_to(page);
        if end > page {
            self.note(Span { first: page, end });
        }
    }

    /// Takes note that there is `hole`.
    #[inline]
    fn note(&mut self, hole: Span) {
        self.longest.raise(hole.first / 64, class_of(hole.pages()));
        if !self.reaches.is_empty() {
            self.note_reaches(hole);
        }
    }

    /// The same in the trees of alignments. A tree that is old enough is dropped.
    #[inline(never)]
    fn note_reaches(&mut self, hole: Span) {
        self.reaches.retain_mut(|reach| reach.note(hole));
    }
}

impl Allocator for Bitmap {
    const INFO: AllocatorInfo = AllocatorInfo {
        name: "bitmap",
        version: env!("CARGO_PKG_VERSION"),
        description: "first fit over a bit a page; least memory, fastest where chunks are single pages",
    };

    fn new(region: PageRange, params: &str) -> Result<Self, InitError> {
        Params::parse(params)?.finish()?;
        if region.pages().get() == 0 || region.end_page() > PageRange::ADDRESS_SPACE_PAGES {
            return Err(InitError::new(format!(
                "the region {region} is no part of an address space"
            )));
        }
        Bitmap::empty(region)
            .map_err(|reason| InitError::new(format!("the region {region} is too large: {reason}")))
    }

    #[inline]
    fn allocate(&mut self, request: &Request) -> Result<Placement, NoRoom> {
        let (pages, alignment) = (request.pages().get(), request.alignment().pages().get());
        let first_open = self.pages.first_open().ok_or(NoRoom)?;
        let place = if pages == 1 && alignment == 1 {
            let first = self.pages.take_first_in(first_open);
            if first & 63 == 63 || !self.reaches.is_empty() {
                self.begins(first + 1);
            }
            Span { first, end: first + 1 }
        } else if let Some(place) = self.place_in(first_open, pages, alignment) {
            self.take(place, first_open);
            place
        } else {
            let (place, word) = self.find(pages, alignment).ok_or(NoRoom)?;
            self.take(place, word);
            self.settle(word);
            place
        };
        Ok(Placement { range: self.range(place), tag: Tag::default() })
    }

    #[inline]
    fn free(&mut self, chunk: Placement) -> Result<(), NotMine> {
        let Some(Span { first, end }) = self.span(chunk.range) else { return Err(NotMine) };
        let (first, end) = self.pages.give(first, end).ok_or(NotMine)?;
        self.note(Span { first, end });
        Ok(())
    }

    fn adopt(&mut self, range: PageRange) -> Result<Tag, CannotAdopt> {
        let Some(place) = self.span(range) else {
            let reason = format!("{range} is empty or not inside the region {}", self.region);
            return Err(CannotAdopt::new(reason));
        };
        let end = self.pages.free_to(place.first);
        if end < place.end {
            let page = self.range(Span { first: end, end: end + 1 });
            return Err(CannotAdopt::new(format!("page {page} of {range} is in use")));
        }
        self.take(place, self.pages.free_from(place.first) / 64);
        Ok(Tag::default())
    }

    fn holes(&self, visit: &mut dyn FnMut(PageRange)) {
        self.each_hole(|hole| visit(self.range(hole)));
    }

    fn largest_request(&self) -> cma_api::Pages {
        let (mut largest, mut from) = (0, 0);
        // A word with a bound below the class of the largest hole so far has none that is larger.
        while let Some(word) = self.longest.next(from, class_of(largest).max(1)) {
            largest = largest.max(self.longest_in(word));
            from = word + 1;
        }
        cma_api::Pages::new(largest)
    }

    fn check(&self) -> Result<(), String> {
        self.pages.check()?;
        for word in 0..self.pages.words() {
            let (bound, longest) = (self.longest.get(word), self.longest_in(word));
            if class_of(longest) > bound {
                return Err(format!(
                    "invariant 4: {longest} pages are free from word {word} on, bound {bound}"
                ));
            }
        }
        self.longest.check().map_err(|broken| format!("invariant 5: {broken}"))?;
        for reach in &self.reaches {
            reach.check_tree().map_err(|broken| format!("invariant 5: {broken}"))?;
            let mut checked = Ok(());
            self.each_hole(|hole| {
                if checked.is_ok() {
                    checked = reach.check(hole);
                }
            });
            checked.map_err(|broken| format!("invariant 6: {broken}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
