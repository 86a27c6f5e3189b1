//! Text as lines of fields, each with its place.

use super::error::ReadError;
use super::gzip::NotGzip;
use crate::format::excerpt;
use std::io::{self, BufRead, Read};

/// Bytes of text read after an error to find out whether the compressed data is damaged.
const MAX_REST: u64 = 64 << 20;

/// The lines of the input, one at a time.
pub(crate) struct Lines<'a> {
    input: &'a mut dyn BufRead,
    /// The longest line, in bytes.
    longest: usize,
    compressed: bool,
    line: u64,
    text: Vec<u8>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(input: &'a mut dyn BufRead, longest: usize, compressed: bool) -> Self {
        Lines { input, longest, compressed, line: 0, text: Vec::new() }
    }

    /// The start of the line that was read last, which may be too long.
    pub(crate) fn start(&self) -> &[u8] {
        &self.text
    }

    /// The next line, if there is one.
    pub(crate) fn next(&mut self) -> Result<Option<Fields<'_>>, ReadError> {
        Ok(self.advance()?.then(|| self.fields()))
    }

    /// Reads the next line, if there is one.
    fn advance(&mut self) -> Result<bool, ReadError> {
        self.text.clear();
        let mut input = (&mut *self.input).take(self.longest as u64 + 1);
        let read = input.read_until(b'\n', &mut self.text);
        read.map_err(|source| self.failed(source))?;
        if self.text.is_empty() {
            return Ok(false);
        }
        self.line += 1;
        if self.fields().text.len() > self.longest {
            return Err(ReadError::LongLine { line: self.line, longest: self.longest });
        }
        Ok(true)
    }

    /// The line that was read last.
    fn fields(&self) -> Fields<'_> {
        let text = self.text.strip_suffix(b"\n").unwrap_or(&self.text);
        Fields { text, at: 0, line: self.line, cut: text.len() == self.text.len() }
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

    /// Whether the rest of compressed input is damaged, which the checksum at its end shows: then
    /// the damage is reported, and not the error that it causes in the text. Only the start of a
    /// very long rest is read.
    pub(super) fn damage(&mut self) -> Option<ReadError> {
        let rest = io::copy(&mut (&mut *self.input).take(MAX_REST), &mut io::sink());
        rest.err().map(|source| self.failed(source))
    }

    /// The next line of the header; an empty one after the last. Lines that begin with `#` and
    /// another word are comments.
    pub(super) fn header(&mut self) -> Result<Fields<'_>, ReadError> {
        while self.advance()? {
            let mut fields = self.fields();
            let is_mark =
                fields.next().1 == b"#" && matches!(fields.next().1, b"source:" | b"ops:");
            if is_mark || !self.fields().is_comment() {
                return Ok(self.fields());
            }
        }
        Ok(Fields { text: b"", at: 0, line: self.line + 1, cut: true })
    }
}

/// The fields of one line, separated by spaces.
pub(crate) struct Fields<'a> {
    pub(crate) text: &'a [u8],
    pub(super) at: usize,
    pub(crate) line: u64,
    /// Whether the line has no end.
    pub(super) cut: bool,
}

impl<'a> Fields<'a> {
    /// The next field with its start; an empty one after the last.
    pub(super) fn next(&mut self) -> (usize, &'a [u8]) {
        let rest = &self.text[self.at..];
        let start = self.at + rest.iter().take_while(|b| **b == b' ').count();
        let field = self.text[start..].split(|b| *b == b' ').next().unwrap_or_default();
        self.at = start + field.len();
        (start, field)
    }

    /// The regions that follow `from=`, if the next field is that.
    pub(super) fn regions(&mut self) -> Option<Result<&'a str, ReadError>> {
        let (before, (start, field)) = (self.at, self.next());
        let Some(regions) = field.strip_prefix(b"from=") else {
            self.at = before;
            return None;
        };
        let text = std::str::from_utf8(regions);
        Some(text.map_err(|_| self.fault(start, field, "from= and region names in UTF-8")))
    }

    /// Whether the line is a comment: it begins with `#`.
    pub(super) fn is_comment(&self) -> bool {
        self.text.iter().find(|byte| **byte != b' ') == Some(&b'#')
    }

    pub(super) fn number(&mut self, expected: &'static str) -> Result<u64, ReadError> {
        let (start, field) = self.next();
        let number = field.iter().try_fold(0u64, |number, digit| {
            let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
            number.checked_mul(10)?.checked_add(digit)
        });
        number.filter(|_| !field.is_empty()).ok_or_else(|| self.fault(start, field, expected))
    }

    /// The same, or `?` for a number that is not known.
    pub(super) fn known(&mut self, expected: &'static str) -> Result<Option<u64>, ReadError> {
        let before = self.at;
        if self.next().1 == b"?" {
            return Ok(None);
        }
        self.at = before;
        self.number(expected).map(Some)
    }

    pub(super) fn text(&mut self, expected: &'static str) -> Result<&'a str, ReadError> {
        let (start, field) = self.next();
        std::str::from_utf8(field).map_err(|_| self.fault(start, field, expected))
    }

    pub(super) fn word(&mut self, expected: &'static str, word: &str) -> Result<(), ReadError> {
        let (start, field) = self.next();
        if field == word.as_bytes() { Ok(()) } else { Err(self.fault(start, field, expected)) }
    }

    pub(super) fn end(&mut self) -> Result<(), ReadError> {
        let (start, field) = self.next();
        if field.is_empty() { Ok(()) } else { Err(self.fault(start, field, "the end of the line")) }
    }

    #[cold]
    pub(super) fn fault(&self, start: usize, found: &[u8], expected: &'static str) -> ReadError {
        ReadError::Field { line: self.line, column: start + 1, expected, found: excerpt(found) }
    }
}
