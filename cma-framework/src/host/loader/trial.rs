//! Loads a plug-in in another process first. A trial finds defects that can't be read from the
//! file: a constructor that aborts, a panic that isn't caught, and damage inside code and data.
//!
//! A host that uses a trial runs its own program in two child processes:
//!
//! - The *host* ([`Trial::run`]) reads the file into a sealed copy and starts the supervisor.
//! - The *supervisor* (`supervisor`) starts the subject, limits its time, and kills every process
//!   that the plug-in has started, even if it has left its process group and session. It runs none
//!   of the plug-in's code. Then it waits for the order to make another trial.
//! - The *subject* (`subject`) loads the plug-in from the copy that the host loads later, with its
//!   own environment and arguments: those of the host for [`Trial::of_this_program`], but without
//!   `RUST_BACKTRACE`.
//!
//! Supervisor and subject receive their order (`message`) on a socket at their standard input, and
//! first replace their standard input with `/dev/null`. The subject closes the socket before it
//! loads the plug-in, and writes the result to memory that it shares with the supervisor
//! (`report`). So the plug-in finds no descriptor by which it could detect the trial.

mod message;
mod report;
mod subject;
mod supervisor;

use super::image::Image;
use super::{LoadError, LoadFailure, Plugin, PluginInterface};
use cma_descendants::check_proc;
use message::{Order, Verdict};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{Shutdown, shutdown};
use rustix::time::Timespec;
use std::env;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The supervisor's time, in addition to the plug-in's, to start and to kill the plug-in's
/// processes.
const GRACE: Duration = Duration::from_secs(10);

/// Loads plug-ins in other processes. A trial takes about as long as two starts of the program; of
/// several by [`load_all`](super::load_all) a further one takes one start.
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
    /// process. Its `main` must start with [`trial_child`]. The limits of a plug-in are 10 s, and
    /// 1 GiB of memory for each process.
    pub fn of_this_program() -> Trial {
        Trial::new(this_program)
    }

    /// Trials in processes that `command` starts. Their `main` must start with [`trial_child`]. The
    /// limits are the same.
    pub fn new(command: impl Fn() -> Command + Send + Sync + 'static) -> Trial {
        Trial { command: Box::new(command), limit: Duration::from_secs(10), memory: 1 << 30 }
    }

    /// Sets the time limit.
    #[must_use]
    pub fn with_limit(self, limit: Duration) -> Trial {
        Trial { limit, ..self }
    }

    /// Sets the memory limit: the bytes of data (`RLIMIT_DATA`) of each process in which the
    /// plug-in runs.
    #[must_use]
    pub fn with_memory(self, memory: u64) -> Trial {
        Trial { memory, ..self }
    }

    /// Reads the plug-in at `path`, loads it in another process, provokes a panic that it has to
    /// catch, attaches an allocator to a small region and drops it. Kills every process that the
    /// plug-in has started.
    ///
    /// # Errors
    ///
    /// Those of [`Plugin::load`], as [`LoadFailure::InTrial`] if only running the library revealed
    /// them; a crash, an exit or a time-out of the trial process; [`LoadFailure::NoTrial`] if the
    /// trial could not be made.
    pub fn run(&self, path: &Path) -> Result<Tried, LoadError> {
        self.run_by(&Supervisors::default(), path)
    }

    /// The same by one of `supervisors`, or by a new one, which is added to them.
    pub(super) fn run_by(
        &self,
        supervisors: &Supervisors,
        path: &Path,
    ) -> Result<Tried, LoadError> {
        let refused = |reason| LoadError::new(path, reason);
        let image = Image::read(path).map_err(refused)?;
        // Its absence is no fault of the plug-in or of the program for the trial.
        check_proc().map_err(|error| refused(LoadFailure::NoProc(error)))?;
        match self.verdict(supervisors, &image) {
            Ok(Verdict::Sound) => Ok(Tried { image, path: path.to_path_buf() }),
            Ok(Verdict::Refused(reason)) => Err(refused(reason)),
            Ok(Verdict::NoTrial(error)) | Err(error) => Err(refused(LoadFailure::NoTrial(error))),
        }
    }

    /// Orders a trial and waits for the verdict.
    fn verdict(&self, supervisors: &Supervisors, image: &Image) -> io::Result<Verdict> {
        let order = Order::Supervise { limit: self.limit, memory: self.memory };
        let order = |socket: &OwnedFd| order.send(socket, &[image.file().as_fd()]);
        // One that can't be sent the order has ended.
        let idle = supervisors.idle().filter(|supervisor| order(&supervisor.socket).is_ok());
        let mut supervisor = match idle {
            Some(supervisor) => supervisor,
            None => Supervisor::start((self.command)(), order)?,
        };
        let verdict = wait(&supervisor.socket, self.limit.saturating_add(GRACE))
            .and_then(|()| message::receive_verdict(&supervisor.socket, self.limit));
        match verdict {
            Ok(Some(verdict)) => {
                supervisors.add(supervisor);
                Ok(verdict)
            }
            Ok(None) => {
                let status = supervisor.process.wait()?;
                Err(io::Error::other(format!(
                    "the supervising process ended without a verdict ({status})"
                )))
            }
            Err(error) => {
                supervisor.process.kill()?;
                Err(error)
            }
        }
    }
}

