//! Chunks of a process that has ended.
//!
//! They are booked at their places by all rules of a placement. An allocator at work adopts each at
//! once; one that is attached later adopts all. A region with such chunks is not left without an
//! allocator as long as one can adopt them: if the region's choice is not registered or can't, the
//! first registered one that can *stands in*.

use super::attach::cannot_adopt;
use super::deferred::Deferred;
use super::{Allocators, Attached, Chunk, Region, RegionState};
use crate::core::books::{BookedChunk, Books, Holder, LiveChunk};
use crate::core::moment::Moment;
use crate::core::placement::AllocatorCall;
use crate::vocabulary::What;
use crate::vocabulary::errors::{Misplacement, Reason, Stuck};
use cma_api::abi_stable::std_types::RResult;
use cma_api::{Asker, PageRange, Request, Tag};
use std::sync::Arc;
use std::time::Instant;

/// Why a chunk was not booked.
#[derive(Debug)]
pub(crate) enum NotBooked {
    Unregistered,
    Stuck(Stuck),
    Misplaced(Misplacement),
    TooManyChunks,
}

impl Region {
    /// Books a chunk that serves `request` at `range`. Its memory is not restored yet.
    pub(crate) fn restore(
        &self,
        request: &Request,
        range: PageRange,
        since: Moment,
        holder: Option<Holder>,
    ) -> Result<Chunk, NotBooked> {
        let mut state = self.enter().map_err(NotBooked::Stuck)?;
        let booked = state.check_bookable();
        let slot = booked.and_then(|()| {
            state.books.restore(request, range, since).map_err(NotBooked::Misplaced)
        })?;
        if let Some(holder) = holder {
            state.books.hold(slot, Arc::new(holder));
        }
        let tag = state.adopt_restored(self, range);
        if state.observed {
            let booked = BookedChunk { range, asker: request.asker(), since };
            let owner = state.owner_of(self, (slot, booked));
            state.report(self, What::Restored(Arc::new(owner)));
        }
        drop(state);
        Ok(self.chunk(request, (range.first_page(), tag, slot)))
    }

    /// Frees a chunk whose memory can't be restored, as if it had not been booked.
    pub(super) fn undo_restore(&self, chunk: LiveChunk) {
        let Some((mut state, _)) = self.enter_or_defer(Deferred::Free(chunk)) else { return };
        state.free(self, chunk);
        state.books.uncount_restored(chunk.range);
    }

    /// Books `range` as memory that is set aside.
    pub(crate) fn restore_set_aside(&self, range: PageRange, lost: bool) -> Result<(), NotBooked> {
        let mut state = self.enter().map_err(NotBooked::Stuck)?;
        state.check_bookable()?;
        if !range.within(self.range()) || range.pages() == cma_api::Pages::ZERO {
            return Err(NotBooked::Misplaced(Misplacement::Outside(range)));
        }
        let overlaps = NotBooked::Misplaced(Misplacement::Overlaps(range));
        if state.set_aside_unused(self, range, lost) { Ok(()) } else { Err(overlaps) }
    }

    /// Sets the parts of `missing` aside that no chunk has, and makes sure that an allocator serves
    /// the live chunks, if one can adopt them. Returns what was set aside.
    pub(crate) fn finish_restoring(
        &self,
        missing: &[PageRange],
        registered: &impl Allocators,
    ) -> Result<Vec<PageRange>, Stuck> {
        let mut state = self.enter()?;
        if !state.registered {
            return Ok(Vec::new());
        }
        let mut set_aside = Vec::new();
        for hole in state.books.gaps() {
            for part in missing.iter().filter_map(|range| range.common(hole)) {
                if state.set_aside_unused(self, part, true) {
                    set_aside.push(part);
                }
            }
        }
        state.serve_restored(self, registered);
        Ok(set_aside)
    }
}

impl RegionState {
    fn check_bookable(&self) -> Result<(), NotBooked> {
        if !self.registered {
            Err(NotBooked::Unregistered)
        } else if self.books.live() == Books::MOST_LIVE {
            Err(NotBooked::TooManyChunks)
        } else {
            Ok(())
        }
    }

    /// Has the allocator at work adopt `range`, which was just booked. One that can't is detached.
    fn adopt_restored(&mut self, region: &Region, range: PageRange) -> Tag {
        // The tag is not used before another allocator has adopted the chunk.
        const NONE: Tag = Tag(0);
        if !matches!(self.attached, Attached::Allocator(_)) {
            return NONE;
        }
        match self.ask(region, AllocatorCall::Adopt, |object| object.adopt(range)) {
            Ok(RResult::ROk(tag)) => tag,
            Ok(RResult::RErr(text)) => {
                let reason = cannot_adopt(self.attached.name(), range, &text);
                self.drop_later(text);
                self.report(region, What::NotAttached { reason: reason.clone() });
                self.replace_attached(region, Attached::Nothing { failure: Some(reason) });
                NONE
            }
            Err(_) => NONE,
        }
    }

    /// Sets `range`, in the region, aside. Returns whether no chunk has a part of it.
    fn set_aside_unused(&mut self, region: &Region, range: PageRange, lost: bool) -> bool {
        let Ok(slot) = self.books.keep(range, Asker::NOBODY, Moment::UNKNOWN) else { return false };
        let tag = self.adopt_restored(region, range);
        self.books.set_aside(slot);
        self.set_aside.add(LiveChunk { range, tag, slot }, lost, Instant::now());
        self.report(region, What::SetAside { range, moved_to: None });
        true
    }

    /// Attaches the chosen allocator, or one that stands in, if chunks are live and none serves.
    fn serve_restored(&mut self, region: &Region, registered: &impl Allocators) {
        if self.books.live() == 0 {
            return;
        }
        if let Attached::Nothing { failure } = &self.attached {
            let known = failure.clone();
            let Err(reason) = self.start_chosen(region, registered) else { return };
            if known.as_ref() != Some(&reason) {
                self.report(region, What::NotAttached { reason: reason.clone() });
            }
            self.remain_without(region, reason);
        }
        self.find_stand_in(region, registered);
    }

    /// Attaches the first registered allocator that can adopt the live chunks, if there are any and
    /// none serves.
    pub(super) fn find_stand_in(&mut self, region: &Region, registered: &impl Allocators) {
        if self.books.live() == 0 || matches!(self.attached, Attached::Allocator(_)) {
            return;
        }
        let reason: Reason = self.attached.absence();
        let failed = super::find_allocator(&self.choice, registered);
        for other in registered.read(<[_]>::to_vec) {
            if failed.as_ref().is_some_and(|(plugin, _)| *plugin == other.plugin) {
                continue;
            }
            let why = Some(Box::new(reason.clone()));
            if self.start(region, (other.plugin, other.name), "", why).is_ok() {
                return;
            }
        }
        self.show(region, self.attached.name());
    }
}
