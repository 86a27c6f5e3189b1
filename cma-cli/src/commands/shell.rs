//! `cma shell`: the specification's test program (section 8) on standard input, with chunks of this
//! process or of a server.

pub(super) mod chunk_source;
pub(super) mod statement;

use super::why::write_plain;
use crate::found_plugins::FoundPlugins;
use crate::host::Host;
use crate::options::{Options, SHELL, ShellArgs};
use crate::outcome::{CommandError, Outcome};
use crate::show::{BAD, Out, plain, width, wrapped};
use chunk_source::ChunkSource;
use cma_client::Client;
use statement::{Action, MAX_LINE, ParseError, Requester, Statement};
use std::collections::BTreeMap;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::ops::ControlFlow;

/// Why a line was not carried out.
#[derive(Debug, thiserror::Error)]
enum LineError {
    #[error(transparent)]
    Parse(#[from] ParseError),
    #[error("{0}")]
    Refused(String),
    #[error("there is no chunk {0}")]
    UnknownChunk(u64),
    #[error("there is no chunk to free")]
    NoChunk,
    #[error("no request was refused")]
    NoRefusal,
}

pub(crate) fn run(
    options: &Options,
    args: &ShellArgs,
    out: &mut Out,
) -> Result<Outcome, CommandError> {
    if let Some(path) = &args.connect {
        return run_session(Client::connect(path).map_err(CommandError::NotConnected)?, out);
    }
    let host = Host::boot(options)?;
    let left_out = host.report_left_out();
    let booted = left_out.max(host.register(FoundPlugins::at_least_one(options)?));
    Ok(booted.max(run_session(host.cma, out)?))
}

/// Carries out the lines of standard input until it ends.
fn run_session(source: impl ChunkSource, out: &mut Out) -> Result<Outcome, CommandError> {
    let prompt = if io::stdin().is_terminal() && io::stdout().is_terminal() { "cma> " } else { "" };
    let mut session =
        Session { source, chunks: BTreeMap::new(), newest: 0, last: None, refusal: None };
    let mut outcome = Outcome::Done;
    let mut input = io::stdin().lock();
    let mut text = Vec::new();
    for number in 1_u64.. {
        write!(out, "{prompt}")?;
        out.flush()?;
        let result = match next_line(&mut input, &mut text).map_err(CommandError::Input)? {
            None => break,
            Some(Err(error)) => Err(error.into()),
            Some(Ok(())) => session.execute(&text, out)?,
        };
        match result {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => return Ok(outcome),
            Err(error) => {
                outcome = Outcome::Refused;
                let error = plain(&error.to_string());
                // If standard error can't be written, the exit status remains.
                let _ = writeln!(anstream::stderr(), "{BAD}line {number}: {error}{BAD:#}");
            }
        }
    }
    if !prompt.is_empty() {
        writeln!(out)?;
    }
    Ok(outcome)
}

/// Reads a line; `None` behind the last. A line that is too long is skipped without keeping it in
/// memory.
fn next_line(
    input: &mut impl BufRead,
    text: &mut Vec<u8>,
) -> io::Result<Option<Result<(), ParseError>>> {
    text.clear();
    let mut read = input.by_ref().take(MAX_LINE as u64 + 1).read_until(b'\n', text)?;
    if text.len() <= MAX_LINE || text.ends_with(b"\n") {
        return Ok((read > 0).then_some(Ok(())));
    }
    while read > 0 && !text.ends_with(b"\n") {
        text.clear();
        read = input.by_ref().take(MAX_LINE as u64).read_until(b'\n', text)?;
    }
    Ok(Some(Err(ParseError::TooLong)))
}

/// A live chunk and its requester, as the user wrote it.
struct LiveChunk<C> {
    chunk: C,
    requester: Requester,
}

/// The live chunks by number. Each new chunk gets the next number, and none is reused.
struct Session<S: ChunkSource> {
    source: S,
    chunks: BTreeMap<u64, LiveChunk<S::Chunk>>,
    newest: u64,
    last: Option<Action>,
    /// Of the last request that was refused.
    refusal: Option<S::Refusal>,
}

impl<S: ChunkSource> Session<S> {
    /// Carries out a line, and returns whether the session ends with it. The outer error is that of
    /// the output.
    fn execute(
        &mut self,
        text: &[u8],
        out: &mut impl Write,
    ) -> io::Result<Result<ControlFlow<()>, LineError>> {
        const CONTINUE: Result<ControlFlow<()>, LineError> = Ok(ControlFlow::Continue(()));
        let action = match Statement::parse(text) {
            Err(error) => return Ok(Err(error.into())),
            Ok(Statement::Comment) => return Ok(CONTINUE),
            Ok(Statement::Help) => {
                for line in SHELL.lines().flat_map(|line| wrapped(line, width())) {
                    writeln!(out, "{line}")?;
                }
                return Ok(CONTINUE);
            }
            Ok(Statement::Quit) => return Ok(Ok(ControlFlow::Break(()))),
            Ok(Statement::Repeat) => self.last.clone(),
            Ok(Statement::Action(action)) => Some(action),
        };
        self.last.clone_from(&action);
        let (requester, chunk) = match action {
            None => return Ok(CONTINUE),
            Some(Action::List) => {
                for (number, live) in &self.chunks {
                    self.list(out, *number, live)?;
                }
                return Ok(CONTINUE);
            }
            Some(Action::Why) => return self.explain(out),
            Some(Action::Free(number)) => {
                return Ok(self.free(number).map(ControlFlow::Continue));
            }
            Some(Action::Alloc(requester, request)) => {
                let chunk = self.source.allocate(requester.selector(), &request);
                (requester, chunk)
            }
        };
        match chunk {
            Err(refusal) => {
                let message = S::message(&refusal);
                self.refusal = Some(refusal);
                Ok(Err(LineError::Refused(message)))
            }
            Ok(chunk) => {
                self.newest += 1;
                self.print(out, self.newest, &chunk)?;
                self.chunks.insert(self.newest, LiveChunk { chunk, requester });
                Ok(CONTINUE)
            }
        }
    }

