//! The results of a replay.

use crate::trace::Requester;
use cma_framework::AllocError;
use cma_framework::config::Bytes;
use serde::{Serialize, Serializer};
use std::fmt;

/// The results of a replay, over all regions of the framework. Most replays have one region.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The regions' size in bytes.
    pub region_bytes: u64,
    /// The operations of the trace.
    pub ops: u64,
    /// The allocations among them that failed. The frees of their chunks are skipped.
    pub failed: u64,
    /// The most bytes that were live at a time, of served requests, rounded up to pages.
    pub peak_live_bytes: u64,
    /// The bytes that the trace left live at its end, rounded up to pages.
    pub live_bytes: u64,
    /// The free bytes of the regions then.
    pub free_bytes: u64,
    /// The largest hole in any region then, in bytes.
    pub largest_hole_bytes: u64,
    /// CPU time of an operation on average, in nanoseconds: the framework's calls, the allocator,
    /// and a table of the live chunks, which takes a nanosecond or two. Written with one decimal.
    #[serde(serialize_with = "tenths")]
    pub ns_per_op: f64,
    /// The first allocation that failed.
    #[serde(skip)]
    pub first_failure: Option<FailedRequest>,
}

/// Further decimals are noise.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn tenths<S: Serializer>(ns: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((ns * 10.0).round() / 10.0)
}

/// An allocation that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedRequest {
    /// The operation's number, counted from 1.
    pub operation: u64,
    /// The recorded time in microseconds.
    pub time_us: u64,
    /// The requesting device and type.
    pub requester: Requester,
    /// The requested bytes.
    pub size: u64,
    /// The requested alignment in bytes.
    pub alignment: u64,
    /// The reason.
    pub error: AllocError,
}

impl fmt::Display for FailedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FailedRequest { operation, requester, error, .. } = self;
        write!(f, "operation {operation}, {} for {requester}", Bytes(self.size))?;
        if self.alignment > 1 {
            write!(f, " aligned to {}", Bytes(self.alignment))?;
        }
        write!(f, ": {error}")
    }
}

/// A report with the names of trace and allocator: one line of JSON results.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct NamedReport {
    /// The name of the trace.
    pub trace: String,
    /// The name of the allocator.
    pub allocator: String,
    /// The results.
    #[serde(flatten)]
    pub report: Report,
}

impl Report {
    /// The report of `trace` on `allocator`.
    pub fn named(self, trace: impl Into<String>, allocator: impl Into<String>) -> NamedReport {
        NamedReport { trace: trace.into(), allocator: allocator.into(), report: self }
    }
}
