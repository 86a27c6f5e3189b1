//! Calling a shadow: the candidate next to a region's allocator ([`core::shadow`]).
//!
//! It is an observer of the region, so it runs on the thread of its observation and is fed by a
//! bounded queue. Whatever it does, the region doesn't notice: a panic or a wrong answer ends the
//! shadow, and one that blocks misses events, which are counted. The comparison has a lock that is
//! not held while the candidate is called, so a report never waits for the candidate.
//!
//! [`core::shadow`]: crate::core::shadow

use super::loader::Plugin;
use super::region::one_line;
use super::watches::Observer;
use crate::core::books::Explanation;
use crate::core::placement::{AllocatorCall, AllocatorFault};
use crate::core::shadow::{Comparison, Difference, ShadowReport, ShadowState};
use crate::vocabulary::errors::Reason;
use crate::vocabulary::request::exact_place;
use crate::vocabulary::{Asked, ChunkRequest, Event, Owner, What};
use cma_api::abi_stable::std_types::RResult;
use cma_api::v1::{AllocatorBox, CallFailure};
use cma_api::{Asker, PageRange, Placement, Request};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A call that takes longer is reported as stuck.
const PATIENCE: Duration = Duration::from_secs(3);

/// A candidate that follows a region, as others see it: without the candidate's object, so that
/// dropping this runs none of its code.
pub(crate) struct Shadow {
    name: String,
    plugin: Plugin,
    params: String,
    range: PageRange,
    since: Instant,
    progress: Mutex<Progress>,
    /// Wakes those who wait for the start.
    started: Condvar,
}

/// The observer of the region. The thread of the observation has the only handle, so the candidate
/// is called and dropped there alone.
struct Follower {
    shadow: Arc<Shadow>,
    candidate: Mutex<Option<AllocatorBox>>,
}

struct Progress {
    comparison: Comparison,
    state: ShadowState,
    /// When the call began that the candidate has not returned from.
    calling_since: Option<Instant>,
}

impl Shadow {
    pub(crate) fn new(name: String, plugin: Plugin, params: String, range: PageRange) -> Self {
        let (comparison, state) = (Comparison::new(range), ShadowState::Starting);
        Shadow {
            name,
            plugin,
            params,
            range,
            since: Instant::now(),
            progress: Mutex::new(Progress { comparison, state, calling_since: None }),
            started: Condvar::new(),
        }
    }

