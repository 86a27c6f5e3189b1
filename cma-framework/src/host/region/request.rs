//! The path of a request: the allocator proposes a place, the books accept it.

use super::lock::{LockedState, PATIENCE_WHEN_STUCK};
use super::{Allocators, Attached, Chunk, Recheck, Region, RegionState, Waiter};
use crate::core::books::{Books, Explanation, Slot};
use crate::core::events::ChunkEvent;
use crate::core::moment::Moment;
use crate::core::placement::{AllocatorCall, AllocatorFault, Rejection};
use crate::core::shape::Shape;
use crate::host::clock;
use crate::vocabulary::errors::{Reason, Stuck};
use crate::vocabulary::request::exact_place;
use cma_api::abi_stable::std_types::RResult;
use cma_api::v1::CallFailure;
use cma_api::{PageRange, Placement, Request, Tag};
use spin::mutex::SpinMutexGuard;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A booked chunk: its first page, its tag and its slot.
pub(super) type BookedPlace = (u64, Tag, Slot);

impl Region {
    /// A chunk of this region. `registered` is read when the region has no allocator yet.
    #[inline(always)]
    pub(crate) fn allocate(
        &self,
        request: &Request,
        registered: &impl Allocators,
    ) -> Result<Chunk, Box<Reason>> {
        if let Some(keeping) = &self.0.keeping
            && let Some(kept) = self.take_kept(&keeping.cache, request)
        {
            return Ok(kept);
        }
        // The chunk is assembled after the lock is released: it would only be copied meanwhile.
        let placed = match self.place(request, registered) {
            Ok(placed) => placed,
            Err(reason) => self.place_again(request, registered, None, reason)?,
        };
        Ok(self.chunk(request, placed))
    }

    /// The same for a request that has waited, in its turn. It leaves the queue if it is served.
    pub(crate) fn allocate_last(
        &self,
        request: &Request,
        waiter: &Arc<Waiter>,
        registered: &impl Allocators,
    ) -> Result<Chunk, Box<Reason>> {
        let waiter = Some(waiter);
        let placed = match self.place_slowly(None, request, registered, clock::now(), waiter) {
            Ok(placed) => placed,
            Err(reason) => self.place_again(request, registered, waiter, reason)?,
        };
        Ok(self.chunk(request, placed))
    }

    #[inline(always)]
    pub(super) fn chunk(&self, request: &Request, (first, tag, slot): BookedPlace) -> Chunk {
        let shape = Shape::new(request.pages(), request.alignment());
        Chunk::new(self.clone(), first, request.pages(), shape, tag, slot)
    }

    /// Places a request that was refused for `reason`, if memory that was set aside is usable
    /// again. The refusal was counted.
    #[cold]
    fn place_again(
        &self,
        request: &Request,
        registered: &impl Allocators,
        waiter: Option<&Arc<Waiter>>,
        reason: Box<Reason>,
    ) -> Result<BookedPlace, Box<Reason>> {
        let in_turn = !matches!(*reason, Reason::Stuck(_) | Reason::Queued { .. });
        if in_turn && self.recheck(Recheck::Needed).recovered {
            self.place_slowly(None, request, registered, clock::now(), waiter)
        } else {
            Err(reason)
        }
    }

    /// Places and books a chunk.
    #[inline(always)]
    fn place(
        &self,
        request: &Request,
        registered: &impl Allocators,
    ) -> Result<BookedPlace, Box<Reason>> {
        let now = clock::now();
        let mut lock = match self.0.state.try_lock() {
            Some(lock) => lock,
            None => match self.wait(PATIENCE_WHEN_STUCK) {
                Ok(lock) => lock,
                Err(stuck) => return Err(self.refuse_stuck(request, stuck)),
            },
        };
        let state = &mut *lock;
        if state.books.live() < self.0.live_limit.load(Ordering::Relaxed)
            && !request.is_limited()
            && let Attached::Allocator(service) = &mut state.attached
        {
            let answer = service.object.allocate(request);
            return match state.book::<false>(request, answer, now) {
                Ok((placed, _)) => {
                    // Something may be deferred since the allocator was called.
                    if self.fast_path_is_closed() {
                        self.release_settled(lock);
                    }
                    Ok(placed)
                }
                Err(Rejection::Failed(CallFailure::Refused)) if self.0.caches.exist() => {
                    self.place_slowly(Some(lock), request, registered, now, None)
                }
                Err(why) => Err(self.reject(lock, request, why)),
            };
        }
        self.place_slowly(Some(lock), request, registered, now, None)
    }

    /// Releases the lock, and has what is deferred carried out.
    #[cold]
    #[inline(never)]
    fn release_settled(&self, lock: SpinMutexGuard<'_, RegionState>) {
        drop(LockedState::new(self, lock));
    }

    /// Refuses a request for which no chunk was booked.
    #[cold]
    #[inline(never)]
    fn reject(
        &self,
        lock: SpinMutexGuard<'_, RegionState>,
        request: &Request,
        why: Rejection,
    ) -> Box<Reason> {
        LockedState::new(self, lock).reject(self, request, why)
    }

