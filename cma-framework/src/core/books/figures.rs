//! The reports of the books: public values.

use crate::vocabulary::ChunkRequest;
use crate::vocabulary::errors::Reason;
pub use crate::vocabulary::{Holder, Owner, Process};
use std::sync::Arc;
use std::time::Duration;

/// A region's figures since it was registered, or restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegionStatistics {
    /// Requests that were served.
    pub chunks_placed: u64,
    /// Chunks that were restored: a process had them that has ended
    /// ([`restore`](crate::restore)). They were placed there and are not counted as placed here.
    pub chunks_restored: u64,
    /// Requests that were refused.
    pub requests_refused: u64,
    /// Chunks that were freed.
    pub chunks_freed: u64,
    /// Pages of all requests that were served.
    pub alloc_pages_success: u64,
    /// Pages of all requests that were refused.
    pub alloc_pages_fail: u64,
    /// Pages of all chunks that were freed.
    pub release_pages_success: u64,
    /// The most bytes that were ever in use at once.
    pub high_water_bytes: u64,
}

/// A request that a region refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// The request, in whole pages.
    pub request: ChunkRequest,
    /// Device and type of the request; `None` in the cases of [`Owner::device`].
    pub device: Option<(Arc<str>, Arc<str>)>,
    /// Why it was refused.
    pub reason: Reason,
    /// Its age, in tenths of a second.
    pub age: Duration,
}
