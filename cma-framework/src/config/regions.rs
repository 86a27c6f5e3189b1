//! The `cma=` grammar (specification section 7):
//!
//! ```text
//! cma    ::= [ region { ';' region } [ ';' ] ]
//! region ::= name '=' size [ '@' start ] [ '/' alignment ] [ ':' allocator [ '(' params ')' ] ]
//! ```

use super::error::{ConfigError, Mistake, Span};
use super::size::{Bytes, parse_size};
use super::{is_name, is_name_char};
use cma_api::{Alignment, DmaAddr, Pages};
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

/// Reads a `cma=` text. White space around the whole of it is passed over.
///
/// # Errors
///
/// The first mistake with its place.
pub fn parse_regions(text: &str) -> Result<Vec<ParsedRegion<'_>>, ConfigError> {
    let mut cursor = Cursor::over(text);
    let mut regions: Vec<ParsedRegion<'_>> = Vec::new();
    while cursor.at < cursor.end {
        if !regions.is_empty() && cursor.rest().starts_with(';') {
            return Err(cursor.mistake(cursor.at..cursor.at + 1, Mistake::Empty));
        }
        let region = cursor.region()?;
        if regions.iter().any(|other| other.spec.name == region.spec.name) {
            return Err(cursor.mistake(region.spans.name, Mistake::DuplicateName));
        }
        regions.push(region);
        if cursor.at < cursor.end && !cursor.eat(';') {
            let until = cursor.rest().find(';').map_or(cursor.end, |n| cursor.at + n);
            return Err(cursor.mistake(cursor.at..until, Mistake::LeftOver));
        }
    }
    Ok(regions)
}

/// Reads an allocator as it may stand behind a region's `:`, that is `name` or `name(params)`; nothing is the default one.
/// White space around the whole of it is passed over.
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
        let (name, name_span) = self.until(&[';', ',', '=', '/', '@', ':', '(', ')']);
        if name.is_empty() {
            return Err(self.mistake(name_span, Mistake::NoRegionName));
        }
        if !is_name(name) {
            let wild = name.chars().all(is_name_char);
            return Err(
                self.mistake(name_span, if wild { Mistake::WildcardInName } else { Mistake::BadName })
            );
        }
        if !self.eat('=') {
            return Err(self.mistake(self.at..self.at, Mistake::NoEquals));
        }
        let (size, size_span) = self.number()?;
        let start = self.eat('@').then(|| self.number()).transpose()?;
        let alignment = self.eat('/').then(|| self.number()).transpose()?;
        if start.is_none() && alignment.is_some() && self.rest().starts_with('@') {
            return Err(self.mistake(self.at..self.at + 1, Mistake::StartAfterAlignment));
        }
        if let Some((value, span)) = &alignment
            && !value.is_power_of_two()
        {
            return Err(self.mistake(span.clone(), Mistake::NotPowerOfTwo));
        }
        if let Some((start, span)) = &start {
            let alignment = Alignment::new(alignment.as_ref().map_or(0, |a| a.0)).unwrap_or_default();
            let end = DmaAddr::new(*start)
                .align_up(alignment)
                .and_then(|s| s.page().checked_add(Pages::covering(size).get()));
            if end.is_none_or(|end| end > cma_api::PageRange::ADDRESS_SPACE_PAGES) {
                return Err(self.mistake(span.clone(), Mistake::PastTheTop));
            }
        } else if size > u64::MAX - (cma_api::PAGE_SIZE - 1) {
            return Err(self.mistake(size_span, Mistake::NumberTooLarge));
        }
        let (allocator, allocator_span) = if self.eat(':') { self.allocator()? } else { (None, None) };
        let (start, start_span) = start.map_or((None, None), |(v, s)| (Some(DmaAddr::new(v)), Some(s)));
        let (alignment, alignment_span) = alignment.map_or((None, None), |(v, s)| (Some(v), Some(s)));
        Ok(ParsedRegion {
            spec: RegionSpec { name, size, start, alignment, allocator },
            spans: RegionSpans {
                name: name_span,
                size: size_span,
                start: start_span,
                alignment: alignment_span,
                allocator: allocator_span,
            },
        })
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

    /// What stands behind `:`. An empty name is the default allocator, which takes no parameters, since nobody
    /// knows which it will be.
    fn allocator(&mut self) -> Result<(Option<AllocatorSpec<'a>>, Option<Span>), ConfigError> {
        let (name, span) = self.until(&[';', '(', ',', '=', '/', '@', ':', ')']);
        if name.is_empty() {
            return if self.rest().starts_with('(') {
                Err(self.mistake(self.at..self.at + 1, Mistake::ParamsOfNobody))
            } else {
                Ok((None, None))
            };
        }
        if !is_name(name) {
            return Err(self.mistake(span, Mistake::BadName));
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
