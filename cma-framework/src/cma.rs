//! The façade: everything a host calls, and the only place where configuration changes.

use crate::allocate::{
    AllocError, FreeError, Info, InfoError, InvalidRequest, Reason, Refusal, Refusals, normalise,
};
use crate::config::{COMMON, ConfigError, Map, Platform, RegionSpec, parse_regions};
use crate::device::Device;
use crate::early::{EarlyError, EarlyHandle, EarlyRegion, EarlyState};
use crate::loader::Plugin;
use crate::region::{AllocatorChoice, AllocatorState, Attaching, ChangeError, Chunk, NotFreed, Region};
use crate::register::{InvalidRegion, RegisterAllocatorError, RegisterError, UnregisterError};
use crate::reserve::Reserver;
use crate::world::{Registered, Route, World};
use arc_swap::ArcSwap;
use cma_api::{Asker, DmaAddr, PageRange};
use hashbrown::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The contiguous memory framework: regions, the map, and allocators bound late. Clones are handles to the same one.
///
/// It allocates nothing itself: it stands between devices and allocators. All calls may come from any thread. Requests take
/// the lock of the region they are in and no other; changes of the configuration wait for one another alone.
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
/// // The region is there before any allocator is, so a request says what it waits for.
/// let error = cma.alloc("camera", None, 4096, 0).unwrap_err();
/// assert!(error.to_string().contains("waits for the first one to be registered"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Cma(Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    world: ArcSwap<World>,
    /// The number of the world above, to be looked at without loading it.
    world_number: AtomicU64,
    setup: Mutex<Setup>,
    /// Numbers of the (device, type) pairs that ever found a rule. A lock of its own: a request of a new pair must not wait for
    /// a change of the configuration.
    askers: Mutex<HashMap<(String, String), Asker>>,
}

/// What only changes of the configuration need. Its lock is what makes them take turns.
#[derive(Debug, Default)]
struct Setup {
    /// The platform's early regions, unless the command line has its own.
    platform: Option<Vec<EarlyHandle>>,
    command_line: Option<Vec<EarlyHandle>>,
    /// Those registered one by one.
    single: Vec<EarlyHandle>,
    map_from_command_line: bool,
}

/// More pairs than this share the number 0, so that names made up by clients can't fill memory.
const MAX_ASKERS: usize = 1 << 16;

/// What became of the regions that waited when an allocator was registered.
#[derive(Clone, Debug, Default)]
pub struct Attachments {
    /// Those that have it now.
    pub attached: Vec<Region>,
    /// Those it refused, with the reason.
    pub failed: Vec<(Region, Reason)>,
}

impl Default for Cma {
    fn default() -> Self {
        Cma::new()
    }
}

impl Cma {
    /// A framework without regions, map or allocators.
    pub fn new() -> Self {
        Cma(Arc::new(Shared {
            world: ArcSwap::from_pointee(World::new()),
            world_number: AtomicU64::new(0),
            setup: Mutex::default(),
            askers: Mutex::default(),
        }))
    }

    // ---- configuration -------------------------------------------------------------------------------

