//! Errors of reading and writing attributes.

use super::LONGEST_TEXT;
use crate::host::cma::ShadowError;
use crate::host::region::ChangeError;
use crate::vocabulary::ConfigError;
use crate::vocabulary::errors::Stuck;

/// The reason why an attribute was not read or written. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttributeError {
    /// There is nothing at the path.
    #[error("there is no \"{}\"", path.escape_debug())]
    Missing {
        /// The path.
        path: String,
    },
    /// The path is a folder, which has no text.
    #[error("a folder has no text; read or write an attribute in it")]
    Folder,
    /// The path, or an inner part of it, is an attribute and has no entries.
    #[error("an attribute is not a folder")]
    NotFolder,
    /// The attribute is read-only.
    #[error("this attribute is read-only")]
    ReadOnly,
    /// The text of the attribute would be too long.
    #[error("{what} of {pages} pages is too long to be read; at most {most} pages")]
    TooLarge {
        /// The subject of the text, such as `the bitmap`.
        what: &'static str,
        /// The size in pages.
        pages: u64,
        /// The size limit in pages.
        most: u64,
    },
    /// The written text is longer than [`LONGEST_TEXT`].
    #[error("a text of {bytes} bytes is too long; write at most {LONGEST_TEXT} bytes")]
    TooLong {
        /// The length of the text in bytes.
        bytes: usize,
    },
    /// The written text is not UTF-8.
    #[error("the text is not UTF-8 from byte {at} on")]
    NotUtf8 {
        /// The offset, from 0.
        at: usize,
    },
    /// The written text contains a NUL.
    #[error("byte {at} is NUL; a text can't contain NUL")]
    Nul {
        /// The offset, from 0.
        at: usize,
    },
    /// A syntax error in a map or in an allocator with parameters, with its position.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The region's allocator doesn't return, so the region's books are locked.
    #[error(transparent)]
    Stuck(#[from] Stuck),
    /// The region's allocator can't be changed; the region keeps it.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The allocator can't be the region's shadow. The region has none now.
    #[error(transparent)]
    Shadow(#[from] ShadowError),
}
