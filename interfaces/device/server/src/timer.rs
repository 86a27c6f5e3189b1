//! A one-shot timer that wakes one of the server's threads.

use parking_lot::Mutex;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{self, Errno};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::time::{Duration, Instant};

/// The time until the server tries again after it found no thread, no descriptor, or a client that
/// has not read an answer.
pub(crate) const RETRY_DELAY: Duration = Duration::from_millis(50);

/// Expires once, at the earliest deadline that it was armed with.
#[derive(Debug)]
pub(crate) struct Timer {
    timer: OwnedFd,
    deadline: Mutex<Option<Instant>>,
}

impl Timer {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Timer { timer, deadline: Mutex::new(None) })
    }

    /// Expires at `deadline` or earlier.
    pub(crate) fn arm(&self, deadline: Instant) -> io::Result<()> {
        let current = &mut *self.deadline.lock();
        if current.is_some_and(|earlier| earlier <= deadline) {
            return Ok(());
        }
        // A time of zero would disarm the timer.
        let wait = deadline.saturating_duration_since(Instant::now()).max(Duration::from_micros(1));
        let it_value = Timespec::try_from(wait).map_err(|_| Errno::INVAL)?;
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        *current = Some(deadline);
        Ok(())
    }

    /// Acknowledges that the timer has expired, so that it can be armed again.
    pub(crate) fn acknowledge(&self) {
        let current = &mut *self.deadline.lock();
        let _ = io::read(&self.timer, &mut [0_u8; 8]);
        *current = None;
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}
