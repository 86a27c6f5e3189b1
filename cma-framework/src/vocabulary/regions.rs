//! The `cma=` grammar (specification section 7):
//!
//! ```text
//! cma    ::= [ region { ';' region } [ ';' ] ]
//! region ::= name '=' size [ '@' place ] [ '/' alignment ] [ ':' allocator [ '(' params ')' ] ]
//! place  ::= start | start '-' end
//! ```
//!
//! White space beside `;` and `=` and at both ends is ignored.

use super::cursor::Cursor;
use super::errors::EarlyError;
use super::names::{allocator_name_fault, is_region_char, is_region_name};
use super::place::{Place, Window};
use super::reserve_request::ReserveRequest;
use super::size::{Bytes, parse_end, parse_size};
use super::syntax::{ConfigError, Span, SyntaxError};
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
    /// Where it must lie.
    pub place: Place,
    /// The alignment of its start in bytes, as written: a power of two.
    pub alignment: Option<u64>,
    /// Its allocator; `None` for the default.
    pub allocator: Option<AllocatorSpec<'a>>,
}

/// An allocator by name, with the parameters for its `initialise`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocatorSpec<'a> {
    /// The allocator's registered name.
    pub name: &'a str,
    /// Its parameters, unchanged; empty for none.
    pub params: &'a str,
}

impl<'a> RegionSpec<'a> {
    /// A region of `size` bytes called `name`, at any start, with the default allocator.
    pub const fn new(name: &'a str, size: u64) -> Self {
        RegionSpec { name, size, place: Place::Anywhere, alignment: None, allocator: None }
    }

    /// The same region with a fixed start.
    pub const fn at(self, start: u64) -> Self {
        RegionSpec { place: Place::At(DmaAddr::new(start)), ..self }
    }

    /// The same region anywhere from `start` up to `end`.
    ///
    /// # Panics
    ///
    /// When `end` is not above `start`. In a constant, that is an error at compile time.
    pub const fn within(self, start: u64, end: u64) -> Self {
        match Window::new(start, end) {
            Some(window) => RegionSpec { place: Place::Within(window), ..self },
            None => panic!("the end of a window is above its start"),
        }
    }

    /// The same region with an alignment, a power of two in bytes.
    pub const fn aligned(self, alignment: u64) -> Self {
        RegionSpec { alignment: Some(alignment), ..self }
    }
}

impl fmt::Display for RegionSpec<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}{}", self.name, Bytes(self.size), self.place)?;
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

/// One region of a `cma=` text with the positions of its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedRegion<'a> {
    /// The region.
    pub spec: RegionSpec<'a>,
    /// The positions of its parts.
    pub spans: RegionSpans,
    /// Its request to a reserver.
    request: ReserveRequest,
}

impl ParsedRegion<'_> {
    /// Its request to a reserver.
    pub(crate) fn request(&self) -> &ReserveRequest {
        &self.request
    }
}

/// The positions of a region's parts in the text; `None` for those that are omitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionSpans {
    /// The name.
    pub name: Span,
    /// The size.
    pub size: Span,
    /// The start or the window, without its `@`.
    pub place: Option<Span>,
    /// The alignment, without its `/`.
    pub alignment: Option<Span>,
    /// The allocator's name, without its `:`.
    pub allocator: Option<Span>,
}

/// Reads a `cma=` text. White space beside `;` and `=` and at both ends is ignored.
///
/// # Errors
///
/// The first error with its position.
pub fn parse_regions(text: &str) -> Result<Vec<ParsedRegion<'_>>, ConfigError> {
    let mut cursor = Cursor::over(text);
    let mut regions: Vec<ParsedRegion<'_>> = Vec::new();
    let mut names = HashSet::new();
    while cursor.at < cursor.end {
        if !regions.is_empty() && cursor.rest().starts_with(';') {
            return Err(cursor.error(cursor.at..cursor.at + 1, SyntaxError::Empty));
        }
        let region = cursor.region()?;
        if !names.insert(region.spec.name) {
            return Err(cursor.error(region.spans.name, SyntaxError::DuplicateName));
        }
        regions.push(region);
        let after = cursor.at;
        cursor.skip_white_space();
        if cursor.at < cursor.end && !cursor.eat(';') {
            let kind = match cursor.rest().starts_with(['@', '-', '/', ':', '(']) {
                true if cursor.at > after => SyntaxError::WhiteSpace,
                _ => SyntaxError::TextAfterRegion,
            };
            let until = cursor.until(&[';']).1.end;
            let until = after + cursor.text[after..until].trim_end().len();
            return Err(cursor.error(after..until, kind));
        }
        cursor.skip_white_space();
    }
    Ok(regions)
}

/// Reads an allocator as it is written after a region's `:`, that is `name` or `name(params)`; an
/// empty text is the default allocator. White space at both ends is ignored.
///
/// # Errors
///
/// The first error with its position.
pub fn parse_allocator(text: &str) -> Result<Option<AllocatorSpec<'_>>, ConfigError> {
    let mut cursor = Cursor::over(text);
    let (allocator, _) = cursor.allocator()?;
    if cursor.at < cursor.end {
        return Err(cursor.error(cursor.at..cursor.end, SyntaxError::TextAfterAllocator));
    }
    Ok(allocator)
}

