//! `cma tree`: the attributes of a running server and their values.

use super::running;
use crate::options::TreeArgs;
use crate::outcome::{CommandError, Outcome};
use crate::show::{BOLD, DIM, Out, plain, width};
use cma_running::{EntryKind, Error, Server};
use std::io::Write;

/// The most bytes of a text that are read.
const MAX_READ: u64 = 4096;

pub(crate) fn run(args: &TreeArgs, out: &mut Out) -> Result<Outcome, CommandError> {
    let server = running::find(&args.server)?;
    let root = if args.path.is_empty() { server.to_string() } else { args.path.clone() };
    match server.list(&args.path) {
        Err(Error::NotFolder { .. }) => {
            let value = value(&server, &args.path, width());
            writeln!(out, "{}", format!("{}  {value}", plain(&root)).trim_end())?;
            return Ok(Outcome::Done);
        }
        listed => drop(listed?),
    }
    writeln!(out, "{BOLD}{}{BOLD:#}", plain(&root))?;
    draw(&server, &args.path, "", out)?;
    Ok(Outcome::Done)
}

/// Draws the entries of `folder`, each line behind `indent`.
fn draw(server: &Server, folder: &str, indent: &str, out: &mut Out) -> Result<(), CommandError> {
    let entries = server.list(folder)?;
    let texts = entries.iter().filter(|entry| entry.kind == EntryKind::Attribute);
    let longest = texts.map(|entry| entry.name.len()).max().unwrap_or(0);
    for (n, entry) in entries.iter().enumerate() {
        let (branch, below) =
            if n + 1 < entries.len() { ("├─ ", "│  ") } else { ("└─ ", "   ") };
        let path = if folder.is_empty() {
            entry.name.clone()
        } else {
            format!("{}/{}", folder.trim_end_matches('/'), entry.name)
        };
        let name = plain(&entry.name);
        write!(out, "{DIM}{indent}{branch}{DIM:#}")?;
        match &entry.kind {
            EntryKind::Folder => {
                writeln!(out, "{BOLD}{name}{BOLD:#}")?;
                // A region may be unregistered meanwhile: its folder is drawn empty.
                match draw(server, &path, &format!("{indent}{below}"), out) {
                    Err(CommandError::Running(Error::Missing { .. } | Error::NotRead { .. })) => {}
                    drawn => drawn?,
                }
            }
            EntryKind::Link { target } => {
                writeln!(out, "{name} {DIM}->{DIM:#} {}", plain(target))?;
            }
            EntryKind::Attribute => {
                let left = indent.chars().count() + branch.chars().count() + longest + 2;
                let value = value(server, &path, width().saturating_sub(left));
                writeln!(out, "{}", format!("{name:longest$}  {value}").trim_end())?;
            }
        }
    }
    Ok(())
}

/// The first line of an attribute's text, cut to `width` characters.
fn value(server: &Server, path: &str, width: usize) -> String {
    let text = match server.read_start(path, MAX_READ) {
        Ok(text) => text,
        Err(Error::NotRead { reason, .. }) => return format!("({reason})"),
        Err(error) => return format!("({error})"),
    };
    let mut lines = text.lines();
    let first = plain(lines.next().unwrap_or_default());
    let more = if lines.next().is_some() { " ..." } else { "" };
    if first.chars().count() + more.len() <= width {
        return first + more;
    }
    first.chars().take(width.saturating_sub(4)).chain(" ...".chars()).collect()
}
