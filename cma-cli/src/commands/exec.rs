//! `cma exec`: a program that inherits chunks as descriptors, from a server or from a system in
//! this process.
//!
//! A chunk of a server is a connection, and its memory is a file. The program inherits the
//! descriptors of both, so the server frees the chunk after the last process that has one of them.
//! A chunk of this process is freed when no other process has its file any more, which is asked
//! again and again once the program has ended.

mod passed_on;
mod values;
mod wanted;

use super::shell::chunk_source::{ChunkSource, source_of};
use super::why::write_plain;
use crate::described::Description;
use crate::found_plugins::FoundPlugins;
use crate::host::Host;
use crate::notice::{Notice, TextName};
use crate::options::{ExecArgs, Options};
use crate::outcome::{CommandError, NOT_EXECUTED, Outcome};
use crate::show::plain;
use cma_client::Client;
use cma_framework::config::ConfigError;
use cma_framework::{Cma, MemoryError, Process, SharedChunk};
use cma_memory::Port;
use passed_on::PassedOn;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{getpid, getuid};
use rustix::thread::set_name;
use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use values::{UnknownValue, Values, prefix, substituted};
use wanted::{ChunkFault, Wanted};

/// How often this process asks whether another one still holds a chunk of the program that ended.
const ASK_INTERVAL: Duration = Duration::from_millis(100);

/// Why the program was not executed.
#[derive(Debug, thiserror::Error)]
enum ExecError {
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error("{}", .0.kind)]
    Chunk(ConfigError<ChunkFault>),
    #[error("two chunks have the variables {prefix}...: \"{first}\" and \"{second}\"")]
    Twice { prefix: String, first: String, second: String },
    #[error("\"{argument}\": no chunk has the value {}", unknown.found)]
    Unknown { argument: String, unknown: UnknownValue },
    #[error("chunk \"{name}\" was refused: {message}")]
    Refused { name: String, message: String, explanation: Option<String> },
    #[error("chunk \"{name}\" can't be given to a program: {reason}")]
    NotShared { name: String, reason: String, remedy: Option<&'static str> },
    #[error("chunk \"{name}\" consists of {count} files, and a program gets one descriptor")]
    Pieces { name: String, count: usize },
    #[error("no program can be started: {0}")]
    System(io::Error),
    #[error("{program}: {}", why_not(source))]
    Program { program: String, source: io::Error },
}

