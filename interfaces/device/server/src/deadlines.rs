//! The times at which requests that wait for room give up.

use crate::log;
use crate::timer::Timer;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The deadlines of all connections whose requests wait. The timer expires at the earliest.
#[derive(Debug)]
pub(crate) struct Deadlines {
    timer: Arc<Timer>,
    /// Those that have not passed yet, with the numbers of the connections.
    by_time: Mutex<BTreeSet<(Instant, u64)>>,
}

/// The deadline of a connection, which is forgotten when this is dropped.
#[derive(Debug)]
pub(crate) struct Deadline {
    deadlines: Arc<Deadlines>,
    at: Instant,
    connection: u64,
}

impl Deadlines {
    pub(crate) fn new(timer: Arc<Timer>) -> Self {
        Deadlines { timer, by_time: Mutex::default() }
    }

    /// Adds the deadline of the connection of that number, which has no other one: `wait` from now.
    pub(crate) fn add(self: &Arc<Self>, wait: Duration, connection: u64) -> Deadline {
        self.add_at(Instant::now() + wait, connection)
    }

    /// The same at that time, which may have passed.
    pub(crate) fn add_at(self: &Arc<Self>, at: Instant, connection: u64) -> Deadline {
        self.by_time.lock().insert((at, connection));
        self.arm_timer(at);
        Deadline { deadlines: self.clone(), at, connection }
    }

    /// The numbers of the connections whose deadlines have passed since the last call, the earliest
    /// first. Arms the timer for the next deadline.
    ///
    /// Each is returned once: a request that takes long to end must not be woken at each expiry.
    pub(crate) fn take_passed(&self) -> Vec<u64> {
        let (passed, next) = {
            let by_time = &mut *self.by_time.lock();
            let later = by_time.split_off(&(Instant::now(), u64::MAX));
            let passed = mem::replace(by_time, later);
            (passed, by_time.first().map(|(at, _)| *at))
        };
        if let Some(next) = next {
            self.arm_timer(next);
        }
        passed.into_iter().map(|(_, number)| number).collect()
    }

    fn arm_timer(&self, at: Instant) {
        if let Err(error) = self.timer.arm(at) {
            log::emit(|| tracing::error!(%error, "no timer to end the requests that wait"));
        }
    }
}

impl Deadline {
    pub(crate) fn has_passed(&self) -> bool {
        self.at <= Instant::now()
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.deadlines.by_time.lock().remove(&(self.at, self.connection));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_passes_at_its_time_and_is_forgotten_when_the_wait_ends() {
        let deadlines = Arc::new(Deadlines::new(Arc::new(Timer::new().unwrap())));
        let first = deadlines.add(Duration::ZERO, 9);
        let second = deadlines.add(Duration::ZERO, 2);
        let later = deadlines.add(Duration::from_secs(3600), 1);
        drop(deadlines.add(Duration::ZERO, 5));
        assert_eq!(deadlines.take_passed(), [9, 2]);
        assert_eq!([&first, &second, &later].map(Deadline::has_passed), [true, true, false]);
        assert!(deadlines.take_passed().is_empty(), "each is reported once");
        assert_eq!(deadlines.by_time.lock().len(), 1);
        drop((first, second, later));
        assert!(deadlines.by_time.lock().is_empty());
    }
}
