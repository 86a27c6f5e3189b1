//! Errors in the text of limits and rules, and the splitting of such texts.

use cma_framework::config::{ConfigError, Span, SyntaxError, TimeError};

/// An error in the text of [`Limits`](crate::Limits) or [`Rules`](crate::Rules), with its position.
/// Nothing of that text took effect.
pub type PolicyError = ConfigError<PolicyErrorKind>;

/// What can be wrong in such a text. The message says what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyErrorKind {
    /// An invalid pattern.
    #[error(transparent)]
    Pattern(SyntaxError),
    /// An invalid number.
    #[error(transparent)]
    Number(SyntaxError),
    /// An invalid time.
    #[error(transparent)]
    Time(TimeError),
    /// A limit of 0.
    #[error("a limit is at least 1; omit it to have the default")]
    Zero,
    /// The `=` of a limit is missing, or text follows its number.
    #[error("expected a limit and a number, as in chunks=64")]
    NoLimit,
    /// The name of a limit is unknown.
    #[error("there is no such limit; there are: {}", known.join(", "))]
    UnknownLimit {
        /// The names of all limits.
        known: &'static [&'static str],
    },
    /// A limit is set twice.
    #[error("this limit is set already")]
    DuplicateLimit,
    /// A rule without `=`, or without users after it.
    #[error("expected '=' and the admitted users, as in camera=uid:1000,gid:44")]
    NoUsers,
    /// Not a user, a group or `*`.
    #[error("expected user:NAME, group:NAME, uid:NUMBER, gid:NUMBER or * for everyone")]
    BadUser,
    /// The system has no user of that name.
    #[error("this system has no such user; create it, or write uid:NUMBER")]
    UnknownUser,
    /// The system has no group of that name.
    #[error("this system has no such group; create it, or write gid:NUMBER")]
    UnknownGroup,
    /// The system's database of users and groups can't be read.
    #[error("the name can't be looked up: {reason}; write its number")]
    LookUp {
        /// The system's error.
        reason: String,
    },
    /// A type after a region pattern.
    #[error("a region has no type; expected @region")]
    RegionType,
}

/// The parts of `span` between separators.
pub(crate) fn split(text: &str, span: Span, separator: char) -> impl Iterator<Item = Span> {
    let mut at = span.start;
    text[span].split(separator).map(move |part| {
        let part = at..at + part.len();
        at = part.end + 1;
        part
    })
}

/// `span` without the white space at both ends.
pub(crate) fn trim(text: &str, span: Span) -> Span {
    let part = &text[span.clone()];
    let start = span.start + (part.len() - part.trim_start().len());
    start..start + part.trim().len()
}
