//! Patterns for names, devices and types (specification section 5).
//!
//! ```text
//! pattern ::= name-pattern [ '/' name-pattern ] | '/' name-pattern
//! ```
//!
//! In a name pattern `?` matches any one character, and a `*` at the end matches the rest of the
//! name, which may be empty. A pattern that starts with `/` takes the device of the pattern before
//! it.

use super::names::is_pattern_char;
use super::syntax::{ConfigError, Span, SyntaxError};
use std::fmt;
use std::sync::Arc;

/// A pattern for one name: of a device, a type or a region.
#[derive(Clone, PartialEq, Eq)]
pub struct NamePattern {
    text: Arc<str>,
    /// Whether it ends with `*`.
    open: bool,
    /// Whether it has a `?`. Without one, matching compares bytes.
    wild: bool,
}

impl NamePattern {
    /// The pattern `*`, which matches every name.
    pub fn any() -> Self {
        NamePattern { text: "*".into(), open: true, wild: false }
    }

    /// Reads the part `span` of `text` as a pattern for one name.
    ///
    /// # Errors
    ///
    /// [`SyntaxError::NoPattern`], [`SyntaxError::StarInside`] or [`SyntaxError::BadPattern`].
    ///
    /// # Panics
    ///
    /// When `span` is not a range of characters of `text`.
    pub fn parse(text: &str, span: Span) -> Result<Self, ConfigError> {
        let written = &text[span.clone()];
        if written.is_empty() {
            return Err(ConfigError::new(text, span, SyntaxError::NoPattern));
        }
        if let Some(star) = written.find('*')
            && star + 1 != written.len()
        {
            let star = span.start + star;
            return Err(ConfigError::new(text, star..star + 1, SyntaxError::StarInside));
        }
        if !written.chars().all(is_pattern_char) {
            return Err(ConfigError::new(text, span, SyntaxError::BadPattern));
        }
        Ok(NamePattern {
            text: written.into(),
            open: written.ends_with('*'),
            wild: written.contains('?'),
        })
    }

    /// The pattern as it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The pattern without its final `*`.
    pub(crate) fn fixed(&self) -> &str {
        &self.text[..self.text.len() - usize::from(self.open)]
    }

    /// Whether the pattern ends with `*`.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Whether the pattern matches `name`.
    pub fn matches(&self, name: &str) -> bool {
        match (self.wild, self.open) {
            (true, _) => self.matches_by_character(name),
            (false, true) => name.starts_with(self.fixed()),
            (false, false) => *name == *self.text,
        }
    }

    fn matches_by_character(&self, name: &str) -> bool {
        let mut rest = name.chars();
        self.fixed().chars().all(|p| rest.next().is_some_and(|c| p == '?' || p == c))
            && (self.open || rest.next().is_none())
    }

    /// Whether this pattern matches every name that `other` matches.
    pub fn covers(&self, other: &NamePattern) -> bool {
        let mut theirs = other.fixed().chars();
        self.fixed().chars().all(|p| theirs.next().is_some_and(|c| p == '?' || p == c))
            && (self.open || (theirs.next().is_none() && !other.open))
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NamePattern({self})")
    }
}

/// A pattern for a device and a type of memory.
///
/// ```
/// use cma_framework::config::Pattern;
///
/// let pattern = Pattern::parse("s3c-fimc.?/f*")?;
/// assert!(pattern.matches("s3c-fimc.1", "frame"));
/// assert!(!pattern.matches("s3c-fimc.1", "common"));
/// assert!(Pattern::parse("s3c-*")?.covers(&pattern));
/// assert_eq!(pattern.to_string(), "s3c-fimc.?/f*");
/// # Ok::<(), cma_framework::config::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// The pattern for the device.
    pub device: NamePattern,
    /// The pattern for the type; `None` matches every type.
    pub kind: Option<NamePattern>,
}

impl Pattern {
    /// Reads `text` as one pattern that has a device.
    ///
    /// # Errors
    ///
    /// The first error with its position.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        Pattern::parse_part(text, 0..text.len(), None)
    }

    /// Reads the part `span` of `text` as one pattern. A pattern that starts with `/` takes the
    /// device of `previous`, the pattern before it.
    ///
    /// # Errors
    ///
    /// The first error with its position in `text`.
    ///
    /// # Panics
    ///
    /// When `span` is not a range of characters of `text`.
    pub fn parse_part(
        text: &str,
        span: Span,
        previous: Option<&Pattern>,
    ) -> Result<Self, ConfigError> {
        let fail = |span, kind| Err(ConfigError::new(text, span, kind));
        let written = &text[span.clone()];
        let Some(slash) = written.find('/').map(|n| span.start + n) else {
            return Ok(Pattern { device: NamePattern::parse(text, span)?, kind: None });
        };
        let kind = slash + 1..span.end;
        if let Some(second) = text[kind.clone()].find('/').map(|n| kind.start + n) {
            return fail(second..second + 1, SyntaxError::SecondSlash);
        }
        if kind.is_empty() {
            return fail(slash..span.end, SyntaxError::NoType);
        }
        let own_device = (slash > span.start)
            .then(|| NamePattern::parse(text, span.start..slash))
            .transpose()?;
        let kind = NamePattern::parse(text, kind)?;
        match own_device.or_else(|| previous.map(|previous| previous.device.clone())) {
            Some(device) => Ok(Pattern { device, kind: Some(kind) }),
            None => fail(span, SyntaxError::NoDeviceBefore),
        }
    }

    /// Whether the pattern matches requests of `device` for memory of type `kind`.
    pub fn matches(&self, device: &str, kind: &str) -> bool {
        self.device.matches(device)
            && self.kind.as_ref().is_none_or(|pattern| pattern.matches(kind))
    }

    /// Whether this pattern matches every device and type that `other` matches. A type `*` covers
    /// a type that is left out, and the other way round.
    pub fn covers(&self, other: &Pattern) -> bool {
        self.device.covers(&other.device)
            && self.kind.as_ref().is_none_or(|kind| match &other.kind {
                Some(other) => kind.covers(other),
                None => kind.covers(&NamePattern::any()),
            })
    }
}

impl fmt::Display for Pattern {
    /// The pattern with its device, also if it was taken from the pattern before.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.device)?;
        match &self.kind {
            Some(kind) => write!(f, "/{kind}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
