//! What came of a replay.

use crate::trace::Asker;
use cma_framework::AllocError;
use cma_framework::config::Bytes;
use serde::{Serialize, Serializer};
use std::fmt;

/// What came of a replay. All regions of the framework count, though most replays have one.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The regions' size in bytes.
    pub region_bytes: u64,
    /// The operations of the trace.
    pub ops: u64,
    /// The allocations among them that failed. What they didn't get was not freed later.
    pub failed: u64,
    /// The most bytes that were live at a time, of what was served and rounded up to pages.
    pub peak_live_bytes: u64,
    /// What the trace left live at its end, in bytes, rounded up to pages.
    pub live_bytes: u64,
    /// What was free in the regions then, in bytes.
    pub free_bytes: u64,
    /// The largest hole in any region then, in bytes.
    pub largest_hole_bytes: u64,
    /// Nanoseconds of CPU time an operation took, on average: the framework's calls, the allocator
    /// behind them, and a table of the live chunks, which is a nanosecond or two. Written with one
    /// decimal.
    #[serde(serialize_with = "tenths")]
    pub ns_per_op: f64,
    /// The first allocation that failed.
    #[serde(skip)]
    pub first_failure: Option<Failure>,
}

/// More decimals than one tell of nothing but the clock.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn tenths<S: Serializer>(ns: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((ns * 10.0).round() / 10.0)
}

/// An allocation that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// The number of the operation, counted from 1.
    pub operation: u64,
    /// When it was recorded, in microseconds.
    pub time_us: u64,
    /// Who asked.
    pub asker: Asker,
    /// For how many bytes.
    pub size: u64,
    /// At a multiple of how many.
    pub alignment: u64,
    /// Why it failed.
    pub error: AllocError,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { operation, asker, error, .. } = self;
        write!(f, "operation {operation}, {} for {asker}", Bytes(self.size))?;
        if self.alignment > 1 {
            write!(f, " aligned to {}", Bytes(self.alignment))?;
        }
        write!(f, ": {error}")
    }
}

/// A report with what it is of: one line of a list of results, in a form for other programs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct NamedReport {
    /// What was replayed.
    pub trace: String,
    /// The allocator it was replayed on.
    pub allocator: String,
    /// What came of it.
    #[serde(flatten)]
    pub report: Report,
}

impl Report {
    /// The report of `trace` on `allocator`.
    pub fn named(self, trace: impl Into<String>, allocator: impl Into<String>) -> NamedReport {
        NamedReport { trace: trace.into(), allocator: allocator.into(), report: self }
    }
}
