//! Frees chunks that were left behind: their connections have ended while processes still held
//! their memory. The kernel doesn't report when a process releases memory, so each chunk is retried
//! at increasing intervals, and before a request is refused. The reclaimer also makes the framework
//! retry the memory that it has set aside.

use crate::accounts::ConnectionSlot;
use crate::event_order::{EventOrder, Ticket};
use crate::lease::Lease;
use crate::log;
use crate::timer::Timer;
use cma_framework::{Cma, Region};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The delay of the first retry. The kernel closes the connection of a killed process some
/// microseconds before it releases the process' memory.
const FIRST_RETRY: Duration = Duration::from_millis(2);

/// The longest interval between two retries of a chunk.
const MAX_INTERVAL: Duration = Duration::from_millis(500);

/// The time that freeing a chunk may take. When an attempt takes longer, the region's allocator
/// hangs, and no other thread tries to free a chunk of that region.
const STUCK_AFTER: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Reclaimer {
    /// Expires when a retry is due.
    timer: Arc<Timer>,
    cma: Cma,
    waiting: Mutex<Vec<LeftBehind>>,
    /// The order of the attempts in progress: a request that needs memory waits for those that
    /// began before, unless they are stuck.
    order: Arc<EventOrder>,
    attempts: Mutex<Vec<Attempt>>,
    /// Held while a thread makes the framework retry the memory that it has set aside.
    recovering: Mutex<()>,
}

/// A chunk that waits for the next attempt to free it.
#[derive(Debug)]
struct LeftBehind {
    lease: Lease,
    /// A chunk that can't be freed keeps its connection's slot.
    slot: ConnectionSlot,
    due: Instant,
    interval: Duration,
    last_attempt: Option<Instant>,
}

/// An attempt in progress.
#[derive(Debug)]
struct Attempt {
    number: u64,
    region: Region,
    since: Instant,
}

impl Reclaimer {
    pub(crate) fn new(timer: Arc<Timer>, cma: Cma) -> Self {
        Reclaimer {
            timer,
            cma,
            waiting: Mutex::default(),
            order: Arc::default(),
            attempts: Mutex::default(),
            recovering: Mutex::default(),
        }
    }

    /// Takes a chunk whose connection has ended while a process holds its memory.
    pub(crate) fn add(&self, lease: Lease, slot: ConnectionSlot) {
        lease.set_left_behind();
        let due = Instant::now() + FIRST_RETRY;
        let interval = FIRST_RETRY;
        self.waiting.lock().push(LeftBehind { lease, slot, due, interval, last_attempt: None });
        self.arm_timer(due);
    }

    /// Schedules a retry of memory that the framework has just set aside.
    pub(crate) fn schedule_recovery(&self) {
        self.arm_timer(Instant::now() + FIRST_RETRY);
    }

    fn arm_timer(&self, due: Instant) {
        if let Err(error) = self.timer.arm(due) {
            log::emit(|| tracing::error!(%error, "no timer to free the chunks left behind"));
        }
    }

    /// Tries to free each chunk that is due, and to recover the memory that the framework has set
    /// aside.
    pub(crate) fn reclaim_due(&self) {
        self.reclaim_each(|chunk, now| chunk.due <= now);
        if let Some(due) = self.waiting.lock().iter().map(|chunk| chunk.due).min() {
            let now = Instant::now();
            // A chunk that is due but was skipped belongs to a region whose allocator hangs.
            self.arm_timer(if due <= now { now + MAX_INTERVAL } else { due });
        }
        // If recovering waits for an allocator that hangs, it blocks one thread and no more.
        let Some(_recovering) = self.recovering.try_lock() else { return };
        if let Some(due) = self.cma.recover_memory() {
            self.arm_timer(due);
        }
    }

    /// Tries to free all chunks, for a request of user `uid` that would be refused otherwise.
    pub(crate) fn reclaim_all(&self, uid: u32) {
        self.reclaim_each(|_, _| true);
        // Also waits for other threads' attempts.
        self.order.begin().wait_for_earlier(uid);
    }

    /// Frees all chunks, also those whose memory a process holds. Nothing of them outlives the
    /// server.
    pub(crate) fn end(&self) {
        for LeftBehind { mut lease, .. } in std::mem::take(&mut *self.waiting.lock()) {
            if let Some(recorded) = lease.take_recorded() {
                recorded.end();
            }
        }
    }

