//! W5: the speedup by a second thread, with a region for each and with a shared one, and how many
//! pages one thread and two allocate and free in one pool.

use crate::framework::{ByDevice, PluginSource, framework};
use crate::replay::Replay;
use crate::workload::Workload;
use cma_api::PageRange;
use cma_framework::config::Bytes;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// The regions of the threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Regions {
    /// One region for each thread.
    Own,
    /// One region for all threads. Each device keeps up to so many bytes of what it has freed.
    Shared {
        /// How much each device keeps.
        kept: Bytes,
    },
}

impl Regions {
    /// One region for all threads, whose devices keep nothing.
    pub const SHARED: Regions = Regions::Shared { kept: Bytes(0) };

    /// One region for all threads, each of which keeps up to 4 MiB.
    pub const CACHED: Regions = Regions::Shared { kept: Bytes::mib(4) };
}

/// Operations per second of two threads divided by those of one, in wall-clock time. Each thread
/// uses its own device of the framework by a handle, and runs the same number of operations as the
/// single thread.
pub fn speedup<S: PluginSource>(workloads: &[Workload; 2], regions: Regions) -> f64 {
    let alone = wall_time::<S>(&workloads[..1], regions);
    let together = wall_time::<S>(workloads, regions);
    2.0 * alone.as_secs_f64() / together.as_secs_f64()
}

/// Millions of pairs (an allocation and a free) per second of wall-clock time in one region: by the
/// first workload's thread alone, and by both together.
pub fn million_pairs<S: PluginSource>(workloads: &[Workload; 2], regions: Regions) -> [f64; 2] {
    [&workloads[..1], workloads].map(|workloads| {
        let operations: usize = workloads.iter().map(|workload| workload.measured.len()).sum();
        let time = wall_time::<S>(workloads, regions);
        operations as f64 / 2.0 / time.as_secs_f64() / 1e6
    })
}

/// From the start of the first thread to the end of the last.
fn wall_time<S: PluginSource>(workloads: &[Workload], regions: Regions) -> Duration {
    let first = workloads[0].region;
    let ranges = match regions {
        Regions::Own => vec![first, PageRange::from_pages(first.end_page(), first.pages().get())],
        Regions::Shared { .. } => vec![first],
    };
    let kept = match regions {
        Regions::Own => Bytes(0),
        Regions::Shared { kept } => kept,
    };
    let cma = framework::<S>(&ranges);
    let start = Barrier::new(workloads.len());
    let times: Vec<(Instant, Instant)> = thread::scope(|scope| {
        let spawn = |(n, workload)| {
            let device = format!("camera{}", n % ranges.len());
            let device = cma.device(&device, None).expect("a valid name").keeping(kept);
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
