//! The trait that an algorithm implements, its requests and its results.
//!
//! Nothing here depends on dynamic libraries: an algorithm is an ordinary crate, and
//! [`v1`](crate::v1) turns any [`Allocator`] into a plug-in.

use crate::units::{Alignment, Boundary, PageRange, Pages};
use abi_stable::StableAbi;

/// An allocator's name, version and description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocatorInfo {
    /// The name by which regions select it, as `best-fit` in `cma=b1=32M:best-fit`.
    pub name: &'static str,
    /// The algorithm's own version. (The interface's is this crate's.)
    pub version: &'static str,
    /// A description in one line.
    pub description: &'static str,
}

/// An allocation algorithm that serves one region.
///
/// The framework guarantees: requests are whole pages and not 0; alignments are powers of two of at
/// least a page; there is one call at a time; [`free`](Self::free) gets exactly what
/// [`allocate`](Self::allocate) or [`adopt`](Self::adopt) returned and was not freed yet. So an
/// algorithm needs neither locks nor argument checks. It never touches the memory it manages.
///
/// Alignment is of the chunk's *address*, not of its offset in the region.
pub trait Allocator: Sized + Send + 'static {
    /// Name, version and description.
    const INFO: AllocatorInfo;

    /// Creates an allocator for an empty `region`. `params` is the unchanged text in parentheses
    /// after the allocator's name, or empty; see [`Params`](crate::Params).
    ///
    /// # Errors
    ///
    /// Unknown parameters, or a region that the algorithm can't serve. The text is shown to the
    /// user.
    fn new(region: PageRange, params: &str) -> Result<Self, InitError>;

    /// Places a chunk of exactly the requested pages inside the region, within the limits of the
    /// request ([`Request::accepts`]) and overlapping no live chunk.
    ///
    /// # Errors
    ///
    /// [`NoRoom`] when the algorithm finds no place. The framework works out the reason (full,
    /// fragmented, alignment, window, boundary), or names the hole that was passed over.
    fn allocate(&mut self, request: &Request) -> Result<Placement, NoRoom>;

    /// The hole (maximal free range) in which [`allocate`](Self::allocate) would place the request
    /// now; `None` if it would refuse. Nothing changes that another call can observe; indices that
    /// only speed up later searches may.
    ///
    /// The framework compares regions by it, and asks whether a request that waits can be served.
    fn fit(&mut self, request: &Request) -> Option<PageRange>;

    /// Frees a chunk.
    ///
    /// # Errors
    ///
    /// [`NotMine`] when the algorithm can detect that the chunk is not live. Nothing changes then.
    fn free(&mut self, chunk: Placement) -> Result<(), NotMine>;

    /// Marks `range` as in use, as if `allocate` had placed a chunk there. The framework uses it to
    /// change a region's allocator under live chunks and to reserve fixed addresses. It adopts
    /// several chunks in ascending order of address.
    ///
    /// # Errors
    ///
    /// [`CannotAdopt`] when part of the range is in use, lies outside the region, or can't be
    /// represented in the algorithm's structures. Nothing changes then. The text is shown to the
    /// user.
    fn adopt(&mut self, range: PageRange) -> Result<Tag, CannotAdopt>;

    /// Visits every hole (maximal free range) in ascending order of address.
    fn holes(&self, visit: &mut dyn FnMut(PageRange));

    /// The pages of the largest page-aligned request that the allocator could serve now. For an
    /// algorithm that finds every free place, this is the size of the largest hole.
    fn largest_request(&self) -> Pages;

    /// Verifies the algorithm's invariants. May be slow: it is for tests and diagnosis.
    ///
    /// # Errors
    ///
    /// The first broken invariant, with the evidence.
    fn check(&self) -> Result<(), String>;
}

/// A number for the (device, type) pair that makes a request. Equal pairs have equal numbers as
/// long as the framework runs. An algorithm may use it to separate long-lived from short-lived
/// chunks.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Asker(pub u32);

impl Asker {
    /// No pair: a request that went to a region directly.
    pub const NOBODY: Asker = Asker(0);
}

/// A request for a chunk, with the limits of its place.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pages: Pages,
    window: PageRange,
    asker: Asker,
    alignment: Alignment,
    boundary: Boundary,
    /// Whether there is a window or a boundary, so that one comparison finds requests without.
    limited: bool,
    /// Always 0. A later minor version of the interface may give it a meaning that an allocator may
    /// ignore, such as the expected lifetime of the chunk.
    hints: u8,
}

impl Request {
    /// A request for `pages` pages at a multiple of `alignment`, anywhere in the region; `None` for
    /// 0 pages and for at least as many as a 64-bit address space has.
    pub const fn new(pages: Pages, alignment: Alignment, asker: Asker) -> Option<Self> {
        if pages.get() == 0 || pages.get() >= PageRange::ADDRESS_SPACE_PAGES {
            None
        } else {
            Some(Request {
                pages,
                window: PageRange::ADDRESS_SPACE,
                asker,
                alignment,
                boundary: Boundary::NONE,
                limited: false,
                hints: 0,
            })
        }
    }

