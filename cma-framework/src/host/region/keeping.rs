//! Chunks that devices keep after they are freed, and what becomes of them.
//!
//! A *cache* belongs to one device's handle to a region ([`Handle`]), so it is used by one thread
//! at a time, except that a guard may be dropped by any. A request or a free that it serves doesn't
//! take the region's lock and calls no allocator.
//!
//! Kept chunks are booked, and free for everybody:
//!
//! - [`Region::enter`] empties the caches. So whatever reads or changes the books, reads figures,
//!   attaches an allocator, observes, or waits, finds the kept chunks freed.
//! - A request that the allocator refuses is tried again after that.
//! - While the region's fast path is closed (`live_limit` is 0), nothing is kept or taken. The path
//!   is closed before the caches are emptied, and a cache looks under its lock, so nothing is kept
//!   behind the back of one that closed it.

use super::cache::{Cache, lock};
use super::deferred::Deferred;
use super::lock::LockedState;
use super::{Chunk, Handle, Keeping, Region, RegionInner, RegionState};
use crate::core::books::LiveChunk;
use crate::core::kept::{KeptChunks, Returned, Taken};
use crate::core::shape::Shape;
use crate::host::{clock, events};
use cma_api::{Pages, Request};
use spin::mutex::{SpinMutex, SpinMutexGuard};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Region {
    pub(super) fn from_inner(inner: Arc<RegionInner>) -> Self {
        Region(Arc::new(Handle { inner, keeping: None }))
    }

    /// A handle for one device, which keeps freed chunks of up to `most` pages in total.
    pub(crate) fn for_device(&self, most: Pages) -> Self {
        let keeping = (most > Pages::ZERO).then(|| {
            let cache = Cache(Arc::new(SpinMutex::new(KeptChunks::new(most))));
            self.0.caches.add(&cache);
            Keeping { cache, plain: self.plain().clone() }
        });
        Region(Arc::new(Handle { inner: self.0.inner.clone(), keeping }))
    }

    /// A handle that keeps nothing.
    pub(super) fn plain(&self) -> &Region {
        self.0.keeping.as_ref().map_or(self, |keeping| &keeping.plain)
    }

    /// A kept chunk for `request`.
    #[inline(never)]
    pub(super) fn take_kept(&self, Cache(cache): &Cache, request: &Request) -> Option<Chunk> {
        if request.is_limited() {
            return None;
        }
        let shape = Shape::new(request.pages(), request.alignment());
        let mut kept = cache.try_lock()?;
        if self.fast_path_is_closed() {
            return None;
        }
        if kept.notes_are_full() {
            drop(kept);
            kept = self.tell_books(cache)?;
        }
        let LiveChunk { range, tag, slot } = kept.take(shape, clock::now())?;
        drop(kept);
        Some(Chunk::new(self.clone(), range.first_page(), range.pages(), shape, tag, slot))
    }

    /// Tells the books what was taken, if the region is not in use.
    #[cold]
    fn tell_books<'a>(
        &self,
        cache: &'a SpinMutex<KeptChunks>,
    ) -> Option<SpinMutexGuard<'a, KeptChunks>> {
        let mut state = self.0.state.try_lock()?;
        let mut kept = lock(cache);
        let Taken { since, pages } = kept.take_notes();
        state.books.note_taken(&since, pages);
        (!self.fast_path_is_closed()).then_some(kept)
    }

    /// Keeps or frees a chunk of a device that keeps some.
    #[inline(never)]
    pub(super) fn free_cached(&self, cache: &Cache, chunk: LiveChunk, shape: Shape) {
        if let Some(mut kept) = cache.0.try_lock()
            && !self.fast_path_is_closed()
            && !events::requests_followed()
            && kept.keep(shape, chunk)
        {
            return;
        }
        self.free_uncached(cache, chunk, shape);
    }

    /// The same if there is no room for it, or nothing may be kept now.
    #[cold]
    #[inline(never)]
    fn free_uncached(&self, Cache(cache): &Cache, chunk: LiveChunk, shape: Shape) {
        let Some(state) = self.lock_unless_stuck() else {
            return self.defer_operation(Deferred::Free(chunk));
        };
        if self.fast_path_is_closed() || events::requests_followed() {
            return self.free_settled(state, chunk);
        }
        let returned = lock(cache).make_room(shape, chunk);
        LockedState::new(self, state).free_returned(self, returned);
    }
}

impl RegionState {
    /// Frees what the devices keep.
    #[inline]
    pub(super) fn empty_caches(&mut self, region: &Region) {
        if region.0.caches.exist() {
            self.empty_all_caches(region);
        }
    }

    #[cold]
    fn empty_all_caches(&mut self, region: &Region) {
        for returned in region.0.caches.empty() {
            self.free_returned(region, returned);
        }
    }

    /// Has every request and every free take the path on which deferred operations, waiters and
    /// observers are looked at.
    pub(super) fn close_fast_path(&mut self, region: &Region) {
        region.0.live_limit.store(0, Ordering::Relaxed);
        self.empty_caches(region);
    }

    /// Frees the chunks that a cache returns. Their device has freed them before, so that is no
    /// event.
    fn free_returned(&mut self, region: &Region, returned: Returned) {
        self.books.note_taken(&returned.taken.since, returned.taken.pages);
        for chunk in returned.chunks {
            let freed = self.release(chunk);
            self.check_freed(region, chunk.range, freed);
        }
    }
}

impl Drop for Handle {
    /// Frees what the device kept. No guard of it is left.
    fn drop(&mut self) {
        let Some(Keeping { cache, plain }) = self.keeping.take() else { return };
        if lock(&cache.0).is_unused() {
            plain.0.caches.end(&cache);
        } else {
            plain.now_or_deferred(Deferred::EndCache(cache));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::host::cma::Cma;
    use crate::host::region::AllocatorChoice;
    use cma_api::{DmaAddr, Pages};

    #[test]
    fn a_device_that_kept_nothing_ends_without_the_lock() {
        let (start, choice) = (DmaAddr::new(1 << 30), AllocatorChoice::Default);
        let region = Cma::new().region_register(None, start, 1 << 20, choice).unwrap();
        let device = region.for_device(Pages::new(4));
        let state = region.0.state.lock();
        drop(device);
        assert!(!region.0.caches.exist());
        drop(state);
    }
}
