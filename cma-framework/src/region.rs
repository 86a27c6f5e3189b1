//! A registered region: its place, its allocator and its books, behind one lock.
//!
//! Nothing above takes this lock but through these methods, and nothing below takes another: requests to different
//! regions never meet. A plug-in is called under the lock of its region alone.

mod account;
mod aside;
mod attach;
mod chunks;
mod guard;
mod holder;
mod lock;
mod occupancy;
mod verify;

use crate::allocate::{Misplacement, Reason};
use crate::clock::Moment;
use crate::cma::Shared as Framework;
use crate::events;
use crate::memory::{Backing, Memory};
use crate::register::UnregisterError;
use account::Account;
pub use account::{Failure, Owner, RegionStatistics};
use aside::Aside;
pub(crate) use aside::Look;
pub(crate) use attach::Allocators;
use attach::Attached;
pub use attach::{AllocatorChoice, AllocatorState, ChangeError, Registered};
use chunks::{Booked, ChunkTable, Slot};
use cma_api::abi_stable::std_types::RResult;
use cma_api::v1::{AllocatorBox, Refused};
use cma_api::{Alignment, Asker, PageRange, Pages, Placement, Request, Tag};
pub use guard::Chunk;
pub use holder::{Holder, Process};
use spin::mutex::SpinMutex;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::{fmt, mem};

/// A handle to a registered region. Clones are handles to the same region.
///
/// It is the only way into a *private* region, one without a name.
#[derive(Clone)]
pub struct Region(Arc<Shared>);

struct Shared {
    /// The number of the framework it belongs to.
    owner: u64,
    framework: Weak<Framework>,
    name: Option<Arc<str>>,
    range: PageRange,
    state: SpinMutex<State>,
}

struct State {
    /// Cleared for good when the region is unregistered; handles may outlive that.
    registered: bool,
    choice: AllocatorChoice,
    attached: Attached,
    chunks: ChunkTable,
    account: Account,
    /// What is behind the addresses, as long as it is registered.
    memory: Option<Arc<dyn Memory>>,
    /// Booked parts whose memory nobody can be given. Those that were looked at longest ago come
    /// first.
    aside: VecDeque<Aside>,
}

/// A region's figures at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegionStatus {
    /// Free space in bytes.
    pub free_bytes: u64,
    /// Live chunks.
    pub users: u32,
    /// The largest hole, as the allocator says; none without an allocator.
    pub largest_hole: Pages,
    /// The same in bytes.
    pub largest_hole_bytes: u64,
    /// Its allocator, or what it waits for.
    pub allocator: AllocatorState,
}

impl Region {
    pub(crate) fn new(
        framework: &Arc<Framework>,
        name: Option<Arc<str>>,
        range: PageRange,
        choice: AllocatorChoice,
    ) -> Self {
        Region(Arc::new(Shared {
            owner: framework.id(),
            framework: Arc::downgrade(framework),
            name,
            range,
            state: SpinMutex::new(State {
                registered: true,
                choice,
                attached: Attached::Nothing { failure: None },
                chunks: ChunkTable::new(range),
                account: Account::new(range.pages()),
                memory: None,
                aside: VecDeque::new(),
            }),
        }))
    }

    /// A new region becomes one that is registered: it gets its memory, and the allocator that was given with it is at work.
    pub(crate) fn begin(&self, memory: Option<Box<dyn Memory>>) {
        let state = &mut *self.lock();
        state.memory = memory.map(Arc::from);
        if let Attached::Allocator(service) = &state.attached {
            events::attached(self, service.name());
        }
    }

    pub(crate) fn memory(&self) -> Option<Arc<dyn Memory>> {
        self.lock().memory.clone()
    }

    /// What memory is behind its addresses; `None` for addresses alone, and when it is not registered any more.
    pub fn backing(&self) -> Option<Backing> {
        self.memory().map(|memory| memory.backing())
    }

    /// The name by which the map reaches it; `None` for a private region.
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    pub(crate) fn shared_name(&self) -> Option<&Arc<str>> {
        self.0.name.as_ref()
    }

    /// The number of the framework it belongs to.
    pub(crate) fn owner(&self) -> u64 {
        self.0.owner
    }

    /// The framework it belongs to, as long as that exists.
    fn framework(&self) -> Option<Arc<Framework>> {
        self.0.framework.upgrade()
    }

    /// Its place.
    pub fn range(&self) -> PageRange {
        self.0.range
    }

    /// Whether it still is registered.
    pub fn is_registered(&self) -> bool {
        self.lock().registered
    }

    /// Its free space.
    pub fn free(&self) -> Pages {
        self.lock().account.free
    }

