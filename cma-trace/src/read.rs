//! Reading a trace from bytes, compressed or not, with the place of every mistake.
//!
//! Input is read line by line and its lines are short, so what isn't a trace is refused before it
//! has used any memory to speak of.

use crate::recording::{RecordError, Recording};
use crate::trace::{Figures, Trace};
use flate2::bufread::GzDecoder;
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read};

/// The first line of every trace, up to the version.
pub(crate) const MAGIC: &str = "# cma-trace";
/// The version of the format that is read and written.
pub(crate) const VERSION: &str = "1";
pub(crate) const SOURCE: &str = "# source:";

/// The longest line, in bytes.
const MAX_LINE: usize = 4096;
/// The most bytes of text that are read behind a mistake to see whether the data is damaged.
const MAX_REST: u64 = 64 << 20;
/// How much of what was found an error quotes, in characters.
const MAX_QUOTE: usize = 40;

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

impl Trace {
    /// Reads a trace, as text or compressed by gzip, whichever the bytes are. Ids may be any
    /// numbers; the trace numbers its chunks in the order of allocation.
    ///
    /// # Errors
    ///
    /// The first mistake with its place.
    pub fn read(mut input: impl Read) -> Result<Trace, ReadError> {
        let mut start = Vec::new();
        input
            .by_ref()
            .take(2)
            .read_to_end(&mut start)
            .map_err(|source| ReadError::Io { line: 0, source })?;
        let compressed = start == [0x1f, 0x8b];
        let mut input = start.chain(input);
        if !compressed {
            return read(&mut Lines::new(&mut BufReader::new(&mut input), false));
        }
        let mut input = BufReader::new(Unpacked::new(BufReader::new(input)));
        let mut lines = Lines::new(&mut input, true);
        read(&mut lines).map_err(|mistake| match mistake {
            ReadError::Truncated { .. }
            | ReadError::Damaged { .. }
            | ReadError::LeftOver { .. }
            | ReadError::Io { .. } => mistake,
            mistake => lines.damage().unwrap_or(mistake),
        })
    }
}

/// What gzip members hold, one behind the other. Another reader would call whatever else stands
/// behind a member a damaged one.
struct Unpacked<R: BufRead> {
    member: Option<GzDecoder<R>>,
}

/// Bytes behind a member that don't start another one.
#[derive(Debug, thiserror::Error)]
#[error("the bytes are not compressed by gzip")]
struct NotGzip;

impl<R: BufRead> Unpacked<R> {
    fn new(input: R) -> Self {
        Unpacked { member: Some(GzDecoder::new(input)) }
    }
}

impl<R: BufRead> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let read = member.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let Some(mut input) = self.member.take().map(GzDecoder::into_inner) else { break };
            match input.fill_buf()?.first() {
                None => break,
                Some(0x1f) => self.member = Some(GzDecoder::new(input)),
                Some(_) => return Err(io::Error::other(NotGzip)),
            }
        }
        Ok(0)
    }
}

fn read(lines: &mut Lines<'_>) -> Result<Trace, ReadError> {
    read_magic(lines)?;
    let mut recording = Recording::new(read_source(lines.required()?)?);
    let header = read_figures(lines.required()?)?;
    let mut ids = HashMap::new();
    while let Some(fields) = lines.next()? {
        read_operation(fields, &mut recording, &mut ids)?;
    }
    let trace = recording.finish();
    if trace.figures() == header {
        Ok(trace)
    } else {
        Err(ReadError::Figures { header, content: trace.figures() })
    }
}

fn read_magic(lines: &mut Lines<'_>) -> Result<(), ReadError> {
    let first = lines.next().map(|line| line.map_or(String::new(), |f| quote(f.text)));
    let text = match first {
        Err(ReadError::LongLine { .. }) => quote(&lines.text),
        first => first?,
    };
    match text.strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix(' ')) {
        Some(VERSION) => Ok(()),
        Some(version) => Err(ReadError::Version { found: version.to_string() }),
        None => Err(ReadError::NotATrace { found: text }),
    }
}

fn read_source(mut line: Fields<'_>) -> Result<&str, ReadError> {
    line.word("\"# source:\" and what was recorded", "#")?;
    line.word("\"source:\" and what was recorded", "source:")?;
    let rest = line.at;
    let text = &line.text[rest..];
    std::str::from_utf8(text).map_err(|_| line.fault(rest, text, "what was recorded, in UTF-8"))
}

