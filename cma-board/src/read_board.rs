//! A board that was read, with the places where its parts are described.

use crate::board::Board;
use crate::note::{BoardError, Note, Origin};
use crate::pages::difference;
use cma_framework::PageRange;
use cma_framework::config::{Bank, ConfigError, Map, Span, parse_regions};
use std::fmt::Display;

/// A board that was read from one of its forms.
#[derive(Clone, Debug)]
pub struct ReadBoard {
    /// The board.
    pub board: Board,
    /// Remarks about the description.
    pub notes: Vec<Note>,
    /// Memory that firmware and drivers use without asking, in ascending order: no part of a bank.
    pub withheld: Vec<PageRange>,
    /// Its regions as `cma=` text.
    pub regions: TracedText,
    /// Its map as `cma.map=` text.
    pub map: TracedText,
    /// Its memory as the text of `--memory`; empty if it leaves the choice to the host.
    pub memory: TracedText,
}

impl ReadBoard {
    /// A board whose regions and rules were each described at one place: the n-th of `regions_at`
    /// is where the n-th region is described, and so for the rules of the map.
    ///
    /// # Errors
    ///
    /// The first region that the grammar of `cma=` doesn't allow, with its origin.
    pub fn new(
        board: Board,
        regions_at: &[Origin],
        rules_at: &[Origin],
        notes: Vec<Note>,
    ) -> Result<ReadBoard, BoardError> {
        let origin = |origins: &[Origin], n: usize| origins.get(n).cloned().unwrap_or_default();
        let mut regions = TracedText::default();
        for (n, region) in board.regions.iter().enumerate() {
            if n > 0 {
                regions.connect(";");
            }
            regions.push(&region.spec().to_string(), origin(regions_at, n));
        }
        let mut map = TracedText::default();
        for (n, rule) in board.map.rules().enumerate() {
            if n > 0 {
                map.connect(";");
            }
            map.push(&rule.to_string(), origin(rules_at, n));
        }
        parse_regions(&regions.text).map_err(|error| regions.error(&error))?;
        Map::parse(&map.text).map_err(|error| map.error(&error))?;
        Ok(ReadBoard {
            board,
            notes,
            withheld: Vec::new(),
            regions,
            map,
            memory: TracedText::default(),
        })
    }

    /// Replaces the banks of the board by `banks`, in their order and without what is withheld.
    pub fn replace_banks(&mut self, banks: &[Bank]) {
        let left = banks.iter().flat_map(|bank| difference(&[bank.0], &self.withheld));
        self.board.banks = left.map(Bank).collect();
    }
}

/// A text in one of the framework's grammars, put together from parts that are described elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TracedText {
    text: String,
    /// Ascending, disjoint.
    parts: Vec<(Span, Origin)>,
}

impl TracedText {
    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Appends a part that is described at `origin`.
    pub fn push(&mut self, part: &str, origin: Origin) {
        let start = self.text.len();
        self.text.push_str(part);
        self.parts.push((start..self.text.len(), origin));
    }

    /// Appends a separator, which is described nowhere.
    pub fn connect(&mut self, separator: &str) {
        self.text.push_str(separator);
    }

    /// Where `span` of the text is described: exactly, if the part that it starts in was taken from
    /// its origin byte by byte, or else where that part is.
    pub fn origin(&self, span: &Span) -> Origin {
        let after = self.parts.partition_point(|(part, _)| part.start <= span.start);
        match after.checked_sub(1).and_then(|n| self.parts.get(n)) {
            Some((part, Origin::Text(at))) if part.len() == at.len() => {
                let shifted = |n: usize| at.start + n.clamp(part.start, part.end) - part.start;
                Origin::Text(shifted(span.start)..shifted(span.end))
            }
            Some((_, origin)) => origin.clone(),
            None => Origin::Whole,
        }
    }

    /// An error in the text, at its origin.
    pub fn error<K: Display>(&self, error: &ConfigError<K>) -> BoardError {
        let part = self.parts.iter().rfind(|(part, _)| part.start <= error.span.start);
        let at = self.origin(&error.span);
        let message = match (&at, part) {
            (Origin::Text(_), _) | (_, None) => error.kind.to_string(),
            (_, Some((part, _))) => format!("{}: \"{}\"", error.kind, &self.text[part.clone()]),
        };
        let note = Note::new(message).at(at);
        BoardError(match note.at {
            Origin::Node(_) => note.with_remedy("correct the node in the source of the tree"),
            Origin::Text(_) | Origin::Whole => note,
        })
    }
}
