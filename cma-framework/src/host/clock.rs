//! The time that the books note.
//!
//! A request reads no clock. It reads a number that a thread, the timekeeper, updates ten times a
//! second. Rare events, such as refusals, read the clock.

use crate::core::moment::Moment;
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// The time of the last tick; 0 while no timekeeper runs.
static NOW: AtomicU32 = AtomicU32::new(0);

/// The number of running timekeepers. Its lock is held while the number changes and [`NOW`] with
/// it, so that the last timekeeper to end doesn't clear the time of one that starts.
static KEEPERS: Mutex<usize> = Mutex::new(0);

/// The time of the last tick; unknown while no timekeeper runs.
#[inline]
pub(crate) fn now() -> Moment {
    Moment::from_tenths(NOW.load(Ordering::Relaxed))
}

/// The current time, read from the clock.
pub(crate) fn precise_now() -> Moment {
    Moment::from_tenths(tenths())
}

/// Tenths of a second since the system started, from 1.
fn tenths() -> u32 {
    let now = clock_gettime(ClockId::Monotonic);
    let tenths =
        now.tv_sec.saturating_mul(10).saturating_add(now.tv_nsec / 100_000_000).saturating_add(1);
    // 32 bits last for 13 years.
    u32::try_from(tenths).unwrap_or(u32::MAX)
}

/// Keeps time for the ages of chunks and refusals, in tenths of a second, until it is dropped. Made
/// by [`keep_time`].
#[derive(Debug)]
pub struct Timekeeper {
    /// Dropping it ends the thread.
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts keeping time, for every framework in the process. A request doesn't read the clock, which
/// would take some 6 ns; a thread does, ten times a second. A chunk that is allocated while no
/// timekeeper runs has no age.
///
/// # Errors
///
/// Those of starting a thread.
pub fn keep_time() -> io::Result<Timekeeper> {
    let (end, ended) = channel();
    let keepers = &mut *keepers();
    let thread = thread::Builder::new().name("cma-time".to_string()).spawn(move || {
        while ended.recv_timeout(Moment::TICK) == Err(RecvTimeoutError::Timeout) {
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
            // The thread doesn't panic.
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
    use std::time::Duration;

    fn age(then: Moment) -> Option<Duration> {
        then.age(precise_now())
    }

    /// One test, because the time is the process's.
    #[test]
    fn moments_have_an_age_if_and_only_if_a_timekeeper_runs() {
        assert_eq!(age(now()), None);
        let time = keep_time().unwrap();
        assert!(age(now()).is_some());
        let old = age(Moment::from_tenths(tenths().saturating_sub(50).max(1))).unwrap();
        assert!(old >= Duration::from_secs(5) || tenths() < 60, "{old:?}");
        drop(time);
        assert_eq!(age(now()), None);

        for _ in 0..300 {
            let old = keep_time().unwrap();
            let ending = thread::spawn(move || drop(old));
            let new = keep_time().unwrap();
            ending.join().unwrap();
            assert!(age(now()).is_some(), "a timekeeper that ended cleared a new one's time");
            drop(new);
        }
    }
}
