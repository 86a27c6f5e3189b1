//! Freeing chunks. The books lose a chunk whatever its allocator answers.

use super::deferred::Deferred;
use super::lock::LockedState;
use super::{Attached, Region, RegionState};
use crate::core::books::LiveChunk;
use crate::core::placement::AllocatorFault;
use crate::core::shape::Shape;
use crate::host::events;
use crate::vocabulary::What;
use cma_api::v1::CallFailure;
use cma_api::{PageRange, Placement};
use spin::mutex::SpinMutexGuard;

/// Why an address was not freed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotFreed {
    /// No chunk starts there.
    NoChunk,
    /// A guard holds the chunk.
    Held,
}

impl Region {
    /// Frees the chunk of a guard.
    #[inline(always)]
    pub(super) fn free_guarded(&self, chunk: LiveChunk, shape: Shape) {
        // Each call that is rare gets a copy made for it: then the compiler keeps the values of the
        // chunk in registers on the common path.
        let LiveChunk { range, tag, slot } = chunk;
        let copied = move || LiveChunk { range, tag, slot };
        if let Some(keeping) = &self.0.keeping {
            return self.free_cached(&keeping.cache, copied(), shape);
        }
        let Some(mut state) = self.lock_unless_stuck() else {
            return self.defer_operation(Deferred::Free(copied()));
        };
        if self.fast_path_is_closed() {
            return self.free_settled(state, copied());
        }
        let freed = state.release(chunk);
        // Something may be deferred since the allocator was called.
        if freed.is_err() || events::requests_followed() || self.fast_path_is_closed() {
            self.after_free(state, range, freed);
        }
    }

    /// What a free is followed by when someone looks at it or waits for it, or it failed.
    #[cold]
    #[inline(never)]
    fn after_free(
        &self,
        state: SpinMutexGuard<'_, RegionState>,
        range: PageRange,
        freed: Result<(), CallFailure>,
    ) {
        LockedState::new(self, state).released(self, range, freed);
    }

    /// The same when something is deferred, which may be about this chunk, when a request waits for
    /// the room, or when the region is observed.
    #[cold]
    #[inline(never)]
    pub(super) fn free_settled(&self, state: SpinMutexGuard<'_, RegionState>, chunk: LiveChunk) {
        self.settled(state).free(self, chunk);
    }

    /// Frees the chunk that starts at page `first` and has no guard. In a stuck region the free is
    /// deferred, and a failure is only reported as an event.
    pub(crate) fn free_at(&self, first: u64) -> Result<(), NotFreed> {
        if self.is_free_deferred(first) {
            return Err(NotFreed::NoChunk);
        }
        let Some((mut state, _)) = self.enter_or_defer(Deferred::FreeAt { first }) else {
            return Ok(());
        };
        match state.books.unindex(first) {
            Some((slot, Placement { range, tag })) => {
                state.free(self, LiveChunk { range, tag, slot });
                Ok(())
            }
            None if state.books.starts_at(first) => Err(NotFreed::Held),
            None => Err(NotFreed::NoChunk),
        }
    }
}

impl RegionState {
    /// Takes a chunk off the books and has the allocator free it. The result is what the allocator
    /// answered.
    #[inline]
    pub(super) fn release(&mut self, chunk: LiveChunk) -> Result<(), CallFailure> {
        let LiveChunk { range, tag, slot } = chunk;
        let (tag, _) = self.books.release(slot, range, tag);
        match &mut self.attached {
            Attached::Allocator(service) => {
                service.object.free(&Placement { range, tag }).into_result()
            }
            _ => Ok(()),
        }
    }

    /// Frees a chunk and reports that.
    pub(super) fn free(&mut self, region: &Region, chunk: LiveChunk) {
        let freed = self.release(chunk);
        self.released(region, chunk.range, freed);
    }

    /// Frees a chunk without an event, because the caller reports what happens to it.
    pub(super) fn free_unreported(&mut self, region: &Region, chunk: LiveChunk) {
        let freed = self.release(chunk);
        self.check_freed(region, chunk.range, freed);
    }

    /// Reports a chunk that was freed, and ends the service of an allocator that failed to free it.
    #[cold]
    fn released(&mut self, region: &Region, range: PageRange, freed: Result<(), CallFailure>) {
        self.check_freed(region, range, freed);
        self.report(region, What::Released { range });
    }

    pub(super) fn check_freed(
        &mut self,
        region: &Region,
        range: PageRange,
        freed: Result<(), CallFailure>,
    ) {
        self.queue.reconsider();
        if let Err(failure) = freed {
            self.end_service(region, AllocatorFault::of_free(range, failure));
        }
    }
}