    /// How many chunks are live in it.
    pub fn users(&self) -> u32 {
        self.lock().chunks.live()
    }

    /// Its allocator, or what it waits for. The allocator is not asked.
    pub fn allocator(&self) -> AllocatorState {
        let state = self.lock();
        state.attached.state(&state.choice)
    }

    /// What it has served and refused since it was registered.
    pub fn statistics(&self) -> RegionStatistics {
        self.lock().account.statistics()
    }

    /// The live chunks in ascending order of address. `name` gives (device, type) pairs their names.
    pub(crate) fn owners(&self, mut name: impl FnMut(Asker) -> Option<(Arc<str>, Arc<str>)>) -> Vec<Owner> {
        let live: Vec<_> = {
            let chunks = &self.lock().chunks;
            let holder = |(slot, booked): (Slot, Booked)| (booked, chunks.holder(slot).cloned());
            chunks.ascending().into_iter().map(holder).collect()
        };
        let owner = |(booked, holder): (Booked, Option<Arc<Holder>>)| Owner {
            range: booked.range,
            device: holder.as_ref().and_then(|holder| holder.device.clone()).or_else(|| name(booked.asker)),
            process: holder.map(|holder| holder.process.clone()),
            age: booked.since.age(),
        };
        live.into_iter().map(owner).collect()
    }

    /// The numbers of the pairs that its books refer to.
    pub(crate) fn askers(&self) -> Vec<Asker> {
        let state = self.lock();
        let refused = state.account.failures().map(|refused| refused.request.asker());
        state.chunks.askers().chain(refused).collect()
    }

    /// The last refusals, oldest first.
    pub(crate) fn failures(
        &self,
        mut name: impl FnMut(Asker) -> Option<(Arc<str>, Arc<str>)>,
    ) -> Vec<Failure> {
        let refused: Vec<_> = self.lock().account.failures().cloned().collect();
        let failure = |account::Refused { request, reason, when }| Failure {
            bytes: request.pages().bytes(),
            alignment: request.alignment(),
            device: name(request.asker()),
            reason,
            age: when.age().unwrap_or_default(),
        };
        refused.into_iter().map(failure).collect()
    }

    /// Its figures, all of one moment. The largest hole is asked of the allocator.
    pub fn status(&self) -> RegionStatus {
        let state = &mut *self.lock();
        let largest_hole = state.largest_hole(self).unwrap_or_default();
        RegionStatus {
            free_bytes: state.account.free.bytes(),
            users: state.chunks.live(),
            largest_hole,
            largest_hole_bytes: largest_hole.bytes(),
            allocator: state.attached.state(&state.choice),
        }
    }

    /// A chunk of this region. `registered` is asked when the region has no allocator yet.
    #[inline(always)]
    pub(crate) fn allocate(
        &self,
        request: &Request,
        registered: &impl Allocators,
    ) -> Result<Chunk, Box<Reason>> {
        // The chunk is put together when the lock is free again: it would only be moved about meanwhile.
        let (first, tag, slot) = match self.place(request, registered) {
            Ok(placed) => placed,
            Err(reason) => self.place_once_more(request, registered, reason)?,
        };
        Ok(Chunk::new(self.clone(), first, request.pages(), request.alignment(), tag, slot))
    }

    /// Places a request that was refused for `reason`, if memory that was set aside can be had
    /// again. The refusal was counted.
    #[cold]
    fn place_once_more(
        &self,
        request: &Request,
        registered: &impl Allocators,
        reason: Box<Reason>,
    ) -> Result<(u64, Tag, Slot), Box<Reason>> {
        if self.look_aside(Look::Needed).recovered { self.place(request, registered) } else { Err(reason) }
    }

    /// Places and books a chunk. The answer is its first page, its tag and its slot.
    #[inline(always)]
    fn place(
        &self,
        request: &Request,
        registered: &impl Allocators,
    ) -> Result<(u64, Tag, Slot), Box<Reason>> {
        let now = Moment::now();
        let state = &mut *self.lock();
        if state.chunks.live() == ChunkTable::MOST {
            return Err(state.refuse(self, request, Reason::TooManyChunks));
        }
        let answer = match &mut state.attached {
            Attached::Allocator(service) => service.object.allocate(request),
            _ => match state.attach(self, registered) {
                Ok(service) => service.object.allocate(request),
                Err(reason) => return Err(state.refuse(self, request, *reason)),
            },
        };
        let placement = match answer {
            RResult::ROk(placement) => placement,
            RResult::RErr(refused) => return Err(self.refused(state, request, refused)),
        };
        match self.book(state, request, placement.range, now) {
            Ok(slot) => Ok((placement.range.first_page(), placement.tag, slot)),
            Err(fault) => Err(self.misplaced(state, request, fault)),
        }
    }

