//! Calls of the allocator besides placing and freeing, and what ends its service.

use super::attach::one_line;
use super::{Attached, Region, RegionState};
use crate::core::placement::{AllocatorCall, AllocatorFault};
use crate::vocabulary::What;
use crate::vocabulary::errors::Reason;
use cma_api::abi_stable::std_types::RResult;
use cma_api::v1::AllocatorBox;
use cma_api::{PageRange, Tag};
use std::mem;

impl RegionState {
    /// Makes a call that the allocator can't refuse. `call` names it in the fault of an allocator
    /// that panics.
    ///
    /// # Errors
    ///
    /// Why no allocator serves now.
    pub(super) fn ask<T>(
        &mut self,
        region: &Region,
        call: AllocatorCall,
        ask: impl FnOnce(&mut AllocatorBox) -> T,
    ) -> Result<T, Reason> {
        let Attached::Allocator(service) = &mut self.attached else {
            return Err(self.attached.absence());
        };
        let answer = ask(&mut service.object);
        let panic = service.object.fault();
        if panic.is_some() {
            self.drop_later(panic);
            return Err(self.end_service(region, AllocatorFault::Failed(call)));
        }
        Ok(answer)
    }

    /// Has the allocator take `range`, which is free, for a chunk.
    pub(super) fn adopt(&mut self, region: &Region, range: PageRange) -> Option<Tag> {
        match self.ask(region, AllocatorCall::Adopt, |object| object.adopt(range)).ok()? {
            RResult::ROk(tag) => Some(tag),
            RResult::RErr(reason) => {
                self.drop_later(reason);
                None
            }
        }
    }

    /// Takes the allocator out of service for good. Its live chunks stay booked and can be freed.
    /// Returns why no allocator serves now.
    #[cold]
    pub(super) fn end_service(&mut self, region: &Region, fault: AllocatorFault) -> Reason {
        let attached = mem::replace(&mut self.attached, Attached::Nothing { failure: None });
        self.attached = match attached {
            Attached::Allocator(service) => {
                let allocator = service.name().to_string();
                let panic = service.object.fault().into_option();
                let reason = match &panic {
                    Some(message) => format!("{fault}: {}", one_line(message)),
                    None => fault.to_string(),
                };
                self.drop_later(panic);
                self.report(
                    region,
                    What::OutOfService { allocator: allocator.clone(), reason: reason.clone() },
                );
                self.report(region, What::Detached { allocator: allocator.clone() });
                Attached::OutOfService { allocator, reason, _ended: Box::new(service) }
            }
            absent => absent,
        };
        self.close_fast_path(region);
        self.show(region, self.attached.name());
        self.attached.absence()
    }

    /// Replaces the region's [`Attached`]. The old allocator is dropped after the lock is released.
    pub(super) fn replace_attached(&mut self, region: &Region, next: Attached) {
        let old = mem::replace(&mut self.attached, next);
        self.queue.reconsider();
        if let Attached::Allocator(service) = &old {
            self.report(region, What::Detached { allocator: service.name().to_string() });
        }
        if let Attached::Allocator(service) = &self.attached {
            self.report(region, What::Attached { allocator: service.name().to_string() });
        }
        self.drop_later(old);
        if !matches!(self.attached, Attached::Allocator(_)) {
            self.close_fast_path(region);
        }
        self.show(region, self.attached.name());
    }
}
