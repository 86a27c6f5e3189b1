//! Chunks whose connections are gone and whose memory somebody still holds. They are looked at again and again, less and less often;
//! so is what the framework has set aside.

use crate::accounts::Seat;
use crate::alarm::Alarm;
use crate::lease::Lease;
use cma_framework::Cma;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How soon a chunk is looked at for the first time. A process that is killed closes its connection some microseconds before its memory is gone.
const SOON: Duration = Duration::from_millis(2);

/// The longest time between two looks.
const SELDOM: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct Behind {
    /// Rings when some are due.
    alarm: Arc<Alarm>,
    cma: Cma,
    left: Mutex<Vec<Left>>,
    /// Held by who looks at them.
    looking: Mutex<()>,
}

#[derive(Debug)]
struct Left {
    lease: Lease,
    /// Whoever leaves chunks behind gets no further connection in their place.
    seat: Seat,
    due: Instant,
    wait: Duration,
}

impl Behind {
    pub(crate) fn new(alarm: Arc<Alarm>, cma: Cma) -> Self {
        Behind { alarm, cma, left: Mutex::default(), looking: Mutex::default() }
    }

    /// Takes a chunk that a connection left.
    pub(crate) fn leave(&self, lease: Lease, seat: Seat) {
        lease.leave_behind();
        let due = Instant::now() + SOON;
        self.left.lock().push(Left { lease, seat, due, wait: SOON });
        self.set_alarm(due);
    }

    /// The framework has set memory aside: it is looked at soon.
    pub(crate) fn look_soon(&self) {
        self.set_alarm(Instant::now() + SOON);
    }

    fn set_alarm(&self, due: Instant) {
        if let Err(error) = self.alarm.set(due) {
            tracing::error!(%error, "no timer to look at what was left behind");
        }
    }

    /// Frees those that are due and that nobody holds any more, and memory that can be had again.
    pub(crate) fn look(&self) {
        self.free(|left, now| left.due <= now);
        let aside = self.cma.recover_memory();
        let left = self.left.lock().iter().map(|left| left.due).min();
        if let Some(due) = left.into_iter().chain(aside).min() {
            self.set_alarm(due);
        }
    }

    /// Frees all that nobody holds any more.
    pub(crate) fn free_some(&self) {
        self.free(|_, _| true);
    }

    fn free(&self, which: impl Fn(&Left, Instant) -> bool) {
        let _looking = self.looking.lock();
        let now = Instant::now();
        // Freeing may take its time; who leaves one behind doesn't wait for it.
        let due: Vec<Left> = self.left.lock().extract_if(.., |left| which(left, now)).collect();
        for Left { lease, seat, wait, .. } in due {
            if let Err(lease) = lease.reclaim() {
                let wait = (wait * 2).min(SELDOM);
                self.left.lock().push(Left { lease, seat, due: now + wait, wait });
            }
        }
    }
}
