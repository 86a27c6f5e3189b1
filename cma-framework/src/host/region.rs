//! A region at work: its allocator and its books behind one lock.
//!
//! # Terms
//!
//! - The *books* ([`Books`]) record every live chunk and count what was served and refused. They
//!   are pure bookkeeping (`core::books`), and they alone decide what is free: an allocator only
//!   proposes.
//! - The *allocator* is a plug-in that proposes places. A region asks for one by its *choice*
//!   ([`AllocatorChoice`]) and may have to wait until it is registered. [`Attached`] is its present
//!   state: none, a [`Service`], or one that is out of service.
//! - A *guard* ([`Chunk`]) owns a live chunk and frees it when it is dropped. A chunk without a
//!   guard is known by its address.
//! - A region is *stuck* while its allocator doesn't return from a call. What can't wait until then
//!   is *deferred* (`deferred`).
//! - Requests may *wait* for room, in the region's *queue* ([`queue`]).
//! - Memory is *set aside* (`aside`) while a process that had it before still holds it.
//! - A device may *keep* chunks that it frees, in a *cache* ([`keeping`]). They are booked, and
//!   free for everybody.
//! - A chunk is *restored* ([`restore`]) when a process had it that has ended. An allocator that
//!   isn't the region's choice and adopts such chunks is a *stand-in*.
//!
//! # Locks
//!
//! | lock | protects | held while | threads wait for it |
//! | --- | --- | --- | --- |
//! | `state` | books, allocator, choice, memory set aside, queue | one operation, calls of the allocator included | spinning, then sleeping, for 3 s at most |
//! | `deferred` | operations deferred until `state` is free | a few instructions | yes |
//! | `huge` | sizes of chunks of 256 GiB and more | a few instructions | yes |
//! | `outbox` | events that are not delivered yet | a few instructions | yes |
//! | `caches` | the list of caches | a few instructions for each cache | yes |
//! | of a cache | what a device keeps | a few instructions | the device doesn't |
//! | of a watch | events that its observer has not received | a few instructions | yes |
//!
//! Watches are in `host::watches`.
//!
//! `state` is a spin lock, released by a plain store; see [`lock`] for how threads wait. The others
//! are taken after it, and no other lock is taken while one is held, except that of a cache under
//! `caches`. No lock of the framework is held while `state` is waited for, and no two regions'
//! locks at once, so requests to different regions never meet.
//!
//! [`Shown`] is an immutable snapshot of what is known without the books: whether the region is
//! registered, its allocator, its memory. It is replaced under `state` and read without a lock,
//! also while the region is stuck.
//!
//! # Allocators that break their contract
//!
//! - *It lies*: it proposes a place that is outside the region, unaligned, of the wrong size, or
//!   taken; it refuses to free a live chunk. The books refuse the placement, or free the chunk
//!   nevertheless, and the allocator is taken out of service (`AllocatorFault`).
//! - *It panics*: the ABI boundary catches the panic and reports it; the allocator is taken out of
//!   service.
//! - *It blocks*: callers wait for 3 s in total. Then the region is stuck: requests are refused and
//!   frees are deferred until the allocator returns.
//!
//! An allocator out of service is never called again. Its region serves nothing until another one
//! adopts the live chunks. They stay where they are, and can be freed.
//!
//! # Invariants
//!
//! 1. Only the allocator runs under `state`. Events, calls of those who wait, and the drop of
//!    objects that may run a plug-in's or a host's code, are collected under it and happen after it
//!    is released ([`lock::LockedState`]).
//! 2. The region's events are queued under `state`, so they are delivered in the order of the
//!    changes.
//! 3. A chunk is booked only where its allocator placed or adopted it, except when the allocator
//!    can't adopt a range that it had placed itself; then it is out of service. A chunk is restored
//!    without an allocator, and whichever is attached afterwards adopts it.
//! 4. A free is never refused and never lost. The chunk stays booked until a deferred free is
//!    carried out.
//! 5. Nothing is placed, and the books are not read, before deferred operations are carried out.
//!    Except on the fast path, what devices keep is freed before that.
//! 6. `live_limit` is 0 while something is deferred, a request waits, the region is observed, or
//!    no allocator serves. The fast path of a request compares it with the number of live chunks
//!    anyway, so it has no further branch for 5, 7 and events. A call that had the allocator work
//!    looks at it before it releases the lock.
//! 7. While requests wait, only the one that asked first is placed. Whatever may have made room for
//!    it has it tried again, and so has its leaving for the next one.
//! 8. While requests wait, an operation that is deferred is carried out by the thread that has the
//!    lock then, or by one that gets it at once.
//! 9. A region that was unregistered is never registered again. Handles to it stay valid.
//!
//! # Left out
//!
//! - The region doesn't search for places itself, not even when its allocator declines a request
//!   that would fit.
//! - A thread that waits for `state` is not woken; releasing the lock would need to know about it.
//! - An allocator that blocks for ever is not killed: it runs in the host's process.
//! - The lock is not fair. An operation takes less than a tenth of a microsecond.