    /// Books a placement after every check that its allocator deserves.
    #[inline(always)]
    fn book(
        &self,
        state: &mut State,
        request: &Request,
        range: PageRange,
        now: Moment,
    ) -> Result<Slot, Misplacement> {
        if range.pages() != request.pages() {
            Err(Misplacement::WrongSize(range))
        } else if !range.within(self.0.range) {
            Err(Misplacement::Outside(range))
        } else if range.first_page() & (request.alignment().pages().get() - 1) != 0 {
            Err(Misplacement::Unaligned(range))
        } else {
            let booked = state.chunks.book(range, request.asker(), now);
            let slot = booked.map_err(|chunks::Overlaps| Misplacement::Overlaps(range))?;
            state.account.took(range.pages());
            Ok(slot)
        }
    }

    #[cold]
    fn refused(&self, state: &mut State, request: &Request, refused: Refused) -> Box<Reason> {
        let reason = match refused {
            Refused::Panicked => state.end_service(self, "it panicked while allocating"),
            Refused::No => self.no_room(state, request).unwrap_or_else(|ended| ended),
        };
        state.refuse(self, request, reason)
    }

    /// Works out why the allocator finds no place; or how it ended when it was asked.
    fn no_room(&self, state: &mut State, request: &Request) -> Result<Reason, Reason> {
        let (pages, free, region) = (request.pages(), state.account.free, self.0.range.pages());
        if region < pages {
            return Ok(Reason::TooSmall { asked_bytes: pages.bytes(), region_bytes: region.bytes() });
        } else if free < pages {
            return Ok(Reason::Full { free_bytes: free.bytes(), region_bytes: region.bytes() });
        }
        let largest = state.largest_hole(self)?;
        let largest_hole_bytes = largest.bytes();
        Ok(if largest < pages {
            Reason::Fragmented { free_bytes: free.bytes(), largest_hole_bytes }
        } else if request.alignment() > Alignment::PAGE {
            Reason::Alignment { alignment_bytes: request.alignment().bytes(), largest_hole_bytes }
        } else {
            Reason::Declined { largest_hole_bytes }
        })
    }

    /// Takes an allocator out of service whose placement was refused. It is not told: it would have to be trusted.
    #[cold]
    fn misplaced(&self, state: &mut State, request: &Request, fault: Misplacement) -> Box<Reason> {
        let allocator = state.attached.name().to_string();
        state.end_service(self, &format!("it answered {} with {fault}", Asked(request)));
        state.refuse(self, request, Reason::Misplaced { allocator, fault })
    }

    /// Frees the chunk in `slot`, which is `range` and was placed with `tag`.
    #[inline]
    fn take_back(&self, slot: Slot, range: PageRange, tag: Tag) {
        self.free_slot(&mut self.lock(), slot, range, tag);
        if events::on() {
            events::released(self, range);
        }
    }

    /// The same, under the lock. The books lose the chunk whatever the allocator says.
    #[inline]
    fn free_slot(&self, state: &mut State, slot: Slot, range: PageRange, tag: Tag) {
        let tag = state.chunks.unbook(slot, range, tag);
        state.account.got_back(range.pages());
        if let Attached::Allocator(service) = &mut state.attached
            && let RResult::RErr(refused) = service.object.free(&Placement { range, tag })
        {
            self.not_taken_back(state, range, refused);
        }
    }

    /// Notes who has the live chunk in `slot`.
    fn hold(&self, slot: Slot, holder: Arc<Holder>) {
        self.lock().chunks.hold(slot, holder);
    }

    /// Who asked for the live chunk in `slot`, and who has it.
    fn held_by(&self, slot: Slot) -> (Asker, Option<Arc<Holder>>) {
        let chunks = &self.lock().chunks;
        (chunks.asker(slot), chunks.holder(slot).cloned())
    }

    /// Makes a chunk known by its address, because its guard goes.
    fn release_guard(&self, slot: Slot, tag: Tag) {
        self.lock().chunks.index(slot, tag);
    }

    /// The range of the live chunk in `slot`.
    fn range_of(&self, slot: Slot) -> PageRange {
        self.lock().chunks.range(slot)
    }

    #[cold]
    fn not_taken_back(&self, state: &mut State, range: PageRange, refused: Refused) {
        let what = match refused {
            Refused::Panicked => format!("it panicked while freeing {range}"),
            Refused::No => format!("it refused to take back {range}, a live chunk of its own"),
        };
        state.end_service(self, &what);
    }

