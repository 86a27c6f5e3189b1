//! Counters of a region: requests and pages served and refused, the most ever in use, the last
//! refusals.

use super::figures::RegionStatistics;
use crate::core::events::ChunkEvent;
use crate::core::moment::Moment;
use crate::vocabulary::errors::Reason;
use cma_api::{Pages, Request};
use std::collections::VecDeque;

/// The number of refusals that are remembered.
const REMEMBERED: usize = 16;

/// The totals of a region's events. The counters are updated under the region's lock, so they
/// always agree with the books.
#[derive(Debug)]
pub(crate) struct Counters {
    least_free: Pages,
    /// Requests and their pages.
    placed: u64,
    served: u64,
    /// Chunks of a process that has ended, and their pages.
    restored: u64,
    restored_pages: u64,
    pub(super) refusals: RefusalLog,
}

impl Counters {
    /// For a region of `size` pages without chunks.
    pub(super) fn new(size: Pages) -> Self {
        Counters {
            least_free: size,
            placed: 0,
            served: 0,
            restored: 0,
            restored_pages: 0,
            refusals: RefusalLog::default(),
        }
    }

    /// Counts a chunk event. `free` pages are free after it.
    #[inline]
    pub(super) fn count(&mut self, event: ChunkEvent, free: Pages) {
        match event {
            ChunkEvent::Placed { range } => {
                self.least_free = self.least_free.min(free);
                self.placed = self.placed.wrapping_add(1);
                self.served = self.served.wrapping_add(range.pages().get());
            }
            // Released pages follow from served and restored ones and those in use.
            ChunkEvent::Released { .. } => {}
        }
    }

    /// Counts `placed` chunks of `pages` pages that are in use again. Memory that a device keeps
    /// counts as in use for the most ever in use.
    pub(super) fn count_taken(&mut self, placed: u64, pages: u64) {
        self.placed = self.placed.wrapping_add(placed);
        self.served = self.served.wrapping_add(pages);
    }

    /// Counts a restored chunk. `free` pages are free after it.
    pub(super) fn count_restored(&mut self, pages: Pages, free: Pages) {
        self.least_free = self.least_free.min(free);
        self.restored += 1;
        self.restored_pages = self.restored_pages.wrapping_add(pages.get());
    }

    /// Undoes [`count_restored`](Self::count_restored), except for the most pages ever in use.
    pub(super) fn uncount_restored(&mut self, pages: Pages) {
        self.restored -= 1;
        self.restored_pages = self.restored_pages.wrapping_sub(pages.get());
    }

    /// The figures of a region of `size` pages, of which `free` are free and `live` chunks have the
    /// rest.
    pub(super) fn statistics(&self, size: Pages, free: Pages, live: u32) -> RegionStatistics {
        let used = size.get() - free.get();
        RegionStatistics {
            chunks_placed: self.placed,
            chunks_restored: self.restored,
            requests_refused: self.refusals.requests,
            chunks_freed: self.placed.wrapping_add(self.restored).saturating_sub(live.into()),
            alloc_pages_success: self.served,
            alloc_pages_fail: self.refusals.pages,
            release_pages_success: self
                .served
                .wrapping_add(self.restored_pages)
                .saturating_sub(used),
            high_water_bytes: Pages::new(size.get() - self.least_free.get()).bytes(),
        }
    }
}

/// Refused requests: their number and pages in total, and the last of them, oldest first.
#[derive(Debug, Default)]
pub(crate) struct RefusalLog {
    requests: u64,
    pages: u64,
    last: VecDeque<RefusedRequest>,
}

/// A refused request.
#[derive(Clone, Debug)]
pub(crate) struct RefusedRequest {
    pub(crate) request: Request,
    pub(crate) reason: Reason,
    pub(crate) when: Moment,
}

impl RefusalLog {
    /// Counts that `request` was refused at `when`.
    #[cold]
    pub(crate) fn count(&mut self, request: &Request, reason: Reason, when: Moment) {
        let refused = RefusedRequest { request: *request, reason, when };
        let (requests, pages) = (1, request.pages().get());
        self.append(RefusalLog { requests, pages, last: [refused].into() });
    }

    /// Adds refusals that were counted apart from these, and later.
    pub(super) fn append(&mut self, later: RefusalLog) {
        self.requests = self.requests.wrapping_add(later.requests);
        self.pages = self.pages.wrapping_add(later.pages);
        self.last.extend(later.last);
        let surplus = self.last.len().saturating_sub(REMEMBERED);
        self.last.drain(..surplus);
    }

    /// Oldest first.
    pub(super) fn last(&self) -> impl Iterator<Item = &RefusedRequest> {
        self.last.iter()
    }
}
