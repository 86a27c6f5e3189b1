//! The latency of single allocations: an average hides those that walk a long list.

use crate::contestant::Contestant;
use crate::replay::Replay;
use crate::workload::Workload;
use cma_api::{Alignment, PageRange};
use std::time::Instant;

/// A contestant whose allocations are timed. Each time includes reading the clock, some 20 ns.
struct Timed<C> {
    contestant: C,
    nanoseconds: Vec<u32>,
}

impl<C: Contestant> Contestant for Timed<C> {
    const NAME: &'static str = C::NAME;
    type Chunk = C::Chunk;

    fn new(region: PageRange, most_live: u32) -> Self {
        Timed { contestant: C::new(region, most_live), nanoseconds: Vec::new() }
    }

    #[inline]
    fn allocate(&mut self, pages: u32, alignment: Alignment) -> Option<C::Chunk> {
        let start = Instant::now();
        let chunk = self.contestant.allocate(pages, alignment);
        let spent = start.elapsed();
        self.nanoseconds.push(u32::try_from(spent.as_nanos()).unwrap_or(u32::MAX));
        chunk
    }

    #[inline]
    fn free(&mut self, chunk: C::Chunk) {
        self.contestant.free(chunk);
    }

    fn first_page(&self, chunk: &C::Chunk) -> u64 {
        self.contestant.first_page(chunk)
    }
}

/// p99.9 of the allocations in `workload`'s measured part, in nanoseconds of wall-clock time.
pub fn p999<C: Contestant>(workload: &Workload) -> f64 {
    let mut replay = Replay::<Timed<C>>::set_up(workload);
    // Reserved in advance, so that the growth of the list is not timed.
    replay.contestant_mut().nanoseconds = Vec::with_capacity(workload.measured.len());
    replay.run_measured();
    let times = &mut replay.contestant_mut().nanoseconds;
    let at = times.len() * 999 / 1000;
    f64::from(*times.select_nth_unstable(at).1)
}
