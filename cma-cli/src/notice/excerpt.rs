//! The part of a configuration text that a notice shows. Texts of boot loaders and scripts may be
//! long; an excerpt is short.

use cma_framework::config::Span;
use miette::{LabeledSpan, MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

/// A text without line ends that has more characters is shown with one rule or region a line: a
/// terminal would break a longer line, and the underlining would not match.
const MAX_LINE: usize = 72;

/// The characters shown of the place itself, and to each side of it.
const MAX_PART: usize = 100;

/// The surroundings of a place, and where it is in the whole text.
#[derive(Debug)]
pub(super) struct Excerpt {
    /// The text's name, line and column, counted from 1; the column in characters.
    header: String,
    shown: String,
    /// The lines of the text before those that are shown.
    lines_before: usize,
    /// The underlined part, in bytes of `shown`.
    start: usize,
    length: usize,
    label: &'static str,
}

impl Excerpt {
    pub(super) fn new(name: &str, text: &str, span: &Span) -> Self {
        let lines = match text.chars().nth(MAX_LINE) {
            _ if text.trim_end().contains('\n') => Some('\n'),
            Some(_) => Some(';'),
            None => None,
        };
        let (before, part, after) = (&text[..span.start], &text[span.clone()], &text[span.end..]);
        let line_start = lines.and_then(|end| before.rfind(end)).map_or(0, |n| n + 1);
        let line = lines.map_or(0, |end| before.matches(end).count());
        let column = before[line_start..].chars().count();

        let window = before.char_indices().rev().nth(MAX_PART - 1).map_or(0, |(n, _)| n);
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
            let newline = if lines.is_some_and(|end| part.ends_with(end)) { "\n" } else { "" };
            shown += &self::shown(newline, head, lines);
            shown += if whole { "" } else { "…" };
        }
        // This blank is underlined when something is missing at the end.
        shown.push(' ');
        Excerpt {
            header: format!("{name}:{}:{}", line + 1, column + 1),
            lines_before: lines.map_or(0, |end| before[..window].matches(end).count()),
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

/// The first [`MAX_PART`] characters of `text`, and whether they are all of it.
fn first(text: &str) -> (&str, bool) {
    match text.char_indices().nth(MAX_PART) {
        Some((end, _)) => (&text[..end], false),
        None => (text, true),
    }
}

/// `text` behind `mark` as it is shown: other white space is shown as blanks, control characters
/// are replaced, and a line ends where the character `lines` is, if there is one. Each part is
/// translated independently of the others, so offsets into the shown text are sums of the parts'
/// lengths.
fn shown(mark: &str, text: &str, lines: Option<char>) -> String {
    let mut shown = mark.to_string();
    for c in text.chars() {
        if c != '\n' || lines != Some('\n') {
            shown.push(match c {
                c if c.is_whitespace() => ' ',
                c if c.is_control() => '\u{fffd}',
                c => c,
            });
        }
        if lines == Some(c) {
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
        Excerpt::new("--map", text, &span)
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
    fn a_text_of_several_lines_is_shown_in_its_lines() {
        let text = "a=b1;\n  b=b2;c=b*;\nd=b1\n";
        for (span, place, part) in [
            (15..17, "--map:2:10", "b*"),
            (0..1, "--map:1:1", "a"),
            (19..23, "--map:3:1", "d=b1"),
            (4..6, "--map:1:5", ";"),
            (23..23, "--map:3:5", ""),
        ] {
            let excerpt = excerpt(text, span.clone());
            assert_eq!((excerpt.header.as_str(), underlined(&excerpt)), (place, part));
            assert_eq!(excerpt.shown[..excerpt.start], text[..span.start]);
        }
        let blank_at_the_end = excerpt("a=b*\n", 2..4);
        assert_eq!(blank_at_the_end.header, "--map:1:3");
    }

    #[test]
    fn white_space_is_shown_as_blanks_and_other_control_characters_are_replaced() {
        assert_eq!(excerpt("a=b*\n", 2..4).shown, "a=b*  ");
        assert_eq!(excerpt("a=b1\r\n\tb=b*\r\n", 9..11).shown, "a=b1 \n b=b* \n ");
        assert_eq!(excerpt("a=b*\u{1b}", 2..4).shown, "a=b*\u{fffd} ");
    }

    #[test]
    fn a_long_text_is_cut_to_the_surroundings_of_the_place() {
        let text = "device=b1,b2;".repeat(20_000);
        for n in [0, 1, 77, 10_000, 19_999] {
            let start = n * 13 + 7;
            let excerpt = excerpt(&text, start..start + 2);
            assert_eq!(underlined(&excerpt), "b1");
            assert_eq!(excerpt.header, format!("--map:{}:8", n + 1));
            assert!(excerpt.shown.chars().count() < 3 * MAX_PART, "{}", excerpt.shown);
            let lines = excerpt.shown[..excerpt.start].matches('\n').count();
            assert_eq!(excerpt.lines_before + lines, n);
        }
    }

    #[test]
    fn a_long_place_is_cut() {
        let text = "é".repeat(5000);
        let excerpt = excerpt(&text, 0..text.len());
        assert_eq!(excerpt.shown, "é".repeat(MAX_PART) + "… ");
        assert_eq!(underlined(&excerpt), "é".repeat(MAX_PART) + "…");
    }
}