    /// The same request, for a chunk that lies in `window` and crosses no multiple of `boundary`;
    /// `None` if no chunk of this size and alignment does.
    pub const fn limited(self, window: PageRange, boundary: Boundary) -> Option<Self> {
        let Some(window) = window.common(PageRange::ADDRESS_SPACE) else { return None };
        if self.pages.get() > boundary.pages().get() {
            return None;
        }
        let is_whole = window.pages().get() == PageRange::ADDRESS_SPACE_PAGES;
        let limited = !is_whole || boundary.pages().get() != PageRange::ADDRESS_SPACE_PAGES;
        let request = Request { window, boundary, limited, ..self };
        match request.lowest_place(window) {
            Some(_) => Some(request),
            None => None,
        }
    }

    /// The size. Never 0.
    #[inline]
    pub const fn pages(&self) -> Pages {
        self.pages
    }

    /// The chunk's start address must be a multiple of this.
    #[inline]
    pub const fn alignment(&self) -> Alignment {
        self.alignment
    }

    /// The requesting (device, type) pair.
    #[inline]
    pub const fn asker(&self) -> Asker {
        self.asker
    }

    /// Whether there is a [`window`](Self::window) or a [`boundary`](Self::boundary).
    #[inline]
    pub const fn is_limited(&self) -> bool {
        self.limited
    }

    /// The chunk must lie in this range, which may be larger than the region.
    #[inline]
    pub const fn window(&self) -> PageRange {
        self.window
    }

    /// The chunk must cross no multiple of this. Never smaller than the request.
    #[inline]
    pub const fn boundary(&self) -> Boundary {
        self.boundary
    }

    /// Whether a chunk in `range` serves the request: its size, its alignment and its limits.
    pub const fn accepts(&self, range: PageRange) -> bool {
        range.pages().get() == self.pages.get()
            && range.within(self.window)
            && range.first_page() & (self.alignment.pages().get() - 1) == 0
            && !self.crosses(range.first_page())
    }

    /// The lowest place in `hole` that serves the request.
    #[inline]
    pub const fn lowest_place(&self, hole: PageRange) -> Option<PageRange> {
        // No sum here wraps: page numbers, sizes and alignments are at most 2^52.
        let Some(free) = hole.common(self.window) else { return None };
        let mask = self.alignment.pages().get() - 1;
        let mut first = (free.first_page() + mask) & !mask;
        if self.crosses(first) {
            // The multiple that is crossed. It is aligned: an aligned chunk only crosses multiples
            // of a boundary that is larger than the alignment.
            first = (first + self.pages.get() - 1) & !(self.boundary.pages().get() - 1);
        }
        let place = PageRange::from_pages(first, self.pages.get());
        if place.within(free) { Some(place) } else { None }
    }

    /// The highest place in `hole` that serves the request.
    pub const fn highest_place(&self, hole: PageRange) -> Option<PageRange> {
        let Some(free) = hole.common(self.window) else { return None };
        let (pages, mask) = (self.pages.get(), self.alignment.pages().get() - 1);
        let Some(first) = free.end_page().checked_sub(pages) else { return None };
        let mut first = first & !mask;
        if self.crosses(first) {
            let crossed = (first + pages - 1) & !(self.boundary.pages().get() - 1);
            let Some(below) = crossed.checked_sub(pages) else { return None };
            first = below & !mask;
        }
        let place = PageRange::from_pages(first, pages);
        if place.within(free) { Some(place) } else { None }
    }

    /// Whether a chunk that starts at page `first` crosses a multiple of the boundary.
    #[inline]
    const fn crosses(&self, first: u64) -> bool {
        let last = first + (self.pages.get() - 1);
        (first ^ last) >= self.boundary.pages().get()
    }
}

/// A value of the allocator's choice that the framework returns with the chunk when it is freed, so
/// that freeing needs no search.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Tag(pub u64);

/// The place of a chunk, chosen by an allocator.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The pages of the chunk.
    pub range: PageRange,
    /// The allocator's own value for the chunk.
    pub tag: Tag,
}

/// The allocator found no place for the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room")]
pub struct NoRoom;

/// The chunk is not a live chunk of the allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a live chunk of this allocator")]
pub struct NotMine;

/// The reason why an allocator can't serve a region at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InitError(String);

impl InitError {
    /// An error with `reason` as its text for the user.
    pub fn new(reason: impl Into<String>) -> Self {
        InitError(reason.into())
    }
}

/// The reason why an allocator can't adopt a range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CannotAdopt(String);

impl CannotAdopt {
    /// An error with `reason` as its text for the user.
    pub fn new(reason: impl Into<String>) -> Self {
        CannotAdopt(reason.into())
    }
}

#[cfg(test)]
mod tests;
