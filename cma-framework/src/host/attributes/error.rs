//! Why an attribute was not read or written.

use super::LONGEST_TEXT;
use crate::host::region::ChangeError;
use crate::vocabulary::ConfigError;
use crate::vocabulary::errors::Stuck;

/// Why an attribute was not read or written. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttributeError {
    /// Nothing is there.
    #[error("there is no \"{}\"", path.escape_debug())]
    Missing {
        /// The path.
        path: String,
    },
    /// A folder has no text.
    #[error("a folder has no text; read or write an attribute in it")]
    Folder,
    /// An attribute has nothing in it.
    #[error("an attribute is no folder")]
    NotFolder,
    /// It can only be read.
    #[error("this attribute can only be read")]
    ReadOnly,
    /// What it would say is too long.
    #[error("{what} of {pages} pages is too long to be read; at most {most} pages")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        pages: u64,
        /// How much there may be.
        most: u64,
    },
    /// More text than an attribute takes.
    #[error("a text of {bytes} bytes is too long; an attribute takes {LONGEST_TEXT}")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// Bytes that are no text.
    #[error("what stands from byte {at} on is no UTF-8 text")]
    NotUtf8 {
        /// Where, from 0.
        at: usize,
    },
    /// A NUL.
    #[error("byte {at} is a NUL, which no text has")]
    Nul {
        /// Where, from 0.
        at: usize,
    },
    /// A mistake in a map or in an allocator with parameters, with its place.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The region's allocator doesn't return, so nobody can look at the region's books.
    #[error(transparent)]
    Stuck(#[from] Stuck),
    /// The region keeps the allocator it has.
    #[error(transparent)]
    Change(#[from] ChangeError),
}
