//! Loading a plug-in in another process first, for what can't be refused by looking at the file: a constructor that aborts, and
//! damage inside code and data.
//!
//! A host that wants this protection starts itself again: [`Trial`] is the parent's side, [`trial_child`] the child's.
//! They speak over a socket that is the child's standard input, because a plug-in may write what it likes to
//! the other two.

use super::image::Image;
use super::library::one_line;
use super::{LoadError, LoadFailure, Plugin};
use cma_api::PageRange;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, pidfd_open, set_parent_process_death_signal, setrlimit,
};
use std::env;
use std::fmt;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{self, Path};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Tells a process that it is a trial, and of which file.
const VARIABLE: &str = "CMA_TRIAL_LOAD";

/// What the child reports of a plug-in that loads.
const SOUND: &[u8] = b"sound";

/// How to load a plug-in in another process. Takes about as long as the program takes to start.
///
/// ```no_run
/// use cma_framework::loader::{Plugin, Trial};
/// use std::process::Command;
///
/// let trial = Trial::new(|| Command::new("/proc/self/exe")); // main starts with `trial_child`
/// let path = "plugins/libcma_best_fit_plugin.so".as_ref();
/// let plugin = trial.run(path).and_then(|()| Plugin::load(path))?;
/// # Ok::<(), cma_framework::loader::LoadError>(())
/// ```
pub struct Trial {
    command: Box<dyn Fn() -> Command + Send + Sync>,
    limit: Duration,
}

impl Trial {
    /// Trials in processes that `command` starts. Their `main` begins with [`trial_child`]. They have 10 s each.
    pub fn new(command: impl Fn() -> Command + Send + Sync + 'static) -> Trial {
        Trial { command: Box::new(command), limit: Duration::from_secs(10) }
    }

    /// The same with another time limit.
    #[must_use]
    pub fn with_limit(self, limit: Duration) -> Trial {
        Trial { limit, ..self }
    }

    /// Loads the plug-in at `path` in another process, attaches an allocator to a small region and
    /// drops it.
    ///
    /// # Errors
    ///
    /// Whatever [`Plugin::load`] would answer with, as [`LoadFailure::InTrial`] when it took running the library to find out;
    /// a crash, an exit, no end in time; [`LoadFailure::NoTrial`] when no process could be started.
    pub fn run(&self, path: &Path) -> Result<(), LoadError> {
        let refused = |reason| LoadError::new(path, reason);
        Image::read(path).map_err(refused)?;
        self.start(path).map_err(|error| refused(LoadFailure::NoTrial(error)))?.map_err(refused)
    }

    fn start(&self, path: &Path) -> io::Result<Result<(), LoadFailure>> {
        let (mut report, theirs) = UnixStream::pair()?;
        let (output, their_output) = io::pipe()?;
        let mut child = (self.command)()
            .env(VARIABLE, path::absolute(path)?)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(their_output)
            .spawn()?;
        let (status, said) = match watch(&mut child, output, self.limit) {
            Ok((Some(status), said)) => (status, said),
            other => {
                child.kill()?;
                child.wait()?;
                let (_, said) = other?;
                return Ok(Err(LoadFailure::Endless { limit: self.limit, said }));
            }
        };
        if let Some(signal) = status.signal() {
            return Ok(Err(LoadFailure::Crashed { signal: name_of(signal), said }));
        }
        // Not until the end: a process that the plug-in left behind may hold the other side open.
        report.set_nonblocking(true)?;
        let mut text = Vec::new();
        match report.read_to_end(&mut text) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(verdict(&text, status, said)),
        }
    }
}

impl fmt::Debug for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trial").field("command", &(self.command)()).field("limit", &self.limit).finish()
    }
}

