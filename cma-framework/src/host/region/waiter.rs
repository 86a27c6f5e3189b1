//! A request that waits, as the regions see it, and how it is called.

use crate::vocabulary::{ChunkRequest, Holder};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

/// A request that waits. The queues of all regions that could serve it refer to it.
#[derive(Debug)]
pub(crate) struct Waiter {
    /// Distinguishes the waiters of the process.
    pub(crate) id: u64,
    pub(crate) wanted: ChunkRequest,
    pub(crate) holder: Option<Holder>,
    pub(crate) since: Instant,
    signal: Mutex<Signal>,
}

#[derive(Debug, Default)]
struct Signal {
    called: bool,
    waker: Option<Waker>,
}

impl Waiter {
    pub(crate) fn new(wanted: ChunkRequest, holder: Option<Holder>) -> Arc<Self> {
        static WAITERS: AtomicU64 = AtomicU64::new(0);
        Arc::new(Waiter {
            id: WAITERS.fetch_add(1, Ordering::Relaxed),
            wanted,
            holder,
            since: Instant::now(),
            signal: Mutex::default(),
        })
    }

    fn signal(&self) -> MutexGuard<'_, Signal> {
        self.signal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `waker` woken at the next call. Returns whether there was a call since this was asked
    /// last. A waker is cloned and dropped without the lock: it is foreign code.
    pub(crate) fn listen(&self, waker: &Waker) -> bool {
        let waker = Some(waker.clone());
        let mut signal = self.signal();
        let old = mem::replace(&mut signal.waker, waker);
        let called = mem::take(&mut signal.called);
        drop(signal);
        drop(old);
        called
    }

    /// Gives the waker up. The caller drops it without a lock.
    pub(crate) fn stop_listening(&self) -> Option<Waker> {
        self.signal().waker.take()
    }

    /// Calls the waiter, which then tries again. Called without a lock. A panic of the waker ends
    /// here: it must not unwind through whatever made room.
    pub(crate) fn call(&self) {
        let mut signal = self.signal();
        signal.called = true;
        let waker = signal.waker.take();
        drop(signal);
        if let Some(waker) = waker
            && let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake()))
        {
            // Dropping the payload could panic again.
            mem::forget(payload);
        }
    }
}
