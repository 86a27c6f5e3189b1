//! Early regions: described before they have memory and are registered (specification section 3).

use crate::core::memory::Memory;
use crate::core::reserve::{ReserveError, Reserved, Reserver};
use crate::host::region::{AllocatorChoice, Region};
pub use crate::vocabulary::errors::EarlyError;
use crate::vocabulary::errors::RegisterError;
use crate::vocabulary::{ParsedRegion, Place, RegionSpec, ReserveRequest};
use cma_api::PageRange;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A region that still needs memory.
#[derive(Clone, Debug, Default)]
pub struct EarlyRegion {
    /// The name by which the map will reach it; `None` for a private region.
    pub name: Option<String>,
    /// The size in bytes; not 0. Rounded up to a page.
    pub size: u64,
    /// The alignment of its start in bytes: a power of two, or 0 for a page.
    pub alignment: u64,
    /// Where it must lie: there or nowhere.
    pub place: Place,
    /// Its allocator.
    pub allocator: AllocatorChoice,
}

impl From<RegionSpec<'_>> for EarlyRegion {
    fn from(spec: RegionSpec<'_>) -> Self {
        EarlyRegion {
            name: Some(spec.name.to_string()),
            size: spec.size,
            alignment: spec.alignment.unwrap_or(0),
            place: spec.place,
            allocator: spec.allocator.map(AllocatorChoice::from).unwrap_or_default(),
        }
    }
}

impl EarlyRegion {
    /// The request to a reserver.
    fn request(&self) -> Result<ReserveRequest, EarlyError> {
        let name = self.name.as_deref();
        let request = ReserveRequest::new(name, self.size, self.alignment, self.place)?;
        match self.allocator.fault() {
            Some((name, fault)) => {
                Err(EarlyError::BadAllocatorName { name: name.to_string(), fault })
            }
            None => Ok(request),
        }
    }
}

/// The progress of an early region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum EarlyState {
    /// Described; no memory was requested yet.
    #[default]
    Described,
    /// There was no memory for it.
    NotReserved(ReserveError),
    /// It has memory, and is not registered yet.
    Reserved(PageRange),
    /// It has memory, and registering it failed.
    NotRegistered(PageRange, RegisterError),
    /// It is a registered region.
    Registered(Region),
}

/// A handle to an early region, which shows its progress.
#[derive(Clone, Debug)]
pub struct EarlyHandle(Arc<Early>);

#[derive(Debug)]
struct Early {
    region: EarlyRegion,
    request: ReserveRequest,
    state: Mutex<EarlyState>,
    /// Its reserver's memory, until it is registered.
    memory: Mutex<Option<Box<dyn Memory>>>,
}

impl PartialEq for EarlyHandle {
    /// Whether both are handles to the same early region.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for EarlyHandle {}

impl EarlyHandle {
    /// A number that identifies this early region as long as a handle to it exists.
    pub(crate) fn number(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    pub(crate) fn new(region: EarlyRegion) -> Result<Self, EarlyError> {
        let request = region.request()?;
        Ok(EarlyHandle::with_request(region, request))
    }

    /// The early region of a parsed text, which has a valid request.
    pub(crate) fn parsed(region: &ParsedRegion<'_>) -> Self {
        EarlyHandle::with_request(region.spec.into(), region.request().clone())
    }

    fn with_request(region: EarlyRegion, request: ReserveRequest) -> Self {
        EarlyHandle(Arc::new(Early {
            region,
            request,
            state: Mutex::default(),
            memory: Mutex::default(),
        }))
    }

    /// Its description.
    pub fn description(&self) -> &EarlyRegion {
        &self.0.region
    }

    /// Its progress.
    pub fn state(&self) -> EarlyState {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The addresses of its memory, if it is reserved.
    pub fn reserved(&self) -> Option<PageRange> {
        match self.state() {
            EarlyState::Reserved(range) | EarlyState::NotRegistered(range, _) => Some(range),
            EarlyState::Registered(region) => Some(region.range()),
            EarlyState::Described | EarlyState::NotReserved(_) => None,
        }
    }

    /// The region it has become, as long as that is registered.
    pub fn registered(&self) -> Option<Region> {
        match self.state() {
            EarlyState::Registered(region) if region.is_registered() => Some(region),
            _ => None,
        }
    }

    /// Whether it became a region that was unregistered.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state(), EarlyState::Registered(region) if !region.is_registered())
    }

    pub(crate) fn memory(&self) -> MutexGuard<'_, Option<Box<dyn Memory>>> {
        self.0.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, state: EarlyState) {
        *self.0.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Its request to a reserver; `None` when it has memory.
    pub(crate) fn pending_request(&self) -> Option<ReserveRequest> {
        self.reserved().is_none().then(|| self.0.request.clone())
    }

    /// Reserves memory, unless it has some.
    pub(crate) fn reserve(&self, reserver: &mut dyn Reserver) {
        if self.reserved().is_none() {
            self.set(
                match reserver
                    .reserve(&self.0.request)
                    .and_then(|answer| self.0.request.accept(answer))
                {
                    Ok(Reserved { range, memory }) => {
                        *self.memory() = memory;
                        EarlyState::Reserved(range)
                    }
                    Err(error) => EarlyState::NotReserved(error),
                },
            );
        }
    }
}
