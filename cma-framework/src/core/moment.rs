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

    /// The moment `after` the start of the system.
    pub(crate) fn after_start(after: Duration) -> Self {
        // 32 bits last for 13 years.
        let tenths = after.as_millis() / Self::TICK.as_millis() + 1;
        Moment(u32::try_from(tenths).unwrap_or(u32::MAX))
    }

    /// The moment is not known.
    pub(crate) const UNKNOWN: Moment = Moment(0);

    /// The time from this moment to `now`; `None` when no time was kept then.
    pub(crate) fn age(self, now: Moment) -> Option<Duration> {
        (self.0 != 0).then(|| Self::TICK * now.0.saturating_sub(self.0))
    }
}
