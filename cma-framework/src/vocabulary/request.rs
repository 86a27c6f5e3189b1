//! A request for a chunk: as a caller states it, as text, and in the form that allocators are
//! promised.

mod invalid;
mod text;

use super::size::Bytes;
use cma_api::{Alignment, Asker, Boundary, DmaAddr, PAGE_SIZE, PageRange, Pages, Request};
pub use invalid::InvalidRequest;
use std::time::Duration;
pub use text::RequestSyntax;

/// A request for a chunk: size, alignment, and the limits within which it may lie
/// (specification section 6).
///
/// Real devices have such limits: a DMA mask of 32 bits is `below` 4 GiB, a controller that can't
/// carry into the upper half of an address has a `boundary`, and the firmware's splash screen lies
/// `at` a known address.
///
/// ```
/// use cma_framework::config::Bytes;
/// use cma_framework::{ChunkRequest, DmaAddr};
/// use std::time::Duration;
///
/// let request = ChunkRequest::new(Bytes::mib(3))
///     .aligned(Bytes::kib(64))
///     .below(DmaAddr::new(4 << 30))
///     .boundary(Bytes::mib(16))
///     .wait(Duration::from_secs(2));
/// assert_eq!(ChunkRequest::parse("3M/64K below=4G boundary=16M wait=2s")?, request);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ChunkRequest {
    /// The size. It is rounded up to whole pages.
    pub size: Bytes,
    /// The chunk starts at a multiple of this, a power of two; 0 and all below a page mean a page.
    pub alignment: Bytes,
    /// No byte of the chunk lies below this address.
    pub above: Option<DmaAddr>,
    /// Every byte of the chunk lies below this address.
    pub below: Option<DmaAddr>,
    /// The chunk crosses no multiple of this, a power of two of at least a page.
    pub boundary: Option<Bytes>,
    /// The chunk starts at exactly this address.
    pub at: Option<DmaAddr>,
    /// The longest time to wait for room; `None` for no waiting.
    pub wait: Option<Duration>,
}

impl ChunkRequest {
    /// A request for `size` bytes, anywhere.
    pub const fn new(size: Bytes) -> Self {
        ChunkRequest {
            size,
            alignment: Bytes(0),
            above: None,
            below: None,
            boundary: None,
            at: None,
            wait: None,
        }
    }

    /// At a multiple of `alignment`, a power of two.
    pub const fn aligned(self, alignment: Bytes) -> Self {
        ChunkRequest { alignment, ..self }
    }

    /// At `lowest` or above it.
    pub const fn above(self, lowest: DmaAddr) -> Self {
        ChunkRequest { above: Some(lowest), ..self }
    }

    /// Below `end`, with its last byte too.
    pub const fn below(self, end: DmaAddr) -> Self {
        ChunkRequest { below: Some(end), ..self }
    }

    /// Crossing no multiple of `boundary`, a power of two of at least a page.
    pub const fn boundary(self, boundary: Bytes) -> Self {
        ChunkRequest { boundary: Some(boundary), ..self }
    }

    /// Exactly at `start`.
    pub const fn at(self, start: DmaAddr) -> Self {
        ChunkRequest { at: Some(start), ..self }
    }

    /// Waiting for room up to `longest`.
    pub const fn wait(self, longest: Duration) -> Self {
        ChunkRequest { wait: Some(longest), ..self }
    }

    /// Reads the text form: `size[/alignment]`, then limits separated by white space, as in `3M/64K
    /// above=1G below=4G boundary=16M at=0x40000000 wait=2s`. Sizes and addresses are numbers as in
    /// `cma=`. A time is a whole number of `us`, `ms`, `s` or `m` (minutes).
    ///
    /// # Errors
    ///
    /// The first error, with its position: of the text, or of the limit that contradicts another
    /// one or the request.
    pub fn parse(text: &str) -> Result<Self, super::ConfigError<RequestSyntax>> {
        text::parse(text)
    }

    /// Whether a request of this size, alignment and limits can be served anywhere.
    ///
    /// # Errors
    ///
    /// What is wrong with it, or which of its parts contradict each other.
    pub fn check(&self) -> Result<(), InvalidRequest> {
        self.normalised(Asker::NOBODY).map(drop)
    }