    /// Takes a board's defaults: early regions, and the map. What the command line says comes before them, in whichever
    /// order the two are called.
    ///
    /// # Errors
    ///
    /// [`EarlyError`] when a region's description is wrong, or defaults are set already.
    pub fn set_defaults(&self, regions: &[RegionSpec<'_>], map: Map) -> Result<(), EarlyError> {
        let early = regions.iter().map(|spec| EarlyHandle::new((*spec).into())).collect::<Result<_, _>>()?;
        let mut setup = self.setup();
        if setup.platform.is_some() {
            return Err(EarlyError::DefaultsSet);
        }
        setup.platform = Some(early);
        if !setup.map_from_command_line {
            self.change(|world| world.with_map(map));
        }
        Ok(())
    }

    /// [`set_defaults`](Self::set_defaults) of a platform's constants.
    ///
    /// # Errors
    ///
    /// The same, and [`ConfigError`] for a map that is none.
    pub fn set_platform(&self, platform: &Platform) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.set_defaults(platform.regions, platform.parsed_map()?)?)
    }

    /// Takes what the user says: `cma=` text replaces the platform's regions, `cma.map=` text its map.
    ///
    /// # Errors
    ///
    /// The first mistake with its place. Then neither has taken effect.
    pub fn command_line(&self, regions: Option<&str>, map: Option<&str>) -> Result<(), ConfigError> {
        let regions = regions.map(parse_regions).transpose()?;
        let map = map.map(Map::parse).transpose()?;
        let early = regions.map(|regions| {
            let handles = regions.iter().map(|r| EarlyHandle::new(r.spec.into()));
            handles.collect::<Result<Vec<_>, _>>().unwrap_or_else(|e| unreachable!("the grammar has no {e}"))
        });
        let mut setup = self.setup();
        if early.is_some() {
            setup.command_line = early;
        }
        if let Some(map) = map {
            setup.map_from_command_line = true;
            self.change(|world| world.with_map(map));
        }
        Ok(())
    }

    /// Adds one early region beside those of platform and command line; the way to a private one that still needs memory.
    ///
    /// # Errors
    ///
    /// [`EarlyError`] when the description is wrong.
    pub fn early_region_register(&self, region: EarlyRegion) -> Result<EarlyHandle, EarlyError> {
        let early = EarlyHandle::new(region)?;
        self.setup().single.push(early.clone());
        Ok(early)
    }

    /// The early regions in force, in the order in which they are reserved.
    pub fn early_regions(&self) -> Vec<EarlyHandle> {
        self.setup().early().cloned().collect()
    }

    /// Asks `reserver` for memory for each early region that has none yet, in order. One that gets none is reported
    /// and the rest goes on; each handle of the answer says what became of it.
    pub fn early_regions_reserve(&self, reserver: &mut dyn Reserver) -> Vec<EarlyHandle> {
        let setup = self.setup();
        setup.early().for_each(|early| early.reserve(reserver));
        setup.early().cloned().collect()
    }

    /// Registers every early region that has memory and is not registered yet. One that fails keeps its memory, is
    /// reported, and doesn't stop the others; each handle of the answer says what became of it.
    pub fn initialise(&self) -> Vec<EarlyHandle> {
        let setup = self.setup();
        for early in setup.early() {
            let (EarlyState::Reserved(range) | EarlyState::NotRegistered(range, _)) = early.state() else {
                continue;
            };
            let EarlyRegion { name, allocator, .. } = early.description().clone();
            early.set(match self.register(name, range, allocator) {
                Ok(region) => EarlyState::Registered(region),
                Err(error) => {
                    tracing::warn!(%range, %error, "early region not registered");
                    EarlyState::NotRegistered(range, error)
                }
            });
        }
        setup.early().cloned().collect()
    }

    /// The map in force.
    pub fn map(&self) -> Arc<Map> {
        self.0.world.load().map.clone()
    }

    /// Puts `map` in force, at once and whole. Requests under way finish by the old one. Names of regions that don't exist
    /// are passed over when a request comes; [`lint`](crate::config::lint) finds them beforehand.
    pub fn set_map(&self, map: Map) {
        let _turn = self.setup();
        self.change(|world| world.with_map(map));
    }

    // ---- regions -------------------------------------------------------------------------------------

    /// Registers the region of `size` bytes at `start`, both whole pages; without a name it is private, and the handle is the
    /// only way to it. An allocator that is given directly is attached at once; any other when it is there.
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
            && start.is_aligned(cma_api::Alignment::PAGE);
        let range = PageRange::from_bytes(start, size).ok_or(if whole {
            InvalidRegion::PastTheTop { start, size }
        } else {
            InvalidRegion::Unaligned { start, size }
        })?;
        let _turn = self.setup();
        self.register(name.map(String::from), range, allocator)
    }

    /// The caller has the turn.
    fn register(
        &self,
        name: Option<String>,
        range: PageRange,
        choice: AllocatorChoice,
    ) -> Result<Region, RegisterError> {
        if let Some(name) = name.as_ref().filter(|name| !crate::config::is_name(name)) {
            return Err(InvalidRegion::BadName { name: name.clone() }.into());
        }
        let world = self.0.world.load_full();
        if let Some(other) = name.as_ref().and_then(|name| world.region(name)) {
            let name = name.unwrap_or_default();
            return Err(RegisterError::NameTaken { name, range: other.range() });
        }
        if let Some(other) = world.overlapping(range) {
            let (region, other) = (other.to_string(), other.range());
            return Err(RegisterError::Overlaps { wanted: range, region, range: other });
        }
        let given = matches!(choice, AllocatorChoice::Given { .. });
        let region = Region::new(name.map(Arc::from), range, choice);
        if given && let Err(Reason::AttachFailed { allocator, reason }) = region.attach_now(&[]) {
            return Err(RegisterError::Allocator { allocator, reason });
        }
        self.change(|world| world.with_region(&region));
        Ok(region)
    }

    /// Ends a region that has no live chunk. Its memory is the caller's again.
    ///
    /// # Errors
    ///
    /// [`UnregisterError::Busy`] while chunks are live.
    pub fn region_unregister(&self, region: &Region) -> Result<(), UnregisterError> {
        let _turn = self.setup();
        if !self.0.world.load().regions.contains(region) {
            return Err(UnregisterError::NotRegistered);
        }
        region.unregister().map_err(|users| UnregisterError::Busy { users })?;
        self.change(|world| world.without_region(region));
        Ok(())
    }

    /// The registered regions in ascending order of address, private ones included.
    pub fn regions(&self) -> Vec<Region> {
        self.0.world.load().regions.clone()
    }

    /// The region of that name.
    pub fn region(&self, name: &str) -> Option<Region> {
        self.0.world.load().region(name).cloned()
    }

    /// Gives a region another allocator. With live chunks that happens only if the new one can adopt every chunk where it
    /// is; without any it may also be one that is still to be registered.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]; then the old allocator goes on.
    pub fn set_region_allocator(
        &self,
        region: &Region,
        choice: AllocatorChoice,
    ) -> Result<AllocatorState, ChangeError> {
        region.change_allocator(choice, &self.0.world.load().allocators)
    }

    // ---- allocators ----------------------------------------------------------------------------------

    /// Registers an allocator under the name its plug-in gives itself, and attaches it to the regions that wait for it.
    /// The first one registered is the default.
    ///
    /// # Errors
    ///
    /// [`RegisterAllocatorError::NameTaken`] when there is one of that name.
    pub fn allocator_register(&self, plugin: Plugin) -> Result<Attachments, RegisterAllocatorError> {
        let name = plugin.name().to_string();
        self.allocator_register_as(Some(&name), plugin)
    }

    /// Registers an allocator under another name, or without one: then only as the default one it can be had.
    ///
    /// # Errors
    ///
    /// The same, and [`RegisterAllocatorError::BadName`].
    pub fn allocator_register_as(
        &self,
        name: Option<&str>,
        plugin: Plugin,
    ) -> Result<Attachments, RegisterAllocatorError> {
        if let Some(name) = name.filter(|name| !crate::config::is_name(name)) {
            return Err(RegisterAllocatorError::BadName { name: name.to_string() });
        }
        let _turn = self.setup();
        let world = self.0.world.load_full();
        let same = |r: &&Registered| name.is_some() && r.name.as_deref() == name;
        if let Some(other) = world.allocators.iter().find(same) {
            let (name, version) = (name.unwrap_or_default().to_string(), other.plugin.version().to_string());
            return Err(RegisterAllocatorError::NameTaken { name, version });
        }
        let registered = Registered { name: name.map(Arc::from), plugin };
        // In this order: a region that looks for itself, because a request came, finds it from now on.
        self.change(|world| world.with_allocator(registered.clone()));
        let mut attachments = Attachments::default();
        for region in &world.regions {
            match region.offer(&registered, world.allocators.is_empty()) {
                None => {}
                Some(Ok(())) => attachments.attached.push(region.clone()),
                Some(Err(reason)) => attachments.failed.push((region.clone(), reason)),
            }
        }
        Ok(attachments)
    }

    /// The registered allocators in the order in which they came; the first is the default.
    pub fn allocators(&self) -> Vec<Registered> {
        self.0.world.load().allocators.clone()
    }

    // ---- the device interface ------------------------------------------------------------------------

    /// A chunk of `size` bytes for `device`, in memory of type `kind` (`common` when it is `None`), at a multiple of
    /// `alignment` bytes (0 for a page). The size is rounded up to a page. The regions of the map's first matching rule are
    /// tried in order.
    ///
    /// A driver that asks often holds a [`Device`], which finds its regions once.
    ///
    /// # Errors
    ///
    /// [`AllocError`], which says why, for each region that was tried.
    pub fn alloc(
        &self,
        device: &str,
        kind: Option<&str>,
        size: u64,
        alignment: u64,
    ) -> Result<Chunk, AllocError> {
        let kind = kind.unwrap_or(COMMON);
        if device.is_empty() {
            return Err(InvalidRequest::NoDevice.into());
        }
        let world = self.0.world.load();
        match world.known_route(device, kind) {
            Some(route) => self.0.alloc_by(route, size, alignment),
            None => {
                let route = world.new_route(device, kind, || self.intern(device, kind));
                self.0.alloc_by(&route, size, alignment)
            }
        }
    }

    /// A handle for a device that asks for memory of one type, again and again.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::NoDevice`] for a device without a name. Whether the map has a rule for it is looked up when it asks.
    pub fn device(&self, device: &str, kind: Option<&str>) -> Result<Device, InvalidRequest> {
        if device.is_empty() {
            return Err(InvalidRequest::NoDevice);
        }
        Ok(Device::new(self.clone(), device, kind.unwrap_or(COMMON)))
    }

    /// A chunk from the first region of `regions` that can serve it: names separated by commas, up to the end or a `;`.
    ///
    /// # Errors
    ///
    /// [`AllocError`], which says why, for each region of the list.
    pub fn alloc_from(&self, regions: &str, size: u64, alignment: u64) -> Result<Chunk, AllocError> {
        let request = normalise(size, alignment, Asker::NOBODY)?;
        let world = self.0.world.load();
        let stops = region_list(regions)?.map(|name| (name, world.region(name)));
        self.0.alloc_in(stops, &request)
    }

    /// A chunk from that region; the only way into a private one.
    ///
    /// # Errors
    ///
    /// [`AllocError`]. A region that is not registered (any more) is [`AllocError::Unregistered`].
    pub fn alloc_from_region(&self, region: &Region, size: u64, alignment: u64) -> Result<Chunk, AllocError> {
        let request = normalise(size, alignment, Asker::NOBODY)?;
        region.allocate(&request, &*self.0).map_err(|reason| match reason {
            Reason::Unregistered => AllocError::Unregistered,
            reason => AllocError::NoRegion(Refusals(vec![Refusal { region: region.to_string(), reason }])),
        })
    }

    /// Frees the chunk that starts at `address`, whose guard was turned into that address.
    ///
    /// # Errors
    ///
    /// [`FreeError::NoChunk`] when no chunk starts there, also reported as a warning: somebody's books are wrong.
    pub fn free(&self, address: DmaAddr) -> Result<(), FreeError> {
        let region = self.0.world.load().region_of(address).cloned();
        let freed = match &region {
            Some(region) if address.is_aligned(cma_api::Alignment::PAGE) => region.free_at(address.page()),
            _ => Err(NotFreed::NoChunk),
        };
        freed.map_err(|why| {
            let error = match why {
                NotFreed::NoChunk => FreeError::NoChunk { address },
                NotFreed::Held => FreeError::Held { address },
            };
            tracing::warn!(%error, "free");
            error
        })
    }

    /// What the regions amount to that `device` may get memory of type `kind` from.
    ///
    /// # Errors
    ///
    /// [`InfoError`] when no rule matches, or none of the rule's regions is registered.
    pub fn info(&self, device: &str, kind: Option<&str>) -> Result<Info, InfoError> {
        let kind = kind.unwrap_or(COMMON);
        if device.is_empty() {
            return Err(InvalidRequest::NoDevice.into());
        }
        let world = self.0.world.load();
        let names = world
            .map
            .regions_for(device, kind)
            .ok_or_else(|| InfoError::NoRule { device: device.to_string(), kind: kind.to_string() })?;
        info_of(names.filter_map(|name| world.region(name)))
    }

    /// What the regions named amount to: names separated by commas, up to the end or a `;`.
    ///
    /// # Errors
    ///
    /// [`InfoError`] when the list is empty, or none of the regions is registered.
    pub fn info_about(&self, regions: &str) -> Result<Info, InfoError> {
        let world = self.0.world.load();
        info_of(region_list(regions)?.filter_map(|name| world.region(name)))
    }

    // ---- inside --------------------------------------------------------------------------------------

    fn setup(&self) -> MutexGuard<'_, Setup> {
        self.0.setup.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Swaps in the next picture. The caller has the turn.
    fn change(&self, next: impl FnOnce(&World) -> World) {
        let world = next(&self.0.world.load());
        let number = world.number;
        self.0.world.store(Arc::new(world));
        self.0.world_number.store(number, Ordering::Release);
    }

    /// The number of a (device, type) pair.
    pub(crate) fn intern(&self, device: &str, kind: &str) -> Asker {
        let askers = &mut *self.0.askers.lock().unwrap_or_else(PoisonError::into_inner);
        let next = askers.len() + 1;
        let pair = (device.to_string(), kind.to_string());
        if next >= MAX_ASKERS {
            return askers.get(&pair).copied().unwrap_or(Asker::NOBODY);
        }
        *askers.entry(pair).or_insert(Asker(next as u32))
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0
    }
}

