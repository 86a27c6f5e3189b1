//! What a region tells its observers.

use super::deferred::Deferred;
use super::{Attached, Region, RegionState};
use crate::core::events::ChunkEvent;
use crate::host::watches::Watch;
use crate::host::{asking, events};
use crate::vocabulary::errors::Reason;
use crate::vocabulary::{Asked, ChunkRequest, What};
use cma_api::Request;
use std::sync::Arc;

impl Region {
    /// Has `watch` receive the region's state and each change from then on; of a stuck region when
    /// it resumes. Nothing happens if it does already and has missed none.
    pub(crate) fn begin_watch(&self, watch: &Arc<Watch>) {
        self.now_or_deferred(Deferred::BeginWatch(watch.clone()));
    }

    /// Has `watch`, which is closed, receive nothing more. That needs no lock: the next operation
    /// opens the fast path again, if it may.
    pub(crate) fn end_watch(&self, watch: &Arc<Watch>) {
        self.0.watches.remove(watch);
    }

    /// Reports a refusal without the lock.
    pub(super) fn report_refused(&self, request: &Request, reason: &Reason) {
        let last = asking::refused(false);
        let framework = self.framework();
        let names = |asker| framework.as_ref().and_then(|framework| framework.names_of(asker));
        let asked = asking::current().unwrap_or_else(|| asked_by(request, names));
        let (request, reason) = (ChunkRequest::of(request), reason.clone());
        self.report(What::Refused { request, reason, asked, last });
    }
}

impl RegionState {
    pub(super) fn begin_watch(&mut self, region: &Region, watch: &Arc<Watch>) {
        if !self.registered || watch.is_closed() || region.0.watches.is_followed_by(watch) {
            return;
        }
        self.observed = true;
        self.close_fast_path(region);
        // What devices kept was freed just now, which may have ended the allocator's service.
        let allocator = match &self.attached {
            Attached::Allocator(service) => Some(service.name().to_string()),
            Attached::Nothing { .. } | Attached::OutOfService { .. } => None,
        };
        let live = self.live_owners(region).into();
        let to_wake = region.0.watches.begin(
            watch,
            region.as_event_region(),
            What::Began { allocator, live },
        );
        self.to_wake.add(to_wake);
        // It may have ended meanwhile, before it was there to be removed.
        if watch.is_closed() {
            region.0.watches.remove(watch);
        }
    }

    /// Reports that `request` was served.
    pub(super) fn report_placed(&mut self, region: &Region, request: &Request, event: ChunkEvent) {
        if let (true, ChunkEvent::Placed { range }) = (self.observed, event) {
            let asked = self.asked(region, request);
            self.report(region, What::Placed { range, request: ChunkRequest::of(request), asked });
        }
    }

    /// Reports that `request` was refused.
    pub(super) fn report_refused(&mut self, region: &Region, request: &Request, reason: &Reason) {
        // While memory is set aside, the request may be tried again.
        let last = asking::refused(self.set_aside.len() > 0);
        if self.observed || events::refusals_followed() {
            let asked = self.asked(region, request);
            let (request, reason) = (ChunkRequest::of(request), reason.clone());
            self.report(region, What::Refused { request, reason, asked, last });
        }
    }

    /// The request as it was made.
    fn asked(&mut self, region: &Region, request: &Request) -> Arc<Asked> {
        asking::current().unwrap_or_else(|| {
            let framework = region.framework();
            let names = |asker| framework.as_ref().and_then(|framework| framework.names_of(asker));
            let asked = asked_by(request, names);
            // It may be the last handle.
            self.drop_later(framework);
            asked
        })
    }
}

/// A request of which only its form in the region is known.
fn asked_by(
    request: &Request,
    names: impl FnOnce(cma_api::Asker) -> Option<super::DeviceAndType>,
) -> Arc<Asked> {
    let plain = asking::plain(ChunkRequest::of(request));
    Arc::new(Asked { device: names(request.asker()), ..plain })
}
