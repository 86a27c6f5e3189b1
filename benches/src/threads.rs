//! W5: what a second thread adds, when both have a region of their own and when they share one.

use crate::framework::{ByDevice, Source, framework};
use crate::replay::Replay;
use crate::workload::Workload;
use cma_api::PageRange;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// What the threads work on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Regions {
    /// Each on a region of its own.
    Own,
    /// All on one.
    Shared,
}

/// Operations per second of two threads over those of one, in wall-clock time. Each thread is a
/// device of the framework with a handle of its own, and has the same number of operations as the
/// one.
pub fn speedup<S: Source>(workloads: &[Workload; 2], regions: Regions) -> f64 {
    let alone = wall_time::<S>(&workloads[..1], regions);
    let together = wall_time::<S>(workloads, regions);
    2.0 * alone.as_secs_f64() / together.as_secs_f64()
}

/// From the start of the first thread to the end of the last.
fn wall_time<S: Source>(workloads: &[Workload], regions: Regions) -> Duration {
    let first = workloads[0].region;
    let ranges = match regions {
        Regions::Own => vec![first, PageRange::from_pages(first.end_page(), first.pages().get())],
        Regions::Shared => vec![first],
    };
    let cma = framework::<S>(&ranges);
    let start = Barrier::new(workloads.len());
    let times: Vec<(Instant, Instant)> = thread::scope(|scope| {
        let spawn = |(n, workload)| {
            let device = format!("camera{}", n % ranges.len());
            let device = cma.device(&device, None).expect("a sound name");
            let start = &start;
            scope.spawn(move || {
                let mut replay = Replay::set_up_on(ByDevice::<S>::of(device), workload);
                start.wait();
                let before = Instant::now();
                replay.run_measured();
                (before, Instant::now())
            })
        };
        let threads: Vec<_> = workloads.iter().enumerate().map(spawn).collect();
        threads.into_iter().map(|thread| thread.join().expect("no contestant panics")).collect()
    });
    let first_start = times.iter().map(|time| time.0).min().expect("a thread");
    let last_end = times.iter().map(|time| time.1).max().expect("a thread");
    last_end - first_start
}
