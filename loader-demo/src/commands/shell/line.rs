//! The shell's language (specification section 8). Pure: bytes in, a command or a mistake out.

use cma_framework::config;

/// What one line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// `# ...`
    Comment,
    /// Nothing: the last command again.
    Repeat,
    Command(Command),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    List,
    Alloc { device: String, kind: Option<String>, amount: Amount },
    AllocFrom { regions: String, amount: Amount },
    Free(Option<u64>),
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
    #[error("there is no command \"{}\"; there are: l[ist], a[lloc] <device>[/<type>] <size>[/<alignment>], \
        A (afrom) <regions> <size>[/<alignment>], f[ree] [<num>], # a comment", .0.escape_debug())]
    Unknown(String),
    #[error("expected {0}")]
    Missing(&'static str),
    #[error("\"{}\" is no {what}: {mistake}", found.escape_debug())]
    Number { what: &'static str, found: String, mistake: config::Mistake },
    #[error("\"{}\" is no chunk's number", .0.escape_debug())]
    ChunkNumber(String),
    #[error("\"{}\" is left over", .0.escape_debug())]
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
            "l" | "list" => {
                nothing_left(rest)?;
                Command::List
            }
            "f" | "free" => Command::Free(chunk_number(rest)?),
            "a" | "alloc" => {
                let (target, rest) = word(rest);
                // The device is what stands before the last `/`, as in the published program.
                let (device, kind) = match target.rsplit_once('/') {
                    Some((_, "")) => return Err(Mistake::Missing("a type behind '/'")),
                    Some((device, kind)) => (device, Some(kind.to_string())),
                    None => (target, None),
                };
                if device.is_empty() {
                    return Err(Mistake::Missing("a device, as in: alloc camera/frame 2M"));
                }
                Command::Alloc { device: device.to_string(), kind, amount: amount(rest)? }
            }
            "A" | "afrom" => {
                let (regions, rest) = word(rest);
                if regions.is_empty() {
                    return Err(Mistake::Missing("regions, as in: afrom b1,b2 2M"));
                }
                Command::AllocFrom { regions: regions.to_string(), amount: amount(rest)? }
            }
            _ => return Err(Mistake::Unknown(verb.to_string())),
        }))
    }
}

/// The first word, and what follows it.
fn word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim_start())
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
fn amount(text: &str) -> Result<Amount, Mistake> {
    if text.is_empty() {
        return Err(Mistake::Missing("a size, as in: alloc camera 2M/64K"));
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
        Err((mistake, _)) => Err(Mistake::Number { what, found: text.to_string(), mistake }),
    }
}

#[cfg(test)]
mod tests;
