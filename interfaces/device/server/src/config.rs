//! A mistake in the text of limits or rules, with its place.

use cma_framework::config::{Mistake as MapMistake, Span};
use std::fmt;

/// A mistake in the text of [`Limits`](crate::Limits) or [`Rules`](crate::Rules). Nothing of that
/// text took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// What is wrong.
    pub mistake: Mistake,
    /// Where, in bytes of the text.
    pub span: Span,
    /// The text as it was given.
    pub text: String,
}

/// What can be wrong. The message says what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mistake {
    /// A pattern that a map wouldn't have either.
    #[error(transparent)]
    Pattern(MapMistake),
    /// A number that none of the framework's is.
    #[error(transparent)]
    Number(MapMistake),
    /// A limit of nothing.
    #[error("a limit is at least 1; leave it out to have the default")]
    Zero,
    /// No `=` in a limit.
    #[error("expected a limit and a number, as in chunks=64")]
    NoLimit,
    /// A limit that there is not.
    #[error("there is no such limit; there are: {}", crate::limits::NAMES.join(", "))]
    UnknownLimit,
    /// The same limit again.
    #[error("this limit is set already")]
    Twice,
    /// No `=` in a rule, or nothing behind it.
    #[error("expected '=' and who may, as in camera=uid:1000,gid:44")]
    NoWho,
    /// Something else where users and groups stand.
    #[error("expected uid:NUMBER, gid:NUMBER or * for everyone")]
    BadWho,
    /// A type behind a region.
    #[error("a region has no type; expected @region")]
    RegionType,
}

impl ConfigError {
    pub(crate) fn new(text: &str, span: Span, mistake: Mistake) -> Self {
        ConfigError { mistake, span, text: text.to_string() }
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    /// What, where (column, counted in characters from 1) and what was found there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = self.text.get(..self.span.start).unwrap_or_default();
        write!(f, "{} at column {}", self.mistake, before.chars().count() + 1)?;
        match self.text.get(self.span.clone()).unwrap_or_default() {
            "" if self.span.start >= self.text.len() => f.write_str(", where the text ends"),
            "" => Ok(()),
            found => write!(f, ": \"{}\"", found.escape_debug()),
        }
    }
}

/// The parts of `span` between separators, with their places.
pub(crate) fn split(text: &str, span: Span, separator: char) -> impl Iterator<Item = Span> {
    let mut at = span.start;
    text[span].split(separator).map(move |part| {
        let part = at..at + part.len();
        at = part.end + 1;
        part
    })
}
