//! Chunks whose connections are gone and whose memory somebody still holds. They are looked at again and again, less and less often.

use crate::accounts::Seat;
use crate::lease::Lease;
use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// How soon a chunk is looked at for the first time. A process that is killed closes its connection some microseconds before its memory is gone.
const SOON: Duration = Duration::from_millis(2);

/// The longest time between two looks.
const SELDOM: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(crate) struct Behind {
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
    /// Takes a chunk; the answer is when to look at it.
    pub(crate) fn leave(&self, lease: Lease, seat: Seat) -> Instant {
        lease.leave_behind();
        let due = Instant::now() + SOON;
        self.left.lock().push(Left { lease, seat, due, wait: SOON });
        due
    }

    /// Frees those that are due and that nobody holds any more. The answer is when to look again.
    pub(crate) fn look(&self) -> Option<Instant> {
        self.free(|left, now| left.due <= now);
        self.left.lock().iter().map(|left| left.due).min()
    }

    /// Frees all that nobody holds any more. The answer is whether there were any.
    pub(crate) fn free_some(&self) -> bool {
        self.free(|_, _| true)
    }

    fn free(&self, which: impl Fn(&Left, Instant) -> bool) -> bool {
        let _looking = self.looking.lock();
        let now = Instant::now();
        // Freeing may take its time; who leaves one behind doesn't wait for it.
        let due: Vec<Left> = self.left.lock().extract_if(.., |left| which(left, now)).collect();
        let mut freed = false;
        for Left { lease, seat, wait, .. } in due {
            if let Err(lease) = lease.reclaim() {
                let wait = (wait * 2).min(SELDOM);
                self.left.lock().push(Left { lease, seat, due: now + wait, wait });
            } else {
                freed = true;
            }
        }
        freed
    }
}
