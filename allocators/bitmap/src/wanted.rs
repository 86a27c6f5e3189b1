//! What a search looks for: an aligned place, or one within the limits of a request. All pages are
//! counted from the region's start.

use crate::Span;
use crate::reaches::Grid;
use cma_api::{PageRange, Request};
use std::ops::RangeInclusive;

/// The wanted place. The searches are compiled for each implementation.
pub(crate) trait Wanted {
    /// The wanted place without limits.
    fn aligned(&self) -> Aligned;

    /// The places that the alignment and the boundary allow.
    fn grid(&self) -> Grid;

    /// The pages at which the chunk may start: in the window, aligned or not.
    fn starts(&self) -> RangeInclusive<u64>;

    /// The lowest that serves of `places`, which are bits of the word that starts at page `word`:
    /// the starts of aligned places.
    fn lowest(&self, word: u64, places: u64) -> Option<u64>;

    /// The lowest place in `hole`.
    fn place_in_hole(&self, hole: Span) -> Option<Span>;
}

/// A place at a multiple of an alignment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aligned {
    /// The absolute number of the region's first page.
    pub(crate) base: u64,
    pub(crate) pages: u64,
    /// In pages.
    pub(crate) alignment: u64,
}

impl Aligned {
    #[inline]
    pub(crate) fn new(request: &Request, region: PageRange) -> Self {
        Aligned {
            base: region.first_page(),
            pages: request.pages().get(),
            alignment: request.alignment().pages().get(),
        }
    }

    #[inline]
    fn at(&self, first: u64) -> Span {
        Span { first, end: first + self.pages }
    }
}

impl Wanted for Aligned {
    #[inline]
    fn aligned(&self) -> Aligned {
        *self
    }

    #[inline]
    fn grid(&self) -> Grid {
        Grid::new(self.base, self.alignment)
    }

    #[inline]
    fn starts(&self) -> RangeInclusive<u64> {
        0..=u64::MAX
    }

    #[inline]
    fn lowest(&self, word: u64, places: u64) -> Option<u64> {
        (places != 0).then(|| word + u64::from(places.trailing_zeros()))
    }

    #[inline]
    fn place_in_hole(&self, hole: Span) -> Option<Span> {
        // Neither sum can wrap: all terms are at most 2^52.
        let place =
            ((self.base + hole.first + self.alignment - 1) & !(self.alignment - 1)) - self.base;
        (place + self.pages <= hole.end).then(|| self.at(place))
    }
}

/// A place within the limits of a request.
#[derive(Clone, Debug)]
pub(crate) struct Limited<'a> {
    aligned: Aligned,
    grid: Grid,
    request: &'a Request,
    starts: RangeInclusive<u64>,
}

impl<'a> Limited<'a> {
    /// `None` if the request is larger than the part of its window that is in the region.
    pub(crate) fn new(request: &'a Request, region: PageRange) -> Option<Self> {
        let window = request.window().common(region)?;
        let first = window.first_page() - region.first_page();
        let slack = window.pages().get().checked_sub(request.pages().get())?;
        let aligned = Aligned::new(request, region);
        let grid = Grid::of(request, region);
        Some(Limited { aligned, grid, request, starts: first..=first + slack })
    }

    /// The lowest page from `first` up at which the chunk may start, free or not.
    fn next_start(&self, first: u64) -> Option<u64> {
        let above = self.request.window().end_page().checked_sub(self.aligned.base + first)?;
        let above = PageRange::from_pages(self.aligned.base + first, above);
        Some(self.request.lowest_place(above)?.first_page() - self.aligned.base)
    }
}

impl Wanted for Limited<'_> {
    fn aligned(&self) -> Aligned {
        self.aligned
    }

    fn grid(&self) -> Grid {
        self.grid
    }

    fn starts(&self) -> RangeInclusive<u64> {
        self.starts.clone()
    }

    fn lowest(&self, word: u64, mut places: u64) -> Option<u64> {
        // Each step but the last passes over a multiple of the boundary or the window's start.
        while let Some(first) = self.aligned.lowest(word, places) {
            let next = self.next_start(first)?;
            if next == first {
                return Some(first);
            }
            if next - word >= 64 {
                return None;
            }
            places &= !0 << (next - word);
        }
        None
    }

    fn place_in_hole(&self, hole: Span) -> Option<Span> {
        let hole = PageRange::from_pages(self.aligned.base + hole.first, hole.pages());
        let place = self.request.lowest_place(hole)?;
        Some(self.aligned.at(place.first_page() - self.aligned.base))
    }
}
