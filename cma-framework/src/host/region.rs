//! A registered region: its place, its allocator and its books, behind one lock.
//!
//! Nothing above takes this lock but through these methods, and nothing below takes another:
//! requests to different regions never meet. A plug-in is called under the lock of its region
//! alone, and nothing else foreign is: see `lock`. What can be told without the lock, also while an
//! allocator doesn't return, is in `Shown`.

mod account;
mod aside;
mod attach;
mod chunks;
mod guard;
mod holder;
mod lock;
mod occupancy;
mod verify;

use crate::core::memory::{Backing, Memory};
use crate::host::clock::Moment;
use crate::host::cma::Framework;
use crate::host::events::{self, Event};
use crate::vocabulary::errors::UnregisterError;
use crate::vocabulary::errors::{Misplacement, Reason, Stuck};
use account::Account;
pub use account::{Failure, Owner, RegionStatistics};
use arc_swap::ArcSwap;
use aside::Aside;
pub(crate) use aside::Look;
pub(crate) use attach::Allocators;
use attach::Attached;
pub use attach::{AllocatorChoice, AllocatorState, ChangeError, Registered};
use chunks::{Booked, ChunkTable, Room, Slot};
use cma_api::abi_stable::std_types::RResult;
use cma_api::v1::{AllocatorBox, CallFailure};
use cma_api::{Alignment, Asker, PageRange, Pages, Placement, Request, Tag};
pub use guard::Chunk;
pub use holder::{Holder, Process};
use lock::{After, Inside, Late, Left};
use spin::mutex::{SpinMutex, SpinMutexGuard};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
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
    /// A request goes the short way while fewer chunks are live than this: [`ChunkTable::MOST`], or
    /// 0 while something is [`late`](Self::late).
    most: AtomicU32,
    state: SpinMutex<State>,
    shown: ArcSwap<Shown>,
    late: Mutex<Late>,
    /// The pages of chunks whose guards can't hold the number.
    huge: Mutex<HashMap<Slot, Pages>>,
}

/// What anybody may know of a region without its lock. Changed under the lock.
#[derive(Clone)]
struct Shown {
    registered: bool,
    allocator: AllocatorState,
    /// The name of the allocator that is at work, or was asked to start.
    worker: String,
    /// What is behind the addresses, as long as it is registered.
    memory: Option<Arc<dyn Memory>>,
}

