//! Comments and prose are at most [`MAX`] columns wide.
//!
//! Exempt are what can't be wrapped: rows of tables, lines with a URL, and in Markdown the lines of
//! a code block, which show a command or its output as it is.

use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

/// The most columns of a comment or of a line of prose.
pub const MAX: usize = 100;

/// A line that is too wide.
#[derive(Debug, PartialEq, Eq)]
pub struct Wide {
    /// The file, relative to the repository's root.
    pub file: PathBuf,
    /// The line's number, from 1.
    pub line: usize,
    /// Its width in characters.
    pub columns: usize,
}

impl fmt::Display for Wide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wide { file, line, columns } = self;
        write!(f, "{}:{line}: {columns} columns; wrap it at {MAX}", file.display())
    }
}

/// How the comments of a kind of file begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// `//`, also behind code.
    Slashes,
    /// `#`, also behind code.
    Hash,
    /// Everything is prose.
    Markdown,
}

impl Syntax {
    /// The syntax of `file`; `None` for a kind of file that is not checked.
    pub fn of(file: &Path) -> Option<Self> {
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("rs" | "c" | "h") => Some(Syntax::Slashes),
            Some("toml" | "sh" | "py") => Some(Syntax::Hash),
            Some("md") => Some(Syntax::Markdown),
            None if file.ends_with(".ci/run") => Some(Syntax::Hash),
            _ => None,
        }
    }
}

/// The wide lines of `text`: their numbers and their widths.
pub fn wide_lines(syntax: Syntax, text: &str) -> Vec<(usize, usize)> {
    let mut in_code_block = false;
    let mut wide = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let fence = syntax == Syntax::Markdown && line.trim_start().starts_with("```");
        in_code_block ^= fence;
        let columns = line.chars().count();
        if columns <= MAX || in_code_block || fence {
            continue;
        }
        let prose = match syntax {
            Syntax::Slashes => comment(line, "//"),
            Syntax::Hash => comment(line, "#"),
            Syntax::Markdown => Some(line),
        };
        if prose.is_some_and(|prose| !is_exempt(prose)) {
            wide.push((number, columns));
        }
    }
    wide
}

/// The text behind `marker` in `line`, if the marker starts the line or follows a blank. One in a
/// string literal is taken for a comment when a blank is before it; wrap such a line, too.
fn comment<'a>(line: &'a str, marker: &str) -> Option<&'a str> {
    let trimmed = line.trim_start();
    // The continued lines of a C comment.
    if marker == "//" && trimmed.starts_with("* ") {
        return trimmed.get(2..);
    }
    let mut starts = line.match_indices(marker).map(|(at, _)| at);
    let start = starts.find(|&at| at == 0 || line[..at].ends_with([' ', '\t']))?;
    Some(line[start..].trim_start_matches(['/', '!', '#']))
}

fn is_exempt(prose: &str) -> bool {
    prose.trim_start().starts_with('|') || prose.contains("://")
}

/// The wide lines of all `files` below `root`.
///
/// # Errors
///
/// A file can't be read.
pub fn check(root: &Path, files: &[PathBuf]) -> io::Result<Vec<Wide>> {
    let mut found = Vec::new();
    for file in files {
        let Some(syntax) = Syntax::of(file) else { continue };
        let text = fs::read_to_string(root.join(file))?;
        let wide = |(line, columns)| Wide { file: file.clone(), line, columns };
        found.extend(wide_lines(syntax, &text).into_iter().map(wide));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn widths(syntax: Syntax, line: &str) -> Vec<(usize, usize)> {
        wide_lines(syntax, line)
    }

    #[test]
    fn a_wide_comment_is_found_also_behind_code() {
        let text = "x".repeat(100);
        assert_eq!(widths(Syntax::Slashes, &format!("    // {text}")), [(1, 107)]);
        assert_eq!(widths(Syntax::Slashes, &format!("let a = 1; // {text}")), [(1, 114)]);
        assert_eq!(widths(Syntax::Slashes, &format!("a\n/// {text}")), [(2, 104)]);
        assert_eq!(widths(Syntax::Slashes, &format!(" * {text}")), [(1, 103)]);
        assert_eq!(widths(Syntax::Hash, &format!("key = 1 # {text}")), [(1, 110)]);
        assert_eq!(widths(Syntax::Markdown, &format!("# {text}")), [(1, 102)]);
    }

    #[test]
    fn a_line_of_100_columns_is_not_wide() {
        assert_eq!(widths(Syntax::Slashes, &format!("//! {}", "é".repeat(96))), []);
        assert_eq!(widths(Syntax::Slashes, &format!("//! {}", "é".repeat(97))), [(1, 101)]);
    }

    #[test]
    fn code_tables_urls_and_code_blocks_are_exempt() {
        let text = "x".repeat(100);
        assert_eq!(widths(Syntax::Slashes, &format!("call(\"{text}\")")), []);
        assert_eq!(widths(Syntax::Slashes, &format!("//! | {text} |")), []);
        assert_eq!(widths(Syntax::Slashes, &format!("// https://example.org/{text}")), []);
        assert_eq!(widths(Syntax::Markdown, &format!("```text\n{text}\n```\n| {text} |")), []);
        assert_eq!(widths(Syntax::Markdown, &format!("```text\n```\n{text} x")), [(3, 102)]);
    }
}
