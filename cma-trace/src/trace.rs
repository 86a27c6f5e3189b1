//! A trace in memory: the requests and frees of a program, validated when it is created.

use crate::format::FROM;
use crate::limits::Limits;
use cma_api::Pages;
use std::fmt;

/// The requests and frees of a program, in order of time.
///
/// Created by [`Recording`](crate::Recording) and [`Trace::read`](Trace::read), which enforce its
/// invariants:
///
/// 1. Times never decrease.
/// 2. Chunks are numbered from 0 in the order in which they were allocated.
/// 3. A chunk is freed at most once, and after it was allocated.
/// 4. The live chunks of any moment, rounded up to pages, fit into a 64-bit address space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    pub(crate) source: String,
    pub(crate) requesters: Vec<Requester>,
    /// No two are equal; the first are no limits.
    pub(crate) limits: Vec<Limits>,
    pub(crate) operations: Vec<Operation>,
    pub(crate) figures: Figures,
    pub(crate) peak_live: Pages,
}

/// An operation of a trace, with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Microseconds from the start of the recording.
    pub time_us: u64,
    /// What was done.
    pub action: Action,
}

/// An allocation, a free or a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Allocates the next chunk.
    Allocate {
        /// The requested size in bytes; not 0.
        size: u64,
        /// The requested alignment in bytes: a power of two, 1 if none was requested.
        alignment: u64,
        /// The requester: an index into [`Trace::requesters`].
        requester: u16,
        /// The request's limits: an index into [`Trace::limits`], 0 if it has none.
        limits: u16,
    },
    /// Frees a chunk.
    Free {
        /// The chunk's number, counted from 0 in the order of allocation.
        chunk: u32,
    },
    /// A request that the recorded system refused. A replay makes it too, and frees its chunk at
    /// once if it is served.
    Refused {
        /// The requested size in bytes; not 0.
        size: u64,
        /// The requested alignment in bytes: a power of two, 1 if none was requested.
        alignment: u64,
        /// The requester: an index into [`Trace::requesters`].
        requester: u16,
        /// The request's limits: an index into [`Trace::limits`], 0 if it has none.
        limits: u16,
    },
}

/// A device, the type of memory that it requests, and the regions that it names, if any. Written as
/// `device[/type] [from=REGION[,REGION...]]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requester {
    /// The device.
    pub device: String,
    /// The type; `None` if the device gave none.
    pub kind: Option<String>,
    /// The regions that the request named, as a region list, instead of those that the map gives
    /// the device; `None` for those of the map.
    pub from: Option<String>,
}

impl fmt::Display for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.device)?;
        if let Some(kind) = &self.kind {
            write!(f, "/{kind}")?;
        }
        if let Some(regions) = &self.from {
            write!(f, "{FROM}{regions}")?;
        }
        Ok(())
    }
}

/// The figures of a trace, as in its header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// The number of operations.
    pub operations: u64,
    /// The most bytes that were live at a time, as requested.
    pub peak_live_bytes: u64,
    /// The most chunks that were live at a time.
    pub peak_live_chunks: u64,
}

impl fmt::Display for Figures {
    /// As written in the header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { operations, peak_live_bytes, peak_live_chunks } = self;
        write!(
            f,
            "ops: {operations}  peak-live-bytes: {peak_live_bytes}  peak-live-chunks: {peak_live_chunks}"
        )
    }
}

impl Trace {
    /// The description of what was recorded, in one line.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// All requesters, in order of their first requests.
    pub fn requesters(&self) -> &[Requester] {
        &self.requesters
    }

    /// The different limits of all requests, in order of the first requests that have them. The
    /// first are [`Limits::NONE`].
    pub fn limits(&self) -> &[Limits] {
        &self.limits
    }

    /// The operations in the order of time.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The figures, in bytes as requested.
    pub fn figures(&self) -> Figures {
        self.figures
    }

    /// The number of requests that the recorded system refused.
    pub fn refused(&self) -> u64 {
        let refused = |operation: &&Operation| matches!(operation.action, Action::Refused { .. });
        self.operations.iter().filter(refused).count() as u64
    }

    /// The most memory that was live at a time, every chunk rounded up to pages: no region smaller
    /// than this can serve the trace.
    pub fn peak_live(&self) -> Pages {
        self.peak_live
    }

    /// The default size in bytes of a region to replay the trace in: twice
    /// [`peak_live`](Self::peak_live), rounded up to 2 MiB.
    pub fn usual_region_bytes(&self) -> u64 {
        const STEP: u64 = 2 << 20;
        let twice = self.peak_live.bytes().saturating_mul(2).max(1);
        twice.checked_next_multiple_of(STEP).unwrap_or(u64::MAX / STEP * STEP)
    }
}
