//! What a recording does not have.

use cma_trace::RecordError;
use std::time::Duration;

/// Something that the trace does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Loss {
    /// The log had no room for events.
    #[error(
        "the log is full: {events} events were not recorded; record fewer buffers, with a larger \
        --at-least"
    )]
    LogFull {
        /// How many.
        events: u64,
    },
    /// The system gave no space for the log.
    #[error(
        "{events} events were not recorded, because the log could not grow: {reason}; set TMPDIR \
        to a folder with more free space"
    )]
    NoSpace {
        /// How many.
        events: u64,
        /// The system's reason.
        reason: String,
    },
    /// The trace takes no more operations.
    #[error(
        "the trace ends at {time:.3?}: {reason}; record fewer buffers, with a larger --at-least"
    )]
    TraceFull {
        /// Time from the start of the recording.
        time: Duration,
        /// The limit.
        reason: RecordError,
    },
    /// Some requests can't be in a trace.
    #[error("{requests} requests were left out, the first because: {reason}")]
    LeftOut {
        /// How many.
        requests: u64,
        /// The reason for the first.
        reason: RecordError,
    },
    /// Some processes use a memory allocator that can't be asked for the sizes of its blocks.
    #[error(
        "of {processes} processes only mappings were recorded: their memory allocator has no \
        malloc_usable_size"
    )]
    UnknownAllocator {
        /// How many.
        processes: u64,
    },
    /// The program ended before processes that it started.
    #[error(
        "{processes} processes still run; what they do after the program's end is not recorded"
    )]
    StillRunning {
        /// How many.
        processes: usize,
    },
}
