//! Requests that wait for a region.
//!
//! A region serves those who wait in the order of their asking. Only the *head* of its queue may be
//! placed; every other request is refused with [`Reason::Queued`](crate::Reason::Queued), or waits
//! behind. A region places nothing for a waiter by itself: when something may have made room, it
//! asks its allocator whether the head fits, and if so *calls* the head, whose owner then tries
//! again. So a chunk is always placed by a thread that wants it, and a free costs at most one
//! [`fit`](cma_api::Allocator::fit).
//!
//! No call is lost. A waiter joins a queue under the lock under which it was refused, so whatever
//! makes room later finds it there; and `live_limit` is 0 from then on, so it looks. A head that
//! leaves, served or not, has the next one considered, also when it was called and never came. One
//! that finds the region stuck when it tries joins by a deferred operation and is considered then.

use super::attach::Attached;
use super::deferred::Deferred;
use super::{Allocators, Chunk, Recheck, Region, RegionState, Waiter};
use crate::core::placement::AllocatorCall;
use crate::host::clock;
use crate::vocabulary::errors::Stuck;
use crate::vocabulary::request::exact_place;
use cma_api::{PageRange, Request};
use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

/// The requests that wait for one region, in the order in which they are served.
#[derive(Default)]
pub(super) struct WaitQueue {
    entries: VecDeque<Entry>,
    /// Whether something has happened since the head was considered that may let it be served.
    due: bool,
    /// Those to be called after the lock is released.
    called: Vec<Arc<Waiter>>,
}

struct Entry {
    waiter: Arc<Waiter>,
    /// The request, in whole pieces of this region's memory if it is for another process.
    request: Request,
    /// Whether it was called and has not tried again since.
    called: bool,
}

impl WaitQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The waiters and their requests, the head first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<Waiter>, &Request)> {
        self.entries.iter().map(|entry| (&entry.waiter, &entry.request))
    }

    fn position(&self, waiter: &Arc<Waiter>) -> Option<usize> {
        self.entries.iter().position(|entry| Arc::ptr_eq(&entry.waiter, waiter))
    }

    /// The number of requests that are served before a new one, or before that of `waiter`.
    pub(super) fn ahead(&self, waiter: Option<&Arc<Waiter>>) -> usize {
        waiter.and_then(|waiter| self.position(waiter)).unwrap_or(self.len())
    }

    /// Notes that something may let the head be served.
    pub(super) fn reconsider(&mut self) {
        self.due = true;
    }

    /// Has `waiter`, which has just tried, wait with `request`, in the place it has or at the end.
    fn join(&mut self, waiter: &Arc<Waiter>, request: Request) {
        match self.position(waiter) {
            Some(at) => {
                let entry = &mut self.entries[at];
                // A request that changed may fit where the former one did not.
                self.due |= entry.request != request;
                (entry.request, entry.called) = (request, false);
            }
            None => {
                let waiter = waiter.clone();
                self.entries.push_back(Entry { waiter, request, called: false });
            }
        }
    }

    pub(super) fn leave(&mut self, waiter: &Arc<Waiter>) {
        if let Some(at) = self.position(waiter) {
            self.entries.remove(at);
            self.due |= at == 0;
        }
    }

    pub(super) fn take_called(&mut self) -> Vec<Arc<Waiter>> {
        mem::take(&mut self.called)
    }
}

/// What came of a try to serve a request that waits.
pub(crate) enum Attempt {
    Served(Chunk),
    /// It waits for the region.
    Waits,
    /// The region can't ever serve it.
    Hopeless,
    /// The region is stuck, and the request was not tried.
    Stuck,
}