impl Setup {
    fn early(&self) -> impl Iterator<Item = &EarlyHandle> {
        let configured = self.command_line.as_ref().or(self.platform.as_ref());
        configured.into_iter().flatten().chain(&self.single)
    }
}

impl Shared {
    pub(crate) fn world(&self) -> arc_swap::Guard<Arc<World>> {
        self.world.load()
    }

    pub(crate) fn world_number(&self) -> u64 {
        self.world_number.load(Ordering::Acquire)
    }

    /// A chunk by a route that was looked up.
    #[inline]
    pub(crate) fn alloc_by(&self, route: &Route, size: u64, alignment: u64) -> Result<Chunk, AllocError> {
        let request = normalise(size, alignment, route.asker)?;
        match &route.stops {
            Some(stops) => self.alloc_in(stops.iter().map(|s| (&*s.name, s.region.as_ref())), &request),
            None => Err(route.no_rule()),
        }
    }

    /// A chunk from the first of `stops` that can serve it.
    #[inline]
    fn alloc_in<'a>(
        &self,
        mut stops: impl Iterator<Item = (&'a str, Option<&'a Region>)>,
        request: &cma_api::Request,
    ) -> Result<Chunk, AllocError> {
        let Some((name, first)) = stops.next() else {
            return Err(AllocError::NoRegion(Refusals(Vec::new())));
        };
        match first.map(|region| region.allocate(request, self)) {
            Some(Ok(chunk)) => Ok(chunk),
            Some(Err(reason)) => self.alloc_further(name, reason, stops, request),
            None => self.alloc_further(name, Reason::UnknownRegion, stops, request),
        }
    }

    /// The same, when the first stop has refused.
    #[cold]
    fn alloc_further<'a>(
        &self,
        name: &str,
        reason: Reason,
        stops: impl Iterator<Item = (&'a str, Option<&'a Region>)>,
        request: &cma_api::Request,
    ) -> Result<Chunk, AllocError> {
        let mut refusals = vec![Refusal { region: name.to_string(), reason }];
        for (name, region) in stops {
            let reason = match region.map(|region| region.allocate(request, self)) {
                Some(Ok(chunk)) => return Ok(chunk),
                Some(Err(reason)) => reason,
                None => Reason::UnknownRegion,
            };
            refusals.push(Refusal { region: name.to_string(), reason });
        }
        Err(AllocError::NoRegion(Refusals(refusals)))
    }
}