mod aside;
mod attach;
mod cache;
mod change;
mod choice;
mod deferred;
mod explain;
mod figures;
mod free;
mod guard;
mod keeping;
mod lock;
mod queue;
mod request;
mod restore;
mod service;
mod shown;
mod verify;
mod waiter;
mod watch;

use crate::core::books::{Books, Slot};
use crate::core::memory::Memory;
pub(crate) use crate::core::set_aside::Recheck;
use crate::core::set_aside::SetAsideParts;
use crate::host::events::{self, Outbox};
use crate::host::watches::{ToWake, Watches};
use crate::vocabulary::errors::{Reason, UnregisterError};
use crate::vocabulary::{EventRegion, What};
use arc_swap::ArcSwap;
use attach::{Attached, Service};
pub(crate) use attach::{find as find_allocator, one_line};
use cache::{Cache, Caches};
pub(crate) use choice::Allocators;
pub use choice::{AllocatorChoice, AllocatorState, ChangeError, Registered};
use cma_api::{Asker, PageRange, Pages, Request};
use deferred::DeferredWork;
pub(crate) use explain::{Knowledge, Patience};
pub(crate) use figures::DeviceAndType;
pub use figures::RegionStatus;
pub(crate) use free::NotFreed;
pub use guard::Chunk;
pub(crate) use queue::Attempt;
use queue::WaitQueue;
pub(crate) use restore::NotBooked;
use shown::Shown;
use spin::mutex::SpinMutex;
use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
pub(crate) use waiter::Waiter;

/// A handle to a registered region. Clones are handles to the same region.
///
/// It is the only way into a *private* region, one without a name.
#[derive(Clone)]
pub struct Region(Arc<Handle>);

/// What handles to a region share. A device has its own, so that its thread counts its guards in
/// memory that no other thread changes.
struct Handle {
    inner: Arc<RegionInner>,
    keeping: Option<Keeping>,
}

/// What the handle of a device has that keeps chunks.
struct Keeping {
    /// Chunks that were freed through this handle, for the requests through it.
    cache: Cache,
    /// The handle for everybody else.
    plain: Region,
}

impl Deref for Handle {
    type Target = RegionInner;

    #[inline]
    fn deref(&self) -> &RegionInner {
        &self.inner
    }
}

struct RegionInner {
    /// The number of the framework it belongs to.
    framework_id: u64,
    framework: Weak<dyn OwningFramework>,
    name: Option<Arc<str>>,
    range: PageRange,
    /// A request takes the fast path while fewer chunks are live: [`Books::MOST_LIVE`], or 0 while
    /// something is [`deferred`](Self::deferred), a request waits, the region is observed, or no
    /// allocator serves.
    live_limit: AtomicU32,
    state: SpinMutex<RegionState>,
    shown: ArcSwap<Shown>,
    deferred: Mutex<DeferredWork>,
    /// The sizes of chunks that are too large for their guard to hold the number.
    huge: Mutex<HashMap<Slot, Pages>>,
    outbox: Outbox,
    watches: Watches,
    caches: Caches,
}

struct RegionState {
    /// Cleared for good when the region is unregistered.
    registered: bool,
    choice: AllocatorChoice,
    attached: Attached,
    books: Books,
    /// Events to be delivered after the lock is released.
    events: Vec<What>,
    /// Objects to be dropped after the lock is released, because that may run a plug-in's or a
    /// host's code.
    dropped_later: Vec<Box<dyn Any + Send>>,
    /// Booked parts whose memory can't be used now.
    set_aside: SetAsideParts,
    queue: WaitQueue,
    /// Whether `watches` has any.
    observed: bool,
    /// Threads of watches to be woken after the lock is released.
    to_wake: ToWake,
}

/// The services of the framework that a region uses.
pub(crate) trait OwningFramework: Send + Sync {
    /// Distinguishes the frameworks of the process.
    fn id(&self) -> u64;

    /// A chunk for the device and type that made `request`, by the map in force, from another
    /// region than `besides`.
    fn alloc_elsewhere(&self, request: &Request, besides: &Region) -> Option<Chunk>;

    /// The device and the type that `asker` stands for.
    fn names_of(&self, asker: Asker) -> Option<DeviceAndType>;
}

