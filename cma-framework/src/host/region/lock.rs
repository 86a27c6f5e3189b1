//! The lock of a region, and how threads wait for it.

use super::{Region, RegionState};
use crate::vocabulary::What;
use crate::vocabulary::errors::Stuck;
use spin::mutex::SpinMutexGuard;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use std::{mem, thread};

/// Initial back-off sleep.
pub(super) const SHORTEST_SLEEP: Duration = Duration::from_micros(50);

/// Longest back-off sleep.
const LONGEST_SLEEP: Duration = Duration::from_millis(1);

/// The time asleep after which the region is stuck. Only sleeps count, so a machine that was
/// suspended for a while makes no region stuck.
const PATIENCE: Duration = Duration::from_secs(3);

/// The same in a region that is known to be stuck.
pub(super) const PATIENCE_WHEN_STUCK: Duration = Duration::from_millis(20);

/// The locked state of a region. Dropping it considers the head of the queue and releases the lock.
/// Then it calls the waiters, delivers the events and drops the objects that were collected under
/// the lock.
pub(super) struct LockedState<'a> {
    region: &'a Region,
    /// `None` only while it is dropped.
    state: Option<SpinMutexGuard<'a, RegionState>>,
    /// Whether the region was stuck, so that threads may have stopped to wait for the lock.
    was_stuck: bool,
}

impl<'a> LockedState<'a> {
    pub(super) fn new(region: &'a Region, state: SpinMutexGuard<'a, RegionState>) -> Self {
        LockedState { region, state: Some(state), was_stuck: false }
    }

    /// Notes that the region was stuck until this thread got the lock.
    pub(super) fn note_stuck(&mut self) {
        self.was_stuck = true;
    }
}

impl Deref for LockedState<'_> {
    type Target = RegionState;

    fn deref(&self) -> &RegionState {
        self.state.as_ref().unwrap_or_else(|| unreachable!("the state is there until the drop"))
    }
}

impl DerefMut for LockedState<'_> {
    fn deref_mut(&mut self) -> &mut RegionState {
        self.state.as_mut().unwrap_or_else(|| unreachable!("the state is there until the drop"))
    }
}

impl Drop for LockedState<'_> {
    fn drop(&mut self) {
        let Some(mut state) = self.state.take() else { return };
        state.call_head(self.region);
        let called = state.queue.take_called();
        let was_stuck = self.was_stuck || self.region.fast_path_is_closed();
        let dropped = mem::take(&mut state.dropped_later);
        let outbox = &self.region.0.outbox;
        let queued = !state.events.is_empty() && outbox.queue(state.events.drain(..));
        let to_wake = mem::take(&mut state.to_wake);
        drop(state);
        drop(to_wake);
        // First: a subscriber, or an allocator that ends, may not return.
        called.iter().for_each(|waiter| waiter.call());
        if queued {
            outbox.deliver(self.region);
        }
        drop(dropped);
        if was_stuck {
            self.region.carry_out_late();
        }
    }
}

impl Region {
    /// Locks the region, and carries out deferred operations.
    ///
    /// # Errors
    ///
    /// [`Stuck`] when its allocator doesn't return.
    pub(super) fn enter(&self) -> Result<LockedState<'_>, Stuck> {
        let state = match self.0.state.try_lock() {
            Some(state) => state,
            None => self.wait(PATIENCE_WHEN_STUCK)?,
        };
        Ok(self.settled(state))
    }

    /// Waits for the lock, which another thread has. In a region that is known to be stuck, the
    /// limit is `when_stuck`.
    ///
    /// A request takes less than a tenth of a microsecond. Moving the region's books from one core
    /// to another takes longer. So a contending thread first spins for the time of some ten
    /// requests, without touching the lock. Meanwhile the other thread works with the books in its
    /// own cache. If an allocator takes long, the thread sleeps, longer each time. No thread is
    /// woken, so releasing the lock is one plain store that needn't know whether threads wait.
    #[cold]
    pub(super) fn wait(
        &self,
        when_stuck: Duration,
    ) -> Result<SpinMutexGuard<'_, RegionState>, Stuck> {
        for round in 0..64 {
            // Of varying length: in step with the owner, a thread could find the lock taken at each
            // attempt.
            for _ in 0..32 + round % 4 * 16 {
                std::hint::spin_loop();
            }
            if let Some(state) = self.0.state.try_lock() {
                return Ok(state);
            }
        }
        let began = Instant::now();
        let patience = if self.deferred().stuck_since.is_some() { when_stuck } else { PATIENCE };
        let (mut slept, mut sleep) = (Duration::ZERO, SHORTEST_SLEEP);
        while slept < patience {
            thread::sleep(sleep);
            if let Some(state) = self.0.state.try_lock() {
                return Ok(state);
            }
            slept += sleep;
            sleep = LONGEST_SLEEP.min(sleep * 2);
        }
        Err(self.found_stuck(began))
    }

    /// Notes that the region has been stuck since `began` or longer.
    fn found_stuck(&self, began: Instant) -> Stuck {
        let mut deferred = self.deferred();
        let is_news = deferred.stuck_since.is_none();
        let since = *deferred.stuck_since.get_or_insert(began);
        self.0.live_limit.store(0, Ordering::Relaxed);
        let stuck =
            Stuck { allocator: self.0.shown.load().worker.clone(), at_least: since.elapsed() };
        // Queued before another thread can find that the region resumes.
        let queued = is_news && self.queue(What::Stuck(stuck.clone()));
        drop(deferred);
        if queued {
            self.0.outbox.deliver(self);
        }
        stuck
    }
}
