//! The books of one region: every live chunk, the pages that are free, and counters.
//!
//! Pure bookkeeping. The host calls these operations under the region's lock. An operation returns
//! its answer and the event it caused; the counters have counted that event already.
//!
//! Invariants:
//!
//! 1. Each page of the region is covered by one live chunk, or free.
//! 2. A chunk is booked only after every check that its placement needs
//!    ([`placement::check`], and no overlap), so a faulty allocator can't corrupt the books.
//! 3. `free` is the region's size less the pages of all live chunks.

mod chunks;
mod counters;
mod figures;
mod occupancy;

use crate::core::events::ChunkEvent;
use crate::core::moment::Moment;
use crate::core::placement;
use crate::vocabulary::errors::{Limit, Misplacement, Reason};
use chunks::ChunkTable;
pub(crate) use chunks::{BookedChunk, Overlaps, Slot};
use cma_api::{Alignment, Asker, Boundary, PageRange, Pages, Placement, Request, Tag};
use counters::Counters;
pub(crate) use counters::{RefusalLog, RefusedRequest};
pub use figures::{Failure, Holder, Owner, Process, RegionStatistics};
use std::sync::Arc;

/// The books of one region.
#[derive(Debug)]
pub(crate) struct Books {
    region: PageRange,
    free: Pages,
    chunks: ChunkTable,
    counters: Counters,
}

/// A live chunk, with the values that freeing it needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LiveChunk {
    pub(crate) range: PageRange,
    pub(crate) tag: Tag,
    pub(crate) slot: Slot,
}

impl Books {
    /// The most chunks that can be live.
    pub(crate) const MOST_LIVE: u32 = ChunkTable::MOST;

    /// The books of `region`, all of it free.
    pub(crate) fn new(region: PageRange) -> Self {
        Books {
            region,
            free: region.pages(),
            chunks: ChunkTable::new(region),
            counters: Counters::new(region.pages()),
        }
    }

    /// The number of live chunks.
    #[inline]
    pub(crate) fn live(&self) -> u32 {
        self.chunks.live()
    }

    /// The pages that are free.
    pub(crate) fn free(&self) -> Pages {
        self.free
    }

    /// Accepts a placement for `request` and books it, or returns its fault.
    pub(crate) fn place(
        &mut self,
        request: &Request,
        range: PageRange,
        now: Moment,
    ) -> Result<(Slot, ChunkEvent), Misplacement> {
        placement::check(range, request, self.region)?;
        if request.is_limited() {
            placement::check_limits(range, request)?;
        }
        let (slot, event) = self.place_anywhere(request, range, now)?;
        self.limit(slot, request);
        Ok((slot, event))
    }

    /// The same for a request without limits.
    #[inline(always)]
    pub(crate) fn place_anywhere(
        &mut self,
        request: &Request,
        range: PageRange,
        now: Moment,
    ) -> Result<(Slot, ChunkEvent), Misplacement> {
        placement::check(range, request, self.region)?;
        let booked = self.chunks.book(range, request.asker(), now);
        let slot = booked.map_err(|Overlaps| Misplacement::Overlaps(range))?;
        self.free = Pages::new(self.free.get() - range.pages().get());
        let event = ChunkEvent::Placed { range };
        self.counters.count(event, self.free);
        Ok((slot, event))
    }

    /// Books `range` for `asker`, although no request is served by that.
    pub(crate) fn keep(
        &mut self,
        range: PageRange,
        asker: Asker,
        now: Moment,
    ) -> Result<Slot, Overlaps> {
        let slot = self.chunks.book(range, asker, now)?;
        self.free = Pages::new(self.free.get() - range.pages().get());
        Ok(slot)
    }

    /// Books a chunk that a process had, which has ended, by all rules of a placement. It counts as
    /// restored and not as placed.
    pub(crate) fn restore(
        &mut self,
        request: &Request,
        range: PageRange,
        since: Moment,
    ) -> Result<Slot, Misplacement> {
        placement::check(range, request, self.region)?;
        placement::check_limits(range, request)?;
        let kept = self.keep(range, request.asker(), since);
        let slot = kept.map_err(|Overlaps| Misplacement::Overlaps(range))?;
        self.counters.count_restored(range.pages(), self.free);
        self.limit(slot, request);
        Ok(slot)
    }

    /// Takes the count of a chunk back that was restored and is released because it has no memory.
    pub(crate) fn uncount_restored(&mut self, range: PageRange) {
        self.counters.uncount_restored(range.pages());
    }

