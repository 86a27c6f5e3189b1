//! The word that a server is to end.

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io;
use std::sync::Arc;

/// Ends whatever looks at it. Clones are handles to the same; once begun, it stays so.
///
/// Its descriptor is readable from then on, so other doors of a host can wait for it beside what
/// they wait for anyway.
#[derive(Clone, Debug)]
pub struct Shutdown(Arc<OwnedFd>);

impl Shutdown {
    /// One that has not begun.
    ///
    /// # Errors
    ///
    /// When the process can have no more descriptors.
    pub fn new() -> std::io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Shutdown(Arc::new(eventfd(0, flags)?)))
    }

    /// Begins it. This may be called in a signal handler.
    pub fn begin(&self) {
        // A counter that is full has begun long ago.
        let _ = io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

impl AsFd for Shutdown {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
