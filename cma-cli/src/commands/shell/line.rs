//! The shell's language (specification section 8). Pure: bytes in, a command or a mistake out.

use crate::show::quoted;
use cma_framework::config;

/// What one line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// `# ...`
    Comment,
    /// Nothing: the last command again.
    Repeat,
    Help,
    /// The end, before that of the input.
    End,
    Command(Command),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    List,
    Alloc { device: String, kind: Option<String>, amount: Amount },
    AllocFrom { regions: String, amount: Amount },
    Free(Option<u64>),
}

impl Command {
    /// Who gets the chunk that it asks for: device and type, or the regions that were named.
    pub(super) fn asked(&self) -> String {
        match self {
            Command::Alloc { device, kind: Some(kind), .. } => format!("{device}/{kind}"),
            Command::Alloc { device, kind: None, .. } => device.clone(),
            Command::AllocFrom { regions, .. } => format!("from {regions}"),
            Command::List | Command::Free(_) => String::new(),
        }
    }
}

/// `<size>[/<alignment>]` in bytes; an alignment of 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) size: u64,
    pub(super) alignment: u64,
}

/// Why a line is no command. The message says what would be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Mistake {
    #[error("a line is UTF-8 text")]
    NotText,
    #[error("a line has at most {} bytes", super::LONGEST)]
    TooLong,
    #[error("there is no command \"{}\"; there are: l[ist], a[lloc] <device>[/<type>] <size>[/<alignment>], \
        A (afrom) <regions> <size>[/<alignment>], f[ree] [<num>], h[elp], q[uit], # a comment", quoted(.0))]
    Unknown(String),
    #[error("expected {0}")]
    Missing(&'static str),
    #[error("\"{}\" is no {what}: {mistake}", quoted(found))]
    Number { what: &'static str, found: String, mistake: config::SyntaxError },
    #[error("\"{}\" is no {what} that a map could name: {fault}", quoted(name))]
    Name { what: &'static str, name: String, fault: &'static str },
    #[error("\"{}\" is no chunk's number", quoted(.0))]
    ChunkNumber(String),
    #[error("\"{}\" is left over", quoted(.0))]
    LeftOver(String),
}

impl Line {
    /// Reads a line, with or without its end.
    pub(super) fn parse(line: &[u8]) -> Result<Line, Mistake> {
        let line = std::str::from_utf8(line).map_err(|_| Mistake::NotText)?.trim();
        if line.is_empty() {
            return Ok(Line::Repeat);
        } else if line.starts_with('#') {
            return Ok(Line::Comment);
        }
        let (verb, rest) = word(line);
        Ok(Line::Command(match verb {
            "h" | "help" | "?" => return nothing_left(rest).map(|()| Line::Help),
            "q" | "quit" | "exit" => return nothing_left(rest).map(|()| Line::End),
            "l" | "list" => {
                nothing_left(rest)?;
                Command::List
            }
            "f" | "free" => Command::Free(chunk_number(rest)?),
            "a" | "alloc" => {
                let (target, rest) = word(rest);
                let (device, kind) = asker(target)?;
                let amount = amount(rest, "a size, as in: alloc camera 2M/64K")?;
                Command::Alloc { device, kind, amount }
            }
            "A" | "afrom" => {
                let (regions, rest) = list(rest);
                if regions.is_empty() {
                    return Err(Mistake::Missing("regions, as in: afrom b1,b2 2M"));
                }
                let amount = amount(rest, "a size, as in: afrom b1,b2 2M/64K")?;
                let regions: Vec<_> = regions.split(',').map(str::trim).collect();
                Command::AllocFrom { regions: regions.join(","), amount }
            }
            _ => return Err(Mistake::Unknown(verb.to_string())),
        }))
    }
}

/// `<device>[/<type>]`, of names that a map can have.
fn asker(target: &str) -> Result<(String, Option<String>), Mistake> {
    let (device, kind) = match target.split_once('/') {
        Some((_, "")) => return Err(Mistake::Missing("a type behind '/'")),
        Some((device, kind)) => (device, Some(name(kind, "type")?)),
        None => (target, None),
    };
    if device.is_empty() {
        return Err(Mistake::Missing("a device, as in: alloc camera/frame 2M"));
    }
    Ok((name(device, "device")?, kind))
}

fn name(name: &str, what: &'static str) -> Result<String, Mistake> {
    let fault = if name.contains('/') {
        "there is one '/', between device and type"
    } else if name.contains(['*', '?']) {
        "wildcards are for the map's patterns"
    } else if name.contains([';', ',', '=', '|']) || name.contains(char::is_control) {
        "names take no control characters or any of ; , = / |"
    } else {
        return Ok(name.to_string());
    };
    Err(Mistake::Name { what, name: name.to_string(), fault })
}

/// The first word, and what follows it.
fn word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim_start())
}

/// A list of words separated by commas, with white space beside them if one likes, and what follows
/// it.
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

fn nothing_left(rest: &str) -> Result<(), Mistake> {
    if rest.is_empty() { Ok(()) } else { Err(Mistake::LeftOver(rest.to_string())) }
}

fn chunk_number(text: &str) -> Result<Option<u64>, Mistake> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| Mistake::ChunkNumber(text.to_string()))
}

/// `<size>[/<alignment>]`, with blanks around the `/` if one likes.
fn amount(text: &str, expected: &'static str) -> Result<Amount, Mistake> {
    if text.is_empty() {
        return Err(Mistake::Missing(expected));
    }
    let (size, rest) = number(text, "size")?;
    let (alignment, rest) = match rest.strip_prefix('/') {
        Some(rest) => number(rest.trim_start(), "alignment")?,
        None => (0, rest),
    };
    nothing_left(rest)?;
    Ok(Amount { size, alignment })
}

/// A number with an optional suffix, and what follows it.
fn number<'a>(text: &'a str, what: &'static str) -> Result<(u64, &'a str), Mistake> {
    match config::parse_size(text) {
        Ok((value, taken)) => Ok((value, text[taken..].trim_start())),
        Err((mistake, _)) => {
            Err(Mistake::Number { what, found: word(text).0.to_string(), mistake })
        }
    }
}

#[cfg(test)]
mod tests;
