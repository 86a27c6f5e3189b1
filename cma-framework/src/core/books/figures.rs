//! The reports of the books: public values.

use crate::vocabulary::errors::Reason;
use cma_api::{Alignment, PageRange};
use std::sync::Arc;
use std::time::Duration;

/// A region's figures since it was registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegionStatistics {
    /// Pages of all requests that were served.
    pub alloc_pages_success: u64,
    /// Pages of all requests that were refused.
    pub alloc_pages_fail: u64,
    /// Pages of all chunks that were freed.
    pub release_pages_success: u64,
    /// The most bytes that were ever in use at once.
    pub high_water_bytes: u64,
}

/// A process when it made its request. After it has ended, the kernel may reuse its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its user ID.
    pub uid: u32,
    /// Its process ID, as the host sees it.
    pub pid: u32,
    /// Its name, which it chooses itself; empty if unknown.
    pub name: Arc<str>,
}

/// The holder of a chunk that a front end allocated for another process; see
/// [`Chunk::set_holder`](crate::Chunk::set_holder).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process that requested the chunk.
    pub process: Process,
    /// The device and type of the request; `None` when it named regions.
    pub device: Option<(Arc<str>, Arc<str>)>,
}

/// A live chunk and its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Owner {
    /// The chunk's place.
    pub range: PageRange,
    /// Device and type of the request. `None` when it named regions. For a chunk without a holder
    /// also `None` when a name had more than 255 bytes, or when 65,536 other pairs have live chunks
    /// or made a request shortly before.
    pub device: Option<(Arc<str>, Arc<str>)>,
    /// The process that has it, if a front end [noted one](crate::Chunk::set_holder).
    pub process: Option<Process>,
    /// The time for which it has been live, in tenths of a second; `None` when no
    /// [timekeeper](crate::keep_time) ran at its allocation.
    pub age: Option<Duration>,
}

/// A request that a region refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// The requested size, in whole pages.
    pub bytes: u64,
    /// The requested alignment.
    pub alignment: Alignment,
    /// Device and type of the request; `None` in the cases of [`Owner::device`].
    pub device: Option<(Arc<str>, Arc<str>)>,
    /// Why it was refused.
    pub reason: Reason,
    /// Its age, in tenths of a second.
    pub age: Duration,
}