impl Region {
    pub(crate) fn new(
        framework: &Arc<impl OwningFramework + 'static>,
        name: Option<Arc<str>>,
        range: PageRange,
        choice: AllocatorChoice,
    ) -> Self {
        let framework_id = framework.id();
        let framework = Arc::downgrade(framework);
        let attached = Attached::Nothing { failure: None };
        Region::from_inner(Arc::new(RegionInner {
            framework_id,
            framework,
            name,
            range,
            live_limit: AtomicU32::new(0),
            shown: ArcSwap::from_pointee(Shown {
                registered: true,
                allocator: attached.state(&choice),
                worker: choice.name().unwrap_or_default().to_string(),
                stand_in: None,
                memory: None,
            }),
            deferred: Mutex::default(),
            huge: Mutex::default(),
            outbox: Outbox::default(),
            watches: Watches::default(),
            caches: Caches::default(),
            state: SpinMutex::new(RegionState {
                registered: true,
                choice,
                attached,
                books: Books::new(range),
                events: Vec::new(),
                dropped_later: Vec::new(),
                set_aside: SetAsideParts::default(),
                queue: WaitQueue::default(),
                observed: false,
                to_wake: ToWake::default(),
            }),
        }))
    }

    /// Sets the memory of a new region.
    pub(crate) fn give_memory(&self, memory: Option<Box<dyn Memory>>) {
        let memory = memory.map(Arc::from);
        self.0.shown.rcu(|shown| Shown { memory: memory.clone(), ..Shown::clone(shown) });
    }

    /// Has the events of the region delivered from now on. Those that it had before it was
    /// registered are delivered by [`announce`](Self::announce), or with its next event.
    pub(crate) fn open_outbox(&self) {
        self.0.outbox.open();
    }

    /// Delivers the events that the region had before it was registered.
    pub(crate) fn announce(&self) {
        self.0.outbox.deliver(self);
    }

    /// Attaches the allocator that was given with the region, which is not registered yet.
    pub(crate) fn attach_given(&self) -> Result<(), Reason> {
        self.enter()?.start_given(self)
    }

    /// Ends the region, if no chunk is live.
    pub(crate) fn unregister(&self) -> Result<(), UnregisterError> {
        let mut state = self.enter()?;
        let aside = state.set_aside.len() as u32;
        match (state.registered, state.books.live()) {
            (false, _) => Err(UnregisterError::NotRegistered),
            (true, live) if live == aside => {
                state.free_set_aside(self);
                state.registered = false;
                state.replace_attached(self, Attached::Nothing { failure: None });
                state.report(self, What::Ended);
                Ok(())
            }
            (true, live) => Err(UnregisterError::Busy { users: live - aside }),
        }
    }

    /// The name by which the map reaches it; `None` for a private region.
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    pub(crate) fn shared_name(&self) -> Option<&Arc<str>> {
        self.0.name.as_ref()
    }

    /// Its place.
    pub fn range(&self) -> PageRange {
        self.0.range
    }

    /// The number of the framework it belongs to.
    pub(crate) fn framework_id(&self) -> u64 {
        self.0.framework_id
    }

    /// The framework it belongs to, as long as that exists.
    fn framework(&self) -> Option<Arc<dyn OwningFramework>> {
        self.0.framework.upgrade()
    }

    fn huge_guards(&self) -> MutexGuard<'_, HashMap<Slot, Pages>> {
        self.0.huge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delivers an event that happened without the lock.
    fn report(&self, event: What) {
        if self.queue(event) {
            self.0.outbox.deliver(self);
        }
    }

    /// Queues an event that happened without the lock. Returns whether its delivery is due.
    fn queue(&self, event: What) -> bool {
        drop(self.0.watches.push(|| self.as_event_region(), &event));
        events::wanted(&event) && self.0.outbox.queue([event])
    }

    fn as_event_region(&self) -> EventRegion {
        EventRegion { name: self.0.name.clone(), range: self.0.range }
    }
}

impl RegionState {
    /// Has `event` delivered after the lock is released.
    fn report(&mut self, region: &Region, event: What) {
        if self.observed {
            let to_wake = region.0.watches.push(|| region.as_event_region(), &event);
            self.to_wake.add(to_wake);
        }
        if events::wanted(&event) {
            self.events.push(event);
        }
    }

    /// Drops `object` after the lock is released.
    fn drop_later(&mut self, object: impl Any + Send) {
        self.dropped_later.push(Box::new(object));
    }
}

impl fmt::Display for Region {
    /// The name, or the range of a private region.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0.range),
        }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region({:?} {})", self.name(), self.0.range)
    }
}

impl PartialEq for Region {
    /// Whether both are handles to the same region.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0.inner, &other.0.inner)
    }
}

impl Eq for Region {}
