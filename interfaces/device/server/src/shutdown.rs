//! The signal that ends a server.

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io;
use std::sync::Arc;

/// Ends every server that was started with it. Clones are handles to the same shutdown, which can't
/// be revoked.
///
/// Its descriptor is readable once the shutdown has begun, so other front ends of a host can wait
/// for it beside their own events.
#[derive(Clone, Debug)]
pub struct Shutdown(Arc<OwnedFd>);

impl Shutdown {
    /// A shutdown that has not begun.
    ///
    /// # Errors
    ///
    /// When the process has no free descriptors.
    pub fn new() -> std::io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Shutdown(Arc::new(eventfd(0, flags)?)))
    }

    /// Begins the shutdown. This may be called in a signal handler.
    pub fn begin(&self) {
        // Writing fails only when the counter is at its maximum: then the shutdown has begun.
        let _ = io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

impl AsFd for Shutdown {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