    /// Frees the chunk that starts at page `first` and that no guard holds.
    pub(crate) fn free_at(&self, first: u64) -> Result<(), NotFreed> {
        let mut state = self.lock();
        let Some((slot, Placement { range, tag })) = state.chunks.unindex(first) else {
            return Err(if state.chunks.starts_at(first) { NotFreed::Held } else { NotFreed::NoChunk });
        };
        self.free_slot(&mut state, slot, range, tag);
        drop(state);
        if events::on() {
            events::released(self, range);
        }
        Ok(())
    }

    /// Attaches a newly registered allocator if the region waits for it. `first` says that it is the first ever
    /// registered.
    pub(crate) fn offer(&self, registered: &Registered, first: bool) -> Option<Result<(), Reason>> {
        let state = &mut *self.lock();
        let waits = state.registered && state.waits_for(registered, first);
        waits.then(|| state.attach(self, &std::slice::from_ref(registered)).map(|_| ()).map_err(|why| *why))
    }

    /// Attaches the allocator that was given with the region.
    pub(crate) fn attach_given(&self) -> Result<(), Reason> {
        self.lock().start_given(self.0.range)
    }

    /// Ends the region, if it is empty.
    pub(crate) fn unregister(&self) -> Result<(), UnregisterError> {
        let mut state = self.lock();
        let aside = state.aside.len() as u32;
        match (state.registered, state.chunks.live()) {
            (false, _) => Err(UnregisterError::NotRegistered),
            (true, live) if live == aside => {
                state.free_aside(self);
                state.registered = false;
                let allocator = mem::replace(&mut state.attached, Attached::Nothing { failure: None });
                let memory = state.memory.take();
                allocator.detached(self);
                // Both end without the lock.
                drop(state);
                drop((allocator, memory));
                Ok(())
            }
            (true, live) => Err(UnregisterError::Busy { users: live - aside }),
        }
    }
}

impl State {
    /// Remembers a refusal.
    #[cold]
    fn refuse(&mut self, region: &Region, request: &Request, reason: Reason) -> Box<Reason> {
        events::refused(region, request, &reason);
        self.account.refuse(request, &reason);
        Box::new(reason)
    }

    /// Asks the allocator something it can't refuse. The error is how it ended: `what` says where it panicked.
    fn ask<T>(
        &mut self,
        region: &Region,
        what: &str,
        question: impl FnOnce(&mut AllocatorBox) -> T,
    ) -> Result<T, Reason> {
        let Attached::Allocator(service) = &mut self.attached else { return Err(self.attached.absence()) };
        let answer = question(&mut service.object);
        if service.object.fault().is_some() {
            return Err(self.end_service(region, what));
        }
        Ok(answer)
    }

    /// Has the allocator take `range`, which is free, for a chunk.
    fn adopt(&mut self, region: &Region, range: PageRange) -> Option<Tag> {
        let adopted = self.ask(region, "it panicked while adopting", |object| object.adopt(range));
        adopted.ok()?.into_result().ok()
    }

    fn largest_hole(&mut self, region: &Region) -> Result<Pages, Reason> {
        let asking = "it panicked while looking for its largest hole";
        let largest = self.ask(region, asking, AllocatorBox::largest_hole)?;
        if largest > self.account.free {
            let what = format!(
                "it says that {} pages are free in one piece, of {}",
                largest.get(),
                self.account.free.get()
            );
            return Err(self.end_service(region, &what));
        }
        Ok(largest)
    }

    /// Takes the allocator out of service for good and says why. Its live chunks stay booked and can be freed.
    #[cold]
    fn end_service(&mut self, region: &Region, what: &str) -> Reason {
        self.attached = match mem::replace(&mut self.attached, Attached::Nothing { failure: None }) {
            Attached::Allocator(service) => {
                let allocator = service.name().to_string();
                let reason = match service.object.fault().into_option() {
                    Some(message) => format!("{what}: {}", attach::one_line(&message)),
                    None => what.to_string(),
                };
                tracing::error!(region = %region, allocator, reason, "allocator taken out of service");
                events::detached(region, &allocator);
                Attached::OutOfService { allocator, reason, _ended: Box::new(service) }
            }
            absent => absent,
        };
        self.attached.absence()
    }
}

/// Why an address was not freed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotFreed {
    NoChunk,
    Held,
}

/// A request in words.
struct Asked<'a>(&'a Request);

impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes aligned to {}", self.0.pages().bytes(), self.0.alignment().bytes())
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
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Region {}
