//! The signal that ends a server.

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Ends every server that was started with it. Clones are handles to the same shutdown, which can't
/// be revoked.
///
/// Its descriptor is readable once the shutdown has begun, so other front ends of a host can wait
/// for it beside their own events.
#[derive(Clone, Debug)]
pub struct Shutdown(Arc<Signal>);

#[derive(Debug)]
struct Signal {
    begun: OwnedFd,
    hands_over: AtomicBool,
}

impl Shutdown {
    /// A shutdown that has not begun.
    ///
    /// # Errors
    ///
    /// When the process has no free descriptors.
    pub fn new() -> std::io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let (begun, hands_over) = (eventfd(0, flags)?, AtomicBool::new(false));
        Ok(Shutdown(Arc::new(Signal { begun, hands_over })))
    }

    /// Begins the shutdown. This may be called in a signal handler.
    pub fn begin(&self) {
        // Writing fails only when the counter is at its maximum: then the shutdown has begun.
        let _ = io::write(&self.0.begun, &1_u64.to_ne_bytes());
    }

    /// Begins a shutdown that leaves everything to the next server: events in progress are
    /// finished, no client is told anything, and nothing is freed. A server that nothing outlives
    /// ends as with [`begin`](Self::begin). This may be called in a signal handler.
    pub fn begin_hand_over(&self) {
        self.0.hands_over.store(true, Ordering::SeqCst);
        self.begin();
    }

    /// Whether it leaves everything to the next server.
    pub(crate) fn hands_over(&self) -> bool {
        self.0.hands_over.load(Ordering::SeqCst)
    }
}

impl AsFd for Shutdown {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.begun.as_fd()
    }
}
