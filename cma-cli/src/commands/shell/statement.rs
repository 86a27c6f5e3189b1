//! The shell's language (specification section 8). Pure: bytes in, a statement or an error out.

use crate::show::quoted;
use cma_framework::config;

/// The length of the longest line, in bytes without its end.
pub(super) const MAX_LINE: usize = 64 << 10;

/// The content of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Statement {
    /// `# ...`
    Comment,
    /// An empty line: the last action again.
    Repeat,
    Help,
    Quit,
    Action(Action),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    List,
    Alloc { device: String, kind: Option<String>, amount: Amount },
    AllocFrom { regions: String, amount: Amount },
    Free(Option<u64>),
}

impl Action {
    /// The requester of the chunk: device and type, or the regions that were named.
    pub(super) fn requester(&self) -> String {
        match self {
            Action::Alloc { device, kind: Some(kind), .. } => format!("{device}/{kind}"),
            Action::Alloc { device, kind: None, .. } => device.clone(),
            Action::AllocFrom { regions, .. } => format!("from {regions}"),
            Action::List | Action::Free(_) => String::new(),
        }
    }
}

/// `<size>[/<alignment>]` in bytes; an alignment of 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) size: u64,
    pub(super) alignment: u64,
}

/// Why a line is no statement. The message says what is expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ParseError {
    #[error("a line must be UTF-8 text")]
    NotText,
    #[error("a line has at most {MAX_LINE} bytes")]
    TooLong,
    #[error(
        "there is no command \"{}\"; there are: l[ist], \
        a[lloc] <device>[/<type>] <size>[/<alignment>], \
        A (afrom) <regions> <size>[/<alignment>], f[ree] [<num>], h[elp], q[uit], # a comment",
        quoted(.0)
    )]
    Unknown(String),
    #[error("expected {0}")]
    Missing(&'static str),
    #[error("\"{}\" is no {what}: {reason}", quoted(found))]
    Number { what: &'static str, found: String, reason: config::SyntaxError },
    #[error("\"{}\" is no valid {what}: {fault}", quoted(name))]
    Name { what: &'static str, name: String, fault: &'static str },
    #[error("\"{}\" is not the number of a chunk", quoted(.0))]
    ChunkNumber(String),
    #[error("unexpected \"{}\" at the end of the line", quoted(.0))]
    Unexpected(String),
}

impl Statement {
    /// Reads a line, with or without its end.
    pub(super) fn parse(line: &[u8]) -> Result<Statement, ParseError> {
        let line = std::str::from_utf8(line).map_err(|_| ParseError::NotText)?.trim();
        if line.is_empty() {
            return Ok(Statement::Repeat);
        } else if line.starts_with('#') {
            return Ok(Statement::Comment);
        }
        let (verb, rest) = word(line);
        Ok(Statement::Action(match verb {
            "h" | "help" | "?" => return end_of_line(rest).map(|()| Statement::Help),
            "q" | "quit" | "exit" => return end_of_line(rest).map(|()| Statement::Quit),
            "l" | "list" => {
                end_of_line(rest)?;
                Action::List
            }
            "f" | "free" => Action::Free(chunk_number(rest)?),
            "a" | "alloc" => {
                let (target, rest) = word(rest);
                let (device, kind) = requester(target)?;
                let amount = amount(rest, "a size, as in: alloc camera 2M/64K")?;
                Action::Alloc { device, kind, amount }
            }
            "A" | "afrom" => {
                let (regions, rest) = list(rest);
                if regions.is_empty() {
                    return Err(ParseError::Missing("regions, as in: afrom b1,b2 2M"));
                }
                let amount = amount(rest, "a size, as in: afrom b1,b2 2M/64K")?;
                let regions: Vec<_> = regions.split(',').map(str::trim).collect();
                Action::AllocFrom { regions: regions.join(","), amount }
            }
            _ => return Err(ParseError::Unknown(verb.to_string())),
        }))
    }
}

/// `<device>[/<type>]`, of names that are valid in a map.
fn requester(target: &str) -> Result<(String, Option<String>), ParseError> {
    let (device, kind) = match target.split_once('/') {
        Some((_, "")) => return Err(ParseError::Missing("a type behind '/'")),
        Some((device, kind)) => (device, Some(name(kind, "type")?)),
        None => (target, None),
    };
    if device.is_empty() {
        return Err(ParseError::Missing("a device, as in: alloc camera/frame 2M"));
    }
    Ok((name(device, "device")?, kind))
}

fn name(name: &str, what: &'static str) -> Result<String, ParseError> {
    let fault = if name.contains('/') {
        "the only '/' is the one between device and type"
    } else if name.contains(['*', '?']) {
        "wildcards are valid only in the map's patterns"
    } else if name.contains([';', ',', '=', '|']) || name.contains(char::is_control) {
        "names take no control characters or any of ; , = / |"
    } else {
        return Ok(name.to_string());
    };
    Err(ParseError::Name { what, name: name.to_string(), fault })
}

/// The first word, and the text after it.
fn word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim_start())
}

/// A list of words separated by commas and optional white space, and the text after it.
fn list(text: &str) -> (&str, &str) {
    let mut end = 0;
    loop {
        let (next, _) = word(&text[end..]);
        end += next.len();
        let rest = text[end..].trim_start();
        if !(text[..end].ends_with(',') || rest.starts_with(',')) || rest.is_empty() {
            return (&text[..end], rest);
        }
        end = text.len() - rest.len();
    }
}

fn end_of_line(rest: &str) -> Result<(), ParseError> {
    if rest.is_empty() { Ok(()) } else { Err(ParseError::Unexpected(rest.to_string())) }
}

fn chunk_number(text: &str) -> Result<Option<u64>, ParseError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| ParseError::ChunkNumber(text.to_string()))
}

/// `<size>[/<alignment>]`, with optional blanks around the `/`.
fn amount(text: &str, expected: &'static str) -> Result<Amount, ParseError> {
    if text.is_empty() {
        return Err(ParseError::Missing(expected));
    }
    let (size, rest) = number(text, "size")?;
    let (alignment, rest) = match rest.strip_prefix('/') {
        Some(rest) => number(rest.trim_start(), "alignment")?,
        None => (0, rest),
    };
    end_of_line(rest)?;
    Ok(Amount { size, alignment })
}

/// A number with an optional suffix, and the text after it.
fn number<'a>(text: &'a str, what: &'static str) -> Result<(u64, &'a str), ParseError> {
    match config::parse_size(text) {
        Ok((value, taken)) => Ok((value, text[taken..].trim_start())),
        Err((reason, _)) => {
            Err(ParseError::Number { what, found: word(text).0.to_string(), reason })
        }
    }
}

#[cfg(test)]
mod tests;
