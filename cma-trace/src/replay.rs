//! Replaying a trace through the framework, and measuring it.

mod failure;
mod waiting;

use crate::limits::Limits;
use crate::recording::MAX_OPERATIONS;
use crate::report::{FailedRequest, Report};
use crate::trace::{Action, Operation, Requester, Trace};
use cma_framework::config::Map;
use cma_framework::errors::RegisterError;
use cma_framework::{
    AllocError, AllocatorChoice, Chunk, ChunkRequest, Cma, Device, DmaAddr, PendingChunk, Plugin,
    Source,
};
pub use failure::{FailedReplay, replay_to_failure, replay_to_failure_on};
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;
use waiting::{Ended, Waiting};

/// The name of the region of [`replay`].
pub const REGION: &str = "trace";

/// The start of the region of [`replay`]: a multiple of every alignment up to 4 GiB.
pub const REGION_START: DmaAddr = DmaAddr::new(1 << 32);

/// Operations between two calls of `progress`. The cost of reading the clock around so many is
/// negligible.
const BLOCK: usize = 4096;

/// Replays `trace` in one region of `region_bytes` bytes, whole pages, served by a new allocator of
/// `plugin` with `params`. Requests take the whole path: the map routes every device to the region,
/// so the allocator gets the number of the requester with each request. The
/// region serves as every region that a request names.
///
/// `progress` is called with the number of completed operations, at intervals and at the end.
///
/// # Errors
///
/// [`RegisterError`] when the size is invalid, or the allocator refuses region or parameters. A
/// failed allocation is not an error: the report counts it.
pub fn replay(
    trace: &Trace,
    plugin: &Plugin,
    params: &str,
    region_bytes: u64,
    progress: impl FnMut(u64),
) -> Result<Report, RegisterError> {
    let cma = one_region(plugin, params, region_bytes)?;
    Ok(run(&cma, trace, Regions::One, progress))
}

/// A framework with one region, to which the map routes every device.
fn one_region(plugin: &Plugin, params: &str, region_bytes: u64) -> Result<Cma, RegisterError> {
    let cma = Cma::new();
    let allocator = AllocatorChoice::Given { plugin: plugin.clone(), params: params.to_string() };
    cma.region_register(Some(REGION), REGION_START, region_bytes, allocator)?;
    cma.set_map(Map::parse(&format!("*={REGION}")).unwrap_or_else(|e| unreachable!("{e}")));
    Ok(cma)
}

/// Replays `trace` on a configured framework, whose map routes the trace's devices to regions. A
/// request that names regions is served from those.
/// Chunks that the trace leaves live are freed at the end. A request that may wait does so in the
/// trace's time: until the frees within that time make room for it. It has failed if they don't, or
/// if the trace frees its chunk before. A request that the recorded system refused is made too,
/// and its chunk is freed at once if it is served.
///
/// `progress` is called with the number of completed operations, at intervals and at the end.
pub fn replay_on(cma: &Cma, trace: &Trace, progress: impl FnMut(u64)) -> Report {
    run(cma, trace, Regions::AsNamed, progress)
}

/// Which regions serve a request that names regions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Regions {
    /// Those.
    AsNamed,
    /// The only region, to which the map routes every device.
    One,
}

fn run(cma: &Cma, trace: &Trace, regions: Regions, mut progress: impl FnMut(u64)) -> Report {
    let mut slots = Slots::default();
    let mut state = ReplayState::new(cma, trace, regions);
    let mut elapsed = Duration::ZERO;
    let mut done = 0;
    for block in trace.operations().chunks(BLOCK) {
        let operations: Vec<SlotOperation> =
            (done..).zip(block).map(|(n, operation)| slots.translate(n, operation)).collect();
        let before = cpu_time();
        state.run(&operations, block, done);
        elapsed += cpu_time() - before;
        done += block.len();
        progress(done as u64);
    }
    state.end();
    report(cma, trace, state, elapsed)
}

/// The requesters of a trace, as they ask `cma`.
fn requesters<'a>(cma: &'a Cma, trace: &'a Trace, regions: Regions) -> Vec<Asking<'a>> {
    let asking = |requester: &'a Requester| match &requester.from {
        Some(list) if regions == Regions::AsNamed => Asking::Named { cma, list },
        _ => {
            let device = cma.device(&requester.device, requester.kind.as_deref());
            let named = |e| unreachable!("every device of a trace has a name: {e}");
            Asking::Routed(device.unwrap_or_else(named))
        }
    };
    trace.requesters().iter().map(asking).collect()
}

