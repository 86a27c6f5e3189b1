//! A trace in memory: what programs asked for and gave back, checked once and sound from then on.

use cma_api::Pages;
use std::fmt;

/// What programs asked for and gave back, in the order of time.
///
/// Made by [`Recording`](crate::Recording) and [`Trace::read`](Trace::read), which let nothing
/// unsound in:
///
/// 1. Time never goes back.
/// 2. Chunks are numbered from 0 in the order in which they were allocated.
/// 3. A chunk is freed at most once, and after it was allocated.
/// 4. What is live at any moment, rounded up to pages, fits into a 64-bit address space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    pub(crate) source: String,
    pub(crate) askers: Vec<Asker>,
    pub(crate) operations: Vec<Operation>,
    pub(crate) figures: Figures,
    pub(crate) peak_live: Pages,
}

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// When, in microseconds from the start of the recording.
    pub time_us: u64,
    /// What.
    pub action: Action,
}

/// What an operation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The next chunk was allocated.
    Allocate {
        /// Its size in bytes, as it was asked for; not 0.
        size: u64,
        /// What its start had to be a multiple of, in bytes: a power of two, 1 when nothing was
        /// asked for.
        alignment: u64,
        /// Who asked: an index into [`Trace::askers`].
        asker: u16,
    },
    /// The chunk of this number was freed.
    Free {
        /// The chunk's number, counted from 0 in the order of allocation.
        chunk: u32,
    },
}

/// A device that asked for memory of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The device.
    pub device: String,
    /// The type; `None` when it didn't say.
    pub kind: Option<String>,
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Some(kind) => write!(f, "{}/{kind}", self.device),
            None => f.write_str(&self.device),
        }
    }
}

/// What a trace amounts to, as its header says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// The number of operations.
    pub operations: u64,
    /// The most bytes that were live at a time, as they were asked for.
    pub peak_live_bytes: u64,
    /// The most chunks that were live at a time.
    pub peak_live_chunks: u64,
}

impl fmt::Display for Figures {
    /// As it stands in the header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { operations, peak_live_bytes, peak_live_chunks } = self;
        write!(
            f,
            "ops: {operations}  peak-live-bytes: {peak_live_bytes}  peak-live-chunks: {peak_live_chunks}"
        )
    }
}

impl Trace {
    /// What was recorded, in one line.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Everybody who asked for memory, in the order of their first requests.
    pub fn askers(&self) -> &[Asker] {
        &self.askers
    }

    /// The operations in the order of time.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// What it amounts to, in bytes as they were asked for.
    pub fn figures(&self) -> Figures {
        self.figures
    }

    /// The most memory that was live at a time, every chunk rounded up to pages: no region smaller
    /// than this can serve the trace.
    pub fn peak_live(&self) -> Pages {
        self.peak_live
    }

    /// The size in bytes of a region to replay the trace in when nobody says otherwise: twice
    /// [`peak_live`](Self::peak_live), rounded up to 2 MiB.
    pub fn usual_region_bytes(&self) -> u64 {
        const STEP: u64 = 2 << 20;
        let twice = self.peak_live.bytes().saturating_mul(2).max(1);
        twice.checked_next_multiple_of(STEP).unwrap_or(u64::MAX / STEP * STEP)
    }
}
