//! Runs a workload on a contestant, times it, and computes how well its chunks are packed
//! afterwards.

use crate::contestant::Contestant;
use crate::workload::{Op, Workload};
use cma_api::PageRange;
use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// The results of one replay.
#[derive(Clone, Copy, Debug)]
pub struct ReplayResult {
    /// CPU time of the measured part per pair of operations (an allocation and a free), in
    /// nanoseconds.
    pub nanoseconds_per_pair: f64,
    /// Measured allocations that found no place.
    pub failures: u64,
    /// The largest hole divided by all free pages at the end: 1 is one hole, near 0 is scattered.
    pub packing: f64,
}

/// A contestant on a workload, with its live chunks in their slots.
#[derive(Debug)]
pub struct Replay<'a, C: Contestant> {
    contestant: C,
    workload: &'a Workload,
    chunks: Vec<Option<C::Chunk>>,
    failures: u64,
}

impl<'a, C: Contestant> Replay<'a, C> {
    /// A new contestant after the workload's setup.
    pub fn set_up(workload: &'a Workload) -> Self {
        Self::set_up_on(C::new(workload.region, workload.slots), workload)
    }

    /// `contestant` after the workload's setup. It may share its region with others.
    pub fn set_up_on(contestant: C, workload: &'a Workload) -> Self {
        let mut chunks = Vec::new();
        chunks.resize_with(workload.slots as usize, || None);
        let mut replay = Replay { contestant, workload, chunks, failures: 0 };
        replay.run(&workload.setup);
        replay.failures = 0;
        replay
    }

    /// The contestant.
    pub fn contestant_mut(&mut self) -> &mut C {
        &mut self.contestant
    }

    /// The size of the slots in bytes, which are the replay's and not the contestant's.
    pub fn slot_bytes(&self) -> usize {
        size_of_val(&self.chunks[..])
    }

    /// Runs the measured part. Never inlined, so that a profiler can select it by name.
    #[inline(never)]
    pub fn run_measured(&mut self) {
        self.run(&self.workload.measured);
    }

    fn run(&mut self, ops: &[Op]) {
        for op in ops {
            match *op {
                Op::Allocate { slot, pages, alignment } => {
                    let chunk = self.contestant.allocate(pages, alignment);
                    self.failures += u64::from(chunk.is_none());
                    self.chunks[slot as usize] = chunk;
                }
                Op::Free { slot } => {
                    if let Some(chunk) = self.chunks[slot as usize].take() {
                        self.contestant.free(chunk);
                    }
                }
            }
        }
    }

    /// The live chunks in ascending order of address. (Their sizes are from the workload.)
    pub fn live(&self) -> Vec<PageRange> {
        let mut sizes = vec![0; self.chunks.len()];
        for op in self.workload.setup.iter().chain(&self.workload.measured) {
            if let Op::Allocate { slot, pages, .. } = *op {
                sizes[slot as usize] = pages;
            }
        }
        let live = self.chunks.iter().zip(sizes).filter_map(|(chunk, pages)| {
            let first = self.contestant.first_page(chunk.as_ref()?);
            Some(PageRange::from_pages(first, u64::from(pages)))
        });
        let mut live: Vec<PageRange> = live.collect();
        live.sort_unstable();
        live
    }

    /// The largest hole divided by all free pages.
    pub fn packing(&self) -> f64 {
        let region = self.workload.region;
        let (mut end, mut free, mut largest) = (region.first_page(), 0, 0);
        let top = PageRange::from_pages(region.end_page(), 0);
        for chunk in self.live().into_iter().chain([top]) {
            let hole = chunk.first_page() - end;
            free += hole;
            largest = largest.max(hole);
            end = chunk.end_page();
        }
        largest as f64 / free.max(1) as f64
    }
}

/// Replays `workload` on a new `C`.
pub fn replay<C: Contestant>(workload: &Workload) -> ReplayResult {
    let mut replay = Replay::<C>::set_up(workload);
    let before = cpu_time();
    replay.run_measured();
    let spent = cpu_time() - before;
    let pairs = workload.measured.len() as f64 / 2.0;
    ReplayResult {
        nanoseconds_per_pair: spent.as_nanos() as f64 / pairs,
        failures: replay.failures,
        packing: replay.packing(),
    }
}

/// CPU time of this thread, which other programs on the machine affect less than wall-clock time.
/// The clock is read through the C library: valgrind doesn't support rustix's own way.
fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    now.expect("every Linux kernel has this clock").into()
}

/// The median; of an even number of figures the upper one.
///
/// # Panics
///
/// If there are no figures.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// The median of the ratios of `these` to `those`, round by round: the two of a round ran one after
/// the other, so a disturbance probably affected both.
///
/// # Panics
///
/// If there are no figures.
pub fn median_ratio(these: &[f64], those: &[f64]) -> f64 {
    let ratios: Vec<f64> = these.iter().zip(those).map(|(this, that)| this / that).collect();
    median(&ratios)
}