/// How a requester asks the framework.
enum Asking<'a> {
    /// From the regions that the map gives it.
    Routed(Device),
    /// From regions that it names.
    Named { cma: &'a Cma, list: &'a str },
}

impl Asking<'_> {
    #[inline]
    fn alloc(&self, size: u64, alignment: u64) -> Result<Chunk, AllocError> {
        match self {
            Asking::Routed(device) => device.alloc(size, alignment),
            Asking::Named { cma, list } => cma.alloc_from(list, size, alignment),
        }
    }

    fn allocate(&self, request: &ChunkRequest) -> Result<Chunk, AllocError> {
        match self {
            Asking::Routed(device) => device.allocate(request),
            Asking::Named { cma, list } => cma.allocate(Source::Regions(list), request),
        }
    }

    fn allocate_async(&self, request: &ChunkRequest) -> Result<PendingChunk, AllocError> {
        match self {
            Asking::Routed(device) => device.allocate_async(request),
            Asking::Named { cma, list } => cma.allocate_async(Source::Regions(list), request),
        }
    }
}

/// CPU time of this thread: nothing here waits, and a replay is so short that preemption would
/// dominate its wall-clock time.
fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// The state of a replay.
struct ReplayState<'a> {
    requesters: Vec<Asking<'a>>,
    limits: &'a [Limits],
    /// By slot.
    chunks: Vec<Option<Chunk>>,
    waiting: Waiting,
    /// Requests that were served after they waited.
    waited: u64,
    /// Bytes.
    live: u64,
    peak: u64,
    failed: u64,
    /// The operation whose failure is the first one; `None` for any.
    only_failure_of: Option<usize>,
    first_failure: Option<(usize, AllocError)>,
}

impl<'a> ReplayState<'a> {
    fn new(cma: &'a Cma, trace: &'a Trace, regions: Regions) -> Self {
        // A slot is reused as soon as its chunk is freed, so there are as many slots as chunks are
        // live at the peak.
        let live = usize::try_from(trace.figures().peak_live_chunks).unwrap_or(usize::MAX);
        let mut chunks = Vec::new();
        chunks.resize_with(live, || None);
        ReplayState {
            requesters: requesters(cma, trace, regions),
            limits: trace.limits(),
            chunks,
            waiting: Waiting::default(),
            waited: 0,
            live: 0,
            peak: 0,
            failed: 0,
            only_failure_of: None,
            first_failure: None,
        }
    }

    /// Runs `operations`, which are `recorded`, the trace's operations from number `first` on. This
    /// is the timed code.
    fn run(&mut self, operations: &[SlotOperation], recorded: &[Operation], first: usize) {
        for (n, operation) in operations.iter().enumerate() {
            if !self.waiting.is_empty() {
                self.expire(recorded[n].time_us);
            }
            match *operation {
                SlotOperation::Allocate { slot, requester, limits: 0, size, alignment } => {
                    let chunk = self.requesters[usize::from(requester)].alloc(size, alignment);
                    self.book(slot, first + n, chunk);
                }
                SlotOperation::Allocate { slot, requester, limits, size, alignment } => {
                    let request = self.limits[usize::from(limits)].request(size, alignment);
                    let requester = &self.requesters[usize::from(requester)];
                    let result = match request.wait {
                        None => Some(requester.allocate(&request)),
                        Some(wait) => match requester.allocate_async(&request) {
                            Ok(pending) => {
                                let time_us = recorded[n].time_us;
                                self.waiting.begin(slot, first + n, time_us, wait, pending)
                            }
                            Err(error) => Some(Err(error)),
                        },
                    };
                    if let Some(result) = result {
                        self.book(slot, first + n, result);
                    }
                }
                SlotOperation::Free { slot } => {
                    if !self.waiting.is_empty()
                        && let Some(ended) = self.waiting.give_up(slot)
                    {
                        self.book_waiting(ended);
                    }
                    if let Some(chunk) = self.chunks[slot as usize].take() {
                        self.live -= chunk.size();
                    }
                    if !self.waiting.is_empty() {
                        self.serve();
                    }
                }
            }
        }
    }

    /// Books the result of the request that operation number `operation` made. The chunk of one
    /// that was refused when it was recorded has no slot in the table, and is freed at once.
    #[inline]
    fn book(&mut self, slot: u32, operation: usize, result: Result<Chunk, AllocError>) {
        match result {
            Ok(chunk) => {
                let Some(place) = self.chunks.get_mut(slot as usize) else { return };
                self.live += chunk.size();
                self.peak = self.peak.max(self.live);
                *place = Some(chunk);
            }
            Err(error) => {
                self.failed += 1;
                if self.only_failure_of.is_none_or(|only| only == operation) {
                    self.first_failure.get_or_insert((operation, error));
                }
            }
        }
    }

