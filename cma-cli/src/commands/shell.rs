//! `cma shell`: the specification's test program (section 8) on standard input, in this process or
//! against a server.

mod line;
mod source;

use crate::failure::{Failure, Outcome};
use crate::host::{Found, Host};
use crate::options::{Options, SHELL, Shell as How};
use crate::show::{BAD, Out, plain, width, wrapped};
use cma_client::Client;
use line::{Command, Line, Mistake};
use source::Source;
use std::collections::BTreeMap;
use std::io::{self, BufRead, IsTerminal, Read, Write};

/// The longest line, in bytes without its end.
const LONGEST: usize = 64 << 10;

/// Why a line was not done.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Mistake(#[from] Mistake),
    #[error("{0}")]
    NotDone(String),
    #[error("there is no chunk {0}")]
    UnknownChunk(u64),
    #[error("there is no chunk to free")]
    Nothing,
}

pub(crate) fn run(options: &Options, how: &How, out: &mut Out) -> Result<Outcome, Failure> {
    if let Some(path) = &how.connect {
        return converse(Client::connect(path).map_err(Failure::NotConnected)?, out);
    }
    let host = Host::boot(options)?;
    let left_out = host.report_left_out();
    let booted = left_out.max(host.register(Found::some_on_path(options)?));
    Ok(booted.max(converse(host.cma, out)?))
}

/// Obeys standard input until it ends.
fn converse(source: impl Source, out: &mut Out) -> Result<Outcome, Failure> {
    let prompt = if io::stdin().is_terminal() && io::stdout().is_terminal() { "cma> " } else { "" };
    let mut shell = Shell { source, chunks: BTreeMap::new(), newest: 0, last: None };
    let mut outcome = Outcome::Done;
    let mut input = io::stdin().lock();
    let mut text = Vec::new();
    for number in 1_u64.. {
        write!(out, "{prompt}")?;
        out.flush()?;
        let went = match next_line(&mut input, &mut text).map_err(Failure::Input)? {
            None => break,
            Some(Err(mistake)) => Err(mistake.into()),
            Some(Ok(())) => shell.obey(&text, out)?,
        };
        match went {
            Ok(Went::On) => {}
            Ok(Went::End) => return Ok(outcome),
            Err(refused) => {
                outcome = Outcome::Refused;
                let refused = plain(&refused.to_string());
                // Nothing is left to do for somebody who doesn't listen.
                let _ = writeln!(anstream::stderr(), "{BAD}line {number}: {refused}{BAD:#}");
            }
        }
    }
    if !prompt.is_empty() {
        writeln!(out)?;
    }
    Ok(outcome)
}

/// Reads a line; `None` behind the last. Of one that is too long nothing is kept.
fn next_line(
    input: &mut impl BufRead,
    text: &mut Vec<u8>,
) -> io::Result<Option<Result<(), Mistake>>> {
    text.clear();
    let mut read = input.by_ref().take(LONGEST as u64 + 1).read_until(b'\n', text)?;
    if text.len() <= LONGEST || text.ends_with(b"\n") {
        return Ok((read > 0).then_some(Ok(())));
    }
    while read > 0 && !text.ends_with(b"\n") {
        text.clear();
        read = input.by_ref().take(LONGEST as u64).read_until(b'\n', text)?;
    }
    Ok(Some(Err(Mistake::TooLong)))
}

/// What comes behind a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Went {
    On,
    End,
}

/// A live chunk and who has it, as it was asked for.
struct Live<C> {
    chunk: C,
    asked: String,
}

/// The chunks that are live, by number. Each new chunk gets the next number, and none is used
/// twice.
struct Shell<S: Source> {
    source: S,
    chunks: BTreeMap<u64, Live<S::Chunk>>,
    newest: u64,
    last: Option<Command>,
}

impl<S: Source> Shell<S> {
    /// Does what a line says. The outer error is that of the output.
    fn obey(&mut self, text: &[u8], out: &mut impl Write) -> io::Result<Result<Went, Refused>> {
        let command = match Line::parse(text) {
            Err(mistake) => return Ok(Err(mistake.into())),
            Ok(Line::Comment) => return Ok(Ok(Went::On)),
            Ok(Line::Help) => {
                for line in SHELL.lines().flat_map(|line| wrapped(line, width())) {
                    writeln!(out, "{line}")?;
                }
                return Ok(Ok(Went::On));
            }
            Ok(Line::End) => return Ok(Ok(Went::End)),
            Ok(Line::Repeat) => self.last.clone(),
            Ok(Line::Command(command)) => Some(command),
        };
        self.last.clone_from(&command);
        let asked = command.as_ref().map_or_else(String::new, Command::asked);
        let chunk = match command {
            None => return Ok(Ok(Went::On)),
            Some(Command::List) => {
                for (number, live) in &self.chunks {
                    self.list(out, *number, live)?;
                }
                return Ok(Ok(Went::On));
            }
            Some(Command::Free(number)) => return Ok(self.free(number).map(|()| Went::On)),
            Some(Command::Alloc { device, kind, amount }) => {
                self.source.alloc(&device, kind.as_deref(), &amount)
            }
            Some(Command::AllocFrom { regions, amount }) => {
                self.source.alloc_from(&regions, &amount)
            }
        };
        match chunk {
            Err(error) => Ok(Err(Refused::NotDone(error))),
            Ok(chunk) => {
                self.newest += 1;
                self.print(out, self.newest, &chunk)?;
                self.chunks.insert(self.newest, Live { chunk, asked });
                Ok(Ok(Went::On))
            }
        }
    }

    fn free(&mut self, number: Option<u64>) -> Result<(), Refused> {
        let live = match number {
            Some(number) => self.chunks.remove(&number).ok_or(Refused::UnknownChunk(number))?,
            None => self.chunks.pop_last().ok_or(Refused::Nothing)?.1,
        };
        self.source.free(live.chunk).map_err(Refused::NotDone)
    }

    /// As C's `"%3d: %p@%p\n"`: number, size, start.
    fn print(&self, out: &mut impl Write, number: u64, chunk: &S::Chunk) -> io::Result<()> {
        let (size, start) = self.source.place(chunk);
        writeln!(out, "{number:3}: {size:#x}@{start}")
    }

    /// The same, with who has the chunk and the region it lies in.
    fn list(&self, out: &mut impl Write, number: u64, live: &Live<S::Chunk>) -> io::Result<()> {
        let (size, start) = self.source.place(&live.chunk);
        let region = self
            .source
            .region(&live.chunk)
            .map(|region| format!(" in {region}"))
            .unwrap_or_default();
        let who = plain(&format!("{}{region}", live.asked));
        writeln!(out, "{number:3}: {size:#x}@{start}  {who}")
    }
}