impl Region {
    /// A chunk for `waiter`, if its turn has come and there is room; else it waits for the region,
    /// if that could serve it were it empty. Nothing is counted as refused.
    pub(crate) fn allocate_or_wait(
        &self,
        request: &Request,
        waiter: &Arc<Waiter>,
        registered: &impl Allocators,
    ) -> Attempt {
        let Ok(mut state) = self.enter() else { return Attempt::Stuck };
        let is_head = state.queue.ahead(Some(waiter)) == 0;
        match self.place_in_turn(&mut state, request, registered, clock::now(), Some(waiter)) {
            Ok((place, event)) => {
                state.queue.leave(waiter);
                state.report_placed(self, request, event);
                drop(state);
                Attempt::Served(self.chunk(request, place))
            }
            Err(_) if state.registered && request.lowest_place(self.range()).is_some() => {
                state.queue.join(waiter, *request);
                state.close_fast_path(self);
                drop(state);
                if is_head {
                    // What is recovered is freed, and the waiter called if that makes room.
                    self.recheck(Recheck::Needed);
                }
                Attempt::Waits
            }
            Err(_) => {
                state.queue.leave(waiter);
                Attempt::Hopeless
            }
        }
    }

    /// Has `waiter`, which found the region stuck, wait for it from when it resumes: in the place
    /// that it has, or at the end if it `is_new`. Returns whether the region could serve it were it
    /// empty.
    pub(crate) fn wait_for_resumption(
        &self,
        request: Request,
        waiter: &Arc<Waiter>,
        is_new: bool,
    ) -> bool {
        let could_serve = request.lowest_place(self.range()).is_some();
        if could_serve {
            let waiter = waiter.clone();
            self.now_or_deferred(Deferred::Join { waiter, request, is_new });
        }
        could_serve
    }

    /// Has `waiter` wait no longer. In a stuck region it leaves when the region resumes.
    pub(crate) fn leave_queue(&self, waiter: &Arc<Waiter>) {
        self.now_or_deferred(Deferred::Leave(waiter.clone()));
    }

    /// The hole in which the request would be placed now; `None` if it would be refused.
    /// `registered` is read when the region has no allocator yet.
    pub(crate) fn fit(
        &self,
        request: &Request,
        waiter: Option<&Arc<Waiter>>,
        registered: &impl Allocators,
    ) -> Option<PageRange> {
        let mut state = self.enter().ok()?;
        if state.queue.ahead(waiter) > 0 || state.attach(self, registered).is_err() {
            return None;
        }
        state.fit(self, request)
    }

    /// The requests that wait for the region, the head first.
    pub(crate) fn waiters(&self) -> Result<Vec<(Arc<Waiter>, Request)>, Stuck> {
        let state = self.enter()?;
        Ok(state.queue.iter().map(|(waiter, request)| (waiter.clone(), *request)).collect())
    }
}

impl RegionState {
    /// The hole in which the allocator would place the request now.
    fn fit(&mut self, region: &Region, request: &Request) -> Option<PageRange> {
        if !matches!(self.attached, Attached::Allocator(_)) {
            return None;
        } else if let Some(place) = exact_place(request) {
            let is_free = place.within(region.range()) && self.books.lowest_in(place).is_none();
            return is_free.then_some(place);
        }
        let hole = self.ask(region, AllocatorCall::Fit, |object| object.fit(request));
        hole.ok()?.into_result().ok()
    }

    /// Has `waiter` wait with a request that was not tried: it is called when its turn has come and
    /// there is room, also if it was called before.
    pub(super) fn join_untried(&mut self, region: &Region, waiter: &Arc<Waiter>, request: Request) {
        if self.registered {
            self.queue.join(waiter, request);
            self.queue.reconsider();
            self.close_fast_path(region);
        }
    }

    /// Calls the head of the queue if something may have let it be served, and it fits now.
    pub(super) fn call_head(&mut self, region: &Region) {
        if !mem::take(&mut self.queue.due) {
            return;
        }
        let head = self.queue.entries.front().filter(|head| !head.called);
        let Some(request) = head.map(|head| head.request) else { return };
        if self.fit(region, &request).is_some()
            && let Some(head) = self.queue.entries.front_mut()
        {
            head.called = true;
            self.queue.called.push(head.waiter.clone());
        }
    }
}
