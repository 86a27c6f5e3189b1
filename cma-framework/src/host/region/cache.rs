//! The caches of a region's devices, each behind a lock.
//!
//! The lock of a cache is the last one: it is held for a few instructions, under `state` too, but
//! an allocator never runs under it. Who finds it taken goes the long way.

use super::lock::SHORTEST_SLEEP;
use crate::core::kept::{KeptChunks, Returned};
use spin::mutex::{SpinMutex, SpinMutexGuard};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// The chunks that one device keeps.
#[derive(Clone)]
pub(super) struct Cache(pub(super) Arc<SpinMutex<KeptChunks>>);

/// The caches of a region's devices.
#[derive(Default)]
pub(super) struct Caches {
    all: Mutex<Vec<Cache>>,
    /// Their number, readable without the lock.
    count: AtomicUsize,
}

impl Caches {
    /// Whether a device may keep chunks.
    #[inline]
    pub(super) fn exist(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    fn all(&self) -> MutexGuard<'_, Vec<Cache>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, cache: &Cache) {
        self.all().push(cache.clone());
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Forgets a cache, which is empty and has no user.
    pub(super) fn end(&self, ended: &Cache) {
        self.all().retain(|cache| !Arc::ptr_eq(&cache.0, &ended.0));
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes all that is kept.
    pub(super) fn empty(&self) -> Vec<Returned> {
        self.all().iter().map(|cache| lock(&cache.0).empty()).collect()
    }
}

/// The owner holds the lock for a few instructions, unless it was interrupted there. Then it may
/// have a lower priority than this thread, so yielding to it would not let it go on.
pub(super) fn lock(cache: &SpinMutex<KeptChunks>) -> SpinMutexGuard<'_, KeptChunks> {
    for _ in 0..64 {
        if let Some(kept) = cache.try_lock() {
            return kept;
        }
        std::hint::spin_loop();
    }
    loop {
        thread::sleep(SHORTEST_SLEEP);
        if let Some(kept) = cache.try_lock() {
            return kept;
        }
    }
}
