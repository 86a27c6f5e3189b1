//! The events of a region, as values.
//!
//! A change of a region's books or of its allocator produces events. They carry values only: the
//! region's display name is added when they are delivered (`host::events`), after the region's lock
//! is released. The counters of the books ([`Counters`](super::books::Counters)) read the same
//! values, under the lock.

use crate::vocabulary::errors::{Reason, Stuck};
use cma_api::{DmaAddr, PageRange, Request};

/// Something that happened in a region.
#[derive(Clone, Debug)]
pub(crate) enum RegionEvent {
    /// A chunk was placed or freed. Delivered only while a sink follows that.
    Chunk(ChunkEvent),
    /// The region refused a request. Another region may serve it.
    Refused { request: Request, reason: Reason },
    /// An allocator serves the region from now on.
    Attached { allocator: String },
    /// An allocator no longer serves the region.
    Detached { allocator: String },
    /// Attaching an allocator failed.
    NotAttached { reason: Reason },
    /// The allocator broke its contract or panicked, and is out of service.
    OutOfService { allocator: String, reason: String },
    /// The host's request to change the allocator was refused.
    NotChanged { error: String },
    /// The allocator was not replaced by the build that is registered now.
    NotReplaced { error: String },
    /// A deferred free by address found no chunk there.
    NotFreed { address: DmaAddr },
    /// The allocator doesn't return from a call.
    Stuck(Stuck),
    /// The allocator of a stuck region has returned. `deferred` operations are carried out now.
    Resumed { deferred: usize },
    /// Memory was set aside. `moved_to` is the new place of the chunk that it was allocated for, if
    /// that is in the same region.
    SetAside { range: PageRange, moved_to: Option<PageRange> },
    /// Memory that was set aside is free again.
    Recovered { range: PageRange },
}

/// An event of every request, so it is cheap to make and to drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChunkEvent {
    /// A request was served.
    Placed { range: PageRange },
    /// A chunk was freed.
    Released { range: PageRange },
}
