//! Bitmap: first fit over a hierarchy of bits.
//!
//! A bit per page marks the pages in use. All other structures are indices over words of 64 such
//! bits. They find the lowest hole that can hold a request without a look at all words below it.
//!
//! # Terms
//!
//! Pages are counted from the region's start; only alignment uses absolute page numbers. A *word*
//! is 64 pages that start at a multiple of 64. A hole *starts in* the word of its first page,
//! however long it is. The *class* of a length rounds it down to three significant bits: 1 to 7
//! pages are a class each, and from there on every octave has four classes.
//!
//! # Structures
//!
//! - `bits`, a bit per page: set for a page in use. It is valid for words with both used and free
//!   pages. For other words it is ignored, so that a large chunk writes only the two words at its
//!   ends.
//! - `used` and `open`, trees of bits over words ([`BitTree`]): the words with a used page and
//!   those with a free page. They find the ends of a hole of any length, and the first free page.
//! - `longest`, a byte per word under a tree of maxima: an upper bound on the class of the holes
//!   that start in the word. It finds the next word that may hold a request.
//! - `reaches`, for each *grid* that needs it, which is the places that an alignment and a boundary
//!   allow: a number for each word, or for each aligned page if these are further apart, under a
//!   tree of maxima ([`Maxima`]): an upper bound on the pages of a chunk there. A hole is recorded
//!   at its first aligned page and at the first multiple of the boundary after that; a chunk that
//!   has a place in the hole has one of these two. The tree finds the lowest place that may hold a
//!   request.
//!
//! # Invariants
//!
//! [`check`](Allocator::check) verifies them, by these numbers.
//!
//! 1. The summaries of both trees of bits agree with their bits.
//! 2. Every word is in `used` or in `open`; one in both has both taken and free pages in `bits`.
//! 3. The bits of the last word after the region's end are in use.
//! 4. No hole that starts in a word has a class above the word's in `longest`. (The bound may be
//!    too high: the next search that looks into the word corrects it.)
//! 5. Every node of `longest` has the maxima of the nodes below, and so does every node of
//!    `reaches`.
//! 6. In each tree of `reaches` the bounds of the two cells in which a hole is recorded are not
//!    below the pages of the largest chunks that start at the two pages.
//!
//! # How it works
//!
//! *Allocate* takes the lowest place: exact first fit. It first looks at the holes that start in
//! the first open word: if all chunks are of one size, the place is there. If not, it searches
//! `longest` from the lowest word up for words in which a hole of the request's class or above may
//! start. The first such hole that holds the aligned request has the place. Words without one get
//! their true class as the bound. After placing, the rest of the hole starts in the chunk's last
//! word or the one after it, and its bound is raised if necessary. *Free* finds the ends of the
//! merged hole and raises the bound of its first word. A single page between two used pages of its
//! word is a hole by itself, so there is nothing to find.
//!
//! A request with a window is searched for from the window's first word to its last. The hole in
//! which the window starts is looked at first, because it may be recorded in a word before. In each
//! word the places that cross a multiple of the boundary are passed over, and the place is again
//! the lowest. [`fit`](Allocator::fit) is the same search as that of *allocate*, and finds the ends
//! of the hole.
//!
//! A class ignores the grid, and is coarse. So a search may look into a word whose bound is true
//! and find no place, and the next search looks into it again. The allocator counts these wasted
//! looks, less [`WASTED_PER_SEARCH`] for each search. When the count reaches [`WASTED_LIMIT`], the
//! current search builds the tree of `reaches` for its grid, which may be that of all pages.
//! Searches on this grid then use the tree. It counts pages and records only places on the grid, so
//! only outdated bounds and a window's ends mislead it. Ordinary loads stay below the limit and
//! never pay for a tree. A tree is dropped after as many holes were created as the region has
//! pages, because loads change, and when [`MOST_TREES`] younger ones exist. If it is still needed,
//! the count soon builds it again. Only grids with more than [`FEW_CELLS`] cells in the region get
//! a tree. For others every cell is looked at.
//!
//! # Cost
//!
//! With `n` pages, a request that is served from the first open word, and a free, take O(log64 n)
//! steps. Any other request, of any size and grid, with or without a window, and for any
//! arrangement of holes, takes O(log16 n) for each place that it looks at:
//!
//! - the right place, and with a window the holes in which it starts and ends;
//! - places with outdated bounds before it, which are corrected at once. Each chunk that is placed
//!   or freed makes at most two bounds outdated in `longest` and in each tree;
//! - without a tree for its grid, wasted looks: at most [`WASTED_LIMIT`], and
//!   [`WASTED_PER_SEARCH`] per request over a long run; or [`WASTED_PER_SEARCH`] and [`FEW_CELLS`],
//!   if the grid has few cells.
//!
//! So the amortised cost grows with the logarithm, but a single request may have to correct the
//! bounds that many others left outdated. Building a tree takes a step for each 64 pages and O(log
//! n) for each hole, at most once per grid while as many holes are created as the region has pages,
//! unless more than [`MOST_TREES`] grids need one at a time. While a tree exists, every placing and
//! freeing takes O(log16 n) more, mostly one step. A chunk of `m` pages takes m / 4096 more steps.
//! The cost doesn't depend on the number of chunks. [`largest_request`](Allocator::largest_request)
//! looks at the words whose bound is not below the largest hole so far: in the worst case, with all
//! holes alike, at every word.
//!
//! Memory is 1.17 bits per page: 37 KiB for 1 GiB, 37 MiB for 1 TiB. It is zeroed memory from the
//! system, which costs nothing until it is accessed, except for a bit per word. The tree of a grid
//! takes 0.53 bits per page more, 17 KiB for 1 GiB; with an alignment above 256 KiB half as much
//! for each doubling. The trees of all alignments without a boundary together take 4.3 bits per
//! page, and [`MOST_TREES`] at most 17. If there is no memory for a tree, it is not built, and the
//! search looks at all cells.
//!
//! # Omitted
//!
//! Best fit, and records of chunks: freeing half a chunk, or two neighbours at once, is not
//! detected.
#![forbid(unsafe_code)]

