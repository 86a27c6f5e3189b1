//! Why a region serves no request: the reasons that an [`AllocError`](super::AllocError) lists.

use crate::vocabulary::{Bytes, Elapsed, Owner};
use cma_api::{PAGE_SHIFT, PageRange, Request};
use std::fmt;
use std::time::Duration;

/// The regions that were tried for a request, in order, each with the reason of its refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusals(pub(crate) Box<[Refusal]>);

/// A region that didn't serve a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The region's name, or its range if it has none.
    pub region: String,
    /// Why.
    pub reason: Reason,
    /// The request as the region got it.
    pub(crate) request: Request,
}

impl Refusals {
    /// The refusals in the order in which the regions were tried.
    pub fn iter(&self) -> std::slice::Iter<'_, Refusal> {
        self.0.iter()
    }

    pub(crate) fn stuck(&self) -> bool {
        self.0.iter().any(|refusal| matches!(refusal.reason, Reason::Stuck(_)))
    }

    /// Whether the exact place that was requested is in use.
    pub(crate) fn taken(&self) -> bool {
        self.0.iter().any(|refusal| matches!(refusal.reason, Reason::Taken { .. }))
    }

    /// Whether the exact place that was requested lies in none of the regions.
    pub(crate) fn elsewhere(&self) -> bool {
        let outside =
            |reason: &Reason| matches!(reason, Reason::Elsewhere { .. } | Reason::UnknownRegion);
        self.0.iter().any(|refusal| matches!(refusal.reason, Reason::Elsewhere { .. }))
            && self.0.iter().all(|refusal| outside(&refusal.reason))
    }

    pub(crate) fn misplaced(&self) -> bool {
        self.0.iter().any(|refusal| matches!(refusal.reason, Reason::Misplaced { .. }))
    }
}

