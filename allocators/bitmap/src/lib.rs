//! Bitmap: first fit over a hierarchy of bits.
//!
//! A bit a page says what is taken. Everything else is an index over words of 64 such bits that leads to the lowest
//! hole that can hold a request without looking at what lies before it.
//!
//! # Words
//!
//! Pages are counted from the region's start; only alignment looks at absolute page numbers. A *word* is 64
//! pages that begin at a multiple of 64. A hole *begins in* the word that its first page lies in, however far it
//! reaches. The *class* of a length rounds it down to three significant bits: 1 to 7 pages are a class each, and
//! from there on four classes make an octave ([`class_of`]).
//!
//! # Structures
//!
//! - `taken`, a tree of bits over pages ([`BitTree`]). Its summary leads from a page to the next taken one and to the last
//!   taken one before, over holes of any length: that is how a hole's ends are found.
//! - `open`, a tree of bits over words: those with a free page. It serves requests of one page.
//! - `longest`, a byte a word under a tree of maxima ([`Peaks`]): a bound on the class of the holes that begin in the
//!   word. It serves all other requests.
//!
//! # Invariants
//!
//! [`check`](Allocator::check) asserts them by number.
//!
//! 1. The summaries of both trees of bits agree with their bits.
//! 2. The bits of the last word that lie past the region's end are taken.
//! 3. A word is in `open` iff it has a free page.
//! 4. No hole that begins in a word has a class above the word's in `longest`. (It may be below: an allocation
//!    leaves a bound that is too high, and the next search that believes it puts it right.)
//! 5. Every node of `longest` holds the maxima of the nodes below.
//!
//! # How it works
//!
//! *Allocate* takes for one page the first free page of the first open word. For more, or with an alignment, it asks
//! `longest` for the words from the lowest up in which a hole of the request's class or above may begin. The
//! first such hole that holds the aligned request is the place: first fit, exactly. A word where there is none gets
//! its true class. What remains behind the chunk is a hole that begins in the chunk's last word or the one after it,
//! whose bound is raised if need be. *Free* finds the ends of the hole that arises and raises the bound where it begins.
//!
//! # Cost
//!
//! With `n` pages, one page is allocated and freed in O(log64 n) steps. So are `m` pages, in O(log8 n + m / 64), where
//! the search believes no bound in vain. In vain it believes a bound that is outdated, which happens once for each chunk
//! that was placed or freed; one of the request's own class, whose holes are between its size and a quarter more; and with an
//! alignment, any hole that is long enough but lies badly. In the worst case, all holes long enough and none aligned,
//! a search looks at every word: 4096 of them a gigabyte. Nothing depends on the number of chunks. [`largest_hole`](Allocator::largest_hole) looks
//! at the words with the highest bounds only.
//!
//! Memory is 1.16 bits a page: 37 KiB for a gigabyte, 37 MiB for a terabyte. It is zeroed memory from the system, which
//! costs nothing until it is touched, but for a bit a word.
//!
//! # What it leaves out
//!
//! Best fit, and records of chunks: freeing half a chunk, or two neighbours at once, is not noticed.
#![forbid(unsafe_code)]

mod peaks;

use cma_api::{
    Alignment, Allocator, CannotAdopt, Info, InitError, NoRoom, NotMine, PageRange, Pages, Params, Placement,
    Request, Tag,
};
use cma_bits::{BitTree, TooLarge};
use peaks::{Peaks, class_of};

