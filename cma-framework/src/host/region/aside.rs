//! Memory that is set aside.
//!
//! A process that had a chunk before may still hold its memory, or have given that memory up. A
//! chunk that is placed on such memory moves to another place, and the unusable part is set aside.
//!
//! A part that is set aside stays booked, with no requester, so the allocator doesn't hand it out.
//! The region checks it again (`core::set_aside`) before it refuses a request, and when the host
//! calls [`Cma::recover_memory`](crate::Cma::recover_memory). The memory port runs without the
//! region's lock.

use super::deferred::Deferred;
use super::{Attached, Region, RegionState};
use crate::core::books::{LiveChunk, Overlaps};
use crate::core::memory::{Claim, Memory, Unusable};
use crate::core::placement::{AllocatorCall, AllocatorFault, Rejection};
use crate::core::set_aside::{FIRST_INTERVAL, LONGEST_INTERVAL_HELD, Recheck, SetAside};
use crate::host::clock;
use crate::vocabulary::What;
use cma_api::abi_stable::std_types::RResult;
use cma_api::v1::CallFailure;
use cma_api::{Asker, PageRange, Placement, Request, Tag};
use std::time::{Duration, Instant};

/// The result of a check.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rechecked {
    /// Whether some memory is free again.
    pub(crate) recovered: bool,
    /// When the next check is due; `None` when nothing is set aside.
    pub(crate) next: Option<Instant>,
}

impl Region {
    /// Moves a chunk to another place of this region and sets its `unusable` part aside.
    ///
    /// # Errors
    ///
    /// The chunk, when there is no other place. It is where it was.
    pub(super) fn move_away(
        &self,
        chunk: LiveChunk,
        request: &Request,
        unusable: &Unusable,
    ) -> Result<LiveChunk, LiveChunk> {
        // In a stuck region the chunk stays where it is.
        let mut state = self.enter().map_err(|_| chunk)?;
        state.move_away(self, chunk, request, unusable)
    }

    /// Sets the `unusable` part of a chunk aside and frees the rest. All of the chunk is set aside
    /// when the allocator can't adopt a part of it.
    pub(super) fn set_aside(&self, chunk: LiveChunk, unusable: &Unusable) {
        let Some((mut state, _)) = self.enter_or_defer(Deferred::Free(chunk)) else {
            // All of it is freed when the region resumes. The next chunk there finds its memory
            // unusable.
            return;
        };
        let aside = state.narrow(self, chunk, unusable.range);
        state.books.set_aside(aside.slot);
        state.set_aside.add(aside, unusable.lost, Instant::now());
        state.report(self, What::Released { range: chunk.range });
        state.report(self, What::SetAside { range: aside.range, moved_to: None });
    }

    /// Checks memory that is set aside, and frees the usable parts. The next chunk there has it
    /// zeroed.
    pub(crate) fn recheck(&self, why: Recheck) -> Rechecked {
        const NOTHING: Rechecked = Rechecked { recovered: false, next: None };
        let Some(memory) = self.memory() else { return NOTHING };
        let due = match self.enter() {
            Ok(mut state) => state.set_aside.take_due(why, Instant::now()),
            Err(_) => return NOTHING,
        };
        let mut recovered = false;
        for aside in due {
            recovered |= self.recheck_part(aside, &*memory);
        }
        let next = self.enter().ok().and_then(|state| state.set_aside.next_due());
        Rechecked { recovered, next }
    }

    /// Checks the memory that is due, for somebody who waits. Returns the time until the next
    /// check. It is bounded while nothing is set aside or the region is stuck, because memory may
    /// be set aside meanwhile. `None` when the region has no memory.
    pub(crate) fn check_memory(&self) -> Option<Duration> {
        self.memory()?;
        let next = self.recheck(Recheck::Due).next;
        let until = next.map(|next| next.saturating_duration_since(Instant::now()));
        Some(until.map_or(LONGEST_INTERVAL_HELD, |until| until.max(FIRST_INTERVAL)))
    }

    fn recheck_part(&self, mut aside: SetAside, memory: &dyn Memory) -> bool {
        let range = aside.chunk().range;
        match memory.store(Claim::new(range)) {
            Ok(store) => {
                drop(store);
                self.now_or_deferred(Deferred::Free(aside.chunk()));
                self.report(What::Recovered { range });
                true
            }
            Err(error) => {
                let lost = Unusable::of(&error).is_none_or(|unusable| unusable.lost);
                aside.still_unusable(lost, Instant::now());
                self.now_or_deferred(Deferred::SetAside(aside));
                false
            }
        }
    }
}

