//! A position in a text that is read from its start to its end.

use super::size::parse_size;
use super::syntax::{ConfigError, Span, SyntaxError};

/// Reads a text. White space at both ends of the text is skipped.
pub(super) struct Cursor<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
    pub(super) end: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn over(text: &'a str) -> Self {
        Cursor { text, at: text.len() - text.trim_start().len(), end: text.trim_end().len() }
    }

    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.at..self.end).unwrap_or_default()
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.end
    }

    pub(super) fn skip_white_space(&mut self) {
        self.at = self.end - self.rest().trim_start().len();
    }

    pub(super) fn eat(&mut self, expected: char) -> bool {
        let found = self.rest().starts_with(expected);
        if found {
            self.at += expected.len_utf8();
        }
        found
    }

    pub(super) fn error(&self, span: Span, kind: SyntaxError) -> ConfigError {
        ConfigError::new(self.text, span, kind)
    }

    /// Takes the text up to one of `stops`.
    pub(super) fn until(&mut self, stops: &[char]) -> (&'a str, Span) {
        let rest = self.rest();
        let part = &rest[..rest.find(stops).unwrap_or(rest.len())];
        let span = self.at..self.at + part.len();
        self.at = span.end;
        (part, span)
    }

    /// Takes a number, which `parse` reads from the start of a text.
    pub(super) fn number_by<N>(
        &mut self,
        parse: impl FnOnce(&str) -> Result<(N, usize), (SyntaxError, usize)>,
    ) -> Result<(N, Span), ConfigError> {
        match parse(self.rest()) {
            Err((kind, len)) => Err(self.error(self.at..self.at + len, kind)),
            Ok((value, len)) => {
                let span = self.at..self.at + len;
                self.at = span.end;
                Ok((value, span))
            }
        }
    }

    /// Takes a number that is not 0.
    pub(super) fn number(&mut self) -> Result<(u64, Span), ConfigError> {
        match self.number_by(parse_size)? {
            (0, span) => Err(self.error(span, SyntaxError::Zero)),
            number => Ok(number),
        }
    }
}
