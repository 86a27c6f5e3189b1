//! Running one guarantee with a time limit for every call of the allocator.

use super::Guarantee;
use crate::checked::Subject;
use crate::violation::{Failure, Violation};
use crate::watch::Watch;
use std::panic::resume_unwind;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// Checks that `subject` keeps `guarantee`, and that every call of the allocator returns within
/// `limit`. The thread of a call that doesn't return is abandoned: it runs until the process ends.
///
/// # Errors
///
/// The guarantee's failure, or [`Violation::Hangs`].
///
/// # Panics
///
/// The guarantee panicked, or no thread can be started.
pub fn verdict_within(
    limit: Duration,
    guarantee: Guarantee,
    subject: &Subject,
) -> Result<(), Failure> {
    let subject = *subject;
    watched(limit, &Watch::default(), move || guarantee(&subject))
}

/// Runs `body`, and watches that every call of an allocator returns within `limit`.
///
/// # Errors
///
/// Those of `body`, or [`Violation::Hangs`].
///
/// # Panics
///
/// `body` panicked, or no thread can be started.
pub(crate) fn watched(
    limit: Duration,
    watch: &Watch,
    body: impl FnOnce() -> Result<(), Failure> + Send + 'static,
) -> Result<(), Failure> {
    let (sender, receiver) = channel();
    let watch_of_thread = watch.clone();
    let thread = thread::Builder::new().spawn(move || {
        watch_of_thread.make_current();
        // After the limit the receiver is gone.
        let _ = sender.send(body());
    });
    let thread = thread.expect("the suite needs a thread");
    loop {
        match receiver.recv_timeout(limit.min(Duration::from_millis(100))) {
            Ok(verdict) => return verdict,
            Err(RecvTimeoutError::Disconnected) => match thread.join() {
                Ok(()) => unreachable!("a guarantee that returns has sent its verdict"),
                Err(panic) => resume_unwind(panic),
            },
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Some((log, call)) = watch.overdue(limit) {
            let (seconds, seed) = (limit.as_secs(), watch.seed());
            return Err(log.failure(Violation::Hangs { call, seconds, seed }));
        }
    }
}

/// [`verdict_within`] a limit of one minute.
///
/// # Errors
///
/// As there.
///
/// # Panics
///
/// As there.
pub fn verdict(guarantee: Guarantee, subject: &Subject) -> Result<(), Failure> {
    verdict_within(Duration::from_secs(60), guarantee, subject)
}
