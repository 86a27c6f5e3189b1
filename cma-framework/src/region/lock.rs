//! Waiting for a region: its one lock.

use super::{Region, State};
use spin::mutex::SpinMutexGuard;
use std::thread;
use std::time::Duration;

/// How long who waits for a region sleeps before looking again, at first.
const SHORTEST_NAP: Duration = Duration::from_micros(50);

/// The same, in the end.
const LONGEST_NAP: Duration = Duration::from_millis(1);

impl Region {
    /// The region's state, for this thread alone.
    #[inline]
    pub(super) fn lock(&self) -> SpinMutexGuard<'_, State> {
        match self.0.state.try_lock() {
            Some(state) => state,
            None => self.lock_contended(),
        }
    }

    /// Waits for a region that another thread is in.
    ///
    /// A request is over in a tenth of a microsecond, less than it takes to bring the region's books from one core to another. So
    /// whoever finds the region taken leaves it alone for the time of some ten requests, which the other thread does with the
    /// books in its own cache, and then it is this one's turn. An allocator that takes long is waited for in naps: nobody is woken,
    /// so that giving a region back is one plain store, without a look at who waits.
    #[cold]
    fn lock_contended(&self) -> SpinMutexGuard<'_, State> {
        for round in 0..64 {
            // Not all the same time, or two threads could miss each other's gaps again and again.
            for _ in 0..32 + round % 4 * 16 {
                std::hint::spin_loop();
            }
            if let Some(state) = self.0.state.try_lock() {
                return state;
            }
        }
        let mut nap = SHORTEST_NAP;
        loop {
            thread::sleep(nap);
            if let Some(state) = self.0.state.try_lock() {
                return state;
            }
            nap = LONGEST_NAP.min(nap * 2);
        }
    }
}