mod class_maxima;
mod page_map;
mod reaches;
mod search;
mod wanted;
mod word;

use class_maxima::{ClassMaxima, class_of};
use cma_api::{
    Alignment, Allocator, AllocatorInfo, CannotAdopt, InitError, NoRoom, NotMine, PageRange,
    Params, Placement, Request, Tag,
};
use cma_bits::TooLarge;
#[cfg(doc)]
use cma_bits::{BitTree, Maxima};
use page_map::PageMap;
use reaches::CellReaches;
use wanted::{Aligned, Limited, Wanted};

/// The wasted looks, beyond [`WASTED_PER_SEARCH`] for each search, after which a search builds the
/// tree of its grid.
pub const WASTED_LIMIT: u64 = 512;

/// The wasted looks of a search that are not counted: maintaining a tree would cost about as much.
pub const WASTED_PER_SEARCH: u64 = 8;

/// The most cells of a grid without a tree.
pub const FEW_CELLS: u64 = 64;

/// The most trees at a time; a further one replaces the oldest.
pub const MOST_TREES: usize = 32;

/// The bitmap allocator. The crate's documentation describes it.
#[derive(Debug)]
pub struct Bitmap {
    region: PageRange,
    pages: PageMap,
    longest: ClassMaxima,
    reaches: Vec<CellReaches>,
    /// The words with a true bound that searches looked into without finding a place, less
    /// [`WASTED_PER_SEARCH`] for each search, but not below 0.
    wasted: u64,
    /// The number of words that were searched for a place.
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
        let pages = PageMap::new(region.pages().get())?;
        let mut longest = ClassMaxima::new(pages.words())?;
        longest.raise(0, class_of(pages.count()));
        Ok(Bitmap {
            region,
            pages,
            longest,
            reaches: Vec::new(),
            wasted: 0,
            #[cfg(test)]
            looks: std::cell::Cell::new(0),
        })
    }

    /// `range` relative to the region's start, if it has a page and lies in the region.
    fn span(&self, range: PageRange) -> Option<Span> {
        let first = range.first_page().wrapping_sub(self.region.first_page());
        let lies_inside = range.pages().get() != 0 && range.within(self.region);
        lies_inside.then(|| Span { first, end: first + range.pages().get() })
    }

    fn range(&self, span: Span) -> PageRange {
        PageRange::from_pages(self.region.first_page() + span.first, span.pages())
    }

    /// The free pages of `word`, without those of a hole that started before it.
    fn started_in(&self, word: u64) -> u64 {
        let free = !self.pages.word(word);
        let continues = word > 0 && self.pages.word(word - 1) >> 63 == 0;
        // Adding 1 clears a run of set bits that starts at bit 0, and no other set bit.
        free & free.wrapping_add(u64::from(continues))
    }

    /// The hole that contains the last page of `word`, if that page is in `free`, a set of free
    /// pages of `word`. Its start is that of the run in `free`.
    #[inline]
    fn last_hole(&self, word: u64, free: u64) -> Option<Span> {
        let pages = u64::from(free.leading_ones());
        (pages > 0).then(|| Span {
            first: word * 64 + 64 - pages,
            end: self.pages.free_to(word * 64 + 64),
        })
    }

    /// The lowest place in the holes that start in `word`.
    #[inline]
    fn place_in(&self, word: u64, wanted: &impl Wanted) -> Option<Span> {
        self.place_among(word, self.started_in(word), wanted)
    }

    /// The same in the holes of `free`, a set of free pages of `word`.
    #[inline]
    fn place_among(&self, word: u64, free: u64, wanted: &impl Wanted) -> Option<Span> {
        #[cfg(test)]
        self.looks.set(self.looks.get() + 1);
        let Aligned { base, pages, alignment } = wanted.aligned();
        if pages <= 64 {
            let places = word::runs_of(pages, free) & word::aligned(base + word * 64, alignment);
            if let Some(first) = wanted.lowest(word * 64, places) {
                return Some(Span { first, end: first + pages });
            }
        }
        wanted.place_in_hole(self.last_hole(word, free)?)
    }

    /// The lowest place for a request, and the word in which its hole starts. `first_open` is the
    /// first word with a free page.
    #[inline]
    fn locate(&mut self, request: &Request, first_open: u64) -> Option<(Span, u64)> {
        if request.is_limited() {
            return self.find(&Limited::new(request, self.region)?);
        }
        let wanted = Aligned::new(request, self.region);
        match self.place_in(first_open, &wanted) {
            Some(place) => Some((place, first_open)),
            None => self.find(&wanted),
        }
    }

    /// Visits every hole in ascending order.
    fn each_hole(&self, mut visit: impl FnMut(Span)) {
        let mut next = self.pages.next_open(0);
        while let Some(word) = next {
            let mut started = self.started_in(word);
            while started != 0 {
                let first = word * 64 + u64::from(started.trailing_zeros());
                visit(Span { first, end: self.pages.free_to(first) });
                // Adding the lowest set bit clears the run that starts with it.
                started &= started.wrapping_add(started & started.wrapping_neg());
            }
            next = self.pages.next_open(word + 1);
        }
    }

    /// The pages of the longest hole that starts in `word`.
    fn longest_in(&self, word: u64) -> u64 {
        self.longest_among(word, self.started_in(word))
    }

    /// The same for the holes of `started`, the pages of `word` in the holes that start there.
    fn longest_among(&self, word: u64, started: u64) -> u64 {
        if started == 0 {
            return 0;
        }
        self.last_hole(word, started).map_or(0, Span::pages).max(word::longest_run(started))
    }

    /// Lowers the bound of `word` to the true class, and returns whether it was higher.
    fn tighten(&mut self, word: u64, started: u64) -> bool {
        self.longest.lower(word, class_of(self.longest_among(word, started)))
    }

    /// Marks `place` as used. It must be free and part of a hole that starts in `word`.
    fn take(&mut self, place: Span, word: u64) {
        self.pages.take(place.first, place.end);
        // The rest after the place is a hole that now starts there.
        if place.end / 64 > word || !self.reaches.is_empty() {
            self.record_hole_at(place.end);
        }
    }

    /// Records the hole that starts at `page`, if that page is free.
    fn record_hole_at(&mut self, page: u64) {
        let end = self.pages.free_to(page);
        if end > page {
            self.record(Span { first: page, end });
        }
    }

    /// Raises the bounds to include `hole`.
    #[inline]
    fn record(&mut self, hole: Span) {
        self.longest.raise(hole.first / 64, class_of(hole.pages()));
        if !self.reaches.is_empty() {
            self.record_reaches(hole);
        }
    }

    /// The same in the trees of grids. Drops a tree that has reached its age limit.
    #[inline(never)]
    fn record_reaches(&mut self, hole: Span) {
        self.reaches.retain_mut(|reach| reach.record(hole));
    }
}

