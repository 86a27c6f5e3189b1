//! Starting the program, and what the recording is afterwards.

use crate::log::Log;
use crate::loss::Loss;
use crate::merge::{Merge, names};
use crate::program::{self, ProgramError};
use crate::watch::{self, Seen, now_ns, take_signals};
use cma_record_log::{FILE_BYTES, PATH_VARIABLE, header};
use cma_trace::Trace;
use rustix::process::{Pid, Resource, getrlimit};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// What devices are named after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Naming {
    /// The program or library that requests: `libavcodec.so.59` is `libavcodec`. A request through
    /// C++'s `new`, GLib or libavutil counts as that of their caller.
    #[default]
    Library,
    /// The thread that requests.
    Thread,
}

/// How to record.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The size in bytes of the smallest buffers that are recorded.
    pub at_least: u64,
    /// What devices are named after.
    pub naming: Naming,
    /// The path of [`LIBRARY`](crate::LIBRARY).
    pub library: PathBuf,
}

/// A recording.
#[derive(Debug)]
pub struct Recorded {
    /// The trace.
    pub trace: Trace,
    /// How the program ended.
    pub status: ExitStatus,
    /// What the trace does not have.
    pub losses: Vec<Loss>,
}

/// The reason why there is no recording.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The program can't be recorded. It was not started.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The library that is to be preloaded is not there. The program was not started.
    #[error("{}: the library that records can't be read: {reason}", path.display())]
    Library {
        /// Its path.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// The library's path can't be in `LD_PRELOAD`. The program was not started.
    #[error(
        "the paths {} and {} have a space, a colon or a $, which LD_PRELOAD can't name",
        library.display(), temporary.display()
    )]
    LibraryPath {
        /// The library's path.
        library: PathBuf,
        /// The folder for temporary files.
        temporary: PathBuf,
    },
    /// No log could be created. The program was not started.
    #[error(
        "there is no log for the recording in {}: {reason}; TMPDIR names another folder",
        folder.display()
    )]
    NoLog {
        /// The folder for temporary files.
        folder: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// The program could not be started.
    #[error("{}: it can't be started: {reason}", path.display())]
    Start {
        /// The program.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// The program ran, and no process of it wrote to the log.
    #[error(
        "nothing was recorded: no process opened the log. The system did not load {}, or the \
        address space of the program is limited (ulimit -v) to less than it uses and {} MiB",
        library.display(), FILE_BYTES >> 20
    )]
    NotLoaded {
        /// The library.
        library: PathBuf,
        /// How the program ended.
        status: ExitStatus,
    },
    /// The program ran, and the log can't be read.
    #[error("the log of the recording can't be read: {reason}")]
    Unreadable {
        /// Why.
        reason: io::Error,
        /// How the program ended.
        status: ExitStatus,
    },
}

impl RecordError {
    /// How the program ended, if it was started.
    pub fn program_status(&self) -> Option<ExitStatus> {
        match self {
            RecordError::NotLoaded { status, .. } | RecordError::Unreadable { status, .. } => {
                Some(*status)
            }
            _ => None,
        }
    }
}

