//! A replay that stops at a failed request, so that the failure can be explained.

use super::{Regions, ReplayState, SlotOperation, Slots, Waiting, failure, one_region};
use crate::report::FailedRequest;
use crate::trace::Trace;
use cma_framework::errors::RegisterError;
use cma_framework::explain::Explanation;
use cma_framework::{Chunk, Cma, DmaAddr, Plugin};
use std::collections::HashMap;
use std::time::Duration;
use std::{fmt, slice};

/// A replay that has stopped at a request that failed. The framework is as the request found it:
/// its chunks are live, and requests wait, until this is dropped.
pub struct FailedReplay {
    /// The request.
    pub failure: FailedRequest,
    cma: Cma,
    /// The trace's time at which it failed, in microseconds.
    now_us: u64,
    /// The chunks, each with the time of its request.
    chunks: Vec<(Chunk, u64)>,
    /// Those who wait hold up others.
    _waiting: Waiting,
}

/// Replays `trace` as [`replay`](super::replay) does, up to the first request that fails, or to the
/// failure of operation number `operation`, counted from 1. `None` if it has none.
///
/// # Errors
///
/// Those of [`replay`](super::replay).
pub fn replay_to_failure(
    trace: &Trace,
    plugin: &Plugin,
    params: &str,
    region_bytes: u64,
    operation: Option<u64>,
) -> Result<Option<FailedReplay>, RegisterError> {
    let cma = one_region(plugin, params, region_bytes)?;
    Ok(run_to_failure(&cma, trace, Regions::One, operation))
}

/// The same as [`replay_on`](super::replay_on) does.
pub fn replay_to_failure_on(
    cma: &Cma,
    trace: &Trace,
    operation: Option<u64>,
) -> Option<FailedReplay> {
    run_to_failure(cma, trace, Regions::AsNamed, operation)
}

fn run_to_failure(
    cma: &Cma,
    trace: &Trace,
    regions: Regions,
    operation: Option<u64>,
) -> Option<FailedReplay> {
    let mut slots = Slots::default();
    let mut state = ReplayState::new(cma, trace, regions);
    // A number that no operation has finds no failure.
    let index = |number: u64| number.checked_sub(1).and_then(|index| usize::try_from(index).ok());
    state.only_failure_of = operation.map(|number| index(number).unwrap_or(usize::MAX));
    let mut since_us = vec![0; state.chunks.len()];
    let mut now_us = 0;
    for (n, operation) in trace.operations().iter().enumerate() {
        now_us = operation.time_us;
        // Waits that end before this operation end without its effect.
        if !state.waiting.is_empty() {
            state.expire(now_us);
        }
        if state.first_failure.is_none() {
            let translated = slots.translate(n, operation);
            if let SlotOperation::Allocate { slot, .. } = translated
                && let Some(since_us) = since_us.get_mut(slot as usize)
            {
                *since_us = now_us;
            }
            state.run(&[translated], slice::from_ref(operation), n);
        }
        if state.first_failure.is_some() {
            break;
        }
    }
    if state.first_failure.is_none() {
        state.end();
    }
    let ReplayState { first_failure, chunks, waiting, .. } = state;
    let (at, error) = first_failure?;
    let live = chunks.into_iter().zip(since_us);
    Some(FailedReplay {
        failure: failure(trace, at, error)?,
        cma: cma.clone(),
        now_us,
        chunks: live.filter_map(|(chunk, since_us)| Some((chunk?, since_us))).collect(),
        _waiting: waiting,
    })
}

impl FailedReplay {
    /// Why the request failed. The age of a chunk is the trace's time since its request.
    pub fn explain(&self) -> Explanation {
        let age = |since_us: &u64| Duration::from_micros(self.now_us.saturating_sub(*since_us));
        let by_start = |(chunk, since_us): &(Chunk, u64)| (chunk.start(), age(since_us));
        let ages: HashMap<DmaAddr, Duration> = self.chunks.iter().map(by_start).collect();
        let mut explanation = self.failure.error.explain(&self.cma);
        explanation.set_ages(|place| ages.get(&place.start()).copied());
        explanation
    }
}

impl fmt::Debug for FailedReplay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailedReplay").field("failure", &self.failure).finish_non_exhaustive()
    }
}