    /// Notes that chunks whose device had freed and kept them were taken again: the slot of each,
    /// and when, and their pages in total. A chunk is there as often as it was taken.
    pub(crate) fn note_taken(&mut self, since: &[(Slot, Moment)], pages: u64) {
        self.chunks.renew(since);
        self.counters.count_taken(since.len() as u64, pages);
    }

    /// Takes the live chunk in `slot` off the books. It was booked as `range` and placed with
    /// `tag`. The result is the tag by which its present allocator knows it.
    #[inline(always)]
    pub(crate) fn release(&mut self, slot: Slot, range: PageRange, tag: Tag) -> (Tag, ChunkEvent) {
        let tag = self.chunks.unbook(slot, range, tag);
        self.free = Pages::new(self.free.get() + range.pages().get());
        let event = ChunkEvent::Released { range };
        self.counters.count(event, self.free);
        (tag, event)
    }

    /// Notes that `request` was refused.
    #[cold]
    pub(crate) fn refuse(&mut self, request: &Request, reason: Reason, when: Moment) {
        self.counters.refusals.count(request, reason, when);
    }

    /// Adds refusals that were counted while the books could not be reached.
    pub(crate) fn append_refusals(&mut self, later: RefusalLog) {
        self.counters.refusals.append(later);
    }

    /// Why `request` finds no place, as the books show it; if a free range holds the request, that
    /// range.
    pub(crate) fn explain_refusal(&self, request: &Request) -> Explanation {
        let pages = request.pages();
        let (free_bytes, region_bytes) = (self.free.bytes(), self.region.bytes());
        let reason = if self.region.pages() < pages {
            Reason::TooSmall { asked_bytes: pages.bytes(), region_bytes }
        } else if let Some(limit) =
            unsatisfied(request, |request| request.lowest_place(self.region).is_some())
        {
            Reason::NoPlace { region: self.region, limit }
        } else if self.free < pages {
            Reason::Full { free_bytes, region_bytes }
        } else {
            return self.explain_by_holes(request);
        };
        Explanation::Reason(reason)
    }

    /// The same where enough is free. Takes a pass over all holes, or a few.
    fn explain_by_holes(&self, request: &Request) -> Explanation {
        let holding = |request: &Request| {
            let holds = |hole: &PageRange| request.lowest_place(*hole).is_some();
            self.chunks.holes().filter(holds).max_by_key(|hole| hole.pages())
        };
        if let Some(free_range) = holding(request) {
            return Explanation::Holds(free_range);
        }
        let largest = self.largest_hole();
        let largest_hole_bytes = largest.bytes();
        if largest < request.pages() {
            let free_bytes = self.free.bytes();
            return Explanation::Reason(Reason::Fragmented { free_bytes, largest_hole_bytes });
        }
        Explanation::Reason(match unsatisfied(request, |request| holding(request).is_some()) {
            Some(Limit::Window(window)) => {
                let inside = self.chunks.holes().filter_map(|hole| hole.common(window));
                let largest = inside.map(PageRange::bytes).max().unwrap_or(0);
                Reason::Window { window, largest_inside_bytes: largest }
            }
            Some(Limit::Boundary { bytes }) => Reason::Boundary { boundary_bytes: bytes },
            Some(Limit::Alignment { .. }) | None => {
                let alignment_bytes = request.alignment().bytes();
                Reason::Alignment { alignment_bytes, largest_hole_bytes }
            }
        })
    }

    /// The size of the largest hole.
    pub(crate) fn largest_hole(&self) -> Pages {
        self.chunks.holes().map(PageRange::pages).max().unwrap_or(Pages::ZERO)
    }

    /// The totals of served and refused requests since the region was registered.
    pub(crate) fn statistics(&self) -> RegionStatistics {
        self.counters.statistics(self.region.pages(), self.free, self.live())
    }

