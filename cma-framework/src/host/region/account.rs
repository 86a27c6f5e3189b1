//! What a region tells of itself: pages free, served, refused; the most ever in use; who has its
//! chunks; the last refusals.

use super::holder::Process;
use crate::host::clock::Moment;
use crate::vocabulary::errors::Reason;
use cma_api::{Alignment, PageRange, Pages, Request};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How many refusals are remembered.
const REMEMBERED: usize = 16;

/// A region's figures since it was registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegionStatistics {
    /// Pages of all requests that were served.
    pub alloc_pages_success: u64,
    /// Pages of all requests that were refused.
    pub alloc_pages_fail: u64,
    /// Pages of all chunks that were freed.
    pub release_pages_success: u64,
    /// The most bytes that ever were in use at a time.
    pub high_water_bytes: u64,
}

/// A live chunk, as its region's books have it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Owner {
    /// Its place.
    pub range: PageRange,
    /// Device and type that asked for it. `None` when regions were named in their place. Of a chunk
    /// without a holder also for a name of more than 255 bytes, and when 65,536 other pairs have
    /// live chunks or asked a short time before.
    pub device: Option<(Arc<str>, Arc<str>)>,
    /// The process that has it, if a front end [said so](crate::Chunk::set_holder).
    pub process: Option<Process>,
    /// How long it has been live, in tenths of a second; `None` when nothing [kept
    /// time](crate::keep_time) as it was allocated.
    pub age: Option<Duration>,
}

/// A request that a region didn't serve.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// The size asked for, in whole pages.
    pub bytes: u64,
    /// The alignment asked for.
    pub alignment: Alignment,
    /// Device and type that asked; `None` in the cases of [`Owner::device`].
    pub device: Option<(Arc<str>, Arc<str>)>,
    /// Why.
    pub reason: Reason,
    /// How long ago, in tenths of a second.
    pub age: Duration,
}

#[derive(Debug)]
pub(super) struct Account {
    size: Pages,
    pub(super) free: Pages,
    least_free: Pages,
    served: u64,
    pub(super) refusals: Refusals,
}

/// Refused requests: how many pages they were of, and the last of them, oldest first.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    pages: u64,
    last: VecDeque<Refused>,
}

impl Refusals {
    pub(super) fn note(&mut self, request: &Request, reason: &Reason) {
        let refused =
            Refused { request: *request, reason: reason.clone(), when: Moment::exactly() };
        self.append(Refusals { pages: request.pages().get(), last: [refused].into() });
    }

    pub(super) fn append(&mut self, later: Refusals) {
        self.pages = self.pages.wrapping_add(later.pages);
        self.last.extend(later.last);
        let surplus = self.last.len().saturating_sub(REMEMBERED);
        self.last.drain(..surplus);
    }
}

/// A refused request.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub(super) request: Request,
    pub(super) reason: Reason,
    pub(super) when: Moment,
}

impl Account {
    pub(super) fn new(size: Pages) -> Self {
        Account { size, free: size, least_free: size, served: 0, refusals: Refusals::default() }
    }

    #[inline]
    pub(super) fn took(&mut self, pages: Pages) {
        self.free = Pages::new(self.free.get() - pages.get());
        self.least_free = self.least_free.min(self.free);
        self.served = self.served.wrapping_add(pages.get());
    }

    /// Takes pages that stay in use after they were freed for a moment. No request is served by
    /// that.
    pub(super) fn keeps(&mut self, pages: Pages) {
        self.free = Pages::new(self.free.get() - pages.get());
    }

    #[inline]
    pub(super) fn got_back(&mut self, pages: Pages) {
        self.free = Pages::new(self.free.get() + pages.get());
    }

    #[cold]
    pub(super) fn refuse(&mut self, request: &Request, reason: &Reason) {
        self.refusals.note(request, reason);
    }

    pub(super) fn statistics(&self) -> RegionStatistics {
        let used = self.size.get() - self.free.get();
        RegionStatistics {
            alloc_pages_success: self.served,
            alloc_pages_fail: self.refusals.pages,
            release_pages_success: self.served.wrapping_sub(used),
            high_water_bytes: Pages::new(self.size.get() - self.least_free.get()).bytes(),
        }
    }

    /// Oldest first.
    pub(super) fn failures(&self) -> impl Iterator<Item = &Refused> {
        self.refusals.last.iter()
    }
}
