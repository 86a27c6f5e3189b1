//! What happened per second, from the counters of two moments.

use cma_running::{RegionState, State};
use std::collections::HashMap;
use std::time::Duration;

/// Events per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rates {
    /// Requests that reached the region, served or refused.
    pub(crate) requests: f64,
    pub(crate) refused: f64,
    pub(crate) freed: f64,
}

impl Rates {
    fn between(earlier: Counts, later: Counts, seconds: f64) -> Rates {
        // A server that was started again counts from 0.
        let per_second = |earlier: u64, later: u64| later.saturating_sub(earlier) as f64 / seconds;
        let refused = per_second(earlier.refused, later.refused);
        Rates {
            requests: per_second(earlier.placed, later.placed) + refused,
            refused,
            freed: per_second(earlier.freed, later.freed),
        }
    }
}

impl std::iter::Sum for Rates {
    fn sum<I: Iterator<Item = Rates>>(rates: I) -> Rates {
        rates.fold(Rates::default(), |sum, rates| Rates {
            requests: sum.requests + rates.requests,
            refused: sum.refused + rates.refused,
            freed: sum.freed + rates.freed,
        })
    }
}

#[derive(Clone, Copy, Debug)]
struct Counts {
    placed: u64,
    refused: u64,
    freed: u64,
}

/// The counters of the last moment, and the rates since the moment before.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    at: Duration,
    counts: HashMap<u64, Counts>,
    rates: HashMap<u64, Rates>,
}

impl Meter {
    /// Reads the counters of `state`, which is the state at `at`.
    pub(crate) fn read(&mut self, at: Duration, state: &State) {
        let counts = |region: &RegionState| {
            let books = region.books.as_ref()?;
            let counts = Counts {
                placed: books.chunks_placed,
                refused: books.requests_refused,
                freed: books.chunks_freed,
            };
            Some((region.range.first_page(), counts))
        };
        let later: HashMap<u64, Counts> = state.regions.iter().filter_map(counts).collect();
        let seconds = at.saturating_sub(self.at).as_secs_f64();
        if seconds > 0.0 {
            let since = |(region, later): (&u64, &Counts)| {
                let earlier = self.counts.get(region)?;
                Some((*region, Rates::between(*earlier, *later, seconds)))
            };
            self.rates = later.iter().filter_map(since).collect();
        }
        (self.at, self.counts) = (at, later);
    }

    /// The rates of a region; `None` if it was not read twice.
    pub(crate) fn of(&self, region: &RegionState) -> Option<Rates> {
        self.rates.get(&region.range.first_page()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cma_framework::PageRange;
    use cma_running::{AllocatorStatus, Books};

    fn state(chunks_placed: u64, requests_refused: u64, chunks_freed: u64) -> State {
        let books = Books { chunks_placed, requests_refused, chunks_freed, ..Books::default() };
        let region = RegionState {
            name: None,
            range: PageRange::from_pages(1, 1),
            allocator: AllocatorStatus::Waiting { wanted: None },
            problem: None,
            books: Some(books),
        };
        State { regions: vec![region] }
    }

    #[test]
    fn rates_are_differences_per_second_and_a_new_server_has_none_below_zero() {
        let mut meter = Meter::default();
        let second = Duration::from_secs;
        meter.read(second(1), &state(100, 10, 90));
        let region = &state(0, 0, 0).regions[0];
        assert_eq!(meter.of(region), None);
        meter.read(second(3), &state(120, 14, 94));
        let expected = Rates { requests: 12.0, refused: 2.0, freed: 2.0 };
        assert_eq!(meter.of(region), Some(expected));
        // The same moment again says nothing new.
        meter.read(second(3), &state(120, 14, 94));
        assert_eq!(meter.of(region), Some(expected));
        meter.read(second(4), &state(1, 0, 0));
        assert_eq!(meter.of(region), Some(Rates::default()));
    }
}
