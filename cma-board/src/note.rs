//! What a reader or a writer has to say.

use cma_framework::config::Span;
use std::error::Error;
use std::fmt;

/// Where a part of a board is described.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere in particular: in the description as a whole, or in a constant.
    #[default]
    Whole,
    /// At these bytes of a text.
    Text(Span),
    /// At a node of a device tree, by its path.
    Node(String),
}

/// A remark about a board that was read or written. It is not an error: the board can be used.
///
/// A reader notes what the form says and a board can't, or what is probably not intended; a writer
/// notes what the board says and the form can't express.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What is the case, in a sentence without a full stop.
    pub message: String,
    /// What to do about it, if anything can be done.
    pub remedy: Option<String>,
    /// Where. A writer's note is about the board: [`Origin::Whole`].
    pub at: Origin,
}

impl Note {
    /// A note about the description as a whole, without a remedy.
    pub fn new(message: impl Into<String>) -> Note {
        Note { message: message.into(), remedy: None, at: Origin::Whole }
    }

    /// The same note about the part at `origin`.
    #[must_use]
    pub fn at(self, origin: Origin) -> Note {
        Note { at: origin, ..self }
    }

    /// The same note about the node of that path.
    #[must_use]
    pub fn at_node(self, path: impl Into<String>) -> Note {
        self.at(Origin::Node(path.into()))
    }

    /// The same note with a remedy.
    #[must_use]
    pub fn with_remedy(self, remedy: impl Into<String>) -> Note {
        Note { remedy: Some(remedy.into()), ..self }
    }
}

impl fmt::Display for Note {
    /// The message, after the path of the node that it is about.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            Origin::Node(path) => write!(f, "{path}: {}", self.message),
            _ => f.write_str(&self.message),
        }
    }
}

/// Why a description is not a board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoardError(
    /// The mistake, where it is, and what to do.
    pub Note,
);

impl From<Note> for BoardError {
    fn from(note: Note) -> Self {
        BoardError(note)
    }
}

impl fmt::Display for BoardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for BoardError {}
