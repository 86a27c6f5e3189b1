//! Operations that a stuck region carries out later.
//!
//! A request to a stuck region is refused. A free can't be refused: it is noted here, outside the
//! region's lock. The next thread that gets the lock carries it out, before it places a chunk or
//! reads the books.

use super::lock::LockedState;
use super::{Attached, Cache, Region, RegionState, Waiter};
use crate::core::books::{Books, Holder, LiveChunk, RefusalLog, Slot};
use crate::core::set_aside::SetAside;
use crate::host::clock;
use crate::host::watches::Watch;
use crate::vocabulary::What;
use crate::vocabulary::errors::Reason;
use cma_api::{PageRange, Placement, Request, Tag};
use spin::mutex::SpinMutexGuard;
use std::mem;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The operations that are deferred until the lock is free.
#[derive(Default)]
pub(super) struct DeferredWork {
    /// Since when the region is known to be stuck.
    pub(super) stuck_since: Option<Instant>,
    operations: Vec<Deferred>,
    refusals: RefusalLog,
}

/// An operation that needs the lock and can't fail.
pub(super) enum Deferred {
    /// Free the chunk of a guard.
    Free(LiveChunk),
    /// Make a chunk known by its address.
    Index { slot: Slot, tag: Tag },
    /// Note the holder of a chunk.
    Hold { slot: Slot, holder: Arc<Holder> },
    /// Free the chunk that starts at this page and has no guard.
    FreeAt { first: u64 },
    /// Return a part that was checked to those that are set aside.
    SetAside(SetAside),
    /// Have a waiter, which found the region stuck, wait with this request. `is_new` tells that it
    /// isn't in the queue.
    Join { waiter: Arc<Waiter>, request: Request, is_new: bool },
    /// Take a waiter out of the queue.
    Leave(Arc<Waiter>),
    /// Begin an observation.
    BeginWatch(Arc<Watch>),
    /// Forget the cache of a device that ended.
    EndCache(Cache),
}

impl DeferredWork {
    /// Adds an operation. Of those who come and go while the region is stuck, nothing is kept.
    fn add(&mut self, operation: Deferred) {
        match &operation {
            Deferred::Join { waiter, request, .. } => {
                if let Some(at) = self.join_of(waiter)
                    && let Deferred::Join { request: former, .. } = &mut self.operations[at]
                {
                    *former = *request;
                    return;
                }
            }
            Deferred::Leave(waiter) => {
                if let Some(at) = self.join_of(waiter)
                    && let Deferred::Join { is_new: true, .. } = self.operations.remove(at)
                {
                    return;
                }
            }
            Deferred::BeginWatch(watch) => {
                // An observer that is slow begins anew again and again.
                self.operations.retain(|operation| match operation {
                    Deferred::BeginWatch(other) => !other.is_closed() && !Arc::ptr_eq(other, watch),
                    _ => true,
                });
            }
            _ => {}
        }
        self.operations.push(operation);
    }

    /// The place of the operation by which `waiter` joins.
    fn join_of(&self, waiter: &Arc<Waiter>) -> Option<usize> {
        self.operations.iter().position(
            |operation| matches!(operation, Deferred::Join { waiter: who, .. } if Arc::ptr_eq(who, waiter)),
        )
    }
}

impl Region {
    pub(super) fn deferred(&self) -> MutexGuard<'_, DeferredWork> {
        self.0.deferred.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The locked state, after what devices keep is freed and deferred operations are carried out.
    pub(super) fn settled<'a>(&'a self, state: SpinMutexGuard<'a, RegionState>) -> LockedState<'a> {
        let mut locked = LockedState::new(self, state);
        if self.fast_path_is_closed() {
            self.settle(&mut locked);
        } else {
            locked.empty_caches(self);
        }
        locked
    }

    /// Whether something is deferred, a request waits, the region is observed, or no allocator
    /// serves, so that a request or a free has more to do.
    #[inline]
    pub(super) fn fast_path_is_closed(&self) -> bool {
        self.0.live_limit.load(Ordering::Relaxed) == 0
    }

    /// Carries out what another thread deferred while this one was about to release the lock.
    pub(super) fn carry_out_late(&self) {
        // The other thread notes its operation and then finds the lock taken, or this one releases
        // the lock and then finds the note.
        fence(Ordering::SeqCst);
        if self.fast_path_is_closed()
            && !self.deferred().operations.is_empty()
            && let Some(state) = self.0.state.try_lock()
        {
            self.settled(state);
        }
    }

    /// Locks the region; if it is stuck, defers `operation`.
    #[cold]
    pub(super) fn enter_or_defer(
        &self,
        operation: Deferred,
    ) -> Option<(LockedState<'_>, Deferred)> {
        match self.lock_unless_stuck() {
            Some(state) => Some((self.settled(state), operation)),
            None => {
                self.defer_operation(operation);
                None
            }
        }
    }

