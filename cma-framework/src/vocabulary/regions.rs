//! The `cma=` grammar (specification section 7):
//!
//! ```text
//! cma    ::= [ region { ';' region } [ ';' ] ]
//! region ::= name '=' size [ '@' start ] [ '/' alignment ] [ ':' allocator [ '(' params ')' ] ]
//! ```
//!
//! White space beside `;` and `=` and at both ends means nothing.

use super::errors::EarlyError;
use super::names::{allocator_name_fault, is_region_char, is_region_name};
use super::reserve_request::ReserveRequest;
use super::size::{Bytes, parse_size};
use super::syntax::{ConfigError, Mistake, Span};
use cma_api::DmaAddr;
use std::collections::HashSet;
use std::fmt;

/// A region as a board or a command line describes it, before it has memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionSpec<'a> {
    /// The name by which the map reaches it.
    pub name: &'a str,
    /// The size in bytes, as written; not 0. Rounded up to a page when it is reserved.
    pub size: u64,
    /// Where it wishes to be.
    pub start: Option<DmaAddr>,
    /// What its start must be a multiple of, in bytes, as written: a power of two.
    pub alignment: Option<u64>,
    /// The allocator it asks for; `None` for the default.
    pub allocator: Option<AllocatorSpec<'a>>,
}

/// An allocator by name, with the parameters for its initialise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocatorSpec<'a> {
    /// The allocator's registered name.
    pub name: &'a str,
    /// Its parameters, unchanged; empty for none.
    pub params: &'a str,
}

impl<'a> RegionSpec<'a> {
    /// A region of `size` bytes called `name`, with no wish.
    pub const fn new(name: &'a str, size: u64) -> Self {
        RegionSpec { name, size, start: None, alignment: None, allocator: None }
    }

    /// The same with a wish for its start.
    pub const fn at(self, start: u64) -> Self {
        RegionSpec { start: Some(DmaAddr::new(start)), ..self }
    }

    /// The same with an alignment, a power of two in bytes.
    pub const fn aligned(self, alignment: u64) -> Self {
        RegionSpec { alignment: Some(alignment), ..self }
    }
}

impl fmt::Display for RegionSpec<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, Bytes(self.size))?;
        if let Some(start) = self.start {
            write!(f, "@{start}")?;
        }
        if let Some(alignment) = self.alignment {
            write!(f, "/{}", Bytes(alignment))?;
        }
        if let Some(AllocatorSpec { name, params }) = self.allocator {
            write!(f, ":{name}")?;
            if !params.is_empty() {
                write!(f, "({params})")?;
            }
        }
        Ok(())
    }
}

/// One region of a `cma=` text with the places of its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedRegion<'a> {
    /// The region.
    pub spec: RegionSpec<'a>,
    /// Where its parts stand.
    pub spans: RegionSpans,
    /// What it needs from a reserver: that there is one is what makes it a region.
    request: ReserveRequest,
}

impl ParsedRegion<'_> {
    /// What it needs from a reserver.
    pub(crate) fn request(&self) -> &ReserveRequest {
        &self.request
    }
}

/// Where the parts of a region stand in the text; `None` for those that are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionSpans {
    /// The name.
    pub name: Span,
    /// The size.
    pub size: Span,
    /// The start, without its `@`.
    pub start: Option<Span>,
    /// The alignment, without its `/`.
    pub alignment: Option<Span>,
    /// The allocator's name, without its `:`.
    pub allocator: Option<Span>,
}

/// Reads a `cma=` text. White space beside `;` and `=` and at both ends is passed over.
///
/// # Errors
///
/// The first mistake with its place.
pub fn parse_regions(text: &str) -> Result<Vec<ParsedRegion<'_>>, ConfigError> {
    let mut cursor = Cursor::over(text);
    let mut regions: Vec<ParsedRegion<'_>> = Vec::new();
    let mut names = HashSet::new();
    while cursor.at < cursor.end {
        if !regions.is_empty() && cursor.rest().starts_with(';') {
            return Err(cursor.mistake(cursor.at..cursor.at + 1, Mistake::Empty));
        }
        let region = cursor.region()?;
        if !names.insert(region.spec.name) {
            return Err(cursor.mistake(region.spans.name, Mistake::DuplicateName));
        }
        regions.push(region);
        let behind = cursor.at;
        cursor.skip_blanks();
        if cursor.at < cursor.end && !cursor.eat(';') {
            let mistake = match cursor.rest().starts_with(['@', '/', ':', '(']) {
                true if cursor.at > behind => Mistake::Blank,
                _ => Mistake::LeftOver,
            };
            let until = cursor.until(&[';']).1.end;
            let until = behind + cursor.text[behind..until].trim_end().len();
            return Err(cursor.mistake(behind..until, mistake));
        }
        cursor.skip_blanks();
    }
    Ok(regions)
}

/// Reads an allocator as it may stand behind a region's `:`, that is `name` or `name(params)`;
/// nothing is the default one. White space around the whole of it is passed over.
///
/// # Errors
///
/// The first mistake with its place.
pub fn parse_allocator(text: &str) -> Result<Option<AllocatorSpec<'_>>, ConfigError> {
    let mut cursor = Cursor::over(text);
    let (allocator, _) = cursor.allocator()?;
    if cursor.at < cursor.end {
        return Err(cursor.mistake(cursor.at..cursor.end, Mistake::LeftOverAllocator));
    }
    Ok(allocator)
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
    end: usize,
}

