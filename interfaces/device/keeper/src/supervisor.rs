//! The keeper's process: it starts a server, holds descriptors for it, and starts it again when it
//! dies or is upgraded.

mod upgrade;

use crate::backoff::Backoff;
use crate::control::Control;
use crate::program::Program;
use crate::report::Report;
use crate::session::Session;
use crate::signals::{Signal, Signals};
use crate::store::{Store, socket_pair};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::process::{Pid, PidfdFlags, Signal as Number, kill_process, pidfd_open};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use upgrade::{Stage, Upgrade, awaited};

/// The exit status of a server that leaves everything to the next one, because it was asked to by
/// `SIGUSR2`: `EX_TEMPFAIL` of `sysexits.h`.
pub const HANDED_OVER: u8 = 75;

/// The variable in the environment of a server that says how many servers the keeper has started
/// before it, in decimal.
pub const RESTARTS: &str = "CMA_KEEPER_RESTARTS";

/// The variable in the environment of a server that says how many descriptors the keeper holds at
/// most, in decimal.
pub(crate) const ROOM: &str = "CMA_KEEPER_ROOM";

/// The time within which the server reads what it asked for.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// What a keeper's process starts, and when.
#[derive(Debug)]
pub struct Supervision {
    program: Program,
    arguments: Vec<OsString>,
    backoff: Backoff,
    control: Option<PathBuf>,
    hand_over: Duration,
    ready: Duration,
}

/// How a supervision ended. No server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supervised {
    /// The server ended on purpose: with status 0, or after `SIGTERM` or `SIGINT`, which the keeper
    /// has passed on.
    Ended(ExitStatus),
    /// The first server did not start: there is no process, or it ended with this exit status, and
    /// there is nothing to hold.
    NotStarted(Option<ExitStatus>),
    /// The keeper was asked to end while there was no server.
    EndedWithoutServer,
}

impl Supervised {
    /// The exit status of the keeper: that of the server, and 1 if a signal has ended that.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Supervised::Ended(status) | Supervised::NotStarted(Some(status)) => {
                let code = status.code().and_then(|code| u8::try_from(code).ok());
                code.map_or(ExitCode::FAILURE, ExitCode::from)
            }
            Supervised::NotStarted(None) => ExitCode::FAILURE,
            Supervised::EndedWithoutServer => ExitCode::SUCCESS,
        }
    }
}

/// Why there is no supervision.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SuperviseError {
    /// Nobody could ask for an upgrade.
    #[error("{}: {source}", path.display())]
    Control {
        /// The path of the socket.
        path: PathBuf,
        /// Why it can't listen there.
        source: io::Error,
    },
    /// A system call failed.
    #[error("{call}: {source}")]
    System {
        /// The call.
        call: &'static str,
        /// Its error.
        source: io::Error,
    },
}

impl Supervision {
    /// The time within which the old server usually ends.
    pub const HAND_OVER: Duration = Duration::from_secs(10);

    /// The time within which the new one is usually ready.
    pub const READY: Duration = Duration::from_secs(60);

    /// Starts that program.
    pub fn new(program: Program) -> Self {
        Supervision {
            program,
            arguments: Vec::new(),
            backoff: Backoff::new(Backoff::STARTS),
            control: None,
            hand_over: Self::HAND_OVER,
            ready: Self::READY,
        }
    }

    /// With these arguments.
    #[must_use]
    pub fn arguments(self, arguments: impl IntoIterator<Item = OsString>) -> Self {
        Supervision { arguments: arguments.into_iter().collect(), ..self }
    }

    /// When a server that died is started again.
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> Self {
        Supervision { backoff, ..self }
    }

    /// Listens at `path` for upgrades ([`upgrade`](crate::upgrade)).
    #[must_use]
    pub fn control(self, path: Option<PathBuf>) -> Self {
        Supervision { control: path, ..self }
    }

    /// The times of an upgrade: within `hand_over` the old server ends, or else it is killed;
    /// within `ready` the new one reports that it is ready, or else it is killed and the old
    /// program is started again.
    #[must_use]
    pub fn times(self, hand_over: Duration, ready: Duration) -> Self {
        Supervision { hand_over, ready, ..self }
    }

