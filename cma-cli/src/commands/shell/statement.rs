//! The shell's language (specification section 8). Pure: bytes in, a statement or an error out.

use crate::show::quoted;
use cma_client::RegionSelector;
use cma_framework::ChunkRequest;
use cma_framework::config::{ConfigError, RequestSyntax};
use std::fmt;

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
    Alloc(Requester, ChunkRequest),
    Free(Option<u64>),
    /// Explains the last refused request.
    Why,
}

/// The requester of a chunk: device and type, or the regions that were named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::commands) enum Requester {
    Device { device: String, kind: Option<String> },
    Regions(String),
}

impl Requester {
    /// The regions that may serve it.
    pub(in crate::commands) fn selector(&self) -> RegionSelector<'_> {
        match self {
            Requester::Device { device, kind } => {
                RegionSelector::Device { device, kind: kind.as_deref().unwrap_or_default() }
            }
            Requester::Regions(regions) => RegionSelector::Regions(regions),
        }
    }
}

impl fmt::Display for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Requester::Device { device, kind: Some(kind) } => write!(f, "{device}/{kind}"),
            Requester::Device { device, kind: None } => f.write_str(device),
            Requester::Regions(regions) => write!(f, "from {regions}"),
        }
    }
}

/// Why a line is no statement. The message says what is expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::commands) enum ParseError {
    #[error("a line must be UTF-8 text")]
    NotText,
    #[error("a line has at most {MAX_LINE} bytes")]
    TooLong,
    #[error(
        "there is no command \"{}\"; there are: l[ist], \
        a[lloc] <device>[/<type>] <size>[/<alignment>] [<limits>], \
        A (afrom) <region>[,|]... <size>[/<alignment>] [<limits>], f[ree] [<num>], w[hy], h[elp], q[uit], # a comment",
        quoted(.0)
    )]
    Unknown(String),
    #[error("expected {0}")]
    Missing(&'static str),
    #[error(transparent)]
    Request(#[from] ConfigError<RequestSyntax>),
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
        let line = std::str::from_utf8(line).map_err(|_| ParseError::NotText)?.trim_end();
        let text = line.trim_start();
        if text.is_empty() {
            return Ok(Statement::Repeat);
        } else if text.starts_with('#') {
            return Ok(Statement::Comment);
        }
        let (verb, rest) = word(text);
        Ok(Statement::Action(match verb {
            "h" | "help" | "?" => return end_of_line(rest).map(|()| Statement::Help),
            "q" | "quit" | "exit" => return end_of_line(rest).map(|()| Statement::Quit),
            "l" | "list" => {
                end_of_line(rest)?;
                Action::List
            }
            "w" | "why" => {
                end_of_line(rest)?;
                Action::Why
            }
            "f" | "free" => Action::Free(chunk_number(rest)?),
            "a" | "alloc" => {
                let (target, rest) = word(rest);
                let requester = device_and_type(target)?;
                Action::Alloc(requester, request(line, rest, "a size, as in: alloc camera 2M/64K")?)
            }
            "A" | "afrom" => {
                let (regions, rest) = list(rest);
                if regions.is_empty() {
                    return Err(ParseError::Missing(
                        "regions, as in: afrom b1,b2 2M, or afrom b1|b2 2M for the better fit",
                    ));
                }
                let request = request(line, rest, "a size, as in: afrom b1,b2 2M/64K")?;
                // It has white space beside its separators alone.
                let regions = regions.split_whitespace().collect();
                Action::Alloc(Requester::Regions(regions), request)
            }
            _ => return Err(ParseError::Unknown(verb.to_string())),
        }))
    }
}

/// `<device>[/<type>]`, of names that are valid in a map.
pub(in crate::commands) fn device_and_type(target: &str) -> Result<Requester, ParseError> {
    let (device, kind) = match target.split_once('/') {
        Some((_, "")) => return Err(ParseError::Missing("a type behind '/'")),
        Some((device, kind)) => (device, Some(name(kind, "type")?)),
        None => (target, None),
    };
    if device.is_empty() {
        return Err(ParseError::Missing("a device, as in: alloc camera/frame 2M"));
    }
    Ok(Requester::Device { device: name(device, "device")?, kind })
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

/// A list of words separated by `,` or `|` and optional white space, and the text after it.
fn list(text: &str) -> (&str, &str) {
    let mut end = 0;
    loop {
        let (next, _) = word(&text[end..]);
        end += next.len();
        let rest = text[end..].trim_start();
        let separator = [',', '|'];
        if !(text[..end].ends_with(separator) || rest.starts_with(separator)) || rest.is_empty() {
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

/// The request at the end of `line`. Errors have their position in the line.
fn request(line: &str, text: &str, expected: &'static str) -> Result<ChunkRequest, ParseError> {
    if text.is_empty() {
        return Err(ParseError::Missing(expected));
    }
    let before = line.len() - text.len();
    ChunkRequest::parse(text).map_err(|ConfigError { kind, span, .. }| {
        ConfigError::new(line, before + span.start..before + span.end, kind).into()
    })
}

#[cfg(test)]
mod tests;
