//! Why bytes are not a trace.

use super::lines::MAX_LINE;
use crate::format::quoted;
use crate::recording::RecordError;
use crate::trace::Figures;
use std::io;

/// Why bytes are no trace. Lines are those of the uncompressed text, and they and columns (in
/// bytes) count from 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It can't be read.
    #[error("it can't be read behind line {line}: {source}")]
    Io {
        /// The last line that was read.
        line: u64,
        /// Why.
        source: io::Error,
    },
    /// Its first line is not that of a trace.
    #[error(
        "not a trace: expected \"# cma-trace 1\" in its first line, found \"{}\"",
        quoted(found)
    )]
    NotATrace {
        /// How it starts.
        found: String,
    },
    /// It is a trace in another version of the format.
    #[error("expected version 1 of the trace format, found \"{}\"", quoted(found))]
    Version {
        /// The version.
        found: String,
    },
    /// The compressed data ends too early.
    #[error("the compressed data is cut off behind line {line}")]
    Truncated {
        /// The last line that could be read.
        line: u64,
    },
    /// The compressed data is damaged.
    #[error("the compressed data is damaged behind line {line}: {source}")]
    Damaged {
        /// The last line that could be read.
        line: u64,
        /// What is wrong with it.
        source: io::Error,
    },
    /// Something else stands behind the compressed data.
    #[error(
        "behind the compressed data, which ends with line {line}, stand bytes that are not part of it; remove them"
    )]
    LeftOver {
        /// The last line.
        line: u64,
    },
    /// A line has something else where a field has to stand.
    #[error("line {line}, column {column}: expected {expected}, found \"{}\"", quoted(found))]
    Field {
        /// The line.
        line: u64,
        /// The column at which the field starts.
        column: usize,
        /// What has to stand there.
        expected: &'static str,
        /// What stands there; empty where the line ends.
        found: String,
    },
    /// A line is longer than any line of a trace.
    #[error("line {line}: expected up to {MAX_LINE} bytes, found more")]
    LongLine {
        /// The line.
        line: u64,
    },
    /// An allocation has the id of an earlier one.
    #[error("line {line}: expected a new id, found {id}, which was used before")]
    IdUsedTwice {
        /// The line.
        line: u64,
        /// The id.
        id: u64,
    },
    /// A free names no live chunk.
    #[error("line {line}: expected the id of a live chunk, found {id}, which {}", if *was_live { "was freed before" } else { "was never allocated" })]
    NotLive {
        /// The line.
        line: u64,
        /// The id.
        id: u64,
        /// Whether it was live once.
        was_live: bool,
    },
    /// An operation is one that no trace may hold.
    #[error("line {line}: {error}")]
    Operation {
        /// The line.
        line: u64,
        /// What is wrong with it.
        error: RecordError,
    },
    /// The header doesn't say what the operations amount to; the end may be missing.
    #[error("expected \"{header}\", as the header says, found \"{content}\"")]
    Figures {
        /// What the header says.
        header: Figures,
        /// What the operations amount to.
        content: Figures,
    },
}
