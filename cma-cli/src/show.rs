//! The layout of results: tables, wrapped lines, quoted text, and colour on terminals.

use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, Table, presets};
use std::fmt::Display;
use std::io::{self, Stdout, Write};

/// Standard output. Colour reaches only a terminal, and `NO_COLOR` is heeded.
pub(crate) type Out = anstream::AutoStream<Stdout>;

pub(crate) fn out() -> Out {
    anstream::stdout()
}

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default();

/// A column's title and alignment.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Column {
    /// Aligned left, for words.
    Left(&'static str),
    /// Aligned right, for figures.
    Right(&'static str),
}

/// Writes `rows` under `columns`, aligned, each line behind `indent` spaces; nothing without rows.
pub(crate) fn table(
    out: &mut impl Write,
    indent: usize,
    columns: &[Column],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> io::Result<()> {
    let mut rows = rows.into_iter().peekable();
    if rows.peek().is_none() {
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns.iter().map(|column| match column {
        Column::Left(title) | Column::Right(title) => *title,
    }));
    table.add_rows(rows);
    for (shape, column) in table.column_iter_mut().zip(columns) {
        shape.set_padding((0, 2));
        if let Column::Right(_) = column {
            shape.set_cell_alignment(CellAlignment::Right);
        }
    }
    for (line, text) in table.lines().enumerate() {
        let (style, text) = (if line == 0 { BOLD } else { Style::new() }, text.trim_end());
        writeln!(out, "{:indent$}{style}{text}{style:#}", "")?;
    }
    Ok(())
}

/// `text` on one line and without control characters, which could be commands to a terminal.
pub(crate) fn plain(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(shown).collect()
}

/// `text` escaped to stand between quotation marks, cut to [`MAX_QUOTED`].
pub(crate) fn quoted(text: &str) -> String {
    let escaped = |c: char| match c {
        '\'' => c.to_string(),
        c => c.escape_debug().to_string(),
    };
    let mut quoted: String = text.chars().take(MAX_QUOTED).map(escaped).collect();
    if text.chars().nth(MAX_QUOTED).is_some() {
        quoted.push('…');
    }
    quoted
}

/// The characters of a text that are quoted.
const MAX_QUOTED: usize = 60;

/// A count with its noun, as `1 chunk` or `2 chunks`.
pub(crate) fn counted<N: Copy + Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1.into() { "" } else { "s" })
}

/// The width of prose on standard output: the terminal's, if it is one, and else 100.
pub(crate) fn width() -> usize {
    terminal_size::terminal_size_of(io::stdout())
        .map_or(100, |(width, _)| usize::from(width.0).max(20))
}

/// `text` in lines of at most `width` characters, broken between words.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapped_lines_keep_every_word_and_the_width() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("longerthanthat is", 4), ["longerthanthat", "is"]);
        assert_eq!(wrapped("", 4), [""]);
    }

    #[test]
    fn quoted_text_is_escaped_and_short() {
        assert_eq!(quoted("it's \x1b[2J\n"), "it's \\u{1b}[2J\\n");
        assert_eq!(quoted(&"x".repeat(61)), "x".repeat(60) + "…");
        assert_eq!(plain("a\x1b[2J\nb"), "a\u{fffd}[2J b");
    }

    #[test]
    fn one_is_counted_in_the_singular() {
        assert_eq!([0_u64, 1, 2].map(|n| counted(n, "chunk")), ["0 chunks", "1 chunk", "2 chunks"]);
    }

    #[test]
    fn a_table_without_rows_has_no_head() {
        let mut out = Vec::new();
        table(&mut out, 0, &[Column::Left("name")], []).unwrap();
        assert_eq!(out, b"");
    }

    #[test]
    fn figures_are_aligned_right_and_words_left() {
        let mut out = Vec::new();
        let rows = [["a".to_string(), "1".to_string()], ["bbbb".to_string(), "100".to_string()]]
            .map(Vec::from);
        table(&mut out, 2, &[Column::Left("name"), Column::Right("size")], rows).unwrap();
        let plain = anstream::adapter::strip_bytes(&out).into_vec();
        assert_eq!(String::from_utf8(plain).unwrap(), "  name  size\n  a        1\n  bbbb   100\n");
    }
}