    fn reclaim_each(&self, is_wanted: impl Fn(&LeftBehind, Instant) -> bool) {
        let now = Instant::now();
        // Takes one chunk at a time: when its region is stuck, other threads free the others.
        while let Some((LeftBehind { lease, slot, interval, .. }, _attempt)) =
            self.take_next(|chunk| is_wanted(chunk, now), now)
        {
            if let Err(lease) = lease.reclaim() {
                let interval = (interval * 2).min(MAX_INTERVAL);
                let now = Instant::now();
                let due = now + interval;
                let chunk = LeftBehind { lease, slot, due, interval, last_attempt: Some(now) };
                self.waiting.lock().push(chunk);
                // If the timer expired during the attempt, its thread didn't see this chunk.
                self.arm_timer(due);
            }
        }
    }

    /// Takes a chunk that was not tried since `begun` and whose region isn't stuck.
    fn take_next(
        &self,
        is_wanted: impl Fn(&LeftBehind) -> bool,
        begun: Instant,
    ) -> Option<(LeftBehind, AttemptGuard<'_>)> {
        let (waiting, attempts) = (&mut *self.waiting.lock(), &mut *self.attempts.lock());
        let now = Instant::now();
        let is_stuck = |region: &Region| {
            attempts
                .iter()
                .any(|attempt| attempt.region == *region && attempt.since + STUCK_AFTER < now)
        };
        let index = waiting.iter().position(|chunk| {
            let is_new = chunk.last_attempt.is_none_or(|last| last < begun);
            is_new && is_wanted(chunk) && !is_stuck(chunk.lease.chunk().region())
        })?;
        let (chunk, ticket) = (waiting.swap_remove(index), self.order.begin());
        let region = chunk.lease.chunk().region().clone();
        attempts.push(Attempt { number: ticket.number(), region, since: now });
        Some((chunk, AttemptGuard { reclaimer: self, ticket }))
    }
}

/// An attempt to free a chunk, in progress until this is dropped.
struct AttemptGuard<'r> {
    reclaimer: &'r Reclaimer,
    ticket: Ticket,
}

impl Drop for AttemptGuard<'_> {
    fn drop(&mut self) {
        let number = self.ticket.number();
        self.reclaimer.attempts.lock().retain(|attempt| attempt.number != number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::Accounts;
    use crate::limits::Limits;
    use crate::peer::Peer;
    use cma_framework::Plugin;
    use cma_framework::config::{Bank, Growth};
    use cma_framework::reserve::Banks;
    use cma_memory::Memfd;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn framework() -> Cma {
        let cma = Cma::new();
        cma.command_line(Some("ram=1M"), Some("*=ram")).unwrap();
        cma.early_regions_reserve(&mut Memfd::new(Banks::new(
            &[Bank::new(1 << 30, 1 << 32)],
            Growth::Up,
        )));
        cma.initialise();
        cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
        cma
    }

    #[test]
    fn a_chunk_whose_attempt_is_in_progress_when_the_timer_expires_is_retried() {
        let (cma, accounts) = (framework(), Accounts::new(Limits::default()));
        let peer = Peer { uid: 1, gid: 1, groups: [].into(), pid: 1 };
        let chunk = cma.alloc("camera", None, 4096, 0).unwrap();
        let lease = Lease::new(chunk, accounts.charge(&peer, 4096).unwrap()).unwrap().unwrap();
        let (_, memory) = lease.answer_with_memory(0).unwrap();
        let timer = Arc::new(Timer::new().unwrap());
        let reclaimer = Reclaimer::new(timer.clone(), cma.clone());
        reclaimer.add(lease, accounts.connection_slot(&peer).unwrap());
        let expires = || {
            let watchdog = Timespec { tv_sec: 10, tv_nsec: 0 };
            poll(&mut [PollFd::new(&*timer, PollFlags::IN)], Some(&watchdog)) == Ok(1)
        };
        // A request tries the chunk while the timer expires: the thread that the timer wakes finds
        // no chunk.
        assert!(expires());
        timer.acknowledge();
        reclaimer.reclaim_all(peer.uid);
        drop(memory);
        while cma.info("camera", None).unwrap().free_bytes < 1 << 20 {
            assert!(expires(), "the chunk is not retried");
            timer.acknowledge();
            reclaimer.reclaim_due();
        }
    }
}