/// What a process that ended by itself says of the plug-in.
fn verdict(report: &[u8], status: ExitStatus, said: String) -> Result<(), LoadFailure> {
    if report == SOUND {
        return Ok(());
    }
    let text = String::from_utf8_lossy(report);
    let mut parts = text.split('\0').map(str::to_string);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(kind), Some(reason), Some(remedy)) => Err(LoadFailure::InTrial { kind, reason, remedy }),
        _ => Err(LoadFailure::Ended { code: status.code().unwrap_or(-1), said }),
    }
}

/// Waits until `child` ends, for at most `limit`, and reads what it writes meanwhile, so that a full pipe doesn't hold it
/// up. Answers with how it ended, unless it didn't, and the last line it wrote.
fn watch(
    child: &mut Child,
    mut output: PipeReader,
    limit: Duration,
) -> io::Result<(Option<ExitStatus>, String)> {
    const TAIL: usize = 4096;
    let end = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let deadline = Instant::now().checked_add(limit);
    let (mut tail, mut buffer) = (Vec::new(), [0; TAIL]);
    let mut is_open = true;
    loop {
        let left = deadline.map_or(limit, |deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return Ok((None, last_line(&tail)));
        }
        let mut watched = [PollFd::new(&end, PollFlags::IN), PollFd::new(&output, PollFlags::IN)];
        let watched = if is_open { &mut watched[..] } else { &mut watched[..1] };
        match poll(watched, Some(&left.try_into().map_err(io::Error::other)?)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let has = |at: usize| watched.get(at).is_some_and(|fd| !fd.revents().is_empty());
        let (has_ended, has_written) = (has(0), has(1));
        if has_written {
            let count = output.read(&mut buffer)?;
            is_open = count > 0;
            tail.extend_from_slice(&buffer[..count]);
            tail.drain(..tail.len().saturating_sub(TAIL));
        } else if has_ended {
            return Ok((Some(child.wait()?), last_line(&tail)));
        }
    }
}

fn last_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    one_line(text.trim_end().lines().next_back().unwrap_or_default())
}

/// `SIGSEGV` for 11.
fn name_of(signal: i32) -> String {
    let name = match Signal::from_named_raw(signal) {
        Some(Signal::ABORT) => "SIGABRT",
        Some(Signal::BUS) => "SIGBUS",
        Some(Signal::FPE) => "SIGFPE",
        Some(Signal::ILL) => "SIGILL",
        Some(Signal::KILL) => "SIGKILL",
        Some(Signal::SEGV) => "SIGSEGV",
        Some(Signal::SYS) => "SIGSYS",
        Some(Signal::TRAP) => "SIGTRAP",
        _ => return format!("signal {signal}"),
    };
    name.to_string()
}

/// The child's side of [`Trial`]: does its work and answers with an exit code when this process was started by one, and does
/// nothing otherwise. Call it first in `main`, while there is one thread:
///
/// ```no_run
/// # use std::process::ExitCode;
/// fn main() -> ExitCode {
///     if let Some(code) = cma_framework::loader::trial_child() {
///         return code;
///     }
///     // ...
///     ExitCode::SUCCESS
/// }
/// ```
pub fn trial_child() -> Option<ExitCode> {
    let path = env::var_os(VARIABLE)?;
    // A crash here is an answer: nobody wants its core. Nor shall this process outlive the one that asks.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let answer = match try_out(Path::new(&path)) {
        Ok(()) => SOUND.to_vec(),
        Err(error) => {
            let reason = error.reason();
            [reason.kind(), &reason.to_string(), reason.remedy()].join("\0").into_bytes()
        }
    };
    let sent = io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from);
    let sent = sent.and_then(|mut report| report.write_all(&answer));
    Some(if sent.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Loads the plug-in and lets it serve a region for a moment. That it refuses the region is its right.
fn try_out(path: &Path) -> Result<(), LoadError> {
    let plugin = Plugin::load(path)?;
    drop(plugin.initialise(PageRange::from_pages(0x4_0000, 0x1000), ""));
    Ok(())
}
