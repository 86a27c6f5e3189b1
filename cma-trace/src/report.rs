//! The results of a replay.

use crate::limits::Limits;
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
    /// The requests that failed in the replay, with those that the recorded system refused too. The
    /// frees of their chunks are skipped.
    pub failed: u64,
    /// The allocations that were served after they waited, in the trace's time.
    pub waited: u64,
    /// The requests that the recorded system refused. Each is made again, and its chunk is freed at
    /// once if it is served.
    pub refused: u64,
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
    /// The first request that failed.
    pub first_failure: Option<FailedRequest>,
}

/// Further decimals are noise.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn tenths<S: Serializer>(ns: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((ns * 10.0).round() / 10.0)
}

/// A request that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FailedRequest {
    /// The operation's number, counted from 1.
    pub operation: u64,
    /// The recorded time in microseconds.
    pub time_us: u64,
    /// The requester. Written as in a trace, `device[/type] [from=REGION[,REGION...]]`.
    #[serde(serialize_with = "text")]
    pub requester: Requester,
    /// The requested bytes.
    pub size: u64,
    /// The requested alignment in bytes.
    pub alignment: u64,
    /// Its limits. Written as in a request, and empty if it has none.
    #[serde(serialize_with = "trimmed")]
    pub limits: Limits,
    /// The reason. Written as its text, and `refusals` with the reason of each region that was
    /// tried.
    #[serde(flatten, serialize_with = "reasons")]
    pub error: AllocError,
}

fn text<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn trimmed<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.to_string().trim_start())
}

/// An error with the regions that were tried.
#[derive(Serialize)]
struct Reasons<'a> {
    error: String,
    refusals: Vec<RegionReason<'a>>,
}

/// The reason of one region.
#[derive(Serialize)]
struct RegionReason<'a> {
    region: &'a str,
    reason: String,
}

fn reasons<S: Serializer>(error: &AllocError, serializer: S) -> Result<S::Ok, S::Error> {
    let refusals = match error {
        AllocError::NoRegion(refusals) => refusals.iter().as_slice(),
        AllocError::TimedOut(timed_out) => timed_out.refusals.iter().as_slice(),
        _ => &[],
    };
    let refusals = refusals
        .iter()
        .map(|refusal| RegionReason { region: &refusal.region, reason: refusal.reason.to_string() })
        .collect();
    Reasons { error: error.to_string(), refusals }.serialize(serializer)
}

impl fmt::Display for FailedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FailedRequest { operation, requester, error, .. } = self;
        write!(f, "operation {operation}, {} for {requester}", Bytes(self.size))?;
        if self.alignment > 1 {
            write!(f, " aligned to {}", Bytes(self.alignment))?;
        }
        write!(f, "{}: {error}", self.limits)
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
