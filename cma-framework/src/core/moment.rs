//! A point in time, as the books keep it.

use std::time::Duration;

/// Tenths of a second since the system started, counted from 1; 0 when no time was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment(u32);

impl Moment {
    /// The resolution.
    pub(crate) const TICK: Duration = Duration::from_millis(100);

    /// `tenths` of a second since the system started; 0 for an unknown moment.
    #[inline]
    pub(crate) const fn from_tenths(tenths: u32) -> Self {
        Moment(tenths)
    }

    /// The time from this moment to `now`; `None` when no time was kept then.
    pub(crate) fn age(self, now: Moment) -> Option<Duration> {
        (self.0 != 0).then(|| Self::TICK * now.0.saturating_sub(self.0))
    }
}