    /// Its observer, which starts the candidate with the first event.
    pub(crate) fn follower(self: &Arc<Self>) -> Arc<dyn Observer> {
        Arc::new(Follower { shadow: self.clone(), candidate: Mutex::default() })
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the start, `longest` at most. Returns why the shadow has ended, if it has.
    pub(crate) fn failure_within(&self, longest: Duration) -> Option<String> {
        let is_starting = |progress: &mut Progress| progress.state == ShadowState::Starting;
        let waited = self.started.wait_timeout_while(self.progress(), longest, is_starting);
        let (progress, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match &progress.state {
            ShadowState::Ended(reason) => Some(reason.clone()),
            _ => None,
        }
    }

    /// What it would have done up to now. It has missed so many events.
    pub(crate) fn report(&self, missed: u64) -> ShadowReport {
        let progress = self.progress();
        let calling = progress.calling_since.map(|since| since.elapsed());
        let state = match calling.filter(|time| *time > PATIENCE) {
            Some(time) => ShadowState::Stuck(time),
            None => progress.state.clone(),
        };
        let report = progress.comparison.report(self.name.clone(), self.since.elapsed(), state);
        ShadowReport { missed, ..report }
    }

    /// Calls the candidate. `None` when there is none, or the call ended in a panic, which ends the
    /// shadow.
    fn call<T>(
        &self,
        candidate: &mut Option<AllocatorBox>,
        call: AllocatorCall,
        ask: impl FnOnce(&mut AllocatorBox) -> T,
    ) -> Option<T> {
        let object = candidate.as_mut()?;
        self.progress().calling_since = Some(Instant::now());
        let answer = ask(object);
        let panic = object.fault().into_option();
        self.progress().calling_since = None;
        let Some(message) = panic else { return Some(answer) };
        let fault = AllocatorFault::Failed(call);
        self.end(candidate, format!("{fault}: {}", one_line(&message)));
        None
    }

    /// Ends the shadow for good.
    fn end(&self, candidate: &mut Option<AllocatorBox>, reason: String) {
        tracing::warn!(shadow = self.name, reason, "shadow allocator out of service");
        self.progress().state = ShadowState::Ended(reason);
        self.started.notify_all();
        // This is the candidate's code, which may panic or block.
        drop(candidate.take());
    }

    /// Starts the candidate, or starts it anew, with the chunks that are live.
    fn begin(&self, candidate: &mut Option<AllocatorBox>, live: &[Owner]) {
        {
            let mut progress = self.progress();
            (progress.state, progress.calling_since) =
                (ShadowState::Starting, Some(Instant::now()));
            progress.comparison.clear();
        }
        drop(candidate.take());
        match self.plugin.initialise(self.range, &self.params) {
            Ok(object) => *candidate = Some(object),
            Err(reason) => {
                self.progress().calling_since = None;
                return self.end(candidate, one_line(&reason));
            }
        }
        for owner in live {
            self.progress().comparison.place(owner.range);
            if let Err(reason) = self.adopt(candidate, owner.range) {
                return self.end(candidate, format!("it can't adopt {}: {reason}", owner.range));
            } else if candidate.is_none() {
                return;
            }
        }
        let mut progress = self.progress();
        (progress.state, progress.calling_since) = (ShadowState::Following, None);
        drop(progress);
        self.started.notify_all();
    }

    /// Has the candidate take `range`, where the region has a chunk, if it is free there.
    fn adopt(&self, candidate: &mut Option<AllocatorBox>, range: PageRange) -> Result<(), String> {
        if !self.progress().comparison.is_free_in_shadow(range) {
            return Ok(());
        }
        match self.call(candidate, AllocatorCall::Adopt, |object| object.adopt(range)) {
            Some(RResult::ROk(tag)) => self.progress().comparison.adopt_in_shadow(range, tag),
            Some(RResult::RErr(reason)) => return Err(one_line(&reason)),
            None => {}
        }
        Ok(())
    }

    /// Follows a request that the region has served at `real`.
    fn serve(
        &self,
        candidate: &mut Option<AllocatorBox>,
        real: PageRange,
        wanted: &ChunkRequest,
        asked: &Asked,
    ) {
        let Ok(request) = wanted.normalised(Asker::NOBODY) else { return };
        let is_free = {
            let comparison = &mut self.progress().comparison;
            comparison.place(real);
            exact_place(&request).map(|place| comparison.is_free_in_shadow(place))
        };
        let answer = match (exact_place(&request), is_free) {
            (Some(_), Some(false)) => Some(RResult::RErr(CallFailure::Refused)),
            (Some(range), _) => {
                let adopted =
                    self.call(candidate, AllocatorCall::Adopt, |object| object.adopt(range));
                adopted.map(|adopted| match adopted.into_result() {
                    Ok(tag) => RResult::ROk(Placement { range, tag }),
                    Err(_) => RResult::RErr(CallFailure::Refused),
                })
            }
            (None, _) => {
                self.call(candidate, AllocatorCall::Allocate, |object| object.allocate(&request))
            }
        };
        match answer {
            Some(RResult::ROk(placement)) => {
                let placed = self.progress().comparison.place_in_shadow(real, &request, placement);
                if let Err(misplacement) = placed {
                    let fault = AllocatorFault::Misplaced(request, misplacement);
                    self.end(candidate, fault.to_string());
                }
            }
            Some(RResult::RErr(_)) => {
                let Some(reason) = self.explain(candidate, &request) else { return };
                let (request, device) = (*wanted, asked.device.clone());
                let difference = Difference { request, device, reason };
                self.progress().comparison.shadow_refused(difference);
            }
            None => {}
        }
    }

    /// Why the candidate found no place.
    fn explain(&self, candidate: &mut Option<AllocatorBox>, request: &Request) -> Option<Reason> {
        let explanation = self.progress().comparison.explain(request);
        let free_range = match explanation {
            Explanation::Reason(reason) => return Some(reason),
            Explanation::Holds(free_range) => free_range,
        };
        let call = AllocatorCall::LargestRequest;
        let largest = self.call(candidate, call, AllocatorBox::largest_request)?;
        let (allocator, largest_request_bytes) = (self.name.clone(), largest.bytes());
        Some(Reason::Declined { allocator, free_range, largest_request_bytes })
    }

    /// Follows a free of the region's chunk at `range`.
    fn free(&self, candidate: &mut Option<AllocatorBox>, range: PageRange) {
        let Some(chunk) = self.progress().comparison.release(range) else { return };
        let call = AllocatorCall::Free(chunk.range);
        let freed = self.call(candidate, call, |object| object.free(&chunk).into_result());
        if let Some(Err(failure)) = freed {
            self.end(candidate, AllocatorFault::of_free(chunk.range, failure).to_string());
        }
    }

    /// Follows a request that the region has refused: whether the candidate would have served it.
    /// It gets no chunk, because nobody would free that.
    fn refuse(
        &self,
        candidate: &mut Option<AllocatorBox>,
        wanted: &ChunkRequest,
        reason: &Reason,
        asked: &Asked,
    ) {
        let Ok(request) = wanted.normalised(Asker::NOBODY) else { return };
        let hole = match exact_place(&request) {
            Some(place) => Some(place),
            None => {
                let hole = self.call(candidate, AllocatorCall::Fit, |object| object.fit(&request));
                hole.and_then(|hole| hole.into_result().ok())
            }
        };
        let comparison = &mut self.progress().comparison;
        let fits = |hole: &PageRange| {
            comparison.is_free_in_shadow(*hole) && request.lowest_place(*hole).is_some()
        };
        if hole.as_ref().is_some_and(fits) {
            let (request, device) = (*wanted, asked.device.clone());
            let reason = reason.clone();
            comparison.region_refused(Difference { request, device, reason });
        }
    }

    /// Has the candidate follow what happened in the region.
    fn follow(&self, candidate: &mut Option<AllocatorBox>, event: &Event) {
        if matches!(self.progress().state, ShadowState::Ended(_)) {
            return;
        }
        match &event.what {
            What::Began { live, .. } => self.begin(candidate, live),
            What::Placed { range, request, asked } => {
                self.serve(candidate, *range, request, asked);
                self.progress().comparison.count_request();
            }
            What::Restored(owner) => {
                self.progress().comparison.place(owner.range);
                let _ = self.adopt(candidate, owner.range);
            }
            What::Released { range } => self.free(candidate, *range),
            What::Refused { request, reason, asked, .. } if is_want_of_place(reason) => {
                self.refuse(candidate, request, reason, asked);
                self.progress().comparison.count_request();
            }
            What::SetAside { range, .. } => {
                // That memory can't be used by whichever allocator.
                self.progress().comparison.place(*range);
                let _ = self.adopt(candidate, *range);
            }
            _ => {}
        }
    }
}

impl Observer for Follower {
    fn receive(&self, event: &Event) {
        let mut candidate = self.candidate.lock().unwrap_or_else(PoisonError::into_inner);
        self.shadow.follow(&mut candidate, event);
    }
}

/// Whether another allocator could have served the request.
fn is_want_of_place(reason: &Reason) -> bool {
    matches!(
        reason,
        Reason::Full { .. }
            | Reason::Fragmented { .. }
            | Reason::Alignment { .. }
            | Reason::Window { .. }
            | Reason::Boundary { .. }
            | Reason::Declined { .. }
            | Reason::Taken { .. }
    )
}

impl fmt::Debug for Shadow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shadow({})", self.name)
    }
}
