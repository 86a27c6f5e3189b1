//! Reading a trace from bytes, compressed or not, with the place of every error.
//!
//! Input is read line by line and its lines are short, so bytes that are not a trace are refused
//! before they have used a notable amount of memory.

mod error;
mod gzip;
pub(crate) mod input;
pub(crate) mod lines;

pub use error::ReadError;

use crate::format::{FROM, MAGIC, MAX_LINE, VERSION, excerpt};
use crate::recording::{RecordError, Recording};
use crate::trace::{Figures, Trace};
use cma_framework::ChunkRequest;
use cma_framework::config::Bytes;
use input::with_lines;
use lines::{Fields, Lines};
use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Read;

impl Trace {
    /// Reads a trace from text or from text compressed by gzip, which it detects. Ids may be any
    /// numbers; the trace numbers its chunks in the order of allocation.
    ///
    /// # Errors
    ///
    /// The first error with its place.
    pub fn read(input: impl Read) -> Result<Trace, ReadError> {
        with_lines(input, MAX_LINE, read)
    }
}

fn read(lines: &mut Lines<'_>) -> Result<Trace, ReadError> {
    read_magic(lines)?;
    let mut recording = Recording::new(read_source(lines.header()?)?);
    let header = read_figures(lines.header()?)?;
    let mut ids = HashMap::new();
    while let Some(fields) = lines.next()? {
        if fields.cut && header.is_none() {
            // A recording in progress, or of a program that was killed.
            break;
        }
        if !fields.is_comment() {
            read_operation(fields, &mut recording, &mut ids)?;
        }
    }
    let trace = recording.finish();
    match header {
        Some(header) if header != trace.figures() => {
            Err(ReadError::Figures { header, content: trace.figures() })
        }
        _ => Ok(trace),
    }
}

fn read_magic(lines: &mut Lines<'_>) -> Result<(), ReadError> {
    let first = lines.next().map(|line| line.map(|fields| excerpt(fields.text)));
    let text = match first {
        Err(ReadError::LongLine { .. }) => excerpt(lines.start()),
        first => first?.ok_or(ReadError::Empty)?,
    };
    match text.strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix(' ')) {
        Some(VERSION) => Ok(()),
        Some(version) => Err(ReadError::Version { found: version.to_string() }),
        None => Err(ReadError::NotATrace { found: text }),
    }
}

fn read_source(mut line: Fields<'_>) -> Result<&str, ReadError> {
    line.word("\"# source:\" and a description of the recording", "#")?;
    line.word("\"source:\" and a description of the recording", "source:")?;
    let rest = line.at;
    let text = &line.text[rest..];
    std::str::from_utf8(text)
        .map_err(|_| line.fault(rest, text, "a description of the recording in UTF-8"))
}

/// The figures, unless the recording is not complete.
fn read_figures(mut line: Fields<'_>) -> Result<Option<Figures>, ReadError> {
    const EXPECTED: &str = "\"# ops: N  peak-live-bytes: N  peak-live-chunks: N\"";
    line.word(EXPECTED, "#")?;
    line.word(EXPECTED, "ops:")?;
    let operations = line.known("the number of operations")?;
    line.word(EXPECTED, "peak-live-bytes:")?;
    let peak_live_bytes = line.known("the most bytes that were live at a time")?;
    line.word(EXPECTED, "peak-live-chunks:")?;
    let peak_live_chunks = line.known("the most chunks that were live at a time")?;
    line.end()?;
    Ok(match (operations, peak_live_bytes, peak_live_chunks) {
        (Some(operations), Some(peak_live_bytes), Some(peak_live_chunks)) => {
            Some(Figures { operations, peak_live_bytes, peak_live_chunks })
        }
        _ => None,
    })
}

/// In place of the chunk of an id whose request was refused.
const REFUSED: u32 = u32::MAX;

fn read_operation(
    mut fields: Fields<'_>,
    recording: &mut Recording,
    ids: &mut HashMap<u64, u32>,
) -> Result<(), ReadError> {
    let line = fields.line;
    let in_line = |error| ReadError::Operation { line, error };
    let time_us = fields.number("a time in microseconds")?;
    let (column, action) = fields.next();
    match action {
        b"a" | b"r" => {
            let id = fields.number("the id of the request, a number")?;
            let size = fields.number("a size in bytes")?;
            let alignment = fields.number("an alignment in bytes")?;
            let requester = read_requester(&mut fields)?;
            let request = read_limits(&fields, size, alignment)?;
            if ids.contains_key(&id) {
                return Err(ReadError::IdUsedTwice { line, id });
            }
            let chunk = if action == b"a" {
                Some(recording.allocate_limited(time_us, &request, &requester).map_err(in_line)?)
            } else {
                recording.refuse(time_us, &request, &requester).map_err(in_line)?;
                None
            };
            ids.insert(id, chunk.unwrap_or(REFUSED));
        }
        b"f" => {
            let id = fields.number("the id of a live chunk, a number")?;
            fields.end()?;
            let not_live = |was_live| ReadError::NotLive { line, id, was_live };
            let chunk = ids.get(&id).copied().filter(|chunk| *chunk != REFUSED);
            let chunk = chunk.ok_or(not_live(false))?;
            recording.free(time_us, chunk).map_err(|error| match error {
                RecordError::NotLive => not_live(true),
                error => in_line(error),
            })?;
        }
        other => {
            return Err(fields.fault(
                column,
                other,
                "a, f or r: an allocation, a free or a refusal",
            ));
        }
    }
    Ok(())
}

/// The device, with its type and the regions that it names, as they are written.
fn read_requester<'a>(fields: &mut Fields<'a>) -> Result<Cow<'a, str>, ReadError> {
    let names = fields.text("device or device/type")?;
    match fields.regions() {
        None => Ok(names.into()),
        Some(regions) => Ok(format!("{names}{FROM}{}", regions?).into()),
    }
}

/// The request with the limits that follow in the line, if any.
fn read_limits(fields: &Fields<'_>, size: u64, alignment: u64) -> Result<ChunkRequest, ReadError> {
    let request = ChunkRequest::new(Bytes(size)).aligned(Bytes(alignment));
    let rest = &fields.text[fields.at..];
    if rest.iter().all(|byte| *byte == b' ') {
        return Ok(request);
    }
    let limits = std::str::from_utf8(rest)
        .map_err(|_| fields.fault(fields.at + 1, &rest[1..], "limits in UTF-8"))?;
    let before = format!("{size}/{alignment}");
    match ChunkRequest::parse(&format!("{before}{limits}")) {
        Ok(request) => Ok(request),
        Err(error) if error.span.start >= before.len() => Err(ReadError::Limit {
            line: fields.line,
            column: fields.at + error.span.start - before.len() + 1,
            found: excerpt(error.found().as_bytes()),
            error: error.kind,
        }),
        // The size or the alignment is wrong, which the recording finds.
        Err(_) => Ok(request),
    }
}

#[cfg(test)]
mod tests;
