//! Registered regions: registering and unregistering them, and reports from their books.

use super::Cma;
use crate::core::books::{Failure, Owner};
use crate::core::memory::Memory;
use crate::core::reserve::Reserved;
use crate::host::region::{AllocatorChoice, AllocatorState, ChangeError, Recheck, Region};
use crate::vocabulary::errors::{InvalidRegion, Reason, RegisterError, Stuck, UnregisterError};
use crate::vocabulary::is_region_name;
use cma_api::{Alignment, DmaAddr, PageRange, Pages};
use std::sync::Arc;
use std::time::Instant;

impl Cma {
    /// Registers the region of `size` bytes at `start`, both whole pages. Without a name it is
    /// private: only the returned handle reaches it. An allocator that is given as an object is
    /// attached at once, one that is named as soon as it is registered.
    ///
    /// # Errors
    ///
    /// [`RegisterError`]; then nothing has changed.
    pub fn region_register(
        &self,
        name: Option<&str>,
        start: DmaAddr,
        size: u64,
        allocator: AllocatorChoice,
    ) -> Result<Region, RegisterError> {
        if size == 0 {
            return Err(InvalidRegion::NoSize.into());
        }
        let whole = PageRange::from_bytes(DmaAddr::new(0), size).is_some()
            && start.is_aligned(Alignment::PAGE);
        let range = PageRange::from_bytes(start, size).ok_or(if whole {
            InvalidRegion::PastTheTop { start, size }
        } else {
            InvalidRegion::Unaligned { start, size }
        })?;
        self.register(name.map(String::from), range, &mut None, allocator)
    }

    /// Registers a region with memory that a reserver has reserved, at run time.
    ///
    /// # Errors
    ///
    /// [`RegisterError`]; then nothing has changed, and the memory is released.
    pub fn region_register_reserved(
        &self,
        name: Option<&str>,
        reserved: Reserved,
        allocator: AllocatorChoice,
    ) -> Result<Region, RegisterError> {
        let Reserved { range, mut memory } = reserved;
        let (start, size) = (range.start(), range.bytes());
        if range.pages() == Pages::ZERO {
            return Err(InvalidRegion::NoSize.into());
        } else if range.end_page() > PageRange::ADDRESS_SPACE_PAGES {
            return Err(InvalidRegion::PastTheTop { start, size }.into());
        }
        self.register(name.map(String::from), range, &mut memory, allocator)
    }

    /// Takes `memory` on success alone.
    fn register(
        &self,
        name: Option<String>,
        range: PageRange,
        memory: &mut Option<Box<dyn Memory>>,
        choice: AllocatorChoice,
    ) -> Result<Region, RegisterError> {
        let region = self.prepare(name, range, choice)?;
        let mut setup = self.setup();
        let mut snapshot = self.0.snapshot.load().next();
        snapshot.admit(&region)?;
        region.give_memory(memory.take());
        setup.change(|_| snapshot);
        region.open_outbox();
        drop(setup);
        self.begin_watches(&region);
        region.announce();
        Ok(region)
    }

    /// Makes a region that is not registered yet, and starts the allocator that is given with it.
    pub(super) fn prepare(
        &self,
        name: Option<String>,
        range: PageRange,
        choice: AllocatorChoice,
    ) -> Result<Region, RegisterError> {
        if let Some(name) = name.as_ref().filter(|name| !is_region_name(name)) {
            return Err(InvalidRegion::BadName { name: name.clone() }.into());
        }
        if let Some((name, fault)) = choice.fault() {
            return Err(InvalidRegion::BadAllocatorName { name: name.to_string(), fault }.into());
        }
        let given = matches!(choice, AllocatorChoice::Given { .. });
        let region = Region::new(&self.0, name.map(Arc::from), range, choice);
        if given && let Err(Reason::AttachFailed { allocator, reason }) = region.attach_given() {
            return Err(RegisterError::Allocator { allocator, reason });
        }
        Ok(region)
    }

    /// Unregisters a region that has no live chunk. Its addresses are the caller's again, and its
    /// memory is released.
    ///
    /// # Errors
    ///
    /// [`UnregisterError::Busy`] while chunks are live.
    pub fn region_unregister(&self, region: &Region) -> Result<(), UnregisterError> {
        if region.framework_id() != self.0.id {
            return Err(UnregisterError::NotRegistered);
        }
        region.unregister()?;
        self.end_shadow(region);
        let mut setup = self.setup();
        setup.drop_ended();
        setup.change(|snapshot| snapshot.without_region(region));
        Ok(())
    }

    /// Checks memory that was set aside ([`Chunk::share`](crate::Chunk::share)), where a check is
    /// due, and frees the usable parts. Returns when the next check is due; `None` when nothing is
    /// set aside.
    ///
    /// A region also checks by itself before it refuses a request, so a host need not call this. A
    /// host that does recovers the memory sooner.
    pub fn recover_memory(&self) -> Option<Instant> {
        let regions = self.regions();
        regions.iter().filter_map(|region| region.recheck(Recheck::Due).next).min()
    }

    /// The registered regions in ascending order of address, private ones included.
    pub fn regions(&self) -> Vec<Region> {
        self.0.snapshot.load().regions.clone()
    }

    /// The region of that name.
    pub fn region(&self, name: &str) -> Option<Region> {
        self.0.snapshot.load().region(name).cloned()
    }

    /// Changes the allocator of a region. If chunks are live, the new one must adopt every chunk
    /// where it is. A region without live chunks may also name an allocator that is not registered
    /// yet.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]; then the old allocator continues to serve the region.
    pub fn set_region_allocator(
        &self,
        region: &Region,
        choice: AllocatorChoice,
    ) -> Result<AllocatorState, ChangeError> {
        if region.framework_id() != self.0.id {
            return Err(ChangeError::Unregistered);
        }
        region.change_allocator(choice, &*self.0)
    }

    /// The live chunks of `region` in ascending order of address: place, owner and age of each.
    /// Empty for a region of another framework.
    ///
    /// # Errors
    ///
    /// [`Stuck`]: the books can't be read while the region's allocator doesn't return.
    pub fn owners(&self, region: &Region) -> Result<Vec<Owner>, Stuck> {
        if region.framework_id() != self.0.id {
            return Ok(Vec::new());
        }
        region.owners(self.0.askers.names())
    }

    /// The last refusals of `region`, oldest first, each with its reason. Empty for a region of
    /// another framework.
    ///
    /// # Errors
    ///
    /// [`Stuck`].
    pub fn failures(&self, region: &Region) -> Result<Vec<Failure>, Stuck> {
        if region.framework_id() != self.0.id {
            return Ok(Vec::new());
        }
        region.failures(self.0.askers.names())
    }
}
