//! A registered region: its place, its allocator and its books, behind one lock.
//!
//! Nothing above takes this lock but through these methods, and nothing below takes another: requests to different
//! regions never meet. A plug-in is called under the lock of its region alone.

mod attach;
mod chunks;
mod guard;
mod occupancy;
mod verify;

use crate::allocate::{Misplacement, Reason};
use crate::memory::{Backing, Memory};
use crate::register::UnregisterError;
pub(crate) use attach::Allocators;
use attach::Attached;
pub use attach::{AllocatorChoice, AllocatorState, ChangeError, Registered};
pub(crate) use chunks::Slot;
use chunks::{Booked, ChunkTable};
use cma_api::abi_stable::std_types::RResult;
use cma_api::v1::{AllocatorBox, Refused};
use cma_api::{PageRange, Pages, Placement, Request};
pub use guard::Chunk;
use parking_lot::{Mutex, MutexGuard};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// A handle to a registered region. Clones are handles to the same region.
///
/// It is the only way into a *private* region, one without a name.
#[derive(Clone)]
pub struct Region(Arc<Shared>);

struct Shared {
    /// The number of the framework it belongs to.
    owner: u64,
    name: Option<Arc<str>>,
    range: PageRange,
    state: Mutex<State>,
    /// Set before anybody else sees the region, or never.
    memory: OnceLock<Box<dyn Memory>>,
}

struct State {
    /// Cleared for good when the region is unregistered; handles may outlive that.
    registered: bool,
    choice: AllocatorChoice,
    attached: Attached,
    chunks: ChunkTable,
    free: Pages,
}

/// A region's figures at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegionStatus {
    /// Free space in bytes.
    pub free_bytes: u64,
    /// Live chunks.
    pub users: u32,
    /// The largest hole in bytes, as the allocator says; 0 without an allocator.
    pub largest_hole_bytes: u64,
    /// Its allocator, or what it waits for.
    pub allocator: AllocatorState,
}

impl Region {
    pub(crate) fn new(owner: u64, name: Option<Arc<str>>, range: PageRange, choice: AllocatorChoice) -> Self {
        Region(Arc::new(Shared {
            owner,
            name,
            range,
            state: Mutex::new(State {
                registered: true,
                choice,
                attached: Attached::Nothing { failure: None },
                chunks: ChunkTable::new(range),
                free: range.pages(),
            }),
            memory: OnceLock::new(),
        }))
    }

    /// Gives a new region its memory, for good.
    pub(crate) fn give_memory(&self, memory: Box<dyn Memory>) {
        // A new region has none.
        let _ = self.0.memory.set(memory);
    }

    pub(crate) fn memory(&self) -> Option<&dyn Memory> {
        self.0.memory.get().map(|memory| &**memory)
    }

    /// What memory is behind its addresses; `None` for addresses alone.
    pub fn backing(&self) -> Option<Backing> {
        self.memory().map(Memory::backing)
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
        self.lock().free
    }

    /// Its figures, all of one moment. The largest hole is asked of the allocator.
    pub fn status(&self) -> RegionStatus {
        let state = &mut *self.lock();
        RegionStatus {
            free_bytes: state.free.bytes(),
            users: state.chunks.live(),
            largest_hole_bytes: state.largest_hole(self).unwrap_or_default().bytes(),
            allocator: state.attached.state(&state.choice),
        }
    }