struct State {
    /// Cleared for good when the region is unregistered; handles may outlive that.
    registered: bool,
    choice: AllocatorChoice,
    attached: Attached,
    chunks: ChunkTable,
    account: Account,
    /// What happens when the lock is free again.
    after: Vec<After>,
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
    /// The largest free range by the books. An allocator may refuse a request that would fit there.
    pub largest_hole: Pages,
    /// The same in bytes.
    pub largest_hole_bytes: u64,
    /// Its allocator, or what it waits for.
    pub allocator: AllocatorState,
    /// Why the figures are not known: then they are 0.
    pub stuck: Option<Stuck>,
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
            most: AtomicU32::new(ChunkTable::MOST),
            shown: ArcSwap::from_pointee(Shown {
                registered: true,
                allocator: Attached::Nothing { failure: None }.state(&choice),
                worker: choice.name().unwrap_or_default().to_string(),
                memory: None,
            }),
            late: Mutex::default(),
            huge: Mutex::default(),
            state: SpinMutex::new(State {
                registered: true,
                choice,
                attached: Attached::Nothing { failure: None },
                chunks: ChunkTable::new(range),
                account: Account::new(range.pages()),
                after: Vec::new(),
                aside: VecDeque::new(),
            }),
        }))
    }

    /// Gives a new region its memory.
    pub(crate) fn give_memory(&self, memory: Option<Box<dyn Memory>>) {
        let memory = memory.map(Arc::from);
        self.0.shown.rcu(|shown| Shown { memory: memory.clone(), ..Shown::clone(shown) });
    }

    /// Says that the allocator that was given with a new region is at work.
    pub(crate) fn tell_attached(&self) {
        let shown = self.0.shown.load();
        if let AllocatorState::Attached(_) = shown.allocator {
            Event::Attached { allocator: shown.worker.clone() }.tell(self);
        }
    }

    pub(crate) fn memory(&self) -> Option<Arc<dyn Memory>> {
        self.0.shown.load().memory.clone()
    }

    /// What memory is behind its addresses; `None` for addresses alone, and when it is not
    /// registered any more.
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
        self.0.shown.load().registered
    }

    /// Its allocator, or what it waits for. The allocator is not asked.
    pub fn allocator(&self) -> AllocatorState {
        self.0.shown.load().allocator.clone()
    }

    /// Whether its allocator doesn't return from a call. When nobody has waited for it yet, this
    /// waits some seconds; once that is known the answer comes at once.
    pub fn stuck(&self) -> Option<Stuck> {
        self.enter().err()
    }

    /// Its free space.
    ///
    /// # Errors
    ///
    /// [`Stuck`]: nobody can look at the books while its allocator doesn't return.
    pub fn free(&self) -> Result<Pages, Stuck> {
        Ok(self.enter()?.account.free)
    }

    /// How many chunks are live in it.
    ///
    /// # Errors
    ///
    /// [`Stuck`].
    pub fn users(&self) -> Result<u32, Stuck> {
        Ok(self.enter()?.chunks.live())
    }

    /// The largest free range by the books.
    pub(crate) fn largest_hole(&self) -> Result<Pages, Stuck> {
        Ok(self.enter()?.chunks.largest_hole())
    }

    /// What it has served and refused since it was registered.
    ///
    /// # Errors
    ///
    /// [`Stuck`].
    pub fn statistics(&self) -> Result<RegionStatistics, Stuck> {
        Ok(self.enter()?.account.statistics())
    }

    /// The live chunks in ascending order of address. `name` gives (device, type) pairs their
    /// names.
    pub(crate) fn owners(
        &self,
        mut name: impl FnMut(Asker) -> Option<(Arc<str>, Arc<str>)>,
    ) -> Result<Vec<Owner>, Stuck> {
        let live: Vec<_> = {
            let chunks = &self.enter()?.chunks;
            let holder = |(slot, booked): (Slot, Booked)| (booked, chunks.holder(slot).cloned());
            chunks.ascending().into_iter().map(holder).collect()
        };
        let owner = |(booked, holder): (Booked, Option<Arc<Holder>>)| Owner {
            range: booked.range,
            device: holder
                .as_ref()
                .and_then(|holder| holder.device.clone())
                .or_else(|| name(booked.asker)),
            process: holder.map(|holder| holder.process.clone()),
            age: booked.since.age(),
        };
        Ok(live.into_iter().map(owner).collect())
    }

    /// The numbers of the pairs that its books refer to.
    pub(crate) fn askers(&self) -> Result<Vec<Asker>, Stuck> {
        let state = self.enter()?;
        let refused = state.account.failures().map(|refused| refused.request.asker());
        Ok(state.chunks.askers().chain(refused).collect())
    }

    /// The last refusals, oldest first.
    pub(crate) fn failures(
        &self,
        mut name: impl FnMut(Asker) -> Option<(Arc<str>, Arc<str>)>,
    ) -> Result<Vec<Failure>, Stuck> {
        let refused: Vec<_> = self.enter()?.account.failures().cloned().collect();
        let failure = |account::Refused { request, reason, when }| Failure {
            bytes: request.pages().bytes(),
            alignment: request.alignment(),
            device: name(request.asker()),
            reason,
            age: when.age().unwrap_or_default(),
        };
        Ok(refused.into_iter().map(failure).collect())
    }

    /// Its figures, all of one moment. The allocator is not asked.
    pub fn status(&self) -> RegionStatus {
        let allocator = |region: &Region| region.allocator();
        match self.enter() {
            Ok(state) => {
                let largest_hole = state.chunks.largest_hole();
                RegionStatus {
                    free_bytes: state.account.free.bytes(),
                    users: state.chunks.live(),
                    largest_hole,
                    largest_hole_bytes: largest_hole.bytes(),
                    allocator: allocator(self),
                    stuck: None,
                }
            }
            Err(stuck) => RegionStatus {
                free_bytes: 0,
                users: 0,
                largest_hole: Pages::ZERO,
                largest_hole_bytes: 0,
                allocator: allocator(self),
                stuck: Some(stuck),
            },
        }
    }

    /// A chunk of this region. `registered` is asked when the region has no allocator yet.
    #[inline(always)]
    pub(crate) fn allocate(
        &self,
        request: &Request,
        registered: &impl Allocators,
    ) -> Result<Chunk, Box<Reason>> {
        // The chunk is put together when the lock is free again: it would only be moved about
        // meanwhile.
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
        let stuck = matches!(*reason, Reason::Stuck(_));
        if !stuck && self.look_aside(Look::Needed).recovered {
            self.place(request, registered)
        } else {
            Err(reason)
        }
    }

    /// Places and books a chunk. The answer is its first page, its tag and its slot.
    #[inline(always)]
    fn place(
        &self,
        request: &Request,
        registered: &impl Allocators,
    ) -> Result<(u64, Tag, Slot), Box<Reason>> {
        let now = Moment::now();
        let Some(mut lock) = self.0.state.try_lock() else {
            return self.place_slowly(None, request, registered, now);
        };
        let state = &mut *lock;
        if state.chunks.live() < self.0.most.load(Ordering::Relaxed)
            && let Attached::Allocator(service) = &mut state.attached
        {
            let answer = service.object.allocate(request);
            return match self.book_answer(state, request, answer, now) {
                Ok(placed) => Ok(placed),
                Err(fault) => Err(self.not_placed(&mut Inside::new(self, lock), request, fault)),
            };
        }
        self.place_slowly(Some(lock), request, registered, now)
    }

    /// The same when another thread is in the region, something was left for later, or no allocator
    /// is attached.
    #[cold]
    #[inline(never)]
    fn place_slowly(
        &self,
        lock: Option<SpinMutexGuard<'_, State>>,
        request: &Request,
        registered: &impl Allocators,
        now: Moment,
    ) -> Result<(u64, Tag, Slot), Box<Reason>> {
        let mut state = match lock.map_or_else(|| self.enter(), |lock| Ok(self.settled(lock))) {
            Ok(state) => state,
            Err(stuck) => {
                let reason = Reason::Stuck(stuck);
                self.note_refusal(request, &reason);
                Event::Refused { request: *request, reason: reason.clone() }.tell(self);
                return Err(Box::new(reason));
            }
        };
        if state.chunks.live() == ChunkTable::MOST {
            return Err(state.refuse(request, Reason::TooManyChunks));
        }
        let answer = match state.attach(self, registered) {
            Ok(service) => service.object.allocate(request),
            Err(reason) => return Err(state.refuse(request, *reason)),
        };
        let placed = self.book_answer(&mut state, request, answer, now);
        placed.map_err(|fault| self.not_placed(&mut state, request, fault))
    }

    /// Books the place that an allocator answers with.
    #[inline(always)]
    fn book_answer(
        &self,
        state: &mut State,
        request: &Request,
        answer: RResult<Placement, CallFailure>,
        now: Moment,
    ) -> Result<(u64, Tag, Slot), NotPlaced> {
        match answer {
            RResult::ROk(Placement { range, tag }) => match self.book(state, request, range, now) {
                Ok(slot) => Ok((range.first_page(), tag, slot)),
                Err(fault) => Err(NotPlaced::Misplaced(fault)),
            },
            RResult::RErr(refused) => Err(NotPlaced::Refused(refused)),
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
    fn not_placed(&self, state: &mut State, request: &Request, fault: NotPlaced) -> Box<Reason> {
        let reason = match fault {
            NotPlaced::Misplaced(fault) => return self.misplaced(state, request, fault),
            NotPlaced::Refused(CallFailure::Panicked) => {
                state.end_service(self, "it panicked while allocating")
            }
            NotPlaced::Refused(CallFailure::Refused) => self.no_room(state, request),
        };
        state.refuse(request, reason)
    }

    /// Works out from the books why the allocator finds no place. Only what is so is said: an
    /// allocator may refuse what would fit.
    fn no_room(&self, state: &State, request: &Request) -> Reason {
        let (pages, free, region) = (request.pages(), state.account.free, self.0.range.pages());
        if region < pages {
            return Reason::TooSmall { asked_bytes: pages.bytes(), region_bytes: region.bytes() };
        } else if free < pages {
            return Reason::Full { free_bytes: free.bytes(), region_bytes: region.bytes() };
        }
        let Room { largest, holds } = state.chunks.room(pages, request.alignment());
        let largest_hole_bytes = largest.bytes();
        match holds {
            Some(free_range) => Reason::Declined {
                allocator: state.attached.name().to_string(),
                free_range,
                aligned: request.alignment() > Alignment::PAGE,
            },
            None if largest < pages => {
                Reason::Fragmented { free_bytes: free.bytes(), largest_hole_bytes }
            }
            None => Reason::Alignment {
                alignment_bytes: request.alignment().bytes(),
                largest_hole_bytes,
            },
        }
    }

    /// Takes an allocator out of service whose placement was refused. It is not told: it would have
    /// to be trusted.
    #[cold]
    fn misplaced(&self, state: &mut State, request: &Request, fault: Misplacement) -> Box<Reason> {
        let allocator = state.attached.name().to_string();
        state.end_service(self, &format!("it answered {} with {fault}", Asked(request)));
        state.refuse(request, Reason::Misplaced { allocator, fault })
    }

    /// Frees the chunk in `slot`, which is `range` and was placed with `tag`.
    #[inline]
    fn take_back(&self, slot: Slot, range: PageRange, tag: Tag) {
        let Some(mut state) = self.0.state.try_lock() else {
            return self.now_or_later(Left::Free { slot, range, tag });
        };
        if let Err(refused) = state.free_slot(slot, range, tag) {
            return Inside::new(self, state).freed(self, range, Err(refused));
        }
        drop(state);
        if events::on() {
            Event::Released { range }.tell(self);
        }
    }

    /// Notes who has the live chunk in `slot`.
    fn hold(&self, slot: Slot, holder: Arc<Holder>) {
        self.now_or_later(Left::Hold { slot, holder });
    }

    /// Who asked for the live chunk in `slot`, and who has it.
    fn held_by(&self, slot: Slot) -> Result<(Asker, Option<Arc<Holder>>), Stuck> {
        let state = self.enter()?;
        Ok((state.chunks.asker(slot), state.chunks.holder(slot).cloned()))
    }

    /// Makes a chunk known by its address, because its guard goes.
    fn release_guard(&self, slot: Slot, tag: Tag) {
        self.now_or_later(Left::Index { slot, tag });
    }

    fn huge_guards(&self) -> MutexGuard<'_, HashMap<Slot, Pages>> {
        self.0.huge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frees the chunk that starts at page `first` and that no guard holds. In a stuck region that
    /// is left for later, and what comes of it is only logged.
    pub(crate) fn free_at(&self, first: u64) -> Result<(), NotFreed> {
        if self.is_left_to_free(first) {
            return Err(NotFreed::NoChunk);
        }
        let Some((mut state, _)) = self.enter_or_leave(Left::FreeAt { first }) else {
            return Ok(());
        };
        let Some((slot, Placement { range, tag })) = state.chunks.unindex(first) else {
            return Err(if state.chunks.starts_at(first) {
                NotFreed::Held
            } else {
                NotFreed::NoChunk
            });
        };
        state.free(self, slot, range, tag);
        Ok(())
    }

    /// Attaches a newly registered allocator if the region waits for it. `first` says that it is
    /// the first ever registered.
    pub(crate) fn offer(
        &self,
        registered: &Registered,
        first: bool,
        all: &impl Allocators,
    ) -> Option<Result<(), Reason>> {
        if !matches!(self.allocator(), AllocatorState::Waiting { .. }) {
            return None;
        }
        let mut state = match self.enter() {
            Ok(state) => state,
            Err(stuck) => return Some(Err(stuck.into())),
        };
        let waits = state.registered && state.waits_for(registered, first);
        // What is registered under the name by now, which may be another build than was offered.
        waits.then(|| state.attach(self, all).map(drop).map_err(|why| *why))
    }

    /// Attaches the allocator that was given with the region, which nobody else knows yet.
    pub(crate) fn attach_given(&self) -> Result<(), Reason> {
        self.enter()?.start_given(self)
    }

    /// Ends the region, if it is empty.
    pub(crate) fn unregister(&self) -> Result<(), UnregisterError> {
        let mut state = self.enter()?;
        let aside = state.aside.len() as u32;
        match (state.registered, state.chunks.live()) {
            (false, _) => Err(UnregisterError::NotRegistered),
            (true, live) if live == aside => {
                state.free_aside(self);
                state.registered = false;
                state.replace_attached(self, Attached::Nothing { failure: None });
                Ok(())
            }
            (true, live) => Err(UnregisterError::Busy { users: live - aside }),
        }
    }
}

impl State {
    /// Remembers a refusal.
    #[cold]
    fn refuse(&mut self, request: &Request, reason: Reason) -> Box<Reason> {
        self.account.refuse(request, &reason);
        self.tell(Event::Refused { request: *request, reason: reason.clone() });
        Box::new(reason)
    }

    /// Frees a chunk. The books lose it whatever the allocator says.
    #[inline]
    fn free_slot(&mut self, slot: Slot, range: PageRange, tag: Tag) -> Result<(), CallFailure> {
        let tag = self.chunks.unbook(slot, range, tag);
        self.account.got_back(range.pages());
        match &mut self.attached {
            Attached::Allocator(service) => {
                service.object.free(&Placement { range, tag }).into_result()
            }
            _ => Ok(()),
        }
    }

    /// Frees a chunk, and says so.
    fn free(&mut self, region: &Region, slot: Slot, range: PageRange, tag: Tag) {
        let freed = self.free_slot(slot, range, tag);
        self.freed(region, range, freed);
    }

    /// Says that a chunk was freed, and ends the service of an allocator that didn't take it back.
    #[cold]
    fn freed(&mut self, region: &Region, range: PageRange, freed: Result<(), CallFailure>) {
        self.took_back(region, range, freed);
        if events::on() {
            self.tell(Event::Released { range });
        }
    }

    /// Ends the service of an allocator that didn't take a chunk back.
    fn took_back(&mut self, region: &Region, range: PageRange, freed: Result<(), CallFailure>) {
        if let Err(refused) = freed {
            let what = match refused {
                CallFailure::Panicked => format!("it panicked while freeing {range}"),
                CallFailure::Refused => {
                    format!("it refused to take back {range}, a live chunk of its own")
                }
            };
            self.end_service(region, &what);
        }
    }

    /// Asks the allocator something it can't refuse. The error is how it ended: `what` says where
    /// it panicked.
    fn ask<T>(
        &mut self,
        region: &Region,
        what: &str,
        question: impl FnOnce(&mut AllocatorBox) -> T,
    ) -> Result<T, Reason> {
        let Attached::Allocator(service) = &mut self.attached else {
            return Err(self.attached.absence());
        };
        let answer = question(&mut service.object);
        let fault = service.object.fault();
        if fault.is_some() {
            self.end_later(fault);
            return Err(self.end_service(region, what));
        }
        Ok(answer)
    }

    /// Has the allocator take `range`, which is free, for a chunk.
    fn adopt(&mut self, region: &Region, range: PageRange) -> Option<Tag> {
        let adopted = self.ask(region, "it panicked while adopting", |object| object.adopt(range));
        match adopted.ok()? {
            RResult::ROk(tag) => Some(tag),
            RResult::RErr(reason) => {
                self.end_later(reason);
                None
            }
        }
    }

    /// Takes the allocator out of service for good and says why. Its live chunks stay booked and
    /// can be freed.
    #[cold]
    fn end_service(&mut self, region: &Region, what: &str) -> Reason {
        self.attached = match mem::replace(&mut self.attached, Attached::Nothing { failure: None })
        {
            Attached::Allocator(service) => {
                let allocator = service.name().to_string();
                let fault = service.object.fault().into_option();
                let reason = match &fault {
                    Some(message) => format!("{what}: {}", attach::one_line(message)),
                    None => what.to_string(),
                };
                self.end_later(fault);
                self.tell(Event::OutOfService {
                    allocator: allocator.clone(),
                    reason: reason.clone(),
                });
                self.tell(Event::Detached { allocator: allocator.clone() });
                Attached::OutOfService { allocator, reason, _ended: Box::new(service) }
            }
            absent => absent,
        };
        self.show(region, self.attached.name());
        self.attached.absence()
    }

    /// Puts `next` in the place of what the region has. What it had ends without the lock.
    fn replace_attached(&mut self, region: &Region, next: Attached) {
        let old = mem::replace(&mut self.attached, next);
        if let Attached::Allocator(service) = &old {
            self.tell(Event::Detached { allocator: service.name().to_string() });
        }
        if let Attached::Allocator(service) = &self.attached {
            let attached = Event::Attached { allocator: service.name().to_string() };
            self.after.push(After::Tell(attached));
        }
        self.end_later(old);
        self.show(region, self.attached.name());
    }

    /// Shows what the region is now to those who don't take its lock; `worker` is the name of its
    /// allocator, if it has one.
    fn show(&self, region: &Region, worker: &str) {
        let shown = region.0.shown.load_full();
        region.0.shown.store(Arc::new(Shown {
            registered: self.registered,
            allocator: self.attached.state(&self.choice),
            worker: worker.to_string(),
            memory: shown.memory.clone().filter(|_| self.registered),
        }));
    }
}

/// Why no chunk was booked for a request that an allocator was asked for.
#[derive(Clone, Copy)]
enum NotPlaced {
    Refused(CallFailure),
    Misplaced(Misplacement),
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
