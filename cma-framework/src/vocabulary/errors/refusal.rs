//! Why a region serves no request: the reasons that an [`AllocError`](super::AllocError) lists.

use crate::vocabulary::Bytes;
use cma_api::PageRange;
use std::fmt;
use std::time::Duration;

/// The regions that were tried for a request, in order, each with the reason why it didn't serve
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusals(pub(crate) Box<[Refusal]>);

/// A region that didn't serve a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The region's name, or its range if it has none.
    pub region: String,
    /// Why.
    pub reason: Reason,
}

impl Refusals {
    /// One for each region that was tried, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Refusal> {
        self.0.iter()
    }

    pub(crate) fn stuck(&self) -> bool {
        self.0.iter().any(|refusal| matches!(refusal.reason, Reason::Stuck(_)))
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
        for (i, Refusal { region, reason }) in self.0.iter().enumerate() {
            write!(f, "{}{region}: {reason}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

/// A region whose allocator doesn't return from a call. The region goes on when it does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stuck: allocator \"{allocator}\" has kept the region busy for {:.1} s or longer", at_least.as_secs_f64())]
#[non_exhaustive]
pub struct Stuck {
    /// The allocator's name.
    pub allocator: String,
    /// For how long, as far as known: since somebody began to wait for it.
    pub at_least: Duration,
}

/// Why one region didn't serve a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// There is no region of that name. The map may name regions that a build doesn't have.
    #[error("no such region")]
    UnknownRegion,
    /// The region is not registered any more.
    #[error("not registered")]
    Unregistered,
    /// The allocator it asks for is not registered (yet).
    #[error("no allocator: it waits for {}", wanted.as_ref().map_or("the first one to be registered".to_string(), |name| format!("\"{name}\", which is not registered")))]
    NoAllocator {
        /// The name it waits for; `None` for the default.
        wanted: Option<String>,
    },
    /// The allocator it asks for refused the region.
    #[error("allocator \"{allocator}\" can't serve this region: {reason}")]
    AttachFailed {
        /// Its name.
        allocator: String,
        /// What it says.
        reason: String,
    },
    /// Its allocator lied or panicked and is not asked any more.
    #[error("allocator \"{allocator}\" is out of service: {reason}")]
    OutOfService {
        /// Its name.
        allocator: String,
        /// What it did.
        reason: String,
    },
    /// Its allocator doesn't return from an earlier call.
    #[error(transparent)]
    Stuck(#[from] Stuck),
    /// The whole region is smaller than what was asked for.
    #[error("too small: {} asked of a region of {}", Bytes(*asked_bytes), Bytes(*region_bytes))]
    TooSmall {
        /// What was asked for.
        asked_bytes: u64,
        /// The region's size.
        region_bytes: u64,
    },
    /// Less is free than was asked for.
    #[error("full: {} of {} free", Bytes(*free_bytes), Bytes(*region_bytes))]
    Full {
        /// What is free.
        free_bytes: u64,
        /// The region's size.
        region_bytes: u64,
    },
    /// It has as many live chunks as its books can have: 2^32 - 1.
    #[error("too many chunks are live in it")]
    TooManyChunks,
    /// Enough is free, but not in one piece.
    #[error("fragmented: {} free, the largest hole is {}", Bytes(*free_bytes), Bytes(*largest_hole_bytes))]
    Fragmented {
        /// What is free.
        free_bytes: u64,
        /// The largest free range.
        largest_hole_bytes: u64,
    },
    /// A free range is large enough, but none at that alignment.
    #[error("alignment: no hole has room aligned to {}; the largest is {}", Bytes(*alignment_bytes), Bytes(*largest_hole_bytes))]
    Alignment {
        /// The alignment asked for.
        alignment_bytes: u64,
        /// The largest free range.
        largest_hole_bytes: u64,
    },
    /// The allocator refuses, although a free range holds the request. Allocators may: some look at
    /// a part of the free ranges, or have a limit of their own.
    #[error("declined by {allocator}; a free range of {} exists{}", Bytes(free_range.bytes()), if *aligned { " that holds it at its alignment" } else { "" })]
    Declined {
        /// The allocator's name.
        allocator: String,
        /// The largest free range that holds the request.
        free_range: PageRange,
        /// Whether an alignment of more than a page was asked for.
        aligned: bool,
    },
    /// The allocator answered with a place that it may not hand out. It is out of service now.
    #[error("allocator \"{allocator}\" answered with {fault}; it is out of service now")]
    Misplaced {
        /// Its name.
        allocator: String,
        /// What it answered.
        fault: Misplacement,
    },
}

/// What is wrong with a place that an allocator answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misplacement {
    /// Not all of it lies in the region.
    #[error("{0}, which is outside the region")]
    Outside(PageRange),
    /// Its start is not aligned as asked for.
    #[error("{0}, which is not aligned")]
    Unaligned(PageRange),
    /// It is not of the size asked for.
    #[error("{0}, which is of the wrong size")]
    WrongSize(PageRange),
    /// It overlaps a live chunk.
    #[error("{0}, which overlaps a live chunk")]
    Overlaps(PageRange),
}
