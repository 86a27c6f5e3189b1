//! The state of a region that is readable without its lock.

use super::choice::AllocatorState;
use super::{Region, RegionState};
use crate::core::memory::{Backing, Memory};
use std::sync::Arc;

/// An immutable snapshot, replaced under the region's lock.
#[derive(Clone)]
pub(super) struct Shown {
    pub(super) registered: bool,
    pub(super) allocator: AllocatorState,
    /// The name of the allocator that is at work, or that is being started.
    pub(super) worker: String,
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

    /// The kind of memory behind its addresses; `None` for addresses alone, and when it is not
    /// registered any more.
    pub fn backing(&self) -> Option<Backing> {
        self.memory().map(|memory| memory.backing())
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
            memory: shown.memory.clone().filter(|_| self.registered),
        }));
    }
}