/// Why a program was not started.
fn why_not(error: &io::Error) -> String {
    match is_missing(error) {
        true => "there is no such program".to_string(),
        false => format!("it can't be executed: {error}"),
    }
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

impl ExecError {
    /// The exit status, as `env` and `timeout` have it.
    fn status(&self) -> u8 {
        match self {
            ExecError::Program { source, .. } if is_missing(source) => 127,
            ExecError::Program { .. } => 126,
            _ => NOT_EXECUTED,
        }
    }

    fn notice(&self) -> Notice {
        let notice = Notice::error(&self.to_string());
        match self {
            ExecError::Command(error) => Notice::from(error),
            ExecError::Chunk(error) => {
                notice.underlining(&TextName("--chunk".to_string()), &error.text, &error.span)
            }
            ExecError::Unknown { unknown, .. } => {
                let known = unknown.known.join(", ");
                notice.with_help(Some(format!("there are {known}; {{{{ stands for {{")))
            }
            ExecError::Twice { .. } => notice.with_help(Some("name one differently".to_string())),
            ExecError::NotShared { remedy, .. } => notice.with_help(remedy.map(str::to_string)),
            ExecError::Pieces { .. } => notice.with_help(Some(
                "ask again: huge pages are in several files only if another user of the machine's \
                 pool took some of them meanwhile; a region of memfd (--memory memfd) always gives \
                 one file; a program that uses libcma maps all files of a chunk as one \
                 (cma_chunk_map)"
                    .to_string(),
            )),
            _ => notice,
        }
    }

    /// Reports the error on standard error.
    fn report(&self) -> Outcome {
        self.notice().report();
        if let ExecError::Refused { explanation: Some(explanation), .. } = self {
            // If standard error can't be written, the exit status remains.
            let _ = write_plain(&mut anstream::stderr(), explanation);
        }
        Outcome::Program(self.status())
    }
}

pub(crate) fn run(options: &Options, args: &ExecArgs) -> Outcome {
    let execute = || {
        let wanted = wanted(args)?;
        match &args.socket {
            Some(path) => become_program(path, args, &wanted).map(|never| match never {}),
            None => host_program(options, args, &wanted),
        }
    };
    execute().unwrap_or_else(|error: ExecError| error.report())
}

/// The chunks of the command line. Its arguments have values of these alone.
fn wanted(args: &ExecArgs) -> Result<Vec<Wanted>, ExecError> {
    let mut all: Vec<Wanted> = Vec::new();
    for text in &args.chunks {
        let mut wanted = wanted::parse(text).map_err(ExecError::Chunk)?;
        wanted.request.wait = wanted.request.wait.or(args.wait);
        let prefix = prefix(&wanted.name);
        if let Some(first) = all.iter().find(|first| values::prefix(&first.name) == prefix) {
            let (first, second) = (first.name.clone(), wanted.name);
            return Err(ExecError::Twice { prefix, first, second });
        }
        all.push(wanted);
    }
    let values: Vec<_> = all.iter().map(|wanted| Values::unknown(&wanted.name)).collect();
    command(args, &values)?;
    Ok(all)
}

/// The program with the values of its chunks.
fn command(args: &ExecArgs, chunks: &[Values]) -> Result<Command, ExecError> {
    let (program, arguments) = split(args);
    let mut command = Command::new(program);
    for argument in arguments {
        let made = substituted(argument, chunks).map_err(|unknown| {
            let argument = plain(&argument.to_string_lossy());
            ExecError::Unknown { argument, unknown }
        })?;
        command.arg(made);
    }
    command.envs(chunks.iter().flat_map(Values::variables));
    Ok(command)
}

fn split(args: &ExecArgs) -> (&OsStr, &[std::ffi::OsString]) {
    // clap requires a program.
    args.program.split_first().map_or((OsStr::new(""), &[]), |(first, rest)| (first, rest))
}

/// The program could not be started.
fn not_started(args: &ExecArgs, source: io::Error) -> ExecError {
    match source.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => ExecError::System(source),
        _ => {
            let program = plain(&split(args).0.to_string_lossy());
            ExecError::Program { program, source }
        }
    }
}

/// A chunk that was refused, with what is in its way.
fn refused<S: ChunkSource>(source: &S, wanted: &Wanted, refusal: &S::Refusal) -> ExecError {
    let explanation = source.explain(refusal).ok();
    ExecError::Refused { name: wanted.name.clone(), message: S::message(refusal), explanation }
}

/// Lets programs that are started from now on inherit the descriptor.
fn inherit(descriptor: BorrowedFd<'_>) -> Result<(), ExecError> {
    fcntl_setfd(descriptor, FdFlags::empty()).map_err(|errno| ExecError::System(errno.into()))
}

/// Takes the name that the kernel gives this process when it becomes the program. The server reads
/// it at each request, for its books.
fn name_as_program(args: &ExecArgs) {
    let name = Path::new(split(args).0).file_name();
    if let Some(name) = name.and_then(|name| CString::new(name.as_bytes()).ok()) {
        // The name is not essential.
        let _ = set_name(&name);
    }
}

