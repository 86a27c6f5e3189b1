//! Where a board is described, and why a description is wrong.

use crate::notice::TextName;
use cma_board::{BoardError, Note, Origin};
use cma_framework::config::Span;
use std::error::Error;
use std::fmt;

/// The text of a file, or a text from the command line, by the user's name for it.
#[derive(Clone, Debug)]
pub(crate) struct SourceText {
    pub(crate) name: TextName,
    pub(crate) text: String,
}

/// A place that a remark is about.
pub(crate) enum Spot<'a> {
    Whole,
    Text(&'a SourceText, Span),
    Node(String),
}

/// Why a file is not a board's.
#[derive(Debug)]
pub(crate) struct DescriptionError {
    pub(crate) error: BoardError,
    pub(crate) file: String,
    /// `None` for a device tree.
    pub(crate) source: Option<SourceText>,
}

impl DescriptionError {
    /// The mistake. If it is not at a place in the text, it begins with the file's name.
    pub(crate) fn note(&self) -> Note {
        let BoardError(note) = self.error.clone();
        match &note.at {
            Origin::Text(_) | Origin::Node(_) => note,
            Origin::Whole => Note { message: format!("{}: {}", self.file, note.message), ..note },
        }
    }

    pub(crate) fn spot(&self) -> Spot<'_> {
        match (&self.error.0.at, &self.source) {
            (Origin::Text(span), Some(source)) => Spot::Text(source, span.clone()),
            (Origin::Node(path), _) => Spot::Node(path.clone()),
            _ => Spot::Whole,
        }
    }
}

impl fmt::Display for DescriptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error.0.at {
            Origin::Node(_) => write!(f, "{}: {}", self.file, self.error),
            Origin::Text(_) | Origin::Whole => self.note().fmt(f),
        }
    }
}

impl Error for DescriptionError {}