impl<'a> IntoIterator for &'a Refusals {
    type Item = &'a Refusal;
    type IntoIter = std::slice::Iter<'a, Refusal>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Refusal { region, reason, .. }) in self.0.iter().enumerate() {
            write!(f, "{}{region}: {reason}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

/// A region whose allocator doesn't return from a call. The region resumes when it does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stuck: allocator \"{allocator}\" has kept the region busy for {} or longer", Elapsed(*at_least))]
#[non_exhaustive]
pub struct Stuck {
    /// The allocator's name.
    pub allocator: String,
    /// The least duration of the call: since another call began to wait for the region.
    pub at_least: Duration,
}

/// Why one region didn't serve a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// No region has that name. A map may name regions that a system doesn't have.
    #[error("no such region")]
    UnknownRegion,
    /// The region is not registered any more.
    #[error("not registered")]
    Unregistered,
    /// Its allocator is not registered (yet).
    #[error("no allocator: it waits for {}", wanted.as_ref().map_or("the first one to be registered".to_string(), |name| format!("\"{name}\", which is not registered")))]
    NoAllocator {
        /// The name it waits for; `None` for the default.
        wanted: Option<String>,
    },
    /// Its allocator refused the region.
    #[error("allocator \"{allocator}\" can't serve this region: {reason}")]
    AttachFailed {
        /// Its name.
        allocator: String,
        /// The allocator's reason.
        reason: String,
    },
    /// Its allocator returned a wrong result or panicked, and is not called any more.
    #[error("allocator \"{allocator}\" is out of service: {reason}")]
    OutOfService {
        /// Its name.
        allocator: String,
        /// The fault.
        reason: String,
    },
    /// Its allocator doesn't return from an earlier call.
    #[error(transparent)]
    Stuck(#[from] Stuck),
    /// No place in the whole region serves the request, even when the region is empty.
    #[error("no place: {region} has none {limit}{}", limit.remedy(*region))]
    NoPlace {
        /// The region.
        region: PageRange,
        /// What rules out every place.
        limit: Limit,
    },
    /// The whole region is smaller than the request.
    #[error("too small: {} requested of a region of {}", Bytes(*asked_bytes), Bytes(*region_bytes))]
    TooSmall {
        /// The requested size.
        asked_bytes: u64,
        /// The region's size.
        region_bytes: u64,
    },
    /// The free space is smaller than the request.
    #[error("full: {} of {} free", Bytes(*free_bytes), Bytes(*region_bytes))]
    Full {
        /// The free space.
        free_bytes: u64,
        /// The region's size.
        region_bytes: u64,
    },
    /// The exact place that was requested lies outside the region.
    #[error("{place} is not in it")]
    Elsewhere {
        /// The place.
        place: PageRange,
    },
    /// The exact place that was requested is in use.
    #[error("{place} is taken: {owner} is there")]
    Taken {
        /// The place.
        place: PageRange,
        /// The lowest chunk there, and who has it.
        owner: Box<Owner>,
    },
    /// Requests wait for the region. It serves them in the order of their asking.
    #[error("{ahead} earlier {} for it", if *ahead == 1 { "request waits" } else { "requests wait" })]
    Queued {
        /// The number of requests that are served before this one.
        ahead: usize,
    },
    /// The chunk is to be given to another process, and no whole piece of the region's memory lies
    /// within the limits of the request.
    #[error("its memory is given out in pieces of {}, and none lies within the limits", Bytes(*granule_bytes))]
    Granule {
        /// The size of a piece.
        granule_bytes: u64,
    },
    /// It has as many live chunks as its books can hold: 2^32 - 1.
    #[error("too many chunks are live in it")]
    TooManyChunks,
    /// Enough is free, but not contiguously.
    #[error("fragmented: {} free, the largest hole is {}", Bytes(*free_bytes), Bytes(*largest_hole_bytes))]
    Fragmented {
        /// The free space.
        free_bytes: u64,
        /// The largest free range.
        largest_hole_bytes: u64,
    },
    /// A free range is large enough, but none at that alignment.
    #[error("alignment: no hole has room aligned to {}; the largest is {}", Bytes(*alignment_bytes), Bytes(*largest_hole_bytes))]
    Alignment {
        /// The requested alignment.
        alignment_bytes: u64,
        /// The largest free range.
        largest_hole_bytes: u64,
    },
    /// A free range has room at that alignment, but none has within the window.
    #[error("window: no hole has room {}; {}", Limit::Window(*window), in_window(*largest_inside_bytes))]
    Window {
        /// The requested window.
        window: PageRange,
        /// The largest free range within the window; 0 if nothing is free there.
        largest_inside_bytes: u64,
    },
    /// A free range has room at that alignment within the window, but each place crosses a multiple
    /// of the boundary.
    #[error("boundary: no hole has room {}", Limit::Boundary { bytes: *boundary_bytes })]
    Boundary {
        /// The requested boundary.
        boundary_bytes: u64,
    },
    /// The allocator refuses although a free range can hold the request. Allocators may do that:
    /// some search only a part of the free ranges, or have limits of their own.
    #[error("declined: {allocator} passes over the free range {free_range}, which holds the request; it reports {} as the largest request that it serves", Bytes(*largest_request_bytes))]
    Declined {
        /// The allocator's name.
        allocator: String,
        /// The largest free range that can hold the request within its limits.
        free_range: PageRange,
        /// The largest page-aligned request without limits that the allocator could serve, as it
        /// reports it.
        largest_request_bytes: u64,
    },
    /// The allocator returned an invalid placement. It is out of service now.
    #[error("allocator \"{allocator}\" returned {fault}; it is out of service now")]
    Misplaced {
        /// Its name.
        allocator: String,
        /// The fault of the placement.
        fault: Misplacement,
    },
}

/// A limit of the place that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// The start must be a multiple of this many bytes.
    Alignment {
        /// The alignment.
        bytes: u64,
    },
    /// The chunk must lie in this range.
    Window(PageRange),
    /// The chunk must cross no multiple of this many bytes.
    Boundary {
        /// The boundary.
        bytes: u64,
    },
}

impl Limit {
    /// What helps when a region has no place for any chunk within the limit.
    fn remedy(&self, region: PageRange) -> &'static str {
        match self {
            Limit::Window(window) if !window.overlaps(region) => {
                "; change the window, or use a region in it"
            }
            _ => "",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Alignment { bytes } => write!(f, "aligned to {}", Bytes(*bytes)),
            Limit::Window(window) => {
                let reaches_top = window.end_page() == PageRange::ADDRESS_SPACE_PAGES;
                let end = u128::from(window.end_page()) << PAGE_SHIFT;
                match (window.first_page(), reaches_top) {
                    (0, _) => write!(f, "below {end:#x}"),
                    (_, true) => write!(f, "above {}", window.start()),
                    _ => write!(f, "from {} to {end:#x}", window.start()),
                }
            }
            Limit::Boundary { bytes } => {
                write!(f, "that crosses no multiple of {}", Bytes(*bytes))
            }
        }
    }
}

/// The largest free range within a window, in words.
fn in_window(largest_bytes: u64) -> String {
    match largest_bytes {
        0 => "nothing is free there".to_string(),
        bytes => format!("the largest free range there is {}", Bytes(bytes)),
    }
}

/// The fault of an allocator's placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misplacement {
    /// Not all of it lies in the region.
    #[error("{0}, which is outside the region")]
    Outside(PageRange),
    /// Its start doesn't have the requested alignment.
    #[error("{0}, which is not aligned")]
    Unaligned(PageRange),
    /// It doesn't lie in the requested window.
    #[error("{0}, which is outside the requested window")]
    OutsideWindow(PageRange),
    /// It crosses a multiple of the requested boundary.
    #[error("{0}, which crosses the requested boundary")]
    CrossesBoundary(PageRange),
    /// It doesn't have the requested size.
    #[error("{0}, which is of the wrong size")]
    WrongSize(PageRange),
    /// It overlaps a live chunk.
    #[error("{0}, which overlaps a live chunk")]
    Overlaps(PageRange),
}