/// A supervisor, and the socket for its orders and verdicts. It ends when the socket is closed, and
/// is reaped when this is dropped.
struct Supervisor {
    process: Child,
    socket: OwnedFd,
}

impl Supervisor {
    /// Starts `program` as a supervisor. `order` sends the first order.
    fn start(
        mut program: Command,
        order: impl Fn(&OwnedFd) -> io::Result<()>,
    ) -> io::Result<Supervisor> {
        let (socket, theirs) = message::pair()?;
        order(&socket)?;
        // In its own process group, so that a signal from the terminal doesn't end it before it has
        // cleaned up. It notices the end of this process and ends, too.
        let process = program
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Supervisor { process, socket })
    }

    /// Lets the supervisor end.
    fn dismiss(&self) {
        // Fails only if it has ended.
        let _ = shutdown(&self.socket, Shutdown::Both);
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.dismiss();
        let _ = self.process.wait();
    }
}

/// The supervisors that have finished a trial and can make further ones.
#[derive(Default)]
pub(super) struct Supervisors(Mutex<Vec<Supervisor>>);

impl Supervisors {
    fn idle(&self) -> Option<Supervisor> {
        self.lock().pop()
    }

    fn add(&self, supervisor: Supervisor) {
        self.lock().push(supervisor);
    }

    /// Lets all end, without waiting for it.
    pub(super) fn dismiss(&self) {
        self.lock().iter().for_each(Supervisor::dismiss);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Supervisor>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

/// A plug-in that has passed its [`Trial`]. Holds the copy that was tried, even if the file has
/// changed since.
#[derive(Debug)]
pub struct Tried {
    image: Image,
    path: PathBuf,
}

impl Tried {
    /// The same copy once more, for another process to load.
    ///
    /// # Errors
    ///
    /// This process can't have more open files.
    pub fn try_clone(&self) -> io::Result<Tried> {
        Ok(Tried { image: self.image.try_clone()?, path: self.path.clone() })
    }

    /// The interface that its file exports.
    ///
    /// # Errors
    ///
    /// The copy can't be mapped.
    pub fn interface(&self) -> io::Result<PluginInterface> {
        self.image.interface()
    }

    /// Loads the copy that was tried, as [`Plugin::load`] loads a file.
    ///
    /// # Errors
    ///
    /// See [`LoadFailure`].
    pub fn load(self) -> Result<Plugin, LoadError> {
        Plugin::from_image(&self.path, self.image)
    }
}

/// Starts this program with this process's arguments.
fn this_program() -> Command {
    let mut arguments = env::args_os();
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments);
    command
}

/// Waits for at most `limit` until a message can be received from `socket`.
fn wait(socket: impl AsFd, limit: Duration) -> io::Result<()> {
    let deadline = Deadline::after(limit);
    loop {
        match poll(&mut [PollFd::new(&socket, PollFlags::IN)], deadline.remaining()?.as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The end of a time limit; `None` if the clock can't represent it.
#[derive(Clone, Copy)]
struct Deadline(Option<Instant>);

impl Deadline {
    fn after(limit: Duration) -> Deadline {
        Deadline(Instant::now().checked_add(limit))
    }

    /// The remaining time, for [`poll`].
    ///
    /// # Errors
    ///
    /// [`TimedOut`](io::ErrorKind::TimedOut) after the deadline.
    fn remaining(self) -> io::Result<Option<Timespec>> {
        let Some(end) = self.0 else { return Ok(None) };
        let remaining = end.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(remaining.try_into().ok())
    }
}

/// The child processes' side of [`Trial`]. If a trial has started this process, does the work and
/// returns an exit code; otherwise does nothing. Call it first in `main`, while there is only one
/// thread:
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
    let result = match order {
        Order::Supervise { limit, memory } => supervisor::run(&socket, descriptors, limit, memory),
        Order::TryOut { memory, supervisor } => {
            // Closed, so that the plug-in finds no descriptor that the host would not have.
            drop(socket);
            subject::run(descriptors, memory, supervisor)
        }
    };
    Some(if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
