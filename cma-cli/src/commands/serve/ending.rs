//! How a server is told to end, and what ends it when closing takes too long.

use crate::log;
use crate::notice::Notice;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use std::io;
use std::iter;
use std::process;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long closing may take. It takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// Takes something away that must not outlive the process.
type Remove = Box<dyn FnOnce() + Send>;

/// Why the server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A signal says so.
    Signal,
    /// The server does so by itself.
    Server,
}

/// Who tells the server to end.
pub(super) struct Ending {
    told: Receiver<()>,
    begin: Sender<Cause>,
    leftovers: Arc<Mutex<Vec<Remove>>>,
}

impl Ending {
    /// From here on a signal ends the process in order, also while it still starts.
    pub(super) fn prepare() -> io::Result<Ending> {
        let ((begin, begun), (tell, told)) = (channel(), channel());
        let leftovers: Arc<Mutex<Vec<Remove>>> = Arc::default();
        // The handler of SIGXFSZ does nothing. Without it, the process would die of a log that grew
        // beyond the limit on file sizes; with it, writing fails.
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGXFSZ])?;
        let by_signal = begin.clone();
        thread::Builder::new().name("signals".to_string()).spawn(move || {
            for signal in signals.forever() {
                match signal {
                    SIGINT | SIGTERM if by_signal.send(Cause::Signal).is_err() => return,
                    SIGHUP => tracing::info!(
                        "SIGHUP ignored: there is no configuration file to read again"
                    ),
                    _ => {}
                }
            }
        })?;
        let removed = leftovers.clone();
        thread::Builder::new().name("end".to_string()).spawn(move || {
            if begun.recv().is_ok() {
                // Nobody receives it when the server has begun to end by itself.
                let _ = tell.send(());
                let deadline = Instant::now() + PATIENCE;
                let next =
                    || begun.recv_timeout(deadline.saturating_duration_since(Instant::now()));
                let again = iter::repeat_with(next).find(|cause| *cause != Ok(Cause::Server));
                end_anyway(again.is_some_and(|cause| cause.is_ok()), &removed);
            }
        })?;
        Ok(Ending { told, begin, leftovers })
    }

    /// Waits until somebody tells the server to end, `patience` at most.
    pub(super) fn is_told_within(&self, patience: Duration) -> bool {
        self.told.recv_timeout(patience) != Err(RecvTimeoutError::Timeout)
    }

    /// Where the server says that it ends. From then on it has as long as after a signal.
    pub(super) fn begin(&self) -> Sender<Cause> {
        self.begin.clone()
    }

    /// Has `remove` called if the process has to end without closing what it opened.
    pub(super) fn remove_in_the_end(&self, remove: impl FnOnce() + Send + 'static) {
        self.leftovers.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(remove));
    }
}

/// Ends the process, whatever its other threads wait for.
fn end_anyway(told_again: bool, leftovers: &Mutex<Vec<Remove>>) {
    let why = match told_again {
        true => "it was told to end while it was ending".to_string(),
        false => format!("ending took longer than {} s", PATIENCE.as_secs()),
    };
    let what = "requests that have no answer yet get none";
    Notice::warning(&format!("{why}: the process ends now; {what}")).report();
    leftovers.lock().unwrap_or_else(PoisonError::into_inner).drain(..).for_each(|remove| remove());
    log::finish();
    process::exit(1);
}