    /// The last refusals, oldest first.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = &RefusedRequest> {
        self.counters.refusals.last()
    }

    /// The requesters of all live chunks and remembered refusals.
    pub(crate) fn askers(&self) -> impl Iterator<Item = Asker> {
        self.chunks.askers().chain(self.refusals().map(|refused| refused.request.asker()))
    }

    /// The requester of the live chunk in `slot`.
    pub(crate) fn asker(&self, slot: Slot) -> Asker {
        self.chunks.asker(slot)
    }

    /// Notes that the live chunk in `slot` may lie only within the limits of `request`.
    pub(crate) fn limit(&mut self, slot: Slot, request: &Request) {
        if request.is_limited() {
            self.chunks.limit(slot, request);
        }
    }

    /// The request that the live chunk in `slot` serves. The books have its requester and its
    /// limits, but neither its size nor its alignment.
    pub(crate) fn request(
        &self,
        slot: Slot,
        pages: Pages,
        alignment: Alignment,
    ) -> Option<Request> {
        let anywhere = Request::new(pages, alignment, self.asker(slot))?;
        match self.chunks.limits(slot) {
            Some((window, boundary)) => anywhere.limited(window, boundary),
            None => Some(anywhere),
        }
    }

    /// The lowest live chunk that shares a page with `range`, which lies in the region.
    pub(crate) fn lowest_in(&self, range: PageRange) -> Option<(Slot, BookedChunk)> {
        self.chunks.lowest_in(range)
    }

    /// The live chunks in ascending order of address.
    pub(crate) fn ascending(&self) -> Vec<(Slot, BookedChunk)> {
        self.chunks.ascending()
    }

    /// Sets the tags of live chunks that another allocator has adopted.
    pub(crate) fn retag(&mut self, tags: impl IntoIterator<Item = (Slot, Tag)>) {
        self.chunks.retag(tags);
    }

    /// Makes the chunk in `slot`, which was placed with `tag`, known by its address: its guard no
    /// longer frees it.
    pub(crate) fn index(&mut self, slot: Slot, tag: Tag) {
        self.chunks.index(slot, tag);
    }

    /// Takes the chunk that starts at page `first` of the address space out of the index by
    /// address.
    pub(crate) fn unindex(&mut self, first: u64) -> Option<(Slot, Placement)> {
        self.chunks.unindex(first)
    }

    /// Whether a live chunk starts at page `first` of the region. If the page is taken, this is a
    /// pass over all chunks.
    pub(crate) fn starts_at(&self, first: u64) -> bool {
        self.chunks.starts_at(first)
    }

    /// Notes the holder of the live chunk in `slot`.
    pub(crate) fn hold(&mut self, slot: Slot, holder: Arc<Holder>) {
        self.chunks.hold(slot, holder);
    }

    /// Notes that the live chunk in `slot` is memory that is set aside, until it is released.
    pub(crate) fn set_aside(&mut self, slot: Slot) {
        self.chunks.set_aside(slot);
    }

    /// Whether the live chunk in `slot` is memory that is set aside.
    pub(crate) fn is_set_aside(&self, slot: Slot) -> bool {
        self.chunks.is_set_aside(slot)
    }

    /// The holder of the live chunk in `slot`, if a front end noted one.
    pub(crate) fn holder(&self, slot: Slot) -> Option<&Arc<Holder>> {
        self.chunks.holder(slot)
    }

    /// Compares `free` with the live chunks.
    ///
    /// # Errors
    ///
    /// The disagreement.
    pub(crate) fn check(&self) -> Result<(), String> {
        let used: u64 = self.ascending().iter().map(|(_, chunk)| chunk.range.pages().get()).sum();
        let left = self.region.pages().get() - used;
        if left == self.free.get() {
            return Ok(());
        }
        Err(format!("{} pages are booked as free, but the chunks leave {left}", self.free.get()))
    }

    /// The ranges between the live chunks, which an allocator should report as its holes.
    pub(crate) fn gaps(&self) -> Vec<PageRange> {
        let mut gaps = Vec::new();
        let mut from = self.region.first_page();
        let chunks = self.ascending().into_iter().map(|(_, chunk)| chunk.range);
        let ends = chunks.map(|range| (range.first_page(), range.end_page()));
        for (first, end) in ends.chain([(self.region.end_page(), 0)]) {
            if from < first {
                gaps.push(PageRange::from_pages(from, first - from));
            }
            from = end;
        }
        gaps
    }
}

/// What the books show about a request that an allocator refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Explanation {
    /// Nothing that is free holds the request.
    Reason(Reason),
    /// This free range does, the largest of those that do.
    Holds(PageRange),
}

/// The first limit of `request` that leaves it without a place, of its alignment, its window and
/// its boundary; `None` if it has a place with all of them.
pub(crate) fn unsatisfied(
    request: &Request,
    has_place: impl Fn(&Request) -> bool,
) -> Option<Limit> {
    let (window, boundary) = (request.window(), request.boundary());
    let anywhere = Request::new(request.pages(), request.alignment(), request.asker());
    let in_window = anywhere.and_then(|request| request.limited(window, Boundary::NONE));
    if !anywhere.is_some_and(|request| has_place(&request)) {
        Some(Limit::Alignment { bytes: request.alignment().bytes() })
    } else if !in_window.is_some_and(|request| has_place(&request)) {
        Some(Limit::Window(window))
    } else if !has_place(request) {
        boundary.bytes().map(|bytes| Limit::Boundary { bytes })
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
