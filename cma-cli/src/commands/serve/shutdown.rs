//! Signals: those that request the shutdown, which has a time limit, and SIGHUP.

use crate::log;
use crate::notice::Notice;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::Signals;
use std::io;
use std::iter;
use std::process;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The time limit for closing, which takes milliseconds.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// Removes something that must not outlive the process.
type Cleanup = Box<dyn FnOnce() + Send>;

/// The cause of a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShutdownCause {
    /// SIGINT or SIGTERM.
    Signal,
    /// SIGUSR2.
    Upgrade,
    /// The server itself.
    Server,
}

/// What a signal, or the server itself, requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Shutdown,
    /// Leaving everything to the next server.
    HandOver,
    /// Reading the configuration again.
    Reload,
}

/// Receives requests, and enforces the time limit of a shutdown.
pub(super) struct ShutdownMonitor {
    requested: Receiver<Request>,
    begin: Sender<ShutdownCause>,
    cleanups: Arc<Mutex<Vec<Cleanup>>>,
}

impl ShutdownMonitor {
    /// From here on a signal ends the process in order, also while it still starts. SIGUSR2 does so
    /// if something keeps what the server leaves.
    pub(super) fn start(is_kept: bool) -> io::Result<ShutdownMonitor> {
        let ((begin, begun), (request, requested)) = (channel(), channel());
        let cleanups: Arc<Mutex<Vec<Cleanup>>> = Arc::default();
        // SIGXFSZ is received and ignored. By default it would kill the process when the log
        // reaches the limit on file sizes; ignored, the write fails.
        let upgrade = is_kept.then_some(SIGUSR2);
        let mut signals =
            Signals::new([SIGINT, SIGTERM, SIGHUP, SIGXFSZ].into_iter().chain(upgrade))?;
        let (by_signal, reload) = (begin.clone(), request.clone());
        thread::Builder::new().name("signals".to_string()).spawn(move || {
            for signal in signals.forever() {
                match signal {
                    SIGINT | SIGTERM if by_signal.send(ShutdownCause::Signal).is_err() => return,
                    SIGUSR2 if by_signal.send(ShutdownCause::Upgrade).is_err() => return,
                    // Fails if the server has ended.
                    SIGHUP => drop(reload.send(Request::Reload)),
                    _ => {}
                }
            }
        })?;
        let forced = cleanups.clone();
        thread::Builder::new().name("shutdown".to_string()).spawn(move || {
            let cause = begun.recv();
            // Whatever takes long then is ended by the keeper, and recovered by the next server.
            if cause == Ok(ShutdownCause::Upgrade) {
                let _ = request.send(Request::HandOver);
                begun.iter().for_each(drop);
            } else if cause.is_ok() {
                // Fails if the server itself began the shutdown.
                let _ = request.send(Request::Shutdown);
                let deadline = Instant::now() + TIME_LIMIT;
                let next =
                    || begun.recv_timeout(deadline.saturating_duration_since(Instant::now()));
                let second =
                    iter::repeat_with(next).find(|cause| *cause != Ok(ShutdownCause::Server));
                force_exit(second.is_some_and(|cause| cause.is_ok()), &forced);
            }
        })?;
        Ok(ShutdownMonitor { requested, begin, cleanups })
    }

    /// Waits for a request, `timeout` at most.
    pub(super) fn request_within(&self, timeout: Duration) -> Option<Request> {
        match self.requested.recv_timeout(timeout) {
            Ok(request) => Some(request),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Request::Shutdown),
        }
    }

    /// Takes the server's report that it begins its shutdown. The time limit starts then, as after
    /// a signal.
    pub(super) fn begin_sender(&self) -> Sender<ShutdownCause> {
        self.begin.clone()
    }

    /// Registers `cleanup`, which is called if the process has to exit before everything is closed.
    pub(super) fn on_forced_exit(&self, cleanup: impl FnOnce() + Send + 'static) {
        self.cleanups.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(cleanup));
    }
}

/// Exits the process, although other threads may still be blocked.
fn force_exit(by_second_signal: bool, cleanups: &Mutex<Vec<Cleanup>>) {
    let reason = match by_second_signal {
        true => "a second signal arrived during the shutdown".to_string(),
        false => format!("the shutdown took longer than {} s", TIME_LIMIT.as_secs()),
    };
    let message = format!("{reason}: the process exits now; pending requests are not answered");
    Notice::warning(&message).report();
    cleanups.lock().unwrap_or_else(PoisonError::into_inner).drain(..).for_each(|cleanup| cleanup());
    log::flush();
    process::exit(1);
}