impl<'a> Cursor<'a> {
    fn over(text: &'a str) -> Self {
        Cursor { text, at: text.len() - text.trim_start().len(), end: text.trim_end().len() }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..self.end).unwrap_or_default()
    }

    fn skip_blanks(&mut self) {
        self.at = self.end - self.rest().trim_start().len();
    }

    fn eat(&mut self, expected: char) -> bool {
        let found = self.rest().starts_with(expected);
        if found {
            self.at += expected.len_utf8();
        }
        found
    }

    fn mistake(&self, span: Span, mistake: Mistake) -> ConfigError {
        ConfigError::new(self.text, span, mistake)
    }

    /// Takes everything up to one of `stops`.
    fn until(&mut self, stops: &[char]) -> (&'a str, Span) {
        let rest = self.rest();
        let part = &rest[..rest.find(stops).unwrap_or(rest.len())];
        let span = self.at..self.at + part.len();
        self.at = span.end;
        (part, span)
    }

    fn region(&mut self) -> Result<ParsedRegion<'a>, ConfigError> {
        let (name, name_span) = self.name()?;
        self.skip_blanks();
        let (size, size_span) = self.number()?;
        let start = self.eat('@').then(|| self.start()).transpose()?;
        let alignment = self.eat('/').then(|| self.number()).transpose()?;
        if start.is_none() && alignment.is_some() && self.rest().starts_with('@') {
            return Err(self.mistake(self.at..self.at + 1, Mistake::StartAfterAlignment));
        }
        let (start, start_span) =
            start.map_or((None, None), |(v, s)| (Some(DmaAddr::new(v)), Some(s)));
        let (alignment, alignment_span) =
            alignment.map_or((None, None), |(v, s)| (Some(v), Some(s)));
        // What was read so far can be wrong as a whole; the allocator's name is looked at as it is
        // read.
        let plain = RegionSpec { name, size, start, alignment, allocator: None };
        let alignment_bytes = alignment.unwrap_or(0);
        let request = ReserveRequest::new(Some(name), size, alignment_bytes, start);
        let request = request.map_err(|error| {
            let (span, mistake) = match error {
                EarlyError::Alignment { .. } => (alignment_span.as_ref(), Mistake::NotPowerOfTwo),
                EarlyError::PastTheTop { start: Some(_), .. } => {
                    (start_span.as_ref(), Mistake::PastTheTop)
                }
                EarlyError::PastTheTop { .. } => (None, Mistake::SizeTooLarge),
                EarlyError::NoSize => (None, Mistake::Zero),
                _ => (Some(&name_span), Mistake::BadName),
            };
            self.mistake(span.unwrap_or(&size_span).clone(), mistake)
        })?;
        let (allocator, allocator_span) =
            if self.eat(':') { self.allocator()? } else { (None, None) };
        Ok(ParsedRegion {
            spec: RegionSpec { allocator, ..plain },
            spans: RegionSpans {
                name: name_span,
                size: size_span,
                start: start_span,
                alignment: alignment_span,
                allocator: allocator_span,
            },
            request,
        })
    }

    /// A region's name and the `=` behind it.
    fn name(&mut self) -> Result<(&'a str, Span), ConfigError> {
        let from = self.at;
        let (name, span) = self.until(&[';', '=']);
        let name = name.trim_end();
        let span = span.start..span.start + name.len();
        if !self.eat('=') {
            let end = from + name.find(|c| !is_region_char(c)).unwrap_or(name.len());
            let mistake = if end == from { Mistake::NoRegionName } else { Mistake::NoEquals };
            return Err(self.mistake(end..end, mistake));
        }
        if name.is_empty() {
            return Err(self.mistake(span, Mistake::NoRegionName));
        }
        if !is_region_name(name) {
            let wild = name.chars().all(is_region_char);
            return Err(
                self.mistake(span, if wild { Mistake::WildcardInName } else { Mistake::BadName })
            );
        }
        Ok((name, span))
    }

    /// Where a region starts: one address, and no range.
    fn start(&mut self) -> Result<(u64, Span), ConfigError> {
        if let Ok((_, len)) = parse_size(self.rest())
            && self.rest()[len..].starts_with('-')
        {
            let (range, span) = self.until(&[';', '/', ':']);
            return Err(
                self.mistake(span.start..span.start + range.trim_end().len(), Mistake::Window)
            );
        }
        self.number()
    }

    /// A number that is not 0.
    fn number(&mut self) -> Result<(u64, Span), ConfigError> {
        match parse_size(self.rest()) {
            Err((mistake, len)) => Err(self.mistake(self.at..self.at + len, mistake)),
            Ok((0, len)) => Err(self.mistake(self.at..self.at + len, Mistake::Zero)),
            Ok((value, len)) => {
                let span = self.at..self.at + len;
                self.at = span.end;
                Ok((value, span))
            }
        }
    }

    /// What stands behind `:`. An empty name is the default allocator, which takes no parameters,
    /// since nobody knows which it will be.
    fn allocator(&mut self) -> Result<(Option<AllocatorSpec<'a>>, Option<Span>), ConfigError> {
        let (name, span) = self.until(&[';', '(']);
        let name = name.trim_end();
        let span = span.start..span.start + name.len();
        if name.is_empty() {
            return if self.rest().starts_with('(') {
                Err(self.mistake(self.at..self.at + 1, Mistake::ParamsOfNobody))
            } else {
                Ok((None, None))
            };
        }
        if let Some(fault) = allocator_name_fault(name) {
            return Err(self.mistake(span, Mistake::BadAllocatorName { fault }));
        }
        if span.end < self.at && self.rest().starts_with('(') {
            return Err(self.mistake(span.end..self.at, Mistake::Blank));
        }
        let opened = self.at;
        let params = if self.eat('(') {
            let (params, _) = self.until(&[')']);
            if !self.eat(')') {
                return Err(self.mistake(opened..self.end, Mistake::UnclosedParams));
            }
            params
        } else {
            ""
        };
        Ok((Some(AllocatorSpec { name, params }), Some(span)))
    }
}

#[cfg(test)]
mod tests;
