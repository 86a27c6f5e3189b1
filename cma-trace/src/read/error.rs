//! Why bytes are not a trace.

use crate::format::quoted;
use crate::recording::RecordError;
use crate::trace::Figures;
use cma_framework::config::RequestSyntax;
use std::io;

/// The reason why bytes are not a trace. Lines are those of the uncompressed text. Lines and
/// columns (in bytes) are counted from 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The input can't be read.
    #[error("the input can't be read after line {line}: {source}")]
    Io {
        /// The last line that was read.
        line: u64,
        /// The reason.
        source: io::Error,
    },
    /// The input is empty.
    #[error("not a trace: it is empty")]
    Empty,
    /// The first line is not that of a trace.
    #[error(
        "not a trace: expected \"# cma-trace 1\" in its first line, found \"{}\"",
        quoted(found)
    )]
    NotATrace {
        /// The start of the input.
        found: String,
    },
    /// A trace in another version of the format.
    #[error("expected version 1 of the trace format, found \"{}\"", quoted(found))]
    Version {
        /// The version.
        found: String,
    },
    /// The compressed data is truncated.
    #[error("the compressed data is truncated after line {line}")]
    Truncated {
        /// The last line that could be read.
        line: u64,
    },
    /// The compressed data is damaged.
    #[error("the compressed data is damaged after line {line}: {source}")]
    Damaged {
        /// The last line that could be read.
        line: u64,
        /// The decompressor's error.
        source: io::Error,
    },
    /// The compressed data is followed by other bytes.
    #[error(
        "the compressed data ends with line {line} and is followed by bytes that are not part of it; remove them"
    )]
    LeftOver {
        /// The last line.
        line: u64,
    },
    /// A line has an unexpected field.
    #[error("line {line}, column {column}: expected {expected}, found \"{}\"", quoted(found))]
    Field {
        /// The line.
        line: u64,
        /// The column at which the field starts.
        column: usize,
        /// The expected field.
        expected: &'static str,
        /// The field found; empty at the end of the line.
        found: String,
    },
    /// A limit of a request is wrong, or contradicts another one or the request.
    #[error("line {line}, column {column}: {error}, found \"{}\"", quoted(found))]
    Limit {
        /// The line.
        line: u64,
        /// The column at which the limit starts.
        column: usize,
        /// The reason.
        error: RequestSyntax,
        /// The text found; empty at the end of the line.
        found: String,
    },
    /// A line is longer than the format allows.
    #[error("line {line}: expected up to {longest} bytes, found more")]
    LongLine {
        /// The line.
        line: u64,
        /// The most bytes that a line may have.
        longest: usize,
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
        /// Whether it was live before.
        was_live: bool,
    },
    /// An operation is not allowed in a trace.
    #[error("line {line}: {error}")]
    Operation {
        /// The line.
        line: u64,
        /// The reason.
        error: RecordError,
    },
    /// The header's figures are not those of the operations; the end may be missing.
    #[error("expected \"{header}\", from the header, found \"{content}\"")]
    Figures {
        /// The figures in the header.
        header: Figures,
        /// The figures of the operations.
        content: Figures,
    },
}
