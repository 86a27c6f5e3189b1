//! Starting a server again and again.

use crate::backoff::Backoff;
use crate::session::Session;
use crate::store::{Store, socket_pair};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How the supervision of a server ended. The store has what it had then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supervised {
    /// The server ended with status 0: on purpose.
    Finished,
    /// It died too often.
    GivenUp {
        /// How it died last.
        last: ExitStatus,
    },
}

/// Why a server can't be supervised. The store has what it had then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SuperviseError {
    /// The program can't be started.
    #[error("{program} can't be started: {source}")]
    Start {
        /// The program.
        program: String,
        /// Why.
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

fn system(call: &'static str) -> impl Fn(io::Error) -> SuperviseError {
    move |source| SuperviseError::System { call, source }
}

/// Runs the server that `command` starts, holds descriptors for it, and starts it again when it
/// dies, until it ends with status 0 or has died too often. The server has the keeper's socket as
/// standard input ([`KeeperProcess::from_stdin`](crate::KeeperProcess::from_stdin)).
///
/// `report` is called at each death, with the time until the next start.
///
/// # Errors
///
/// [`SuperviseError`], when no server runs.
pub fn supervise(
    command: &mut Command,
    mut backoff: Backoff,
    store: &mut Store,
    mut report: impl FnMut(ExitStatus, Option<Duration>),
) -> Result<Supervised, SuperviseError> {
    loop {
        let began = Instant::now();
        let status = run(command, store)?;
        if status.success() {
            return Ok(Supervised::Finished);
        }
        let next = backoff.after(began.elapsed());
        report(status, next);
        match next {
            Some(time) => sleep(time),
            None => return Ok(Supervised::GivenUp { last: status }),
        }
    }
}

/// The time within which the server reads what it asked for.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs the server once.
fn run(command: &mut Command, store: &mut Store) -> Result<ExitStatus, SuperviseError> {
    let (theirs, ours) = socket_pair().map_err(system("socketpair"))?;
    // A process that neither reads nor ends can't stop the keeper.
    set_socket_timeout(&ours, Timeout::Send, Some(SEND_TIMEOUT))
        .map_err(|errno| system("setsockopt")(errno.into()))?;
    let started = command.stdin(Stdio::from(theirs)).spawn();
    // The command keeps its copy of the server's socket otherwise, which hides its end.
    command.stdin(Stdio::null());
    let mut child = started.map_err(|source| SuperviseError::Start {
        program: command.get_program().to_string_lossy().into_owned(),
        source,
    })?;
    let served = end_of(&child).and_then(|end| serve_until(&ours, end.as_fd(), store));
    if let Err(error) = served {
        // Nobody would hold what it stores.
        let _ = child.kill();
        let _ = child.wait();
        return Err(error);
    }
    child.wait().map_err(system("wait"))
}

/// A descriptor that is readable when the process has ended.
fn end_of(child: &Child) -> Result<OwnedFd, SuperviseError> {
    let failed = system("pidfd_open");
    pidfd_open(Pid::from_child(child), PidfdFlags::empty()).map_err(|errno| failed(errno.into()))
}

/// Serves the server until its process has ended. Its children may have its socket longer, and it
/// may close the socket before.
fn serve_until(
    socket: &OwnedFd,
    end: BorrowedFd<'_>,
    store: &mut Store,
) -> Result<(), SuperviseError> {
    let mut session = Session::new(socket.as_fd());
    loop {
        let readable =
            session.proceed(store, &[end], None).map_err(|errno| system("poll")(errno.into()))?;
        if readable == [true] {
            session.finish(store);
            return Ok(());
        }
    }
}
