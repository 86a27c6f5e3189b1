//! `cma tree`: the attributes of a running server and their values.

use super::server_mount::{ServerMount, read_error};
use crate::options::TreeArgs;
use crate::outcome::{CommandError, Outcome};
use crate::show::{BOLD, DIM, Out, plain, width};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

/// The most bytes of a text that are read.
const MAX_READ: u64 = 4096;

pub(crate) fn run(args: &TreeArgs, out: &mut Out) -> Result<Outcome, CommandError> {
    let mount = ServerMount::find(&args.server)?;
    let file = mount.file(&args.path)?;
    let root =
        if args.path.is_empty() { mount.root().display().to_string() } else { args.path.clone() };
    if !file.is_dir() {
        writeln!(out, "{}", format!("{}  {}", plain(&root), value(&file, width())).trim_end())?;
        return Ok(Outcome::Done);
    }
    writeln!(out, "{BOLD}{}{BOLD:#}", plain(&root))?;
    draw(&file, "", out)?;
    Ok(Outcome::Done)
}

/// Draws the entries of `folder`, each line behind `indent`.
fn draw(folder: &Path, indent: &str, out: &mut Out) -> Result<(), CommandError> {
    let unreadable = |error: io::Error| CommandError::Attribute {
        path: folder.display().to_string(),
        reason: read_error(&error),
    };
    let entries: Vec<_> = fs::read_dir(folder).and_then(Iterator::collect).map_err(unreadable)?;
    let kind =
        |entry: &fs::DirEntry| entry.file_type().map(|kind| (kind.is_dir(), kind.is_symlink()));
    let is_text = |entry: &&fs::DirEntry| matches!(kind(entry), Ok((false, false)));
    let names = entries.iter().filter(is_text).map(|entry| entry.file_name().len());
    let longest = names.max().unwrap_or(0);
    for (n, entry) in entries.iter().enumerate() {
        let (branch, below) =
            if n + 1 < entries.len() { ("├─ ", "│  ") } else { ("└─ ", "   ") };
        let name = plain(&entry.file_name().to_string_lossy());
        write!(out, "{DIM}{indent}{branch}{DIM:#}")?;
        match kind(entry) {
            Ok((true, _)) => {
                writeln!(out, "{BOLD}{name}{BOLD:#}")?;
                // A region may be unregistered meanwhile: its folder is drawn empty.
                match draw(&entry.path(), &format!("{indent}{below}"), out) {
                    Err(CommandError::Attribute { .. }) => {}
                    drawn => drawn?,
                }
            }
            Ok((_, true)) => {
                let target = fs::read_link(entry.path()).unwrap_or_default();
                writeln!(out, "{name} {DIM}->{DIM:#} {}", plain(&target.display().to_string()))?;
            }
            _ => {
                let left = indent.chars().count() + branch.chars().count() + longest + 2;
                let value = value(&entry.path(), width().saturating_sub(left));
                writeln!(out, "{}", format!("{name:longest$}  {value}").trim_end())?;
            }
        }
    }
    Ok(())
}

/// The first line of an attribute's text, cut to `width` characters.
fn value(file: &Path, width: usize) -> String {
    let mut text = Vec::new();
    if let Err(error) = File::open(file).and_then(|file| file.take(MAX_READ).read_to_end(&mut text))
    {
        return format!("({})", read_error(&error));
    }
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines();
    let first = plain(lines.next().unwrap_or_default());
    let more = if lines.next().is_some() { " ..." } else { "" };
    if first.chars().count() + more.len() <= width {
        return first + more;
    }
    first.chars().take(width.saturating_sub(4)).chain(" ...".chars()).collect()
}