impl RegionState {
    /// Frees all that is set aside, because the region ends.
    pub(super) fn free_set_aside(&mut self, region: &Region) {
        for chunk in self.set_aside.take_all() {
            self.free_unreported(region, chunk);
        }
    }

    fn move_away(
        &mut self,
        region: &Region,
        chunk: LiveChunk,
        request: &Request,
        unusable: &Unusable,
    ) -> Result<LiveChunk, LiveChunk> {
        if !matches!(self.attached, Attached::Allocator(_)) {
            return Err(chunk);
        }
        let aside = self.narrow(region, chunk, unusable.range);
        let answer = match &mut self.attached {
            Attached::Allocator(service) => service.object.allocate(request),
            _ => return Err(self.stay(region, aside, chunk.range, request)),
        };
        match answer {
            RResult::ROk(Placement { range, tag }) => {
                match self.books.place(request, range, clock::now()) {
                    Ok((slot, event)) => {
                        self.books.set_aside(aside.slot);
                        self.set_aside.add(aside, unusable.lost, Instant::now());
                        let (old, aside, moved_to) = (chunk.range, aside.range, Some(range));
                        self.report(region, What::Released { range: old });
                        self.report(region, What::SetAside { range: aside, moved_to });
                        self.report_placed(region, request, event);
                        return Ok(LiveChunk { range, tag, slot });
                    }
                    Err(misplacement) => {
                        self.reject(region, request, Rejection::Misplaced(misplacement));
                    }
                }
            }
            RResult::RErr(CallFailure::Panicked) => {
                self.end_service(region, AllocatorFault::Failed(AllocatorCall::Allocate));
            }
            RResult::RErr(CallFailure::Refused) => {}
        }
        Err(self.stay(region, aside, chunk.range, request))
    }

    /// Frees a chunk and books what is `unusable` there without a requester: as much of that as is
    /// free, or all of the chunk if the allocator can't adopt a part. Returns what is booked.
    fn narrow(&mut self, region: &Region, chunk: LiveChunk, unusable: PageRange) -> LiveChunk {
        self.free_unreported(region, chunk);
        let range = chunk.range;
        let parts = [overlap(unusable, region.range()), overlap(unusable, range), Some(range)];
        let adopted = parts
            .into_iter()
            .flatten()
            .find_map(|part| self.adopt_for(region, part, Asker::NOBODY));
        adopted.unwrap_or_else(|| self.keep_without_allocator(region, range, Asker::NOBODY))
    }

    /// Undoes [`narrow`](Self::narrow): the chunk is `range` again, and that of `request`.
    fn stay(
        &mut self,
        region: &Region,
        aside: LiveChunk,
        range: PageRange,
        request: &Request,
    ) -> LiveChunk {
        self.free_unreported(region, aside);
        let stayed = self.adopt_for(region, range, request.asker());
        let stayed =
            stayed.unwrap_or_else(|| self.keep_without_allocator(region, range, request.asker()));
        self.books.limit(stayed.slot, request);
        stayed
    }

    /// Books `range` and has the allocator adopt it. `None` when a part of it is taken, or the
    /// allocator can't.
    fn adopt_for(&mut self, region: &Region, range: PageRange, asker: Asker) -> Option<LiveChunk> {
        let slot = self.books.keep(range, asker, clock::now()).ok()?;
        match self.adopt(region, range) {
            Some(tag) => Some(LiveChunk { range, tag, slot }),
            None => {
                self.books.release(slot, range, Tag(0));
                None
            }
        }
    }

    /// Books `range`, which is free, although the allocator can't adopt it. An allocator at work is
    /// taken out of service for that.
    fn keep_without_allocator(
        &mut self,
        region: &Region,
        range: PageRange,
        asker: Asker,
    ) -> LiveChunk {
        if matches!(self.attached, Attached::Allocator(_)) {
            self.end_service(region, AllocatorFault::RefusedAdoption(range));
        }
        let kept = self.books.keep(range, asker, clock::now());
        let slot =
            kept.unwrap_or_else(|Overlaps| unreachable!("its pages were freed under this lock"));
        // The tag is not used before another allocator has adopted the chunk.
        LiveChunk { range, tag: Tag(0), slot }
    }
}

/// The pages that both ranges have.
fn overlap(one: PageRange, other: PageRange) -> Option<PageRange> {
    let first = one.first_page().max(other.first_page());
    let end = one.end_page().min(other.end_page());
    (first < end).then(|| PageRange::from_pages(first, end - first))
}