/// Runs a program with its arguments, and records it until it ends. Its standard streams are those
/// of this process.
///
/// While it runs, SIGTERM and SIGHUP are passed on to it, and SIGINT and SIGQUIT are left to it.
/// From the start on, also afterwards, these signals do not end this process.
///
/// # Errors
///
/// [`RecordError`]. A program that can't be recorded is not started.
pub fn record(
    program: &OsStr,
    arguments: &[OsString],
    settings: &Settings,
) -> Result<Recorded, RecordError> {
    let path = program::find(program)?;
    let folder = std::env::temp_dir();
    let no_log = |reason| RecordError::NoLog { folder: folder.clone(), reason };
    check_file_size().map_err(no_log)?;
    let log = Log::new(settings.at_least, settings.naming == Naming::Thread).map_err(no_log)?;
    let mut words = log.words().map_err(no_log)?;
    let watched = log.words().map_err(no_log)?;
    let (stop, stopped) = UnixStream::pair().map_err(no_log)?;
    let library = preloadable(&settings.library, &log)?;
    let signals = take_signals().map_err(no_log)?;

    let started = now_ns();
    let child = Command::new(&path)
        .arg0(program)
        .args(arguments)
        .env(PATH_VARIABLE, log.path())
        .env("LD_PRELOAD", preload(&library))
        .spawn();
    let mut child = child.map_err(|reason| RecordError::Start { path, reason })?;
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let (status, seen) = std::thread::scope(|scope| {
        let watching = id.map(|id| {
            let (words, signals, stopped) = (&watched, &signals, &stopped);
            scope.spawn(move || watch::watch(words, id, signals, stopped))
        });
        let status = child.wait();
        drop(stop);
        let seen = watching.and_then(|watching| watching.join().ok());
        (status, seen.unwrap_or_else(|| Ok(Seen::default())))
    });
    // It fails for a process that is no child, which this one is.
    let status = status.unwrap_or_default();
    let unreadable = |reason| RecordError::Unreadable { reason, status };
    words.stop().map_err(unreadable)?;
    if words.get(header::PROCESSES).map_err(unreadable)? == 0 {
        return Err(RecordError::NotLoaded { library: settings.library.clone(), status });
    }
    let seen = seen.map_err(unreadable)?;

    let names = names(words.events().map_err(unreadable)?).map_err(unreadable)?;
    let source = source(program, arguments, settings);
    let mut merge = Merge::new(&source, settings.at_least, child.id(), started, names, &seen.ended);
    for event in words.events().map_err(unreadable)? {
        merge.event(&event.map_err(unreadable)?);
    }
    let (trace, mut losses) = merge.finish();
    let word = |index| words.get(index).map_err(unreadable);
    match (word(header::LOST)?, word(header::FAULT)?) {
        (0, _) => {}
        (events, 0) => losses.push(Loss::LogFull { events }),
        (events, errno) => {
            // Populating a mapping without space on the disk fails as an access to it would.
            let errno = if errno == 14 {
                rustix::io::Errno::NOSPC
            } else {
                rustix::io::Errno::from_raw_os_error(i32::try_from(errno).unwrap_or_default())
            };
            losses.push(Loss::NoSpace { events, reason: io::Error::from(errno).to_string() });
        }
    }
    match word(header::UNKNOWN_ALLOCATORS)? {
        0 => {}
        processes => losses.push(Loss::UnknownAllocator { processes }),
    }
    if seen.running > 0 {
        losses.push(Loss::StillRunning { processes: seen.running });
    }
    Ok(Recorded { trace, status, losses })
}

/// A file of the log's size, beyond the limit of this process, would end it by a signal.
fn check_file_size() -> io::Result<()> {
    match getrlimit(Resource::Fsize).current {
        Some(limit) if limit < FILE_BYTES as u64 => Err(io::Error::other(format!(
            "the size of files is limited to {limit} bytes (ulimit -f), and a log has {FILE_BYTES}"
        ))),
        _ => Ok(()),
    }
}

/// A path of the library without the characters that have a meaning in `LD_PRELOAD`.
fn preloadable(library: &Path, log: &Log) -> Result<PathBuf, RecordError> {
    let unreadable = |reason| RecordError::Library { path: library.to_path_buf(), reason };
    let path = library.canonicalize().map_err(unreadable)?;
    let is_plain = |path: &Path| {
        let is_special = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b':' | b'$');
        !path.as_os_str().as_bytes().iter().any(is_special)
    };
    if is_plain(&path) {
        return Ok(path);
    }
    let temporary = log.folder();
    if !is_plain(&temporary) {
        return Err(RecordError::LibraryPath { library: path, temporary });
    }
    let link = temporary.join(crate::LIBRARY);
    symlink(&path, &link).map_err(unreadable)?;
    Ok(link)
}

/// The value of `LD_PRELOAD`: the library, and what was there before.
fn preload(library: &Path) -> OsString {
    let mut value = library.as_os_str().to_os_string();
    if let Some(before) = std::env::var_os("LD_PRELOAD").filter(|before| !before.is_empty()) {
        value.push(":");
        value.push(before);
    }
    value
}

/// The description of the recording.
fn source(program: &OsStr, arguments: &[OsString], settings: &Settings) -> String {
    let command = std::iter::once(program).chain(arguments.iter().map(OsString::as_os_str));
    let words: Vec<_> = command.map(OsStr::to_string_lossy).collect();
    let mut command = words.join(" ");
    if command.chars().count() > COMMAND {
        command = command.chars().take(COMMAND).chain("...".chars()).collect();
    }
    let devices = match settings.naming {
        Naming::Library => "libraries",
        Naming::Thread => "threads",
    };
    let at_least = settings.at_least;
    format!("{command} (cma record: buffers of {at_least} bytes and more, devices are {devices})")
}

/// The characters of a command line that are part of a description.
const COMMAND: usize = 500;
