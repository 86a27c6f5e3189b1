//! `cma set`: writes to an attribute, and says why when that is refused.

use super::mounted::{Mounted, said};
use crate::failure::{Failure, Outcome};
use crate::notice::Notice;
use crate::options::{Options, Set};
use std::fs::File;
use std::io::Write;

pub(crate) fn run(options: &Options, what: &Set) -> Result<Outcome, Failure> {
    if options.json {
        return Err(Failure::NoFigures { command: "set" });
    }
    let mounted = Mounted::find(&what.server)?;
    let file = mounted.attribute(&what.path)?;
    let before = mounted.last_refusal(&file).map_or(0, |(number, _)| number);
    let opened = File::options().write(true).open(&file);
    // All in one piece: each piece would be a text of its own.
    let text = format!("{}\n", what.value);
    let written = opened.and_then(|mut file| match file.write(text.as_bytes()) {
        Ok(taken) if taken < text.len() => Err(std::io::ErrorKind::WriteZero.into()),
        written => written,
    });
    let Err(error) = written else { return Ok(Outcome::Done) };
    // A file has only a number to answer with. The server knows more.
    let reason =
        mounted.last_refusal(&file).filter(|(number, _)| *number > before).and_then(|(_, reason)| reason);
    let reason = reason.unwrap_or_else(|| said(&error));
    Notice::error(&format!("{}: {reason}", what.path)).report();
    Ok(Outcome::Refused)
}