impl Allocator for Bitmap {
    const INFO: AllocatorInfo = AllocatorInfo {
        name: "bitmap",
        version: env!("CARGO_PKG_VERSION"),
        description: "first fit over a bit per page; least memory, fastest where chunks are single pages",
    };

    fn new(region: PageRange, params: &str) -> Result<Self, InitError> {
        Params::parse(params)?.finish()?;
        if region.pages().get() == 0 || region.end_page() > PageRange::ADDRESS_SPACE_PAGES {
            return Err(InitError::new(format!(
                "the region {region} is not in the 64-bit address space"
            )));
        }
        Bitmap::empty(region)
            .map_err(|reason| InitError::new(format!("the region {region} is too large: {reason}")))
    }

    #[inline]
    fn allocate(&mut self, request: &Request) -> Result<Placement, NoRoom> {
        let first_open = self.pages.first_open().ok_or(NoRoom)?;
        let is_any_page = request.pages().get() == 1
            && request.alignment() == Alignment::PAGE
            && !request.is_limited();
        let place = if is_any_page {
            let first = self.pages.take_first_in(first_open);
            if first & 63 == 63 || !self.reaches.is_empty() {
                self.record_hole_at(first + 1);
            }
            Span { first, end: first + 1 }
        } else {
            let (place, word) = self.locate(request, first_open).ok_or(NoRoom)?;
            self.take(place, word);
            if word != first_open {
                self.tighten(word, self.started_in(word));
            }
            place
        };
        Ok(Placement { range: self.range(place), tag: Tag::default() })
    }

    fn fit(&mut self, request: &Request) -> Option<PageRange> {
        let first_open = self.pages.first_open()?;
        let (place, _) = self.locate(request, first_open)?;
        let (first, end) = (self.pages.free_from(place.first), self.pages.free_to(place.end));
        Some(self.range(Span { first, end }))
    }

    #[inline]
    fn free(&mut self, chunk: Placement) -> Result<(), NotMine> {
        let Some(Span { first, end }) = self.span(chunk.range) else { return Err(NotMine) };
        if end - first == 1 && self.reaches.is_empty() && self.pages.release_between(first) {
            self.longest.raise_to_one(first / 64);
            return Ok(());
        }
        let (first, end) = self.pages.release(first, end).ok_or(NotMine)?;
        self.record(Span { first, end });
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
        // A word with a bound below the class of the largest hole so far has no larger hole.
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
                    "invariant 4: a hole of {longest} pages starts in word {word}, its bound is {bound}"
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
