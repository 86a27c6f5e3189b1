//! When a chunk was allocated, at no cost to a request: what it reads is a number that somebody
//! else keeps.

use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The moment it is, as the last tick left it.
static NOW: AtomicU32 = AtomicU32::new(0);

/// How many timekeepers there are. Its lock is held while that changes and with it whether there is
/// a time, so that the last one that ends can't take the time from one that begins.
static KEEPERS: Mutex<usize> = Mutex::new(0);

/// The time between two ticks.
const TICK: Duration = Duration::from_millis(100);

/// A moment in tenths of a second; 0 for one that nobody kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment(u32);

impl Moment {
    /// The moment of the last tick.
    #[inline]
    pub(crate) fn now() -> Self {
        Moment(NOW.load(Ordering::Relaxed))
    }

    /// The moment it is, read from the clock. For what is rare enough.
    pub(crate) fn exactly() -> Self {
        Moment(tenths())
    }

    /// How long ago it was, if time was kept then.
    pub(crate) fn age(self) -> Option<Duration> {
        let tenths = tenths().saturating_sub(self.0);
        (self.0 != 0).then(|| TICK * tenths)
    }
}

/// Tenths of a second since the system started, from 1.
fn tenths() -> u32 {
    let now = clock_gettime(ClockId::Monotonic);
    let tenths =
        now.tv_sec.saturating_mul(10).saturating_add(now.tv_nsec / 100_000_000).saturating_add(1);
    // Some thirteen years of them fit.
    u32::try_from(tenths).unwrap_or(u32::MAX)
}

/// Keeps the time by which the ages of chunks and refusals are told, in tenths of a second, until
/// it is dropped. Made by [`keep_time`].
#[derive(Debug)]
pub struct Timekeeper {
    /// Dropping it tells the thread to end.
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts keeping time, for every framework in the process. A request doesn't look at a clock,
/// which would cost it some 6 ns; a thread does, ten times a second. What is allocated while nobody
/// keeps time has no age.
///
/// # Errors
///
/// Those of starting a thread.
pub fn keep_time() -> io::Result<Timekeeper> {
    let (end, ended) = channel();
    let keepers = &mut *keepers();
    let thread = thread::Builder::new().name("cma-time".to_string()).spawn(move || {
        while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            NOW.store(tenths(), Ordering::Relaxed);
        }
    })?;
    *keepers += 1;
    NOW.store(tenths(), Ordering::Relaxed);
    Ok(Timekeeper { end: Some(end), thread: Some(thread) })
}

fn keepers() -> MutexGuard<'static, usize> {
    KEEPERS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Timekeeper {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            // It doesn't panic.
            let _ = thread.join();
        }
        let keepers = &mut *keepers();
        *keepers -= 1;
        if *keepers == 0 {
            NOW.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_while_nobody_keeps_time_has_no_age() {
        assert_eq!(Moment(0).age(), None);
        let time = keep_time().unwrap();
        assert!(Moment::now().age().is_some());
        let age = Moment(tenths().saturating_sub(50).max(1)).age().unwrap();
        assert!(age >= Duration::from_secs(5) || tenths() < 60, "{age:?}");
        drop(time);
        assert_eq!(Moment::now().age(), None);

        // In one test, because there is one time for the process.
        for _ in 0..300 {
            let old = keep_time().unwrap();
            let ending = thread::spawn(move || drop(old));
            let new = keep_time().unwrap();
            ending.join().unwrap();
            assert!(
                Moment::now().age().is_some(),
                "a timekeeper that ended took the time from a new one"
            );
            drop(new);
        }
    }
}