    /// Places and books a chunk when operations are deferred, requests wait, no allocator is
    /// attached, the request has limits, or it was refused while devices may keep chunks. `waiter`
    /// is that of a request that has waited.
    #[cold]
    #[inline(never)]
    fn place_slowly(
        &self,
        lock: Option<SpinMutexGuard<'_, RegionState>>,
        request: &Request,
        registered: &impl Allocators,
        now: Moment,
        waiter: Option<&Arc<Waiter>>,
    ) -> Result<BookedPlace, Box<Reason>> {
        let mut state = match lock.map_or_else(|| self.enter(), |lock| Ok(self.settled(lock))) {
            Ok(state) => state,
            Err(stuck) => return Err(self.refuse_stuck(request, stuck)),
        };
        match self.place_in_turn(&mut state, request, registered, now, waiter) {
            Ok((placed, event)) => {
                if let Some(waiter) = waiter {
                    state.queue.leave(waiter);
                }
                state.report_placed(self, request, event);
                Ok(placed)
            }
            Err(reason) => Err(state.refuse(self, request, *reason)),
        }
    }

    /// Refuses a request to a region that is stuck.
    #[cold]
    fn refuse_stuck(&self, request: &Request, stuck: Stuck) -> Box<Reason> {
        let reason = Reason::Stuck(stuck);
        self.count_refusal(request, reason.clone());
        self.report_refused(request, &reason);
        Box::new(reason)
    }

    /// Places and books a chunk for a request whose turn has come: none waits, or its `waiter` is
    /// the head of the queue. A refusal is not counted.
    pub(super) fn place_in_turn(
        &self,
        state: &mut RegionState,
        request: &Request,
        registered: &impl Allocators,
        now: Moment,
        waiter: Option<&Arc<Waiter>>,
    ) -> Result<(BookedPlace, ChunkEvent), Box<Reason>> {
        let ahead = state.queue.ahead(waiter);
        if ahead > 0 {
            return Err(Box::new(Reason::Queued { ahead }));
        } else if state.books.live() == Books::MOST_LIVE {
            return Err(Box::new(Reason::TooManyChunks));
        }
        let answer = match (state.attach(self, registered)?, exact_place(request)) {
            (service, None) => service.object.allocate(request),
            (_, Some(place)) => state.adopt_exactly(self, place),
        };
        let booked = state.book::<true>(request, answer, now);
        booked.map_err(|why| Box::new(state.reason_for(self, request, why)))
    }
}

impl RegionState {
    /// Books the place that the allocator proposes for a request, which has no limits unless
    /// `LIMITED`.
    #[inline(always)]
    fn book<const LIMITED: bool>(
        &mut self,
        request: &Request,
        answer: RResult<Placement, CallFailure>,
        now: Moment,
    ) -> Result<(BookedPlace, ChunkEvent), Rejection> {
        let Placement { range, tag } = match answer {
            RResult::ROk(placement) => placement,
            RResult::RErr(failure) => return Err(Rejection::Failed(failure)),
        };
        let booked = if LIMITED {
            self.books.place(request, range, now)
        } else {
            self.books.place_anywhere(request, range, now)
        };
        match booked {
            Ok((slot, event)) => Ok(((range.first_page(), tag, slot), event)),
            Err(misplacement) => Err(Rejection::Misplaced(misplacement)),
        }
    }

    /// Has the allocator take exactly `place`, if that is free.
    fn adopt_exactly(
        &mut self,
        region: &Region,
        place: PageRange,
    ) -> RResult<Placement, CallFailure> {
        let free = place.within(region.range()) && self.books.lowest_in(place).is_none();
        match free.then(|| self.adopt(region, place)).flatten() {
            Some(tag) => RResult::ROk(Placement { range: place, tag }),
            None => RResult::RErr(CallFailure::Refused),
        }
    }

    /// Refuses a request for which no chunk was booked.
    pub(super) fn reject(
        &mut self,
        region: &Region,
        request: &Request,
        why: Rejection,
    ) -> Box<Reason> {
        let reason = self.reason_for(region, request, why);
        self.refuse(region, request, reason)
    }

    /// Why no chunk was booked. An allocator whose answer can't be trusted is taken out of service;
    /// it is not asked to free what it proposed.
    fn reason_for(&mut self, region: &Region, request: &Request, why: Rejection) -> Reason {
        let allocator = self.attached.name().to_string();
        match why {
            Rejection::Failed(CallFailure::Refused) => self.explain(region, request, allocator),
            Rejection::Failed(CallFailure::Panicked) => {
                self.end_service(region, AllocatorFault::Failed(AllocatorCall::Allocate))
            }
            Rejection::Misplaced(misplacement) => {
                self.end_service(region, AllocatorFault::Misplaced(*request, misplacement));
                Reason::Misplaced { allocator, fault: misplacement }
            }
        }
    }

    /// The reason why `allocator` found no place for a request. The allocator is asked only if it
    /// declined.
    fn explain(&mut self, region: &Region, request: &Request, allocator: String) -> Reason {
        if let Some(place) = exact_place(request) {
            if !place.within(region.range()) {
                return Reason::Elsewhere { place };
            } else if let Some(owner) = self.owner_in(region, place) {
                return Reason::Taken { place, owner: Box::new(owner) };
            }
        }
        let free_range = match self.books.explain_refusal(request) {
            Explanation::Reason(reason) => return reason,
            Explanation::Holds(free_range) => free_range,
        };
        match self.largest_request(region) {
            Ok(largest) => {
                Reason::Declined { allocator, free_range, largest_request_bytes: largest.bytes() }
            }
            Err(absence) => absence,
        }
    }

    /// Counts and reports a refusal.
    #[cold]
    fn refuse(&mut self, region: &Region, request: &Request, reason: Reason) -> Box<Reason> {
        self.books.refuse(request, reason.clone(), clock::precise_now());
        self.report_refused(region, request, &reason);
        Box::new(reason)
    }
}