/// The bitmap allocator. See the crate's documentation.
#[derive(Debug)]
pub struct Bitmap {
    region: PageRange,
    taken: BitTree,
    open: BitTree,
    longest: Peaks,
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
        let pages = region.pages().get();
        let words = pages.div_ceil(64);
        let mut taken = BitTree::new(words * 64)?;
        taken.insert_range(pages, words * 64);
        let mut open = BitTree::new(words)?;
        open.insert_range(0, words);
        let mut longest = Peaks::new(words)?;
        longest.raise(0, class_of(pages));
        Ok(Bitmap { region, taken, open, longest })
    }

    fn pages(&self) -> u64 {
        self.region.pages().get()
    }

    /// `range` counted from the region's start, if it has a page and lies in the region.
    fn span(&self, range: PageRange) -> Option<Span> {
        let first = range.first_page().wrapping_sub(self.region.first_page());
        let lies_inside = range.pages() != Pages::ZERO && range.within(self.region);
        lies_inside.then(|| Span { first, end: first + range.pages().get() })
    }

    fn range(&self, span: Span) -> PageRange {
        PageRange::from_pages(self.region.first_page() + span.first, span.pages())
    }

    /// Where the free pages from `page` on end: at `page` if that is taken.
    fn free_to(&self, page: u64) -> u64 {
        self.taken.next(page).unwrap_or(self.pages()).min(self.pages())
    }

    /// Where the free pages that reach up to `page` begin.
    fn free_from(&self, page: u64) -> u64 {
        self.taken.previous(page).map_or(0, |last| last + 1)
    }

    /// The holes that begin in `word`, ascending.
    fn holes_in(&self, word: u64) -> impl Iterator<Item = Span> {
        let bits = self.taken.word(word);
        let first_may_begin = word == 0 || self.taken.word(word - 1) >> 63 != 0;
        let mut starts = !bits & ((bits << 1) | u64::from(first_may_begin));
        std::iter::from_fn(move || {
            let bit = if starts == 0 { return None } else { starts.trailing_zeros() };
            starts &= starts - 1;
            let first = word * 64 + u64::from(bit);
            let end = match bits >> bit {
                0 => self.free_to(word * 64 + 64),
                rest => first + u64::from(rest.trailing_zeros()),
            };
            Some(Span { first, end })
        })
    }

    /// The lowest place in `hole` for `pages` pages, aligned. Neither sum can wrap: addresses in pages are below
    /// 2^52, so is an alignment, and a request has less than 2^52 pages.
    fn place_in(&self, hole: Span, pages: u64, alignment: Alignment) -> Option<Span> {
        let (base, mask) = (self.region.first_page(), alignment.pages().get() - 1);
        let first = ((base + hole.first + mask) & !mask) - base;
        (first + pages <= hole.end).then_some(Span { first, end: first + pages })
    }

    /// The lowest place for `pages` pages, aligned, and the hole that it is in.
    fn find(&mut self, pages: u64, alignment: Alignment) -> Option<(Span, Span)> {
        let class = class_of(pages);
        let mut from = 0;
        while let Some(word) = self.longest.next(from, class) {
            let mut longest = 0;
            for hole in self.holes_in(word) {
                if let Some(place) = self.place_in(hole, pages, alignment) {
                    return Some((place, hole));
                }
                longest = longest.max(hole.pages());
            }
            self.longest.lower(word, class_of(longest));
            from = word + 1;
        }
        None
    }

    /// Marks `place` as taken, which is free and of which the hole ends at `hole_end`.
    fn take(&mut self, place: Span, hole: Span) {
        self.taken.insert_range(place.first, place.end);
        let (first, last) = (place.first / 64, (place.end - 1) / 64);
        let full_from = first + u64::from(self.taken.word(first) != !0);
        let full_to = last + u64::from(self.taken.word(last) == !0);
        self.open.remove_range(full_from, full_to);
        // The hole that remains behind. For the one that remains in front the bound holds already.
        if place.end < hole.end {
            self.longest.raise(place.end / 64, class_of(hole.end - place.end));
        }
    }
}

impl Allocator for Bitmap {
    const INFO: Info = Info {
        name: "bitmap",
        version: env!("CARGO_PKG_VERSION"),
        description: "first fit over a bit a page; least memory, fastest where chunks are single pages",
    };

    fn new(region: PageRange, params: &str) -> Result<Self, InitError> {
        Params::parse(params)?.finish()?;
        if region.pages() == Pages::ZERO || region.end_page() > PageRange::ADDRESS_SPACE_PAGES {
            return Err(InitError::new(format!("the region {region} is no part of an address space")));
        }
        Bitmap::empty(region)
            .map_err(|reason| InitError::new(format!("the region {region} is too large: {reason}")))
    }

