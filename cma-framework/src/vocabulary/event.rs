//! What happens in a framework, as values.
//!
//! Such a value is made under the lock of its region, where the change is made that it describes.
//! `host::events` has it delivered. They carry no reference to the framework: an observer may keep
//! them as long as it likes.

use super::errors::{AllocError, Reason, Stuck};
use super::owner::{Owner, Process};
use super::request::ChunkRequest;
use cma_api::{DmaAddr, PageRange};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// Something that happened in a framework.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// When it happened.
    pub at: Instant,
    /// The region in which it happened. `None` when no region is meant: for [`What::Failed`],
    /// [`What::GivenUp`] and [`What::Missed`].
    pub region: Option<EventRegion>,
    /// What happened.
    pub what: What,
}

impl Event {
    pub(crate) fn now(region: Option<EventRegion>, what: What) -> Self {
        Event { at: Instant::now(), region, what }
    }
}

/// The region of an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct EventRegion {
    /// Its name; `None` for a private region.
    pub name: Option<Arc<str>>,
    /// Its place.
    pub range: PageRange,
}

impl fmt::Display for EventRegion {
    /// The name, or the range of a private region.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.range),
        }
    }
}

/// A request as it was made, and by whom. One that asks several regions is the same in the events
/// of all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Asked {
    /// Distinguishes the requests of a process.
    pub number: u64,
    /// When it was made: before the first region was asked, and before it waited. For a request
    /// that began before the observation, when its region was asked.
    pub since: Instant,
    /// The request.
    pub request: ChunkRequest,
    /// Device and type. `None` when the request named regions instead; also in the cases of
    /// [`Owner::device`], for a request that began before the observation.
    pub device: Option<(Arc<str>, Arc<str>)>,
    /// The regions that it named instead of a device: names separated by commas. Empty for a
    /// request to a handle of a region.
    pub regions: Arc<str>,
    /// The process for which a front end made it.
    pub process: Option<Process>,
}

/// What happened.
///
/// The events of a region say what its books went through: a chunk is live from
/// [`Placed`](What::Placed), from [`Restored`](What::Restored), or from [`Began`](What::Began),
/// which lists it, to [`Released`](What::Released).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum What {
    /// The observation of the region begins. The events that follow are the changes since this
    /// state of it.
    Began {
        /// The name of the allocator that serves it; `None` for none.
        allocator: Option<String>,
        /// Its live chunks in ascending order of address. A chunk without device, process and age
        /// may be memory that is set aside.
        live: Arc<[Owner]>,
    },
    /// The region was unregistered.
    Ended,
    /// A request was served.
    Placed {
        /// The place of the chunk.
        range: PageRange,
        /// The request as the region got it: in whole pages, or in whole pieces of its memory.
        request: ChunkRequest,
        /// The request as it was made.
        asked: Arc<Asked>,
    },
    /// A chunk was restored: a process had it that has ended ([`restore`](crate::restore)). If its
    /// memory can't be restored, it is [released](What::Released) at once.
    Restored(Arc<Owner>),
    /// A chunk was freed.
    Released {
        /// Its place.
        range: PageRange,
    },
    /// The region refused a request.
    Refused {
        /// The request as the region got it.
        request: ChunkRequest,
        /// Why.
        reason: Reason,
        /// The request as it was made.
        asked: Arc<Asked>,
        /// Whether the request has failed with that: no other region is asked. If it is false,
        /// another region may serve the request; if none does, [`Failed`](What::Failed) follows.
        last: bool,
    },
    /// A request failed without a region whose refusal was known to be the last: no rule of the map
    /// matches, a region doesn't exist.
    Failed {
        /// Why.
        error: AllocError,
        /// The request.
        asked: Arc<Asked>,
    },
    /// A request that waited was given up by its owner before it was served or refused.
    GivenUp {
        /// The request.
        asked: Arc<Asked>,
    },
    /// An allocator serves the region from now on. It has adopted the live chunks.
    Attached {
        /// Its name.
        allocator: String,
    },
    /// An allocator no longer serves the region.
    Detached {
        /// Its name.
        allocator: String,
    },
    /// Attaching an allocator failed.
    NotAttached {
        /// Why.
        reason: Reason,
    },
    /// The allocator broke its contract or panicked, and is out of service.
    OutOfService {
        /// Its name.
        allocator: String,
        /// Its fault.
        reason: String,
    },
    /// The host's request to change the allocator was refused.
    NotChanged {
        /// Why.
        error: String,
    },
    /// The allocator was not replaced by the build that is registered now.
    NotReplaced {
        /// Why.
        error: String,
    },
    /// A deferred free by address found no chunk there.
    NotFreed {
        /// The address.
        address: DmaAddr,
    },
    /// The allocator doesn't return from a call.
    Stuck(Stuck),
    /// The allocator of a stuck region has returned.
    Resumed {
        /// The number of operations that were deferred and are carried out now.
        deferred: usize,
    },
    /// Memory was set aside: it is booked for nobody, until it is released. The chunk that it was
    /// allocated for was released.
    SetAside {
        /// The memory.
        range: PageRange,
        /// The new place of the chunk, if that is in the same region.
        moved_to: Option<PageRange>,
    },
    /// Memory that was set aside is free again.
    Recovered {
        /// The memory.
        range: PageRange,
    },
    /// Events were dropped at this point, because the observer was slower than they came.
    Missed {
        /// How many.
        count: u64,
    },
}