    /// Runs the server, holds descriptors for it in `store`, and starts it again when it dies. The
    /// server has the keeper's socket as standard input
    /// ([`KeeperProcess::from_stdin`](crate::KeeperProcess::from_stdin)), and is in a group of
    /// processes of its own.
    ///
    /// | signal to this process | then |
    /// | --- | --- |
    /// | `SIGTERM`, `SIGINT` | The server gets it. When it has ended, this returns. |
    /// | `SIGHUP` | The server gets it when it is ready. After too many deaths, or while the next start is awaited: the server is started. |
    /// | `SIGUSR2` | Upgrade: the server gets it, ends and leaves everything to the next one, which is the program that is now at the server's path. |
    ///
    /// If the keeper is killed, the server lives on without one. A server that ends with a status
    /// other than 0 before anything was stored, and before it was ready, is not started again: it
    /// can't start.
    ///
    /// # Errors
    ///
    /// [`SuperviseError`], before a server is started.
    pub fn run(
        self,
        store: &mut Store,
        mut report: impl FnMut(&Report),
    ) -> Result<Supervised, SuperviseError> {
        let system = |call| move |source| SuperviseError::System { call, source };
        let signals = Signals::receive().map_err(system("sigaction"))?;
        let listen = |path: &PathBuf| {
            Control::listen(path)
                .map_err(|source| SuperviseError::Control { path: path.clone(), source })
        };
        let control = self.control.as_ref().map(listen).transpose()?;
        let supervisor = Supervisor {
            plan: self,
            signals,
            control,
            store,
            report: &mut report,
            upgrade: None,
            started: 0,
            was_ready: false,
            is_ending: false,
        };
        Ok(supervisor.run())
    }
}

struct Supervisor<'a> {
    plan: Supervision,
    signals: Signals,
    control: Option<Control>,
    store: &'a mut Store,
    report: &'a mut dyn FnMut(&Report),
    upgrade: Option<Upgrade>,
    /// The number of servers so far.
    started: u64,
    /// Whether a server was ready once.
    was_ready: bool,
    /// Whether SIGTERM or SIGINT came.
    is_ending: bool,
}

/// The end of a server.
struct End {
    /// `None` if there was no process.
    status: Option<ExitStatus>,
    /// The status, or the error.
    how: String,
    /// The reason, if it was told.
    why: Option<String>,
    ran: Duration,
}

