//! The state of a region that is readable without its lock.

use super::choice::AllocatorState;
use super::{Region, RegionState};
use crate::core::memory::{Backing, Memory, MemoryError};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// An immutable snapshot, replaced under the region's lock.
#[derive(Clone)]
pub(super) struct Shown {
    pub(super) registered: bool,
    pub(super) allocator: AllocatorState,
    /// The name of the allocator that is at work, or that is being started.
    pub(super) worker: String,
    /// Why another allocator than the choice serves, if one does.
    pub(super) stand_in: Option<Arc<str>>,
    /// The memory behind the addresses, as long as the region is registered.
    pub(super) memory: Option<Arc<dyn Memory>>,
}

impl Region {
    /// Whether it still is registered.
    pub fn is_registered(&self) -> bool {
        self.0.shown.load().registered
    }

    /// Its allocator, or what it waits for. The allocator is not called.
    pub fn allocator(&self) -> AllocatorState {
        self.0.shown.load().allocator.clone()
    }

    /// Why another allocator than its choice serves it; `None` if it has its choice, or no
    /// allocator. A region whose chunks were [restored](crate::restore) has a stand-in when its
    /// choice is not registered or can't adopt them. When its choice is registered later, that
    /// takes over.
    pub fn stand_in(&self) -> Option<Arc<str>> {
        self.0.shown.load().stand_in.clone()
    }

    /// The kind of memory behind its addresses; `None` for addresses alone, and when it is not
    /// registered any more.
    pub fn backing(&self) -> Option<Backing> {
        self.memory().map(|memory| memory.backing())
    }

    /// The files of its memory itself that have to outlive this process, besides those of its
    /// chunks ([`SharedChunk::lasting`](crate::SharedChunk::lasting)), so that another process can
    /// restore it. None for memory that is made chunk by chunk, and for addresses alone.
    ///
    /// # Errors
    ///
    /// [`MemoryError`].
    pub fn lasting(&self) -> Result<Vec<OwnedFd>, MemoryError> {
        self.memory().map_or(Ok(Vec::new()), |memory| memory.lasting())
    }

    pub(crate) fn memory(&self) -> Option<Arc<dyn Memory>> {
        self.0.shown.load().memory.clone()
    }
}

impl RegionState {
    /// Replaces the snapshot. `worker` is the name of the allocator, if the region has one.
    pub(super) fn show(&self, region: &Region, worker: &str) {
        let shown = region.0.shown.load_full();
        region.0.shown.store(Arc::new(Shown {
            registered: self.registered,
            allocator: self.attached.state(&self.choice),
            worker: worker.to_string(),
            stand_in: self.attached.stands_in().map(|reason| reason.to_string().into()),
            memory: shown.memory.clone().filter(|_| self.registered),
        }));
    }
}
