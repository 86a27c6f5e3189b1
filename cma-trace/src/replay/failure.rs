//! A replay that stops at a failed request, so that the failure can be explained.

use super::{Regions, ReplayState, SlotOperation, Slots, Waiting, failure, one_region};
use crate::report::FailedRequest;
use crate::trace::{Requester, Trace};
use cma_framework::config::COMMON;
use cma_framework::errors::RegisterError;
use cma_framework::explain::Explanation;
use cma_framework::{Chunk, Cma, DmaAddr, Plugin};
use std::collections::HashMap;
use std::sync::Arc;
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
    /// The chunks, each with its device and type and the time of its request.
    chunks: Vec<(Chunk, Owned)>,
    /// Those who wait hold up others.
    _waiting: Waiting,
}

/// Device and type, and the time of a request, in microseconds.
#[derive(Clone)]
struct Owned {
    device: (Arc<str>, Arc<str>),
    since_us: u64,
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
    let devices: Vec<_> = trace.requesters().iter().map(device).collect();
    let mut owned: Vec<Option<Owned>> = vec![None; state.chunks.len()];
    let mut now_us = 0;
    for (n, operation) in trace.operations().iter().enumerate() {
        now_us = operation.time_us;
        // Waits that end before this operation end without its effect.
        if !state.waiting.is_empty() {
            state.expire(now_us);
        }
        if state.first_failure.is_none() {
            let translated = slots.translate(n, operation);
            if let SlotOperation::Allocate { slot, requester, .. } = translated
                && let Some(owned) = owned.get_mut(slot as usize)
            {
                let device = devices[usize::from(requester)].clone();
                *owned = Some(Owned { device, since_us: now_us });
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
    let live = chunks.into_iter().zip(owned);
    Some(FailedReplay {
        failure: failure(trace, at, error)?,
        cma: cma.clone(),
        now_us,
        chunks: live.filter_map(|(chunk, owned)| chunk.zip(owned)).collect(),
        _waiting: waiting,
    })
}

/// Device and type of `requester`, also where it names regions.
fn device(requester: &Requester) -> (Arc<str>, Arc<str>) {
    let kind = requester.kind.as_deref().unwrap_or(COMMON);
    (requester.device.as_str().into(), kind.into())
}

impl FailedReplay {
    /// Why the request failed. Devices are those of the trace. The age of a chunk is the trace's
    /// time since its request.
    pub fn explain(&self) -> Explanation {
        let by_start: HashMap<DmaAddr, &Owned> =
            self.chunks.iter().map(|(chunk, owned)| (chunk.start(), owned)).collect();
        let mut explanation = self.failure.error.explain_with(&self.cma, |owner| {
            let owned = by_start.get(&owner.range.start());
            owner.age = owned.map(|Owned { since_us, .. }| {
                Duration::from_micros(self.now_us.saturating_sub(*since_us))
            });
            if let Some(Owned { device, .. }) = owned {
                owner.device = Some(device.clone());
            }
        });
        if explanation.request.is_some() {
            explanation.device = Some(device(&self.failure.requester));
        }
        explanation
    }
}

impl fmt::Debug for FailedReplay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailedReplay").field("failure", &self.failure).finish_non_exhaustive()
    }
}