impl<'a> Cursor<'a> {
    fn region(&mut self) -> Result<ParsedRegion<'a>, ConfigError> {
        let (name, name_span) = self.name()?;
        self.skip_white_space();
        let (size, size_span) = self.number()?;
        let place = self.eat('@').then(|| self.place()).transpose()?;
        let alignment = self.eat('/').then(|| self.number()).transpose()?;
        if place.is_none() && alignment.is_some() && self.rest().starts_with('@') {
            return Err(self.error(self.at..self.at + 1, SyntaxError::StartAfterAlignment));
        }
        let (place, place_span) =
            place.map_or((Place::Anywhere, None), |(place, span)| (place, Some(span)));
        let (alignment, alignment_span) =
            alignment.map_or((None, None), |(v, s)| (Some(v), Some(s)));
        // The parts are valid by themselves; the request can still be invalid as a whole.
        let request = ReserveRequest::new(Some(name), size, alignment.unwrap_or(0), place);
        let request = request.map_err(|error| {
            let (span, kind) = match error {
                EarlyError::Alignment { .. } => {
                    (alignment_span.as_ref(), SyntaxError::NotPowerOfTwo)
                }
                EarlyError::PastTheTop { start: Some(_), .. } => {
                    (place_span.as_ref(), SyntaxError::PastTheTop)
                }
                EarlyError::Window { window, .. } if window.pages().bytes() < size => {
                    (place_span.as_ref(), SyntaxError::WindowTooSmall)
                }
                EarlyError::Window { .. } => (place_span.as_ref(), SyntaxError::WindowUnaligned),
                EarlyError::PastTheTop { .. } => (None, SyntaxError::SizeTooLarge),
                EarlyError::NoSize => (None, SyntaxError::Zero),
                _ => (Some(&name_span), SyntaxError::BadName),
            };
            self.error(span.unwrap_or(&size_span).clone(), kind)
        })?;
        let (allocator, allocator_span) =
            if self.eat(':') { self.allocator()? } else { (None, None) };
        Ok(ParsedRegion {
            spec: RegionSpec { name, size, place, alignment, allocator },
            spans: RegionSpans {
                name: name_span,
                size: size_span,
                place: place_span,
                alignment: alignment_span,
                allocator: allocator_span,
            },
            request,
        })
    }

    /// A region's name and the `=` after it.
    fn name(&mut self) -> Result<(&'a str, Span), ConfigError> {
        let from = self.at;
        let (name, span) = self.until(&[';', '=']);
        let name = name.trim_end();
        let span = span.start..span.start + name.len();
        if !self.eat('=') {
            let end = from + name.find(|c| !is_region_char(c)).unwrap_or(name.len());
            let kind = if end == from { SyntaxError::NoRegionName } else { SyntaxError::NoEquals };
            return Err(self.error(end..end, kind));
        }
        if name.is_empty() {
            return Err(self.error(span, SyntaxError::NoRegionName));
        }
        if !is_region_name(name) {
            let wild = name.chars().all(is_region_char);
            return Err(self.error(
                span,
                if wild { SyntaxError::WildcardInName } else { SyntaxError::BadName },
            ));
        }
        Ok((name, span))
    }

    /// The place of a region, after its `@`: a start that is not 0, or a window.
    fn place(&mut self) -> Result<(Place, Span), ConfigError> {
        let (start, span) = self.number_by(parse_size)?;
        if !self.eat('-') {
            return match start {
                0 => Err(self.error(span, SyntaxError::ZeroStart)),
                _ => Ok((Place::At(DmaAddr::new(start)), span)),
            };
        }
        let (end, end_span) = self.number_by(parse_end)?;
        let span = span.start..end_span.end;
        match Window::up_to(start, end) {
            Some(window) => Ok((Place::Within(window), span)),
            None => Err(self.error(span, SyntaxError::EmptyWindow)),
        }
    }

    /// The text after `:`. An empty name is the default allocator, which takes no parameters,
    /// because it is chosen later.
    fn allocator(&mut self) -> Result<(Option<AllocatorSpec<'a>>, Option<Span>), ConfigError> {
        let (name, span) = self.until(&[';', '(']);
        let name = name.trim_end();
        let span = span.start..span.start + name.len();
        if name.is_empty() {
            return if self.rest().starts_with('(') {
                Err(self.error(self.at..self.at + 1, SyntaxError::ParamsWithoutAllocator))
            } else {
                Ok((None, None))
            };
        }
        if let Some(fault) = allocator_name_fault(name) {
            return Err(self.error(span, SyntaxError::BadAllocatorName { fault }));
        }
        if span.end < self.at && self.rest().starts_with('(') {
            return Err(self.error(span.end..self.at, SyntaxError::WhiteSpace));
        }
        let opened = self.at;
        let params = if self.eat('(') {
            let (params, _) = self.until(&[')']);
            if !self.eat(')') {
                return Err(self.error(opened..self.end, SyntaxError::UnclosedParams));
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
