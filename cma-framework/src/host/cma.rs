//! The facade: everything that a host calls, and the only place where the configuration changes.
//!
//! By purpose: `setup` (boards, command line, early regions), `regions` and `allocators` (what is
//! registered), `request`, `source`, `alloc` and `sharing` (requests), `pending` and `waiters`
//! (those that wait), `restore` (chunks of a process that has ended), `info`, `explain`, `observe`,
//! `shadow`, and `askers` (numbers of device names).

mod alloc;
mod allocators;
mod askers;
mod explain;
mod info;
mod observe;
mod pending;
mod regions;
mod request;
pub(crate) mod restore;
mod setup;
mod shadow;
mod sharing;
mod source;
mod waiters;

use crate::host::region::{Allocators, Chunk, DeviceAndType, OwningFramework, Region, Registered};
use crate::host::snapshot::Snapshot;
use crate::host::watches::Watches;
use crate::host::write_errors::WriteErrorLog;
use crate::host::write_listener::WriteListener;
use crate::vocabulary::Map;
pub use allocators::{Attachments, Replacement};
use arc_swap::{ArcSwap, Guard};
use askers::Askers;
use cma_api::{Asker, Request};
pub use observe::Observation;
pub use pending::PendingChunk;
pub(crate) use request::type_of;
use setup::Setup;
pub use shadow::ShadowError;
use shadow::Shadows;
pub use sharing::SharingRequest;
pub use source::Source;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use waiters::Waiters;
pub use waiters::WaitingRequest;

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
    /// Its lock serialises changes of the configuration ([`ConfigLock`]).
    setup: Mutex<Setup>,
    /// Serialises reserving and registering early regions. The host's reserver runs under it.
    reserving: Mutex<()>,
    /// Numbers of the (device, type) pairs that a rule has matched.
    askers: Askers,
    /// Requests that wait. They are called after each change of the configuration.
    waiters: Waiters,
    /// Those who observe the framework.
    watches: Watches,
    /// The shadows of regions.
    shadows: Shadows,
    /// The refused writes to its attributes.
    pub(crate) write_errors: WriteErrorLog,
    /// Who keeps what is written to them.
    pub(crate) write_listener: WriteListener,
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
            waiters: Waiters::default(),
            watches: Watches::default(),
            shadows: Shadows::default(),
            write_errors: WriteErrorLog::default(),
            write_listener: WriteListener::default(),
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
        self.setup().change(|snapshot| snapshot.with_map(map));
    }

    fn setup(&self) -> ConfigLock<'_> {
        ConfigLock::new(self, self.0.setup.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The same, if no other thread has the lock.
    fn try_setup(&self) -> Option<ConfigLock<'_>> {
        Some(ConfigLock::new(self, self.0.setup.try_lock().ok()?))
    }

    pub(crate) fn framework(&self) -> &Framework {
        &self.0
    }
}

/// The lock under which the configuration changes.
struct ConfigLock<'a> {
    framework: &'a Framework,
    setup: MutexGuard<'a, Setup>,
    /// Calls the requests that wait, after the lock is released: fields are dropped in this order.
    changed: Changed<'a>,
}

/// Calls the requests that wait when it is dropped, if the configuration has changed. What makes
/// them try again may be a host's code, so no lock is held then.
#[must_use = "the requests that wait are called when it is dropped"]
struct Changed<'a>(Option<&'a Waiters>);

impl<'a> ConfigLock<'a> {
    fn new(cma: &'a Cma, setup: MutexGuard<'a, Setup>) -> Self {
        ConfigLock { framework: &cma.0, setup, changed: Changed(None) }
    }

    /// Swaps in the next snapshot.
    fn change(&mut self, next: impl FnOnce(&Snapshot) -> Snapshot) {
        let snapshot = next(&self.framework.snapshot.load());
        let generation = snapshot.generation;
        self.framework.snapshot.store(Arc::new(snapshot));
        self.framework.generation.store(generation, Ordering::Release);
        self.changed.0 = Some(&self.framework.waiters);
    }

    /// Releases the lock.
    fn release(self) -> Changed<'a> {
        self.changed
    }
}

impl Deref for ConfigLock<'_> {
    type Target = Setup;

    fn deref(&self) -> &Setup {
        &self.setup
    }
}

impl DerefMut for ConfigLock<'_> {
    fn deref_mut(&mut self) -> &mut Setup {
        &mut self.setup
    }
}

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        if let Some(waiters) = self.0 {
            waiters.call_all();
        }
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