    #[inline]
    fn allocate(&mut self, request: &Request) -> Result<Placement, NoRoom> {
        let (pages, alignment) = (request.pages().get(), request.alignment());
        let place = if pages == 1 && alignment == Alignment::PAGE {
            let word = self.open.first().ok_or(NoRoom)?;
            let first = word * 64 + u64::from((!self.taken.word(word)).trailing_zeros());
            self.taken.insert(first);
            if self.taken.word(word) == !0 {
                self.open.remove(word);
                // The hole may go on in the next word, where it has not begun so far.
                let end = self.free_to(first + 1);
                if end > first + 1 {
                    self.longest.raise(word + 1, class_of(end - first - 1));
                }
            }
            Span { first, end: first + 1 }
        } else {
            let (place, hole) = self.find(pages, alignment).ok_or(NoRoom)?;
            self.take(place, hole);
            place
        };
        Ok(Placement { range: self.range(place), tag: Tag::default() })
    }

    #[inline]
    fn free(&mut self, chunk: Placement) -> Result<(), NotMine> {
        let Some(Span { first, end }) = self.span(chunk.range) else { return Err(NotMine) };
        if self.taken.run_end(first, end) < end {
            return Err(NotMine);
        }
        self.taken.remove_range(first, end);
        self.open.insert_range(first / 64, (end - 1) / 64 + 1);
        let hole = Span { first: self.free_from(first), end: self.free_to(end) };
        self.longest.raise(hole.first / 64, class_of(hole.pages()));
        Ok(())
    }

    fn adopt(&mut self, range: PageRange) -> Result<Tag, CannotAdopt> {
        let Some(place) = self.span(range) else {
            let reason = format!("{range} is empty or not inside the region {}", self.region);
            return Err(CannotAdopt::new(reason));
        };
        let end = self.free_to(place.first);
        if end < place.end {
            let page = self.range(Span { first: end, end: end + 1 });
            return Err(CannotAdopt::new(format!("page {page} of {range} is in use")));
        }
        self.take(place, Span { first: self.free_from(place.first), end });
        Ok(Tag::default())
    }

    fn holes(&self, visit: &mut dyn FnMut(PageRange)) {
        let mut next = self.open.first();
        while let Some(word) = next {
            for hole in self.holes_in(word) {
                visit(self.range(hole));
            }
            next = self.open.next(word + 1);
        }
    }

    fn largest_hole(&self) -> Pages {
        let (mut largest, mut from) = (0, 0);
        // A word with a bound below the class of the largest hole so far has none that is larger.
        while let Some(word) = self.longest.next(from, class_of(largest).max(1)) {
            largest = self.holes_in(word).map(Span::pages).fold(largest, u64::max);
            from = word + 1;
        }
        Pages::new(largest)
    }

    fn check(&self) -> Result<(), String> {
        for (name, tree) in [("taken", &self.taken), ("open", &self.open)] {
            tree.check().map_err(|broken| format!("invariant 1: {name}: {broken}"))?;
        }
        if self.taken.run_end(self.pages(), self.taken.limit()) < self.taken.limit() {
            return Err("invariant 2: a page past the region's end is free".to_string());
        }
        for word in 0..self.open.limit() {
            let bits = self.taken.word(word);
            if self.open.contains(word) != (bits != !0) {
                return Err(format!("invariant 3: word {word} is {bits:#x} and the same in open"));
            }
            let bound = self.longest.get(word);
            if let Some(hole) = self.holes_in(word).find(|hole| class_of(hole.pages()) > bound) {
                return Err(format!(
                    "invariant 4: {hole:?} begins in word {word}, of which the bound is {bound}"
                ));
            }
        }
        self.longest.check().map_err(|broken| format!("invariant 5: {broken}"))
    }
}

#[cfg(test)]
mod tests;