    /// Locks the region, and carries nothing out. In a region that is known to be stuck it doesn't
    /// wait.
    #[inline]
    pub(super) fn lock_unless_stuck(&self) -> Option<SpinMutexGuard<'_, RegionState>> {
        self.0.state.try_lock().or_else(|| self.wait(Duration::ZERO).ok())
    }

    #[cold]
    pub(super) fn defer_operation(&self, operation: Deferred) {
        self.defer(|deferred| deferred.add(operation));
    }

    /// Carries out `operation`, or defers it.
    #[cold]
    pub(super) fn now_or_deferred(&self, operation: Deferred) {
        if let Some((mut state, operation)) = self.enter_or_defer(operation) {
            self.carry_out(&mut state, operation);
        }
    }

    /// Whether a free of the chunk at `page` is deferred already.
    pub(super) fn is_free_deferred(&self, page: u64) -> bool {
        let is_same = |operation: &Deferred| matches!(operation, Deferred::FreeAt { first } if *first == page);
        self.deferred().operations.iter().any(is_same)
    }

    /// Counts a refusal of a stuck region, now or when the lock is free.
    pub(super) fn count_refusal(&self, request: &Request, reason: Reason) {
        self.defer(|deferred| deferred.refusals.count(request, reason, clock::precise_now()));
    }

    fn defer(&self, note: impl FnOnce(&mut DeferredWork)) {
        let mut deferred = self.deferred();
        note(&mut deferred);
        self.0.live_limit.store(0, Ordering::Relaxed);
        drop(deferred);
        // The lock may have been released just before, with no other thread to come.
        fence(Ordering::SeqCst);
        if let Some(state) = self.0.state.try_lock() {
            self.settled(state);
        }
    }

    /// Frees what devices keep, and carries out the deferred operations.
    #[cold]
    fn settle(&self, state: &mut LockedState<'_>) {
        let mut deferred = self.deferred();
        let DeferredWork { stuck_since, operations, refusals } = mem::take(&mut *deferred);
        state.observed = !self.0.watches.is_empty();
        let serves = matches!(state.attached, Attached::Allocator(_));
        let fast = serves && state.queue.is_empty() && !state.observed;
        let limit = if fast { Books::MOST_LIVE } else { 0 };
        self.0.live_limit.store(limit, Ordering::Relaxed);
        drop(deferred);
        state.books.append_refusals(refusals);
        if stuck_since.is_some() {
            state.note_stuck();
            state.report(self, What::Resumed { deferred: operations.len() });
        }
        // After the operations were taken: what their threads kept before is freed then.
        state.empty_caches(self);
        for operation in operations {
            self.carry_out(state, operation);
        }
    }

    fn carry_out(&self, state: &mut RegionState, operation: Deferred) {
        match operation {
            Deferred::Free(chunk) => state.free(self, chunk),
            Deferred::Index { slot, tag } => state.books.index(slot, tag),
            Deferred::Hold { slot, holder } => state.books.hold(slot, holder),
            Deferred::FreeAt { first } => match state.books.unindex(first) {
                Some((slot, Placement { range, tag })) => {
                    state.free(self, LiveChunk { range, tag, slot });
                }
                None => {
                    let address = PageRange::from_pages(first, 1).start();
                    state.report(self, What::NotFreed { address });
                }
            },
            Deferred::SetAside(aside) => state.set_aside.put_back(aside),
            Deferred::Join { waiter, request, .. } => state.join_untried(self, &waiter, request),
            Deferred::Leave(waiter) => state.queue.leave(&waiter),
            Deferred::BeginWatch(watch) => state.begin_watch(self, &watch),
            // It was emptied before: its device kept nothing after this was deferred.
            Deferred::EndCache(cache) => self.0.caches.end(&cache),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::{Bytes, ChunkRequest};
    use cma_api::{Alignment, Asker, Pages};

    #[test]
    fn nothing_is_kept_of_those_who_come_and_go_while_the_region_is_stuck() {
        let mut work = DeferredWork::default();
        let waiter = || Waiter::new(ChunkRequest::new(Bytes(4096)), None);
        let request = Request::new(Pages::new(1), Alignment::PAGE, Asker::NOBODY).unwrap();
        let (new, former) = (waiter(), waiter());
        for (waiter, is_new, kept) in [(&new, true, 0), (&former, false, 1)] {
            for is_new in [is_new, false] {
                work.add(Deferred::Join { waiter: waiter.clone(), request, is_new });
                assert_eq!(work.operations.len(), 1);
            }
            work.add(Deferred::Leave(waiter.clone()));
            assert_eq!(work.operations.len(), kept);
        }
        assert!(matches!(&work.operations[..], [Deferred::Leave(_)]));
        assert_eq!(Arc::strong_count(&new), 1);
    }

    #[test]
    fn an_observation_of_a_stuck_region_is_kept_once_and_until_it_ends() {
        let mut work = DeferredWork::default();
        let watch = || Arc::new(Watch::new(true));
        let (slow, ended) = (watch(), watch());
        for watch in [&slow, &ended, &slow, &ended] {
            work.add(Deferred::BeginWatch(watch.clone()));
        }
        assert_eq!(work.operations.len(), 2);
        ended.close();
        work.add(Deferred::BeginWatch(slow.clone()));
        assert_eq!(work.operations.len(), 1);
        assert_eq!((Arc::strong_count(&slow), Arc::strong_count(&ended)), (2, 1));
    }
}