/// Becomes the program, with chunks of the server at `path`. If that fails, the chunks are freed.
fn become_program(
    path: &Path,
    args: &ExecArgs,
    wanted: &[Wanted],
) -> Result<Infallible, ExecError> {
    name_as_program(args);
    let client = Client::connect(path).map_err(CommandError::NotConnected)?;
    let (mut chunks, mut values) = (Vec::new(), Vec::new());
    for wanted in wanted {
        let name = || wanted.name.clone();
        let chunk = ChunkSource::allocate(&client, wanted.requester.selector(), &wanted.request)
            .map_err(|refusal| refused(&client, wanted, &refusal))?;
        let chunk = chunk.share().map_err(|not| ExecError::NotShared {
            name: name(),
            reason: not.error.to_string(),
            remedy: matches!(not.error, cma_client::Error::Simulated)
                .then_some("start the server with --memory memfd or --memory hugetlb"),
        })?;
        let file = match chunk.pieces() {
            [piece] if piece.offset == 0 => piece.file.as_fd(),
            pieces => return Err(ExecError::Pieces { name: name(), count: pieces.len() }),
        };
        inherit(file)?;
        inherit(chunk.as_fd())?;
        let fd = file.as_raw_fd();
        values.push(Values { name: name(), fd, start: chunk.start(), size: chunk.size() });
        chunks.push(chunk);
    }
    Err(not_started(args, command(args, &values)?.exec()))
}

/// Runs the program with chunks of a system in this process, until nobody has one any more.
fn host_program(
    options: &Options,
    args: &ExecArgs,
    wanted: &[Wanted],
) -> Result<Outcome, ExecError> {
    let host = Host::boot_described(Description::of(options)?, options, Port::Memfd, Vec::new())?;
    host.report_left_out();
    host.register(FoundPlugins::at_least_one(options)?);
    let (mut chunks, mut files, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for wanted in wanted {
        let (chunk, file) = shared(&host.cma, wanted)?;
        let (start, size) = (chunk.start().get(), chunk.chunk().size());
        values.push(Values { name: wanted.name.clone(), fd: file.as_raw_fd(), start, size });
        files.push(file);
        chunks.push((wanted.name.as_str(), chunk));
    }
    let command = command(args, &values)?;
    files.iter().try_for_each(|file| inherit(file.as_fd()))?;
    let (mut signals, mut program) =
        PassedOn::start(command).map_err(|error| not_started(args, error))?;
    // From here on only other processes have them.
    drop(files);
    let status = signals.until_ended(&mut program).map_err(ExecError::System)?;
    free(chunks, &mut signals);
    Ok(Outcome::of_program(status))
}

/// A chunk of the system in this process, and its memory as one file.
fn shared(cma: &Cma, wanted: &Wanted) -> Result<(SharedChunk, OwnedFd), ExecError> {
    let name = || wanted.name.clone();
    let not_shared = |error: MemoryError| ExecError::NotShared {
        name: name(),
        reason: error.to_string(),
        remedy: matches!(error, MemoryError::Simulated { .. })
            .then_some("give --memory memfd or --memory hugetlb"),
    };
    let process =
        Process { uid: getuid().as_raw(), pid: getpid().as_raw_pid() as u32, name: "cma".into() };
    let source = source_of(wanted.requester.selector());
    let chunk = cma
        .to_share(process, source, &wanted.request)
        .and_then(|request| request.alloc())
        .map_err(|refusal| refused(cma, wanted, &refusal))?;
    let chunk = chunk.share().map_err(|not| not_shared(not.error))?;
    let mut pieces = chunk.pieces().map_err(not_shared)?;
    let count = pieces.len();
    let file = match pieces.next() {
        Some(Err(error)) => return Err(not_shared(error)),
        Some(Ok(piece)) if count == 1 && piece.offset == 0 => piece.into_file(),
        _ => return Err(ExecError::Pieces { name: name(), count }),
    };
    Ok((chunk, file))
}

/// Waits until no other process has one of the chunks, or a signal comes.
fn free(chunks: Vec<(&str, SharedChunk)>, signals: &mut PassedOn) {
    let mut is_reported = false;
    for (name, mut chunk) in chunks {
        while let Err(held) = chunk.reclaim() {
            if !is_reported {
                let text = format!("another process still holds chunk \"{name}\": waiting for it");
                Notice::advice(&text).report();
                is_reported = true;
            }
            if signals.came_within(ASK_INTERVAL) {
                return;
            }
            chunk = held;
        }
    }
}
