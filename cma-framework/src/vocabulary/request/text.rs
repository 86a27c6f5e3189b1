//! The text form of a request (specification section 6).

use super::ChunkRequest;
use super::invalid::{InvalidRequest, Part};
use crate::vocabulary::size::{Bytes, parse_size};
use crate::vocabulary::syntax::{ConfigError, Span, SyntaxError};
use crate::vocabulary::time::{Time, TimeError, parse_time};
use cma_api::DmaAddr;
use std::fmt;
use std::time::Duration;

/// The kind of an error in the text of a request. The message says what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestSyntax {
    /// A wrong number.
    #[error(transparent)]
    Number(#[from] SyntaxError),
    /// The size is missing.
    #[error("expected a size, as in 3M/64K below=4G")]
    NoSize,
    /// Text that is no limit.
    #[error("expected a limit: above=, below=, boundary=, at= or wait=")]
    NoLimit,
    /// The second limit of its kind.
    #[error("this limit is given already; each is given once")]
    Repeated,
    /// Text after a number.
    #[error("expected white space or the end after the number")]
    TextAfterNumber,
    /// A wrong time.
    #[error(transparent)]
    Time(#[from] TimeError),
    /// The text is read, but the request can't be served anywhere.
    #[error(transparent)]
    Invalid(InvalidRequest),
}

type Result<T> = std::result::Result<T, ConfigError<RequestSyntax>>;

pub(super) fn parse(text: &str) -> Result<ChunkRequest> {
    let mut reader = Reader { text, at: 0, parts: Vec::new() };
    reader.skip_blanks();
    if reader.rest().is_empty() {
        return Err(reader.error(0, RequestSyntax::NoSize));
    }
    let mut request = ChunkRequest::new(Bytes(reader.number(Part::Size)?));
    reader.skip_blanks();
    if reader.skip("/") {
        reader.skip_blanks();
        request.alignment = Bytes(reader.number(Part::Alignment)?);
    }
    while reader.next_limit()? {
        reader.limit(&mut request)?;
    }
    request.check().map_err(|invalid| reader.contradiction(invalid))?;
    Ok(request)
}

struct Reader<'a> {
    text: &'a str,
    /// The bytes of the text that are read.
    at: usize,
    /// The parts of the request that are read, and where they are.
    parts: Vec<(Part, Span)>,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn skip(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    /// The length of the text up to the next white space.
    fn word(&self) -> usize {
        self.rest().find(char::is_whitespace).unwrap_or(self.rest().len())
    }

    /// An error in the next `length` bytes.
    fn error(&self, length: usize, kind: RequestSyntax) -> ConfigError<RequestSyntax> {
        ConfigError::new(self.text, self.at..self.at + length, kind)
    }

    fn note(&mut self, part: Part, start: usize) {
        self.parts.push((part, start..self.at));
    }

    fn number(&mut self, part: Part) -> Result<u64> {
        let start = self.at;
        let (value, taken) = parse_size(self.rest())
            .map_err(|(kind, length)| self.error(length, RequestSyntax::Number(kind)))?;
        self.at += taken;
        self.note(part, start);
        Ok(value)
    }

    /// Goes to the next limit. Returns whether there is one.
    fn next_limit(&mut self) -> Result<bool> {
        self.skip_blanks();
        let more = !self.rest().is_empty();
        if more && !self.text[..self.at].ends_with(char::is_whitespace) {
            return Err(self.error(self.word(), RequestSyntax::TextAfterNumber));
        }
        Ok(more)
    }

    fn limit(&mut self, request: &mut ChunkRequest) -> Result<()> {
        const LIMITS: [(&str, Part); 5] = [
            ("above=", Part::Above),
            ("below=", Part::Below),
            ("boundary=", Part::Boundary),
            ("at=", Part::At),
            ("wait=", Part::Wait),
        ];
        let start = self.at;
        let found = LIMITS.into_iter().find(|(key, _)| self.rest().starts_with(key));
        let Some((key, part)) = found else {
            return Err(self.error(self.word(), RequestSyntax::NoLimit));
        };
        if self.parts.iter().any(|(known, _)| *known == part) {
            return Err(self.error(self.word(), RequestSyntax::Repeated));
        }
        self.at += key.len();
        match part {
            Part::Wait => request.wait = Some(self.time()?),
            Part::Boundary => request.boundary = Some(Bytes(self.number(part)?)),
            Part::Above => request.above = Some(DmaAddr::new(self.number(part)?)),
            Part::Below => request.below = Some(DmaAddr::new(self.number(part)?)),
            Part::At => request.at = Some(DmaAddr::new(self.number(part)?)),
            Part::Size | Part::Alignment => {}
        }
        // The limit with its key.
        self.parts.retain(|(known, _)| *known != part);
        self.note(part, start);
        Ok(())
    }

    fn time(&mut self) -> Result<Duration> {
        let length = self.word();
        let time = parse_time(&self.rest()[..length]);
        let time = time.map_err(|kind| self.error(length, RequestSyntax::Time(kind)))?;
        self.at += length;
        Ok(time)
    }

    fn contradiction(&self, invalid: InvalidRequest) -> ConfigError<RequestSyntax> {
        let span = |part: &Part| {
            self.parts.iter().find(|(known, _)| known == part).map(|(_, span)| span.clone())
        };
        let span = invalid.parts().iter().find_map(span).unwrap_or(0..self.text.len());
        ConfigError::new(self.text, span, RequestSyntax::Invalid(invalid))
    }
}

impl fmt::Display for ChunkRequest {
    /// The text form. A time is rounded up to whole microseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.size)?;
        if self.alignment != Bytes(0) {
            write!(f, "/{}", self.alignment)?;
        }
        for (key, address) in [("above", self.above), ("below", self.below)] {
            if let Some(address) = address {
                // `4G` is how a mask is known; other addresses are known in hex.
                if address.get().is_multiple_of(1 << 20) {
                    write!(f, " {key}={}", Bytes(address.get()))?;
                } else {
                    write!(f, " {key}={address}")?;
                }
            }
        }
        if let Some(boundary) = self.boundary {
            write!(f, " boundary={boundary}")?;
        }
        if let Some(at) = self.at {
            write!(f, " at={at}")?;
        }
        if let Some(wait) = self.wait {
            write!(f, " wait={}", Time(wait))?;
        }
        Ok(())
    }
}
