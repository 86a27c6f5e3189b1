//! When a chunk was allocated: a clock that costs a request next to nothing.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// A moment, in hundredths of a second, to be told apart for 497 days. It comes from the clock of the last timer tick, which is read
/// without entering the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment(u32);

impl Moment {
    #[inline]
    pub(crate) fn now() -> Self {
        let now = clock_gettime(ClockId::MonotonicCoarse);
        Moment((now.tv_sec as u32).wrapping_mul(100).wrapping_add(now.tv_nsec as u32 / 10_000_000))
    }

    /// How long ago it was.
    pub(crate) fn age(self) -> Duration {
        // Later moments are those of a thread that looked just after this one.
        let hundredths = Moment::now().0.wrapping_sub(self.0);
        Duration::from_millis(if hundredths > u32::MAX / 2 { 0 } else { u64::from(hundredths) * 10 })
    }
}