impl Attaching for Shared {
    fn with_registered<T>(&self, f: impl FnOnce(&[Registered]) -> T) -> T {
        f(&self.world.load().allocators)
    }
}

/// The names of a region list, which ends at its end or a `;`. None of them is empty.
fn region_list(list: &str) -> Result<impl Iterator<Item = &str>, InvalidRequest> {
    let list = list.split(';').next().unwrap_or_default();
    if list.split(',').any(str::is_empty) {
        return Err(InvalidRequest::NoRegions);
    }
    Ok(list.split(','))
}

fn info_of<'a>(regions: impl Iterator<Item = &'a Region>) -> Result<Info, InfoError> {
    let mut seen: Vec<&Region> = Vec::new();
    for region in regions.filter(|region| region.is_registered()) {
        if !seen.contains(&region) {
            seen.push(region);
        }
    }
    let first = seen.iter().map(|r| r.range().first_page()).min().ok_or(InfoError::NoRegion)?;
    let end = seen.iter().map(|r| r.range().end_page()).max().ok_or(InfoError::NoRegion)?;
    Ok(Info {
        span: PageRange::from_pages(first, end - first),
        total_bytes: seen.iter().map(|r| r.range().bytes()).sum(),
        free_bytes: seen.iter().map(|r| r.status().free_bytes).sum(),
        regions: seen.len(),
    })
}
