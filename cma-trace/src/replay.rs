//! Running a trace through the framework, and measuring it.

use crate::report::{Failure, Report};
use crate::trace::{Action, Operation, Trace};
use cma_framework::config::Map;
use cma_framework::errors::RegisterError;
use cma_framework::{AllocatorChoice, Chunk, Cma, Device, DmaAddr, Plugin};
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Where the region of a replay starts: no alignment that a trace asks for is ruled out by it.
const START: DmaAddr = DmaAddr::new(1 << 32);

/// Operations between two calls of `progress`. Reading the clock around so many costs nothing that
/// shows.
const BLOCK: usize = 4096;

/// Replays `trace` in one region of `region_bytes` bytes, whole pages, that a fresh allocator of
/// `plugin` serves with `params`. Requests go the whole way: every device has a rule of the map
/// that leads to the region, so that the allocator learns who asks.
///
/// `progress` is told how many operations are done, now and then and at the end.
///
/// # Errors
///
/// [`RegisterError`] when the size is none, or the allocator refuses region or parameters. Failed
/// allocations are no error: the report counts them.
pub fn replay(
    trace: &Trace,
    plugin: &Plugin,
    params: &str,
    region_bytes: u64,
    progress: impl FnMut(u64),
) -> Result<Report, RegisterError> {
    let cma = Cma::new();
    let allocator = AllocatorChoice::Given { plugin: plugin.clone(), params: params.to_string() };
    cma.region_register(Some("trace"), START, region_bytes, allocator)?;
    cma.set_map(Map::parse("*=trace").unwrap_or_else(|e| unreachable!("{e}")));
    Ok(replay_on(&cma, trace, progress))
}

/// Replays `trace` on a framework that is set up already: its map says which regions serve the
/// trace's devices. What the trace leaves live is freed at the end.
///
/// `progress` is told how many operations are done, now and then and at the end.
pub fn replay_on(cma: &Cma, trace: &Trace, mut progress: impl FnMut(u64)) -> Report {
    let mut slots = Slots::default();
    let devices: Vec<Device> = trace
        .askers()
        .iter()
        .map(|asker| cma.device(&asker.device, asker.kind.as_deref()))
        .collect::<Result<_, _>>()
        .unwrap_or_else(|e| unreachable!("every device of a trace has a name: {e}"));
    let mut run =
        Run { devices, chunks: Vec::new(), live: 0, peak: 0, failed: 0, first_failure: None };
    // A slot is used again as soon as its chunk is freed, so there are as many as chunks are live
    // at a time.
    let live = usize::try_from(trace.figures().peak_live_chunks).unwrap_or(usize::MAX);
    run.chunks.resize_with(live, || None);

    let mut elapsed = Duration::ZERO;
    let mut done = 0;
    for block in trace.operations().chunks(BLOCK) {
        let steps: Vec<Step> = block.iter().map(|operation| slots.step(operation)).collect();
        let before = cpu_time();
        run.steps(&steps, done);
        elapsed += cpu_time() - before;
        done += block.len();
        progress(done as u64);
    }
    report(cma, trace, run, elapsed)
}

/// CPU time of this thread: nothing here waits, and a replay is so short that another program's
/// turn would drown it.
fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// A replay under way.
struct Run {
    devices: Vec<Device>,
    chunks: Vec<Option<Chunk>>,
    /// Bytes.
    live: u64,
    peak: u64,
    failed: u64,
    first_failure: Option<(usize, cma_framework::AllocError)>,
}

impl Run {
    /// Takes some steps, the first of which is the trace's operation number `first`. This is the
    /// code that is timed.
    fn steps(&mut self, steps: &[Step], first: usize) {
        for (n, step) in steps.iter().enumerate() {
            match *step {
                Step::Allocate { slot, asker, size, alignment } => {
                    match self.devices[usize::from(asker)].alloc(size, alignment) {
                        Ok(chunk) => {
                            self.live += chunk.size();
                            self.peak = self.peak.max(self.live);
                            self.chunks[slot as usize] = Some(chunk);
                        }
                        Err(error) => {
                            self.failed += 1;
                            self.first_failure.get_or_insert((first + n, error));
                        }
                    }
                }
                Step::Free { slot } => {
                    if let Some(chunk) = self.chunks[slot as usize].take() {
                        self.live -= chunk.size();
                    }
                }
            }
        }
    }
}

/// One operation, ready to be run: a chunk's number is the slot it is kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Allocate { slot: u32, asker: u16, size: u64, alignment: u64 },
    Free { slot: u32 },
}

/// Gives each chunk the slot that was left last, so that the table of live chunks stays as small as
/// it can be: what is measured is the framework, not the replay's own cache misses.
#[derive(Default)]
struct Slots {
    /// Those that are left, the last one on top.
    free: Vec<u32>,
    used: u32,
    /// By the chunk's number.
    of: Vec<u32>,
}

impl Slots {
    /// The next operation of a trace as a step.
    fn step(&mut self, operation: &Operation) -> Step {
        match operation.action {
            Action::Allocate { size, alignment, asker } => {
                let slot = self.free.pop().unwrap_or_else(|| {
                    self.used += 1;
                    self.used - 1
                });
                self.of.push(slot);
                Step::Allocate { slot, asker, size, alignment }
            }
            Action::Free { chunk } => {
                let slot = self.of[chunk as usize];
                self.free.push(slot);
                Step::Free { slot }
            }
        }
    }
}

fn report(cma: &Cma, trace: &Trace, run: Run, elapsed: Duration) -> Report {
    let regions = cma.regions();
    let statuses: Vec<_> = regions.iter().map(cma_framework::Region::status).collect();
    let ops = trace.operations().len();
    #[allow(clippy::cast_precision_loss, reason = "an average for people to read")]
    let ns_per_op = elapsed.as_nanos() as f64 / ops.max(1) as f64;
    Report {
        region_bytes: regions.iter().map(|region| region.range().bytes()).sum(),
        ops: ops as u64,
        failed: run.failed,
        peak_live_bytes: run.peak,
        live_bytes: run.live,
        free_bytes: statuses.iter().map(|status| status.free_bytes).sum(),
        largest_hole_bytes: statuses
            .iter()
            .map(|status| status.largest_hole_bytes)
            .max()
            .unwrap_or(0),
        ns_per_op,
        first_failure: run.first_failure.and_then(|(at, error)| failure(trace, at, error)),
    }
}

/// The allocation at index `at`, which failed.
fn failure(trace: &Trace, at: usize, error: cma_framework::AllocError) -> Option<Failure> {
    let operation = trace.operations()[at];
    let Action::Allocate { size, alignment, asker } = operation.action else { return None };
    let asker = trace.askers()[usize::from(asker)].clone();
    Some(Failure {
        operation: at as u64 + 1,
        time_us: operation.time_us,
        asker,
        size,
        alignment,
        error,
    })
}

#[cfg(test)]
mod tests;
