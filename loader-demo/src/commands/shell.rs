//! `cma shell`: the specification's test program (section 8) on standard input, in this process.

mod line;

use crate::failure::{Failure, Outcome};
use crate::host::{Found, Host};
use crate::options::Options;
use crate::show::{BAD, Out};
use cma_framework::{AllocError, Chunk, Cma};
use line::{Amount, Command, Line, Mistake};
use std::collections::BTreeMap;
use std::io::{self, BufRead, IsTerminal, Write};

/// Why a line was not done.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Mistake(#[from] Mistake),
    #[error("{:?}: {error}", error.errno())]
    NoChunk { error: AllocError },
    #[error("there is no chunk {0}")]
    UnknownChunk(u64),
    #[error("there is no chunk to free")]
    Nothing,
}

pub(crate) fn run(options: &Options, out: &mut Out) -> Result<Outcome, Failure> {
    if options.json {
        return Err(Failure::NoFigures { command: "shell" });
    }
    let host = Host::boot(options)?;
    let mut outcome = host.register(Found::some_on_path(options)?);
    let prompt = if io::stdin().is_terminal() && io::stdout().is_terminal() { "cma> " } else { "" };
    let mut shell = Shell { cma: host.cma, chunks: BTreeMap::new(), newest: 0, last: None };
    let mut input = io::stdin().lock();
    let mut text = Vec::new();
    for number in 1_u64.. {
        write!(out, "{prompt}")?;
        out.flush()?;
        text.clear();
        if input.read_until(b'\n', &mut text).map_err(Failure::Input)? == 0 {
            break;
        }
        match shell.obey(&text, out)? {
            Ok(()) => {}
            Err(refused) => {
                outcome = Outcome::Refused;
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

/// The chunks that are live, by number. Each new chunk gets the next number, and none is used twice.
struct Shell {
    cma: Cma,
    chunks: BTreeMap<u64, Chunk>,
    newest: u64,
    last: Option<Command>,
}

impl Shell {
    /// Does what a line says. The outer error is that of the output.
    fn obey(&mut self, text: &[u8], out: &mut impl Write) -> io::Result<Result<(), Refused>> {
        let command = match Line::parse(text) {
            Err(mistake) => return Ok(Err(mistake.into())),
            Ok(Line::Comment) => return Ok(Ok(())),
            Ok(Line::Repeat) => self.last.clone(),
            Ok(Line::Command(command)) => Some(command),
        };
        self.last.clone_from(&command);
        let chunk = match command {
            None => return Ok(Ok(())),
            Some(Command::List) => {
                return self.chunks.iter().try_for_each(|(number, chunk)| print(out, *number, chunk)).map(Ok);
            }
            Some(Command::Free(number)) => return Ok(self.free(number)),
            Some(Command::Alloc { device, kind, amount: Amount { size, alignment } }) => {
                self.cma.alloc(&device, kind.as_deref(), size, alignment)
            }
            Some(Command::AllocFrom { regions, amount: Amount { size, alignment } }) => {
                self.cma.alloc_from(&regions, size, alignment)
            }
        };
        match chunk {
            Err(error) => Ok(Err(Refused::NoChunk { error })),
            Ok(chunk) => {
                self.newest += 1;
                print(out, self.newest, &chunk)?;
                self.chunks.insert(self.newest, chunk);
                Ok(Ok(()))
            }
        }
    }

    fn free(&mut self, number: Option<u64>) -> Result<(), Refused> {
        let chunk = match number {
            Some(number) => self.chunks.remove(&number).ok_or(Refused::UnknownChunk(number))?,
            None => self.chunks.pop_last().ok_or(Refused::Nothing)?.1,
        };
        drop(chunk);
        Ok(())
    }
}

/// As C's `"%3d: %p@%p\n"`: number, size, start.
fn print(out: &mut impl Write, number: u64, chunk: &Chunk) -> io::Result<()> {
    writeln!(out, "{number:3}: {:#x}@{}", chunk.size(), chunk.start())
}
