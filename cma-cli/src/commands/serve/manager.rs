//! The service manager that started the server, as systemd does: what the server reports to it, and
//! the socket that it has opened for the server (`sd_notify(3)`, `sd_listen_fds(3)`). Without one
//! nothing is reported.

use crate::notice::Notice;
use crate::outcome::CommandError;
use rustix::fd::{FromRawFd, OwnedFd};
use sd_notify::NotifyState;
use std::time::{Duration, Instant};

/// A connection to the service manager.
#[derive(Debug)]
pub(super) struct ServiceManager {
    /// A quarter of the time after which it restarts a server that reports nothing.
    watchdog: Option<Duration>,
    /// When the server last reported that it works.
    reported: Instant,
}

impl ServiceManager {
    pub(super) fn new() -> ServiceManager {
        let watchdog = sd_notify::watchdog_enabled().map(|timeout| timeout / 4);
        ServiceManager { watchdog, reported: Instant::now() }
    }

    /// How often [`works`](Self::works) is to be called at least; `None` for no need.
    pub(super) fn interval(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The server is ready, for the first time or after it has read its configuration again.
    pub(super) fn ready(&self, status: &str) {
        notify(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// The server reads its configuration again.
    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[NotifyState::Reloading, now]),
            Err(_) => notify(&[NotifyState::Reloading]),
        }
    }

    pub(super) fn stopping(&self) {
        notify(&[NotifyState::Stopping]);
    }

    /// The server works. Reports that when it is due.
    pub(super) fn works(&mut self) {
        if self.watchdog.is_some_and(|interval| self.reported.elapsed() >= interval) {
            self.reported = Instant::now();
            notify(&[NotifyState::Watchdog]);
        }
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        Notice::warning(&format!("the service manager can't be told the state: {error}")).report();
    }
}

/// The socket that the service manager has opened for the server, if it has, where it keeps nothing
/// else ([`Kept`](super::Kept)). Called once, because it takes the descriptor over.
///
/// # Errors
///
/// [`CommandError::Sockets`] if there are several.
pub(super) fn inherited_socket() -> Result<Option<OwnedFd>, CommandError> {
    let mut descriptors = sd_notify::listen_fds().map_err(CommandError::Serve)?;
    let count = descriptors.len();
    match (descriptors.next(), count) {
        (None, _) => Ok(None),
        // SAFETY: the service manager opened this descriptor for this process, as its number in
        // LISTEN_PID says. Nothing else of the program reads that variable, and `run` calls this
        // once, so nothing else owns the descriptor.
        (Some(descriptor), 1) => Ok(Some(unsafe { OwnedFd::from_raw_fd(descriptor) })),
        _ => Err(CommandError::Sockets { count }),
    }
}