    #[inline]
    fn lock(&self) -> MutexGuard<'_, State> {
        match self.0.state.try_lock() {
            Some(state) => state,
            None => self.lock_contended(),
        }
    }

    /// Waits for a region that another thread is in.
    ///
    /// A request is over in a tenth of a microsecond, less than it takes to bring the region's books from one core to another. So
    /// whoever finds the region taken leaves it alone for the time of some ten requests, which the other thread does with the
    /// books in its own cache, and then it is this one's turn. An allocator that takes long is waited for asleep.
    #[cold]
    fn lock_contended(&self) -> MutexGuard<'_, State> {
        for round in 0..64 {
            // Not all the same time, or two threads could miss each other's gaps again and again.
            for _ in 0..32 + round % 4 * 16 {
                std::hint::spin_loop();
            }
            if let Some(state) = self.0.state.try_lock() {
                return state;
            }
        }
        self.0.state.lock()
    }

    /// A chunk of this region. `registered` is asked when the region has no allocator yet.
    #[inline]
    pub(crate) fn allocate(
        &self,
        request: &Request,
        registered: &impl Allocators,
    ) -> Result<Chunk, Box<Reason>> {
        // The chunk is put together when the lock is free again: it would only be moved about meanwhile.
        let (first, slot) = self.place(request, registered)?;
        let range = PageRange::from_pages(first, request.pages().get());
        Ok(Chunk { region: self.clone(), range, slot })
    }

    /// Places and books a chunk. The answer is its first page and its slot.
    #[inline]
    fn place(&self, request: &Request, registered: &impl Allocators) -> Result<(u64, Slot), Box<Reason>> {
        let state = &mut *self.lock();
        let answer = match &mut state.attached {
            Attached::Allocator(service) => service.object.allocate(request),
            _ => state.attach(self, registered)?.object.allocate(request),
        };
        let placement = match answer {
            RResult::ROk(placement) => placement,
            RResult::RErr(refused) => return Err(self.refused(state, request, refused)),
        };
        match self.book(state, request, placement) {
            Ok(slot) => Ok((placement.range.first_page(), slot)),
            Err(fault) => Err(self.misplaced(state, request, fault)),
        }
    }

    /// Books a placement after every check that its allocator deserves.
    #[inline]
    fn book(&self, state: &mut State, request: &Request, placement: Placement) -> Result<Slot, Misplacement> {
        let range = placement.range;
        if range.pages() != request.pages() {
            Err(Misplacement::WrongSize(range))
        } else if !range.within(self.0.range) {
            Err(Misplacement::Outside(range))
        } else if range.first_page() & (request.alignment().pages().get() - 1) != 0 {
            Err(Misplacement::Unaligned(range))
        } else {
            let slot = state
                .chunks
                .book(placement, request.asker())
                .map_err(|chunks::Overlaps| Misplacement::Overlaps(range))?;
            state.free = Pages::new(state.free.get() - range.pages().get());
            Ok(slot)
        }
    }

    #[cold]
    fn refused(&self, state: &mut State, request: &Request, refused: Refused) -> Box<Reason> {
        Box::new(match refused {
            Refused::Panicked => state.end_service(self, "it panicked while allocating"),
            Refused::No => self.no_room(state, request).unwrap_or_else(|ended| ended),
        })
    }

    /// Works out why the allocator finds no place; or how it ended when it was asked.
    fn no_room(&self, state: &mut State, request: &Request) -> Result<Reason, Reason> {
        let (pages, free, region) = (request.pages(), state.free, self.0.range.pages());
        if region < pages {
            return Ok(Reason::TooSmall { asked_bytes: pages.bytes(), region_bytes: region.bytes() });
        } else if free < pages {
            return Ok(Reason::Full { free_bytes: free.bytes(), region_bytes: region.bytes() });
        }
        let largest = state.largest_hole(self)?;
        let largest_hole_bytes = largest.bytes();
        Ok(if largest < pages {
            Reason::Fragmented { free_bytes: free.bytes(), largest_hole_bytes }
        } else if request.alignment() > cma_api::Alignment::PAGE {
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
        Box::new(Reason::Misplaced { allocator, fault })
    }

    /// Frees the chunk in `slot`. The books lose it whatever the allocator says.
    #[inline]
    fn free_slot(&self, state: &mut State, slot: Slot) {
        let Booked { placement, .. } = state.chunks.unbook(slot);
        state.free = Pages::new(state.free.get() + placement.range.pages().get());
        if let Attached::Allocator(service) = &mut state.attached
            && let Err(refused) = service.object.free(&placement).into_result()
        {
            self.not_taken_back(state, placement.range, refused);
        }
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
        let state = &mut *self.lock();
        let Some(slot) = state.chunks.unindex(first) else {
            return Err(if state.chunks.starts_at(first) { NotFreed::Held } else { NotFreed::NoChunk });
        };
        self.free_slot(state, slot);
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
        self.lock().attach(self, &[].as_slice()).map(|_| ()).map_err(|why| *why)
    }

    /// Detaches the allocator and asks for `choice` instead; live chunks stay where they are if it can adopt them.
    pub(crate) fn change_allocator(
        &self,
        choice: AllocatorChoice,
        registered: &impl Allocators,
    ) -> Result<AllocatorState, ChangeError> {
        let state = &mut *self.lock();
        if !state.registered {
            return Err(ChangeError::Unregistered);
        }
        state.change(self.0.range, choice, registered)?;
        Ok(state.attached.state(&state.choice))
    }

    /// Ends the region, if it is empty.
    pub(crate) fn unregister(&self) -> Result<(), UnregisterError> {
        let state = &mut *self.lock();
        match (state.registered, state.chunks.live()) {
            (false, _) => Err(UnregisterError::NotRegistered),
            (true, 0) => {
                state.registered = false;
                state.attached = Attached::Nothing { failure: None };
                Ok(())
            }
            (true, users) => Err(UnregisterError::Busy { users }),
        }
    }
}

impl State {
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

    fn largest_hole(&mut self, region: &Region) -> Result<Pages, Reason> {
        let asking = "it panicked while looking for its largest hole";
        let largest = self.ask(region, asking, AllocatorBox::largest_hole)?;
        if largest > self.free {
            let what =
                format!("it says that {} pages are free in one piece, of {}", largest.get(), self.free.get());
            return Err(self.end_service(region, &what));
        }
        Ok(largest)
    }

    /// Takes the allocator out of service for good and says why. Its live chunks stay booked and can be freed.
    #[cold]
    fn end_service(&mut self, region: &Region, what: &str) -> Reason {
        if let Attached::Allocator(service) = &self.attached {
            let allocator = service.name().to_string();
            let reason = match service.object.fault().into_option() {
                Some(message) => format!("{what}: {}", attach::one_line(&message)),
                None => what.to_string(),
            };
            tracing::error!(region = %region, allocator, reason, "allocator taken out of service");
            self.attached = Attached::OutOfService { allocator, reason };
        }
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