    /// The text of the request that became `request`. Sizes and limits are in whole pages, and a
    /// window without another place for the request is that place.
    pub(crate) fn of(request: &Request) -> Self {
        let (window, boundary) = (request.window(), request.boundary());
        let place = exact_place(request).map(PageRange::start);
        let is_limit = |page: &u64| *page != 0 && *page != PageRange::ADDRESS_SPACE_PAGES;
        let limit = |page: u64| {
            let page = Some(page).filter(|page| place.is_none() && is_limit(page));
            page.map(|page| DmaAddr::new(page * PAGE_SIZE))
        };
        ChunkRequest {
            above: limit(window.first_page()),
            below: limit(window.first_page() + window.pages().get()),
            boundary: (boundary != Boundary::NONE).then(|| Bytes(boundary.pages().bytes())),
            at: place,
            ..ChunkRequest::new(Bytes(request.pages().bytes()))
                .aligned(Bytes(request.alignment().bytes()))
        }
    }

    /// The request as allocators get it, in whole pages. One at an exact place has that place as
    /// its window. The time to wait is no part of it.
    ///
    /// # Errors
    ///
    /// What is wrong with it, or which of its parts contradict each other.
    pub fn normalised(&self, asker: Asker) -> Result<Request, InvalidRequest> {
        let plain = normalise(self.size.0, self.alignment.0, asker)?;
        if (self.above, self.below, self.boundary, self.at) == (None, None, None, None) {
            return Ok(plain);
        }
        let window = self.window()?;
        let boundary = match self.boundary {
            None => Boundary::NONE,
            Some(Bytes(bytes)) => Boundary::new(bytes).ok_or(InvalidRequest::Boundary { bytes })?,
        };
        let bytes = plain.pages().bytes();
        if plain.pages() > boundary.pages() {
            let boundary = boundary.pages().bytes();
            return Err(InvalidRequest::SmallBoundary { boundary, bytes });
        }
        if let Some(at) = self.at {
            return at_place(&plain, at, window, boundary);
        }
        plain.limited(window, boundary).ok_or_else(|| {
            let alignment = plain.alignment().bytes();
            if window.pages() < plain.pages() {
                InvalidRequest::SmallWindow { window: window.bytes(), bytes }
            } else if plain.limited(window, Boundary::NONE).is_none() {
                InvalidRequest::UnalignedWindow { alignment, bytes }
            } else {
                InvalidRequest::CrossedWindow { boundary: boundary.pages().bytes(), bytes }
            }
        })
    }

    /// The whole pages from `above` to `below`.
    fn window(&self) -> Result<PageRange, InvalidRequest> {
        let above = self.above.unwrap_or_default();
        if let Some(below) = self.below.filter(|below| *below <= above) {
            return Err(InvalidRequest::NoWindow { above, below });
        }
        let first = above.get().div_ceil(PAGE_SIZE);
        let end = self.below.map_or(PageRange::ADDRESS_SPACE_PAGES, DmaAddr::page);
        Ok(PageRange::from_pages(first, end.saturating_sub(first)))
    }
}

/// `request`, at `at` alone.
fn at_place(
    request: &Request,
    at: DmaAddr,
    window: PageRange,
    boundary: Boundary,
) -> Result<Request, InvalidRequest> {
    let (bytes, alignment) = (request.pages().bytes(), request.alignment());
    if !at.is_aligned(alignment) {
        return Err(InvalidRequest::UnalignedPlace { at, alignment: alignment.bytes() });
    }
    let place =
        PageRange::from_bytes(at, bytes).ok_or(InvalidRequest::PlacePastTheTop { at, bytes })?;
    if !place.within(window) {
        return Err(InvalidRequest::PlaceOutside { at, bytes });
    }
    let boundary_bytes = boundary.pages().bytes();
    request
        .limited(place, boundary)
        .ok_or(InvalidRequest::PlaceCrosses { at, boundary: boundary_bytes })
}

/// Checks and rounds a request to whole pages, once: everything below relies on it.
#[inline]
pub(crate) fn normalise(
    size: u64,
    alignment: u64,
    asker: Asker,
) -> Result<Request, InvalidRequest> {
    if size == 0 {
        return Err(InvalidRequest::NoSize);
    }
    let alignment =
        Alignment::new(alignment).ok_or(InvalidRequest::Alignment { bytes: alignment })?;
    if size > u64::MAX - (PAGE_SIZE - 1) {
        return Err(InvalidRequest::TooLarge { bytes: size });
    }
    Request::new(Pages::covering(size), alignment, asker)
        .ok_or(InvalidRequest::TooLarge { bytes: size })
}

/// The place of a request that one place alone can serve ([`ChunkRequest::at`]): its window is as
/// large as the request.
pub(crate) fn exact_place(request: &Request) -> Option<PageRange> {
    (request.window().pages() == request.pages()).then(|| request.window())
}

#[cfg(test)]
mod tests;