    /// Books the result of a request that has waited.
    fn book_waiting(&mut self, Ended { slot, operation, result }: Ended) {
        self.waited += u64::from(result.is_ok());
        self.book(slot, operation, result);
    }

    /// Books the requests that were woken and have their results.
    #[cold]
    fn serve(&mut self) {
        while let Some(ended) = self.waiting.next_ready() {
            self.book_waiting(ended);
        }
    }

    /// Ends the waits whose time is over before `time_us`.
    #[cold]
    fn expire(&mut self, time_us: u64) {
        while let Some(ended) = self.waiting.next_expired(time_us) {
            self.book_waiting(ended);
            // It may have been in the way of others.
            self.serve();
        }
    }

    /// Ends the waits that are left at the end of the trace.
    fn end(&mut self) {
        while let Some(ended) = self.waiting.next_left() {
            self.book_waiting(ended);
            self.serve();
        }
    }
}

/// An operation in which a chunk's slot takes the place of its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotOperation {
    Allocate { slot: u32, requester: u16, limits: u16, size: u64, alignment: u64 },
    Free { slot: u32 },
}

/// Assigns each chunk the slot that was freed last, so that the table of live chunks is as small as
/// possible: the framework is measured, not the cache misses of the replay. A request that was
/// refused when it was recorded has no chunk; it gets a number behind all slots.
#[derive(Default)]
struct Slots {
    /// Free slots, the one freed last on top.
    free: Vec<u32>,
    used: u32,
    /// The slot of each chunk, by the chunk's number.
    of: Vec<u32>,
}

impl Slots {
    /// The first number behind all slots.
    const NONE: u32 = 1 << 31;

    /// Translates the next operation of a trace, which has number `n`.
    fn translate(&mut self, n: usize, operation: &Operation) -> SlotOperation {
        match operation.action {
            Action::Allocate { size, alignment, requester, limits } => {
                let slot = self.free.pop().unwrap_or_else(|| {
                    self.used += 1;
                    self.used - 1
                });
                self.of.push(slot);
                SlotOperation::Allocate { slot, requester, limits, size, alignment }
            }
            Action::Free { chunk } => {
                let slot = self.of[chunk as usize];
                self.free.push(slot);
                SlotOperation::Free { slot }
            }
            Action::Refused { size, alignment, requester, limits } => {
                #[allow(clippy::cast_possible_truncation, reason = "fewer than MAX_OPERATIONS")]
                let slot = Self::NONE + n as u32;
                SlotOperation::Allocate { slot, requester, limits, size, alignment }
            }
        }
    }
}

const _: () = assert!(MAX_OPERATIONS < Slots::NONE as usize, "a number would be that of a slot");

fn report(cma: &Cma, trace: &Trace, state: ReplayState<'_>, elapsed: Duration) -> Report {
    let regions = cma.regions();
    let statuses: Vec<_> = regions.iter().map(cma_framework::Region::status).collect();
    let ops = trace.operations().len();
    #[allow(clippy::cast_precision_loss, reason = "an average for display")]
    let ns_per_op = elapsed.as_nanos() as f64 / ops.max(1) as f64;
    Report {
        region_bytes: regions.iter().map(|region| region.range().bytes()).sum(),
        ops: ops as u64,
        failed: state.failed,
        waited: state.waited,
        refused: trace.refused(),
        peak_live_bytes: state.peak,
        live_bytes: state.live,
        free_bytes: statuses.iter().map(|status| status.free_bytes).sum(),
        largest_hole_bytes: statuses
            .iter()
            .map(|status| status.largest_hole_bytes)
            .max()
            .unwrap_or(0),
        ns_per_op,
        first_failure: state.first_failure.and_then(|(at, error)| failure(trace, at, error)),
    }
}

/// The failed allocation at index `at`.
fn failure(trace: &Trace, at: usize, error: AllocError) -> Option<FailedRequest> {
    let operation = trace.operations()[at];
    let (Action::Allocate { size, alignment, requester, limits }
    | Action::Refused { size, alignment, requester, limits }) = operation.action
    else {
        return None;
    };
    let requester = trace.requesters()[usize::from(requester)].clone();
    Some(FailedRequest {
        operation: at as u64 + 1,
        time_us: operation.time_us,
        requester,
        size,
        alignment,
        limits: trace.limits()[usize::from(limits)],
        error,
    })
}

#[cfg(test)]
mod tests;
