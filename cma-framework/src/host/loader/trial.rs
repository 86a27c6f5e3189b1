//! Loading a plug-in in another process first, for what can't be refused by looking at the file: a
//! constructor that aborts, a panic that isn't caught, and damage inside code and data.
//!
//! A host that wants this protection starts itself again, twice:
//!
//! - The *host* ([`Trial::run`]) reads the file into a sealed copy and starts the supervisor.
//! - The *supervisor* (`supervisor`) starts the subject, limits its time, and ends every process
//!   that the plug-in has started, also one that left its process group and session. It runs none
//!   of the plug-in's code.
//! - The *subject* (`subject`) loads the plug-in from the very copy that the host loads later, with
//!   the environment and the arguments that it was started with: those of the host, for
//!   [`Trial::of_this_program`].
//!
//! Supervisor and subject learn what they are from a message (`message`) on a socket that is their
//! standard input, and put `/dev/null` in its place before they do anything else. The subject
//! closes the socket before it loads the plug-in and writes what comes of it to memory that it
//! shares with the supervisor (`report`), so a plug-in that behaves in a trial is not one that has
//! seen that it is in one.

mod message;
mod report;
mod subject;
mod supervisor;
mod tree;

use super::image::Image;
use super::{LoadError, LoadFailure, Plugin};
use message::{Order, Verdict};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use std::env;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// How long the supervisor has, beyond the plug-in's time, to start and to end what the plug-in
/// started.
const GRACE: Duration = Duration::from_secs(10);

/// How to load a plug-in in another process. Takes about as long as the program takes to start
/// twice.
///
/// ```no_run
/// use cma_framework::loader::Trial;
///
/// let trial = Trial::of_this_program(); // its main starts with `trial_child`
/// let plugin = trial.run("plugins/libcma_best_fit_plugin.so".as_ref())?.load()?;
/// # Ok::<(), cma_framework::loader::LoadError>(())
/// ```
pub struct Trial {
    command: Box<dyn Fn() -> Command + Send + Sync>,
    limit: Duration,
    memory: u64,
}

impl Trial {
    /// Trials in processes that run this program with the arguments and the environment of this
    /// process. Its `main` begins with [`trial_child`]. A plug-in has 10 s, and 1 GiB of memory in
    /// each process.
    pub fn of_this_program() -> Trial {
        Trial::new(this_program)
    }

    /// Trials in processes that `command` starts. Their `main` begins with [`trial_child`]. The
    /// same limits hold.
    pub fn new(command: impl Fn() -> Command + Send + Sync + 'static) -> Trial {
        Trial { command: Box::new(command), limit: Duration::from_secs(10), memory: 1 << 30 }
    }

    /// The same with another time limit.
    #[must_use]
    pub fn with_limit(self, limit: Duration) -> Trial {
        Trial { limit, ..self }
    }

    /// The same with another limit on memory: the bytes of data (`RLIMIT_DATA`) that a process in
    /// which the plug-in runs may have.
    #[must_use]
    pub fn with_memory(self, memory: u64) -> Trial {
        Trial { memory, ..self }
    }

    /// Reads the plug-in at `path`, loads it in another process, provokes a panic that it is to
    /// catch, attaches an allocator to a small region and drops it. Every process that the plug-in
    /// has started is ended.
    ///
    /// # Errors
    ///
    /// Whatever [`Plugin::load`] would answer with, as [`LoadFailure::InTrial`] when it took
    /// running the library to find out; a crash, an exit, no end in time; [`LoadFailure::NoTrial`]
    /// when no trial could be made.
    pub fn run(&self, path: &Path) -> Result<Tried, LoadError> {
        let refused = |reason| LoadError::new(path, reason);
        let image = Image::read(path).map_err(refused)?;
        match self.verdict(&image) {
            Ok(Verdict::Sound) => Ok(Tried { image, path: path.to_path_buf() }),
            Ok(Verdict::Refused(reason)) => Err(refused(reason)),
            Ok(Verdict::NoTrial(error)) | Err(error) => Err(refused(LoadFailure::NoTrial(error))),
        }
    }

    /// Starts a supervisor and waits for what it says.
    fn verdict(&self, image: &Image) -> io::Result<Verdict> {
        let (ours, theirs) = message::pair()?;
        let order = Order::Supervise { limit: self.limit, memory: self.memory };
        order.send(&ours, &[image.file().as_fd()])?;
        // In a process group of its own, so that what a terminal sends to this program doesn't end
        // it before its work is done. It ends when this process does.
        let mut supervisor = (self.command)()
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let answer = wait(&ours, self.limit.saturating_add(GRACE));
        let answer = answer.and_then(|()| message::answered(&ours, self.limit));
        if answer.is_err() {
            supervisor.kill()?;
        }
        let status = supervisor.wait()?;
        answer?.ok_or_else(|| {
            io::Error::other(format!(
                "the process that was to make it ended with no answer ({status})"
            ))
        })
    }
}

impl fmt::Debug for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trial")
            .field("command", &(self.command)())
            .field("limit", &self.limit)
            .field("memory", &self.memory)
            .finish()
    }
}

/// A plug-in that has passed its [`Trial`]: the copy that was tried, whatever is in the file by
/// now.
#[derive(Debug)]
pub struct Tried {
    image: Image,
    path: PathBuf,
}

impl Tried {
    /// Loads what was tried, as [`Plugin::load`] loads a file.
    ///
    /// # Errors
    ///
    /// See [`LoadFailure`].
    pub fn load(self) -> Result<Plugin, LoadError> {
        Plugin::from_image(&self.path, self.image)
    }
}

/// This program once more, with this process's arguments.
fn this_program() -> Command {
    let mut arguments = env::args_os();
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments);
    command
}

/// Waits until there is something to receive, for at most `limit`.
fn wait(socket: impl AsFd, limit: Duration) -> io::Result<()> {
    let deadline = Deadline::after(limit);
    loop {
        match poll(&mut [PollFd::new(&socket, PollFlags::IN)], deadline.left()?.as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// When something must have ended; never, if that is further away than the clock reaches.
#[derive(Clone, Copy)]
struct Deadline(Option<Instant>);

impl Deadline {
    fn after(limit: Duration) -> Deadline {
        Deadline(Instant::now().checked_add(limit))
    }

    /// The time that is left, for [`poll`].
    ///
    /// # Errors
    ///
    /// [`TimedOut`](io::ErrorKind::TimedOut) when there is none.
    fn left(self) -> io::Result<Option<Timespec>> {
        let Some(end) = self.0 else { return Ok(None) };
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(left.try_into().ok())
    }
}

/// The other processes' side of [`Trial`]: does its work and answers with an exit code when this
/// process was started by one, and does nothing otherwise. Call it first in `main`, while there is
/// one thread:
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
    let (order, descriptors, socket) = Order::take()?;
    let done = match order {
        Order::Supervise { limit, memory } => supervisor::run(&socket, &descriptors, limit, memory),
        Order::TryOut { memory, supervisor } => {
            // The plug-in finds no descriptor here that the host would not have.
            drop(socket);
            subject::run(descriptors, memory, supervisor)
        }
    };
    Some(if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
