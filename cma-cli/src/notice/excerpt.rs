//! The part of a configuration text that a notice shows. Texts may be long (a boot loader's, a
//! script's); what is drawn is not.

use super::Place;
use cma_framework::config::Span;
use miette::{LabeledSpan, MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

/// A text longer than this is shown with one rule or region a line, so that what underlines it
/// stays under it.
const LONG: usize = 72;

/// How much is shown of the place itself and to each side of it, in characters.
const SHOWN: usize = 100;

/// The surroundings of a place, and where it is in the whole text.
#[derive(Debug)]
pub(super) struct Excerpt {
    /// The text's name, line and column, counted from 1; the column in characters.
    header: String,
    shown: String,
    /// The lines of the text before those that are shown.
    lines_before: usize,
    /// What is underlined, in bytes of what is shown.
    start: usize,
    length: usize,
    label: &'static str,
}

impl Excerpt {
    pub(super) fn new(place: &Place, text: &str, span: &Span) -> Self {
        let lines = text.chars().nth(LONG).is_some();
        let (before, part, after) = (&text[..span.start], &text[span.clone()], &text[span.end..]);
        let line_start = if lines { before.rfind(';').map_or(0, |n| n + 1) } else { 0 };
        let line = if lines { before.matches(';').count() } else { 0 };
        let column = before[line_start..].chars().count();

        let window = before.char_indices().rev().nth(SHOWN - 1).map_or(0, |(n, _)| n);
        let mut shown = shown(if window > 0 { "…" } else { "" }, &before[window..], lines);
        let start = shown.len();
        let (head, whole) = first(part);
        shown += &self::shown("", head, lines);
        shown.truncate(shown.trim_end_matches('\n').len().max(start));
        if !whole {
            shown.push('…');
        }
        let length = shown.len() - start;
        if whole {
            let (head, whole) = first(after);
            let newline = if lines && part.ends_with(';') { "\n" } else { "" };
            shown += &self::shown(newline, head, lines);
            shown += if whole { "" } else { "…" };
        }
        // What is missing at the end is missed at the blank behind it: nothing can be drawn under
        // nothing.
        shown.push(' ');
        Excerpt {
            header: format!("{}:{}:{}", place.0, line + 1, column + 1),
            lines_before: if lines { before[..window].matches(';').count() } else { 0 },
            shown,
            start,
            length,
            label: if span.is_empty() { "missing" } else { "here" },
        }
    }

    pub(super) fn label(&self) -> LabeledSpan {
        LabeledSpan::new(Some(self.label.to_string()), self.start, self.length)
    }
}

/// The first characters of `text`, and whether they are all of it.
fn first(text: &str) -> (&str, bool) {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => (&text[..end], false),
        None => (text, true),
    }
}

/// `text` behind `mark` as it is shown: no control character reaches the terminal, and with `lines`
/// each rule or region has a line. What stands for a part depends on that part alone, so that
/// offsets can be translated piece by piece.
fn shown(mark: &str, text: &str, lines: bool) -> String {
    let mut shown = mark.to_string();
    for c in text.chars() {
        shown.push(if c.is_control() { '\u{fffd}' } else { c });
        if lines && c == ';' {
            shown.push('\n');
        }
    }
    shown
}

impl SourceCode for Excerpt {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let found = self.shown.read_span(span, before, after)?;
        let line = found.line() + self.lines_before;
        Ok(Box::new(MietteSpanContents::new_named(
            self.header.clone(),
            found.data(),
            *found.span(),
            line,
            found.column(),
            found.line_count(),
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt(text: &str, span: Span) -> Excerpt {
        Excerpt::new(&Place("--map".to_string()), text, &span)
    }

    fn underlined(excerpt: &Excerpt) -> &str {
        &excerpt.shown[excerpt.start..excerpt.start + excerpt.length]
    }

    #[test]
    fn columns_count_characters() {
        let excerpt = excerpt("日本=8M;b=8X", 13..14);
        assert_eq!((excerpt.header.as_str(), underlined(&excerpt)), ("--map:1:10", "X"));
    }

    #[test]
    fn of_a_long_text_the_surroundings_are_shown_wherever_the_place_is() {
        let text = "device=b1,b2;".repeat(20_000);
        for n in [0, 1, 77, 10_000, 19_999] {
            let start = n * 13 + 7;
            let excerpt = excerpt(&text, start..start + 2);
            assert_eq!(underlined(&excerpt), "b1");
            assert_eq!(excerpt.header, format!("--map:{}:8", n + 1));
            assert!(excerpt.shown.chars().count() < 3 * SHOWN, "{}", excerpt.shown);
            let lines = excerpt.shown[..excerpt.start].matches('\n').count();
            assert_eq!(excerpt.lines_before + lines, n);
        }
    }

    #[test]
    fn a_place_that_is_too_long_itself_is_cut() {
        let text = "é".repeat(5000);
        let excerpt = excerpt(&text, 0..text.len());
        assert_eq!(excerpt.shown, "é".repeat(SHOWN) + "… ");
        assert_eq!(underlined(&excerpt), "é".repeat(SHOWN) + "…");
    }
}