fn read_figures(mut line: Fields<'_>) -> Result<Figures, ReadError> {
    const EXPECTED: &str = "\"# ops: N  peak-live-bytes: N  peak-live-chunks: N\"";
    line.word(EXPECTED, "#")?;
    line.word(EXPECTED, "ops:")?;
    let operations = line.number("the number of operations")?;
    line.word(EXPECTED, "peak-live-bytes:")?;
    let peak_live_bytes = line.number("the most bytes that were live at a time")?;
    line.word(EXPECTED, "peak-live-chunks:")?;
    let peak_live_chunks = line.number("the most chunks that were live at a time")?;
    line.end()?;
    Ok(Figures { operations, peak_live_bytes, peak_live_chunks })
}

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
        b"a" => {
            let id = fields.number("the id of the new chunk, a number")?;
            let size = fields.number("a size in bytes")?;
            let alignment = fields.number("an alignment in bytes")?;
            let asker = fields.text("device or device/type")?;
            fields.end()?;
            if ids.contains_key(&id) {
                return Err(ReadError::IdUsedTwice { line, id });
            }
            ids.insert(id, recording.allocate(time_us, size, alignment, asker).map_err(in_line)?);
        }
        b"f" => {
            let id = fields.number("the id of a live chunk, a number")?;
            fields.end()?;
            let chunk = *ids.get(&id).ok_or(ReadError::NotLive { line, id, was_live: false })?;
            recording.free(time_us, chunk).map_err(|error| match error {
                RecordError::NotLive => ReadError::NotLive { line, id, was_live: true },
                error => in_line(error),
            })?;
        }
        other => return Err(fields.fault(column, other, "a for an allocation or f for a free")),
    }
    Ok(())
}

/// The lines of the input, one at a time.
struct Lines<'a> {
    input: &'a mut dyn BufRead,
    compressed: bool,
    line: u64,
    text: Vec<u8>,
}

impl<'a> Lines<'a> {
    fn new(input: &'a mut dyn BufRead, compressed: bool) -> Self {
        Lines { input, compressed, line: 0, text: Vec::new() }
    }

    fn next(&mut self) -> Result<Option<Fields<'_>>, ReadError> {
        self.text.clear();
        let mut input = (&mut *self.input).take(MAX_LINE as u64 + 1);
        let read = input.read_until(b'\n', &mut self.text);
        read.map_err(|source| self.failed(source))?;
        if self.text.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        let text = self.text.strip_suffix(b"\n").unwrap_or(&self.text);
        if text.len() > MAX_LINE {
            return Err(ReadError::LongLine { line: self.line });
        }
        Ok(Some(Fields { text, at: 0, line: self.line }))
    }

    fn failed(&self, source: io::Error) -> ReadError {
        let line = self.line;
        match source.kind() {
            _ if matches!(source.get_ref(), Some(inner) if inner.is::<NotGzip>()) => {
                ReadError::LeftOver { line }
            }
            io::ErrorKind::UnexpectedEof if self.compressed => ReadError::Truncated { line },
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData if self.compressed => {
                ReadError::Damaged { line, source }
            }
            _ => ReadError::Io { line, source },
        }
    }

    /// Whether the rest of compressed input is damaged, which is what its checksum says at the end:
    /// then a mistake in its text is no mistake of its writer. Of a text that is very long only the
    /// start is looked at.
    fn damage(&mut self) -> Option<ReadError> {
        let rest = io::copy(&mut (&mut *self.input).take(MAX_REST), &mut io::sink());
        rest.err().map(|source| self.failed(source))
    }

    /// The next line, which is empty behind the last one.
    fn required(&mut self) -> Result<Fields<'_>, ReadError> {
        let line = self.line + 1;
        Ok(self.next()?.unwrap_or(Fields { text: b"", at: 0, line }))
    }
}

/// The fields of one line, separated by spaces.
struct Fields<'a> {
    text: &'a [u8],
    at: usize,
    line: u64,
}

impl<'a> Fields<'a> {
    /// Where the next field starts, and the field; empty behind the last one.
    fn next(&mut self) -> (usize, &'a [u8]) {
        let rest = &self.text[self.at..];
        let start = self.at + rest.iter().take_while(|b| **b == b' ').count();
        let field = self.text[start..].split(|b| *b == b' ').next().unwrap_or_default();
        self.at = start + field.len();
        (start, field)
    }

    fn number(&mut self, expected: &'static str) -> Result<u64, ReadError> {
        let (start, field) = self.next();
        let number = field.iter().try_fold(0u64, |number, digit| {
            let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
            number.checked_mul(10)?.checked_add(digit)
        });
        number.filter(|_| !field.is_empty()).ok_or_else(|| self.fault(start, field, expected))
    }

    fn text(&mut self, expected: &'static str) -> Result<&'a str, ReadError> {
        let (start, field) = self.next();
        std::str::from_utf8(field).map_err(|_| self.fault(start, field, expected))
    }

    fn word(&mut self, expected: &'static str, word: &str) -> Result<(), ReadError> {
        let (start, field) = self.next();
        if field == word.as_bytes() { Ok(()) } else { Err(self.fault(start, field, expected)) }
    }

    fn end(&mut self) -> Result<(), ReadError> {
        let (start, field) = self.next();
        if field.is_empty() { Ok(()) } else { Err(self.fault(start, field, "the end of the line")) }
    }

    #[cold]
    fn fault(&self, start: usize, found: &[u8], expected: &'static str) -> ReadError {
        ReadError::Field { line: self.line, column: start + 1, expected, found: quote(found) }
    }
}

/// `found`, escaped to stand between quotation marks.
pub(crate) fn quoted(found: &str) -> String {
    let escaped = |c: char| if c == '\'' { c.to_string() } else { c.escape_debug().to_string() };
    found.chars().map(escaped).collect()
}

/// The start of what was found, for people to read.
fn quote(found: &[u8]) -> String {
    String::from_utf8_lossy(&found[..found.len().min(4 * MAX_QUOTE)])
        .chars()
        .take(MAX_QUOTE)
        .collect()
}

#[cfg(test)]
mod tests;
