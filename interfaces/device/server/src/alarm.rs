//! A timer that wakes one of the server's threads.

use parking_lot::Mutex;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{self, Errno};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::time::{Duration, Instant};

/// Rings once, at the earliest of the times that it was set to.
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: OwnedFd,
    /// When it rings.
    set: Mutex<Option<Instant>>,
}

impl Alarm {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Alarm { timer, set: Mutex::new(None) })
    }

    /// Rings at `when`, unless it rings before.
    pub(crate) fn set(&self, when: Instant) -> io::Result<()> {
        let set = &mut *self.set.lock();
        if set.is_some_and(|earlier| earlier <= when) {
            return Ok(());
        }
        // Nothing at all would stop it.
        let wait = when.saturating_duration_since(Instant::now()).max(Duration::from_micros(1));
        let it_value = Timespec::try_from(wait).map_err(|_| Errno::INVAL)?;
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        *set = Some(when);
        Ok(())
    }

    /// It has rung: it can be set again.
    pub(crate) fn rang(&self) {
        let set = &mut *self.set.lock();
        let _ = io::read(&self.timer, &mut [0_u8; 8]);
        *set = None;
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}