impl Supervisor<'_> {
    fn run(mut self) -> Supervised {
        loop {
            let end = self.serve();
            if self.is_ending {
                self.conclude(Err("the keeper was asked to end"));
                return end.status.map_or(Supervised::EndedWithoutServer, Supervised::Ended);
            }
            let is_purpose = end.status.is_some_and(|status| status.success());
            match self.upgrade.as_mut().map(|upgrade| upgrade.stage) {
                Some(Stage::Leaving) if !is_purpose => {
                    let has_handed_over =
                        |status: ExitStatus| status.code() == Some(HANDED_OVER.into());
                    if !end.status.is_some_and(has_handed_over) {
                        (self.report)(&Report::NotHandedOver { how: end.why.unwrap_or(end.how) });
                    }
                    self.try_upgrade();
                    continue;
                }
                Some(Stage::Trying) => {
                    self.give_upgrade_up(&end.why.unwrap_or(end.how));
                    continue;
                }
                Some(Stage::Leaving) | None => {}
            }
            if let (true, Some(status)) = (is_purpose, end.status) {
                self.conclude(Err("the server has ended, and the keeper with it"));
                return Supervised::Ended(status);
            }
            let holds_nothing = !self.was_ready && self.store.names().next().is_none();
            if holds_nothing && end.status.is_none_or(|status| status.code().is_some()) {
                (self.report)(&Report::NotStarted { how: end.how });
                return Supervised::NotStarted(end.status);
            }
            let next = self.plan.backoff.after(end.ran);
            (self.report)(&Report::Died { how: end.how, next });
            if next.is_none() {
                (self.report)(&Report::Held { descriptors: self.store.names().count() });
            }
            if !self.wait(next) {
                return Supervised::EndedWithoutServer;
            }
        }
    }

    /// Runs the server once.
    fn serve(&mut self) -> End {
        let began = Instant::now();
        let end = self.serve_child();
        let ran = began.elapsed();
        match end {
            Ok((status, why)) => End { status: Some(status), how: status.to_string(), why, ran },
            Err((call, error)) => {
                End { status: None, how: format!("{call}: {error}"), why: None, ran }
            }
        }
    }

    fn serve_child(&mut self) -> Result<(ExitStatus, Option<String>), (&'static str, io::Error)> {
        let failed = |call| move |error: io::Error| (call, error);
        let (theirs, ours) = socket_pair().map_err(failed("socketpair"))?;
        // A process that neither reads nor ends can't stop the keeper.
        set_socket_timeout(&ours, Timeout::Send, Some(SEND_TIMEOUT))
            .map_err(|errno| ("setsockopt", errno.into()))?;
        let (program, more) = match &self.upgrade {
            Some(Upgrade { stage: Stage::Trying, program, arguments, .. }) => {
                (program, &arguments[..])
            }
            _ => (&self.plan.program, &[][..]),
        };
        let mut command = program.command(&self.plan.arguments);
        command.args(more).env(RESTARTS, self.started.to_string());
        command.env(ROOM, self.store.room().to_string());
        // A terminal sends its signals to the keeper alone, which passes them on.
        command.stdin(Stdio::from(theirs)).process_group(0);
        let started = command.spawn();
        // The command keeps its copy of the server's socket otherwise, which hides its end.
        drop(command);
        let mut child = started.map_err(failed("exec"))?;
        self.started += 1;
        let mut session = Session::new(ours.as_fd());
        let served =
            end_of(&child).and_then(|end| self.serve_until(&mut child, &mut session, end.as_fd()));
        if let Err(error) = served {
            // Nobody would hold what it stores.
            let _ = child.kill();
            let _ = child.wait();
            return Err(("poll", error));
        }
        session.finish(self.store);
        if session.is_ready() {
            self.server_is_ready();
        }
        let said = session.said();
        let status = child.wait().map_err(failed("wait"))?;
        Ok((status, said))
    }

    /// Serves the server until its process has ended. Its children may have its socket longer, and
    /// it may close the socket before.
    fn serve_until(
        &mut self,
        child: &mut Child,
        session: &mut Session<'_>,
        end: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let pid = Pid::from_child(child);
        let mut is_to_reload = false;
        loop {
            let deadline = self.upgrade.as_ref().and_then(|upgrade| upgrade.deadline);
            let timeout = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let others =
                [Some(end), Some(self.signals.as_fd()), awaited(&self.control, &self.upgrade)];
            let others: Vec<_> = others.into_iter().flatten().collect();
            let readable = session.proceed(self.store, &others, timeout)?;
            if session.is_ready() {
                self.server_is_ready();
            }
            if readable[0] {
                return Ok(());
            }
            for signal in self.signals.take() {
                match signal {
                    Signal::End(number) => {
                        self.is_ending = true;
                        pass_on(pid, number);
                    }
                    Signal::Reload => is_to_reload = true,
                    Signal::Upgrade => self.begin_upgrade(None, Vec::new(), None),
                }
            }
            // Earlier it might end the server, which handles it only when it has started.
            if session.is_ready() && std::mem::take(&mut is_to_reload) {
                pass_on(pid, signal_hook::consts::SIGHUP);
            }
            if readable.get(2) == Some(&true) {
                self.take_request();
            }
            if let Some(upgrade) = &mut self.upgrade {
                match (upgrade.stage, upgrade.deadline) {
                    (Stage::Leaving, None) => {
                        upgrade.deadline = Some(Instant::now() + self.plan.hand_over);
                        let _ = kill_process(pid, Number::USR2);
                    }
                    (Stage::Trying, None) => {
                        upgrade.deadline = Some(Instant::now() + self.plan.ready);
                    }
                    (stage, Some(at)) if Instant::now() >= at => {
                        // It ends by this, so the next deadline is that of another process.
                        upgrade.deadline = Some(Instant::now() + SEND_TIMEOUT);
                        let within = match stage {
                            Stage::Leaving => self.plan.hand_over,
                            Stage::Trying => self.plan.ready,
                        };
                        session.say(format!("it was killed after {within:?}"));
                        child.kill()?;
                    }
                    _ => {}
                }
            }
        }
    }

    /// Waits until the server is to be started, for `time` or for a signal. Returns false if it is
    /// not to be started any more.
    fn wait(&mut self, time: Option<Duration>) -> bool {
        let until = time.map(|time| Instant::now() + time);
        loop {
            let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
            if timeout == Some(Duration::ZERO) {
                return true;
            }
            let timeout = timeout.and_then(|time| time.try_into().ok());
            let awaited = [Some(self.signals.as_fd()), awaited(&self.control, &self.upgrade)];
            let mut polled: Vec<_> = awaited
                .into_iter()
                .flatten()
                .map(|awaited| PollFd::from_borrowed_fd(awaited, PollFlags::IN))
                .collect();
            // Without memory for that, it tries again.
            let _ = retry_on_intr(|| poll(&mut polled, timeout.as_ref()));
            let is_asked = polled.get(1).is_some_and(|polled| !polled.revents().is_empty());
            for signal in self.signals.take() {
                match signal {
                    Signal::End(_) => return false,
                    Signal::Reload => {
                        self.plan.backoff.begin_anew();
                        return true;
                    }
                    Signal::Upgrade => self.begin_upgrade(None, Vec::new(), None),
                }
            }
            if is_asked {
                self.take_request();
            }
            if self.upgrade.is_some() {
                self.plan.backoff.begin_anew();
                self.try_upgrade();
                return true;
            }
        }
    }
}

/// A descriptor that is readable when the process has ended.
fn end_of(child: &Child) -> io::Result<OwnedFd> {
    Ok(pidfd_open(Pid::from_child(child), PidfdFlags::empty())?)
}

/// Sends a signal to the server, which has not been waited for.
fn pass_on(server: Pid, signal: i32) {
    if let Some(signal) = Number::from_named_raw(signal) {
        let _ = kill_process(server, signal);
    }
}
