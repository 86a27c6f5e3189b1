//! The facade: everything that a host calls, and the only place where the configuration changes.
//!
//! By purpose: `setup` (boards, command line, early regions), `regions` and `allocators` (what is
//! registered), `request`, `alloc`, `source` and `sharing` (requests), `info`, and `askers` (numbers of
//! device names).

mod alloc;
mod allocators;
mod askers;
mod info;
mod regions;
mod request;
mod setup;
mod sharing;
mod source;

use crate::host::region::{Allocators, Chunk, DeviceAndType, OwningFramework, Region, Registered};
use crate::host::snapshot::Snapshot;
use crate::vocabulary::Map;
pub use allocators::{Attachments, Replacement};
use arc_swap::{ArcSwap, Guard};
use askers::Askers;
use cma_api::{Asker, Request};
pub(crate) use request::type_of;
use setup::Setup;
pub use sharing::SharingRequest;
pub use source::Source;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The contiguous memory framework: regions, the map, and allocators bound late. Clones are handles
/// to the same framework.
///
/// It places no chunk itself: it stands between devices and allocators. Every call may come from
/// any thread. While an allocator works, its region's lock is held and no other, so it delays
/// neither requests to other regions nor changes of the configuration that don't concern that
/// region.
///
/// Errors are also emitted as [`tracing`] events, after the change that an event describes is
/// complete and without a region's lock. A panic of a subscriber is caught where the event is
/// emitted.
///
/// A region whose allocator doesn't return from a call is *stuck*. After some seconds requests to
/// it are refused ([`Reason::Stuck`](crate::Reason::Stuck), `EIO`), and frees are deferred until
/// the allocator returns.
///
/// ```
/// use cma_framework::config::{Bank, Growth, Map};
/// use cma_framework::reserve::Banks;
/// use cma_framework::{Cma, DmaAddr};
///
/// let cma = Cma::new();
/// cma.command_line(Some("frames=16M@0x40000000"), Some("camera,video=frames"))?;
/// cma.early_regions_reserve(&mut Banks::new(&[Bank::new(0x4000_0000, 0x800_0000)], Growth::Up));
/// cma.initialise();
///
/// // No allocator is registered yet, so the refusal says what the region waits for.
/// let error = cma.alloc("camera", None, 4096, 0).unwrap_err();
/// assert!(error.to_string().contains("waits for the first one to be registered"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Cma(Arc<Framework>);

/// The state behind every handle to one framework.
///
/// A request whose route is kept takes none of these locks. While an allocator runs, at most
/// `reserving` is held: [`Cma::initialise`] starts the allocators that are given with early
/// regions.
#[derive(Debug)]
pub(crate) struct Framework {
    /// Distinguishes this framework's regions from those of others in the process.
    id: u64,
    snapshot: ArcSwap<Snapshot>,
    /// The generation of the snapshot above, readable without loading it.
    generation: AtomicU64,
    /// Its lock serialises changes of the configuration.
    setup: Mutex<Setup>,
    /// Serialises reserving and registering early regions. The host's reserver runs under it.
    reserving: Mutex<()>,
    /// Numbers of the (device, type) pairs that a rule has matched.
    askers: Askers,
}

impl Default for Cma {
    fn default() -> Self {
        Cma::new()
    }
}

impl Cma {
    /// A framework without regions, map or allocators.
    pub fn new() -> Self {
        static FRAMEWORKS: AtomicU64 = AtomicU64::new(0);
        Cma(Arc::new(Framework {
            id: FRAMEWORKS.fetch_add(1, Ordering::Relaxed),
            reserving: Mutex::default(),
            snapshot: ArcSwap::from_pointee(Snapshot::new()),
            generation: AtomicU64::new(0),
            setup: Mutex::default(),
            askers: Askers::default(),
        }))
    }

    /// The map in force.
    pub fn map(&self) -> Arc<Map> {
        self.0.snapshot.load().map.clone()
    }

    /// Puts `map` in force, at once and whole. Requests in progress finish by the old one. A
    /// request skips names of regions that don't exist; [`lint`](crate::core::lint) finds them
    /// beforehand.
    pub fn set_map(&self, map: Map) {
        let _setup = self.setup();
        self.change(|snapshot| snapshot.with_map(map));
    }

    fn setup(&self) -> MutexGuard<'_, Setup> {
        self.0.setup.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Swaps in the next snapshot. The caller holds the lock of `setup`.
    fn change(&self, next: impl FnOnce(&Snapshot) -> Snapshot) {
        let snapshot = next(&self.0.snapshot.load());
        let generation = snapshot.generation;
        self.0.snapshot.store(Arc::new(snapshot));
        self.0.generation.store(generation, Ordering::Release);
    }

    pub(crate) fn framework(&self) -> &Framework {
        &self.0
    }
}

impl OwningFramework for Framework {
    fn id(&self) -> u64 {
        self.id
    }

    fn alloc_elsewhere(&self, request: &Request, besides: &Region) -> Option<Chunk> {
        self.alloc_besides(request, besides)
    }

    fn names_of(&self, asker: Asker) -> Option<DeviceAndType> {
        self.askers.names()(asker)
    }
}

impl Framework {
    pub(crate) fn snapshot(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

impl Allocators for Framework {
    fn read<T>(&self, f: impl FnOnce(&[Registered]) -> T) -> T {
        f(&self.snapshot.load().allocators)
    }
}
