//! When a server that died is started again.

use std::time::Duration;

/// The times between a server's death and its next start: none at first, then 100 ms, doubled each
/// time up to 10 s. A server that ran for a minute begins anew. After a number of deaths in a row
/// there is no next start.
#[derive(Clone, Debug)]
pub struct Backoff {
    limit: u32,
    longest: Duration,
    deaths: u32,
}

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);
const LONG_RUN: Duration = Duration::from_secs(60);

impl Backoff {
    /// The usual limit of starts in a row.
    pub const STARTS: u32 = 10;

    /// At most `limit` starts in a row after deaths.
    pub const fn new(limit: u32) -> Self {
        Backoff { limit, longest: LONGEST, deaths: 0 }
    }

    /// The same with another longest time than 10 s.
    #[must_use]
    pub const fn at_most(self, longest: Duration) -> Self {
        Backoff { longest, ..self }
    }

    /// Forgets the deaths so far.
    pub fn begin_anew(&mut self) {
        self.deaths = 0;
    }

    /// The time until the next start of a server that died after it ran for `ran`; `None` when it
    /// has died too often.
    pub fn after(&mut self, ran: Duration) -> Option<Duration> {
        if ran >= LONG_RUN {
            self.deaths = 0;
        }
        self.deaths = self.deaths.saturating_add(1);
        match self.deaths {
            deaths if deaths > self.limit => None,
            1 => Some(Duration::ZERO),
            deaths => Some(FIRST.saturating_mul(1 << (deaths - 2).min(30)).min(self.longest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_double_up_to_a_limit_and_a_long_run_begins_anew() {
        let mut backoff = Backoff::new(11);
        let mut next = |ran| backoff.after(ran).map(|time| time.as_millis());
        let times: Vec<_> = (0..12).map(|_| next(Duration::ZERO)).collect();
        let expected = [0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000];
        assert_eq!(times[..11], expected.map(Some));
        assert_eq!((times[11], next(Duration::from_secs(59))), (None, None));
        assert_eq!((next(LONG_RUN), next(Duration::ZERO)), (Some(0), Some(100)));
    }
}
