//! Why a recording of a kernel can't be imported.

use crate::read::ReadError;
use crate::read::input::OfInput;
use crate::recording::RecordError;
use cma_framework::config::Bytes;

/// The reason why a recording can't be imported. Lines are those of the uncompressed text, counted
/// from 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The input can't be read, or a line of it.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The binary file of a recorder.
    #[error("it is the binary file of {recorder}; its text is needed: {command}")]
    Binary {
        /// The program that wrote it.
        recorder: &'static str,
        /// The command that prints its text.
        command: &'static str,
    },
    /// No line has an event.
    #[error(
        "none of its {lines} lines is an event of the group cma, such as cma_alloc_start; was it \
         enabled while memory was allocated?"
    )]
    NoEvents {
        /// The number of lines.
        lines: u64,
    },
    /// No line has free pages.
    #[error(
        "expected a line with \"number of available pages: 4@572+...=> N free of N total pages\""
    )]
    NoFreeList,
    /// An event is much earlier than the one before it.
    #[error(
        "line {line}: expected a time of {} s or later, found {}: is this more than one recording?",
        seconds(*last_us),
        seconds(*time_us)
    )]
    BackInTime {
        /// The line.
        line: u64,
        /// Its time in microseconds.
        time_us: u64,
        /// The time of the event before it.
        last_us: u64,
    },
    /// More requests have begun than a kernel has threads.
    #[error("line {line}: more than 65536 requests have begun and not ended")]
    TooManyPending {
        /// The line.
        line: u64,
    },
    /// More areas are named than a kernel has.
    #[error("line {line}: more than 1024 areas are named")]
    TooManyAreas {
        /// The line.
        line: u64,
    },
    /// A log has more lists than are kept.
    #[error(
        "line {line}: the log has more than a million free ranges; only the lists around the recording are needed"
    )]
    LongLog {
        /// The line.
        line: u64,
    },
    /// Pages lie beyond the address space.
    #[error("line {line}: {pages} pages from page {first:#x} on exceed a 64-bit address space")]
    PastTheTop {
        /// The line.
        line: u64,
        /// The first page.
        first: u64,
        /// Their number.
        pages: u64,
    },
    /// An operation is not allowed in a trace.
    #[error("line {line}: {error}")]
    Operation {
        /// The line.
        line: u64,
        /// The reason.
        error: RecordError,
    },
    /// A list of free pages is of one of several areas.
    #[error(
        "the list of free pages does not say of which area it is: {areas}; take it from a log in which \"alloc failed\" stands in the line before"
    )]
    WhichArea {
        /// The areas, separated by commas.
        areas: String,
    },
    /// The log doesn't say where an area starts.
    #[error("the log does not say where the area of {} starts, in a line such as \"cma: Reserved 64 MiB at 0x7ac00000\"", Bytes(*bytes))]
    NoStart {
        /// The size of the area.
        bytes: u64,
    },
    /// The page size is not one, or the start is not a multiple of it.
    #[error("expected {expected}, found {}", Bytes(*found))]
    Option {
        /// What is expected.
        expected: &'static str,
        /// What was found, in bytes.
        found: u64,
    },
}

fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

impl OfInput for ImportError {
    fn is_of_input(&self) -> bool {
        matches!(self, ImportError::Read(error) if error.is_of_input())
    }
}
