//! Chunks whose connections are gone and whose memory somebody still holds. They are looked at
//! again and again, less and less often; so is what the framework has set aside.

use crate::accounts::Seat;
use crate::alarm::Alarm;
use crate::lease::Lease;
use crate::log;
use crate::turns::{Turn, Turns};
use cma_framework::{Cma, Region};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How soon a chunk is looked at for the first time. A process that is killed closes its connection
/// some microseconds before its memory is gone.
const SOON: Duration = Duration::from_millis(2);

/// The longest time between two looks.
const SELDOM: Duration = Duration::from_millis(500);

/// How long freeing a chunk may take. If one takes longer, the allocator of its region hangs, and
/// no other thread tries to free a chunk of that region.
const STUCK: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Behind {
    /// Rings when some are due.
    alarm: Arc<Alarm>,
    cma: Cma,
    left: Mutex<Vec<Left>>,
    /// A turn for each chunk that is being looked at: who needs what it gives back waits for it,
    /// unless it is stuck.
    looking: Arc<Turns>,
    /// By the number of their turn: their regions, and since when they are being looked at.
    in_hand: Mutex<Vec<(u64, Region, Instant)>>,
    /// Held by who has the framework look at what it has set aside.
    recovering: Mutex<()>,
}

#[derive(Debug)]
struct Left {
    lease: Lease,
    /// Whoever leaves chunks behind gets no further connection in their place.
    seat: Seat,
    due: Instant,
    wait: Duration,
    /// When it was looked at for the last time.
    looked: Option<Instant>,
}

impl Behind {
    pub(crate) fn new(alarm: Arc<Alarm>, cma: Cma) -> Self {
        Behind {
            alarm,
            cma,
            left: Mutex::default(),
            looking: Arc::default(),
            in_hand: Mutex::default(),
            recovering: Mutex::default(),
        }
    }

    /// Takes a chunk that a connection left.
    pub(crate) fn leave(&self, lease: Lease, seat: Seat) {
        lease.leave_behind();
        let due = Instant::now() + SOON;
        self.left.lock().push(Left { lease, seat, due, wait: SOON, looked: None });
        self.set_alarm(due);
    }

    /// The framework has set memory aside: it is looked at soon.
    pub(crate) fn look_soon(&self) {
        self.set_alarm(Instant::now() + SOON);
    }

    fn set_alarm(&self, due: Instant) {
        if let Err(error) = self.alarm.set(due) {
            log::emit(|| tracing::error!(%error, "no timer to look at what was left behind"));
        }
    }

    /// Frees those that are due and that nobody holds any more, and memory that can be had again.
    pub(crate) fn look(&self) {
        self.free(|left, now| left.due <= now);
        if let Some(due) = self.left.lock().iter().map(|left| left.due).min() {
            let now = Instant::now();
            // What is due and was not looked at is of a region whose allocator hangs.
            self.set_alarm(if due <= now { now + SELDOM } else { due });
        }
        // One thread is enough if that, too, waits for an allocator that hangs.
        let Some(_recovering) = self.recovering.try_lock() else { return };
        if let Some(due) = self.cma.recover_memory() {
            self.set_alarm(due);
        }
    }

    /// Frees all that nobody holds any more, for a request of user `uid` that would be refused
    /// without it.
    pub(crate) fn free_some(&self, uid: u32) {
        self.free(|_, _| true);
        // Another thread may have one in hand.
        self.looking.begin().wait_for_earlier(uid);
    }

    fn free(&self, which: impl Fn(&Left, Instant) -> bool) {
        let now = Instant::now();
        // One after the other: when the region of one is stuck, other threads free the others.
        while let Some((Left { lease, seat, wait, .. }, _in_hand)) =
            self.next(|left| which(left, now), now)
        {
            if let Err(lease) = lease.reclaim() {
                let wait = (wait * 2).min(SELDOM);
                let looked = Instant::now();
                let due = looked + wait;
                self.left.lock().push(Left { lease, seat, due, wait, looked: Some(looked) });
                // The alarm may have rung while the chunk was in hand, so that no other thread saw
                // it.
                self.set_alarm(due);
            }
        }
    }

    /// One of those that nobody has looked at since `begun`.
    fn next(&self, which: impl Fn(&Left) -> bool, begun: Instant) -> Option<(Left, InHand<'_>)> {
        let (left, in_hand) = (&mut *self.left.lock(), &mut *self.in_hand.lock());
        let now = Instant::now();
        let is_stuck = |region| {
            in_hand.iter().any(|(_, other, since): &(_, Region, Instant)| {
                other == region && *since + STUCK < now
            })
        };
        let at = left.iter().position(|left| {
            let is_new = left.looked.is_none_or(|looked| looked < begun);
            is_new && which(left) && !is_stuck(left.lease.chunk().region())
        })?;
        let (left, turn) = (left.swap_remove(at), self.looking.begin());
        in_hand.push((turn.number(), left.lease.chunk().region().clone(), now));
        Some((left, InHand { behind: self, turn }))
    }
}

/// A chunk that is being looked at.
struct InHand<'b> {
    behind: &'b Behind,
    turn: Turn,
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.behind.in_hand.lock().retain(|(number, ..)| *number != self.turn.number());
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
    fn a_chunk_that_is_in_hand_when_the_alarm_rings_is_looked_at_again() {
        let (cma, accounts) = (framework(), Accounts::new(Limits::default()));
        let peer = Peer { uid: 1, gid: 1, groups: [].into(), pid: 1 };
        let chunk = cma.alloc("camera", None, 4096, 0).unwrap();
        let lease = Lease::new(chunk, accounts.charge(&peer, 4096).unwrap()).unwrap().unwrap();
        let (_, memory) = lease.answer_with_memory(0).unwrap();
        let alarm = Arc::new(Alarm::new().unwrap());
        let behind = Behind::new(alarm.clone(), cma.clone());
        behind.leave(lease, accounts.seat(&peer).unwrap());
        let rings = || {
            let watchdog = Timespec { tv_sec: 10, tv_nsec: 0 };
            poll(&mut [PollFd::new(&*alarm, PollFlags::IN)], Some(&watchdog)) == Ok(1)
        };
        // A request has the chunk in hand when the alarm rings: the thread that hears it finds
        // nothing.
        assert!(rings());
        alarm.rang();
        behind.free_some(peer.uid);
        drop(memory);
        while cma.info("camera", None).unwrap().free_bytes < 1 << 20 {
            assert!(rings(), "nobody looks at the chunk again");
            alarm.rang();
            behind.look();
        }
    }
}