    fn explain(&self, out: &mut impl Write) -> io::Result<Result<ControlFlow<()>, LineError>> {
        let Some(refusal) = &self.refusal else { return Ok(Err(LineError::NoRefusal)) };
        match self.source.explain(refusal) {
            Ok(text) => write_plain(out, &text).map(|()| Ok(ControlFlow::Continue(()))),
            Err(error) => Ok(Err(LineError::Refused(error))),
        }
    }

    fn free(&mut self, number: Option<u64>) -> Result<(), LineError> {
        let live = match number {
            Some(number) => self.chunks.remove(&number).ok_or(LineError::UnknownChunk(number))?,
            None => self.chunks.pop_last().ok_or(LineError::NoChunk)?.1,
        };
        self.source.free(live.chunk).map_err(LineError::Refused)
    }

    /// As C's `"%3d: %p@%p\n"`: number, size, start.
    fn print(&self, out: &mut impl Write, number: u64, chunk: &S::Chunk) -> io::Result<()> {
        let (size, start) = self.source.place(chunk);
        writeln!(out, "{number:3}: {size:#x}@{start}")
    }

    /// The same, with the chunk's requester and region.
    fn list(
        &self,
        out: &mut impl Write,
        number: u64,
        live: &LiveChunk<S::Chunk>,
    ) -> io::Result<()> {
        let (size, start) = self.source.place(&live.chunk);
        let region = self
            .source
            .region(&live.chunk)
            .map(|region| format!(" in {region}"))
            .unwrap_or_default();
        let requester = plain(&format!("{}{region}", live.requester));
        writeln!(out, "{number:3}: {size:#x}@{start}  {requester}")
    }
}
