//! The façade: everything a host calls, and the only place where configuration changes.

mod askers;
mod replace;
mod serve;
mod sharing;

use crate::core::reserve::{Reserved, Reserver};
use crate::host::early::{EarlyError, EarlyHandle, EarlyRegion, EarlyState};
use crate::host::events;
use crate::host::loader::Plugin;
use crate::host::memory::Memory;
use crate::host::region::{
    AllocatorChoice, AllocatorState, Allocators, ChangeError, Failure, Look, Owner, Region,
    Registered,
};
use crate::host::world::World;
use crate::vocabulary::errors::{
    InvalidRegion, RegisterAllocatorError, RegisterError, UnregisterError,
};
use crate::vocabulary::errors::{Reason, Stuck};
use crate::vocabulary::{ConfigError, Map, Platform, RegionSpec, parse_regions};
use arc_swap::ArcSwap;
use askers::Askers;
use cma_api::{Asker, DmaAddr, PageRange, Pages};
pub use replace::Replacement;
pub use sharing::SharingRequest;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The contiguous memory framework: regions, the map, and allocators bound late. Clones are handles
/// to the same one.
///
/// It allocates nothing itself: it stands between devices and allocators. All calls may come from
/// any thread. While an allocator works, its region's lock is held and no other, so requests to
/// other regions go on, and so does every change of the configuration that doesn't concern that
/// region.
///
/// What goes wrong is also reported as [`tracing`] events. None is emitted under a region's lock,
/// and each after the change that it tells of is complete. A subscriber that panics harms nothing:
/// the panic ends there.
///
/// A region whose allocator doesn't return from a call is *stuck*. After some seconds requests to
/// it are refused ([`Reason::Stuck`], `EIO`), and what is freed in it is freed when the allocator
/// returns.
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
    /// Distinguishes this framework's regions from those of others in the process.
    id: u64,
    world: ArcSwap<World>,
    /// The number of the world above, to be looked at without loading it.
    world_number: AtomicU64,
    setup: Mutex<Setup>,
    /// Held while early regions are reserved and registered, one after the other; the host's
    /// reserver runs meanwhile.
    reserving: Mutex<()>,
    /// Numbers of the (device, type) pairs that ever found a rule.
    askers: Askers,
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
        static FRAMEWORKS: AtomicU64 = AtomicU64::new(0);
        Cma(Arc::new(Shared {
            id: FRAMEWORKS.fetch_add(1, Ordering::Relaxed),
            reserving: Mutex::default(),
            world: ArcSwap::from_pointee(World::new()),
            world_number: AtomicU64::new(0),
            setup: Mutex::default(),
            askers: Askers::default(),
        }))
    }

    /// Takes a board's defaults: early regions, and the map. What the command line says comes
    /// before them, in whichever order the two are called.
    ///
    /// # Errors
    ///
    /// [`EarlyError`] when a region's description is wrong, or defaults are set already.
    pub fn set_defaults(&self, regions: &[RegionSpec<'_>], map: Map) -> Result<(), EarlyError> {
        let early = regions
            .iter()
            .map(|spec| EarlyHandle::new((*spec).into()))
            .collect::<Result<_, _>>()?;
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
    /// The same, and [`EarlyError::Map`] for a map that is none.
    pub fn set_platform(&self, platform: &Platform) -> Result<(), EarlyError> {
        self.set_defaults(platform.regions, platform.parsed_map().map_err(EarlyError::Map)?)
    }

    /// Takes what the user says: `cma=` text replaces the platform's regions, `cma.map=` text its
    /// map. Regions that have memory already keep it and stay.
    ///
    /// # Errors
    ///
    /// The first mistake with its place. Then neither has taken effect.
    pub fn command_line(
        &self,
        regions: Option<&str>,
        map: Option<&str>,
    ) -> Result<(), ConfigError> {
        let regions = regions.map(parse_regions).transpose()?;
        let map = map.map(Map::parse).transpose()?;
        let early: Option<Vec<_>> =
            regions.map(|all| all.iter().map(|region| EarlyHandle::of(region.early())).collect());
        let mut setup = self.setup();
        if let Some(early) = early {
            let replaced =
                setup.command_line.take().or(setup.platform.as_mut().map(std::mem::take));
            let kept = replaced.into_iter().flatten().filter(|early| early.reserved().is_some());
            setup.single.extend(kept);
            setup.command_line = Some(early);
        }
        if let Some(map) = map {
            setup.map_from_command_line = true;
            self.change(|world| world.with_map(map));
        }
        Ok(())
    }

    /// Adds one early region beside those of platform and command line; the way to a private one
    /// that still needs memory.
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

    /// Asks `reserver` for memory for each early region that has none yet, in order. One that gets
    /// none is reported and the rest goes on; each handle of the answer says what became of it.
    ///
    /// One thread at a time does this or [`initialise`](Self::initialise)s, so the reserver must do
    /// neither.
    pub fn early_regions_reserve(&self, reserver: &mut dyn Reserver) -> Vec<EarlyHandle> {
        let all = self.reserve_all(reserver);
        for early in &all {
            if let EarlyState::NotReserved(error) = early.state() {
                let name = early.description().name.as_deref().unwrap_or("(private)");
                events::quietly(
                    || tracing::warn!(region = name, %error, "early region not reserved"),
                );
            }
        }
        all
    }

    fn reserve_all(&self, reserver: &mut dyn Reserver) -> Vec<EarlyHandle> {
        let _turn = self.0.reserving.lock().unwrap_or_else(PoisonError::into_inner);
        let all = self.early_regions();
        reserver.announce(&all.iter().filter_map(EarlyHandle::wants).collect::<Vec<_>>());
        all.iter().for_each(|early| early.reserve(reserver));
        // What was replaced meanwhile and has memory by now stays.
        let mut setup = self.setup();
        let kept: HashSet<usize> = setup.early().map(EarlyHandle::number).collect();
        let replaced = all
            .iter()
            .filter(|early| early.reserved().is_some() && !kept.contains(&early.number()));
        setup.single.extend(replaced.cloned());
        all
    }

    /// Registers every early region that has memory and is not registered yet. One that fails keeps
    /// its memory, is reported, and doesn't stop the others; each handle of the answer says what
    /// became of it.
    pub fn initialise(&self) -> Vec<EarlyHandle> {
        let turn = self.0.reserving.lock().unwrap_or_else(PoisonError::into_inner);
        let all = self.early_regions();
        let reserved = all.iter().filter_map(|early| match early.state() {
            EarlyState::Reserved(range) | EarlyState::NotRegistered(range, _) => {
                Some((early, range))
            }
            _ => None,
        });
        let prepared: Vec<_> = reserved
            .map(|(early, range)| {
                let EarlyRegion { name, allocator, .. } = early.description().clone();
                (early, range, self.prepare(name, range, allocator))
            })
            .collect();
        let admitted = self.admit_all(&prepared);
        let mut failed = Vec::new();
        for ((early, range, region), admitted) in prepared.into_iter().zip(admitted) {
            early.set(match admitted.and(region) {
                Ok(region) => {
                    region.tell_attached();
                    EarlyState::Registered(region)
                }
                Err(error) => {
                    failed.push((range, error.clone()));
                    EarlyState::NotRegistered(range, error)
                }
            });
        }
        drop(turn);
        for (range, error) in failed {
            events::quietly(|| tracing::warn!(%range, %error, "early region not registered"));
        }
        all
    }

    /// Registers the regions that could be prepared, in one change: a change for each would copy
    /// all the others again and again.
    fn admit_all(
        &self,
        prepared: &[(&EarlyHandle, PageRange, Result<Region, RegisterError>)],
    ) -> Vec<Result<(), RegisterError>> {
        let _turn = self.setup();
        let mut world = self.0.world.load().next();
        let admitted: Vec<_> = prepared
            .iter()
            .map(|(early, _, region)| {
                let Ok(region) = region else { return Ok(()) };
                world.admit(region)?;
                region.give_memory(early.memory().take());
                Ok(())
            })
            .collect();
        if !prepared.is_empty() {
            self.change(|_| world);
        }
        admitted
    }

    /// The map in force.
    pub fn map(&self) -> Arc<Map> {
        self.0.world.load().map.clone()
    }

    /// Puts `map` in force, at once and whole. Requests under way finish by the old one. Names of
    /// regions that don't exist are passed over when a request comes; [`lint`](crate::core::lint)
    /// finds them beforehand.
    pub fn set_map(&self, map: Map) {
        let _turn = self.setup();
        self.change(|world| world.with_map(map));
    }

    /// Registers the region of `size` bytes at `start`, both whole pages; without a name it is
    /// private, and the handle is the only way to it. An allocator that is given directly is
    /// attached at once; any other when it is there.
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
        self.register(name.map(String::from), range, &mut None, allocator)
    }

    /// Registers a region with what a reserver has set aside for it, at run time.
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

    /// Takes `memory` if it succeeds.
    fn register(
        &self,
        name: Option<String>,
        range: PageRange,
        memory: &mut Option<Box<dyn Memory>>,
        choice: AllocatorChoice,
    ) -> Result<Region, RegisterError> {
        let region = self.prepare(name, range, choice)?;
        let turn = self.setup();
        let mut world = self.0.world.load().next();
        world.admit(&region)?;
        region.give_memory(memory.take());
        self.change(|_| world);
        drop(turn);
        region.tell_attached();
        Ok(region)
    }

    /// A region that is to be registered. The allocator that is given with it is at work.
    fn prepare(
        &self,
        name: Option<String>,
        range: PageRange,
        choice: AllocatorChoice,
    ) -> Result<Region, RegisterError> {
        if let Some(name) = name.as_ref().filter(|name| !crate::vocabulary::is_region_name(name)) {
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

    /// Ends a region that has no live chunk. Its addresses are the caller's again; memory that it
    /// was given is released.
    ///
    /// # Errors
    ///
    /// [`UnregisterError::Busy`] while chunks are live.
    pub fn region_unregister(&self, region: &Region) -> Result<(), UnregisterError> {
        if region.owner() != self.0.id {
            return Err(UnregisterError::NotRegistered);
        }
        region.unregister()?;
        let mut setup = self.setup();
        setup.single.retain(|early| !early.has_ended());
        self.change(|world| world.without_region(region));
        Ok(())
    }

    /// Looks again at memory that was set aside ([`Chunk::share`](crate::Chunk::share)), as far as
    /// that is due, and frees what can be had again. The answer is when to look the next time;
    /// `None` when nothing is set aside.
    ///
    /// A region also looks by itself before it refuses a request, so a host need not call this. One
    /// that does has the memory back sooner.
    pub fn recover_memory(&self) -> Option<Instant> {
        let regions = self.regions();
        regions.iter().filter_map(|region| region.look_aside(Look::Due).next).min()
    }

    /// The registered regions in ascending order of address, private ones included.
    pub fn regions(&self) -> Vec<Region> {
        self.0.world.load().regions.clone()
    }

    /// The region of that name.
    pub fn region(&self, name: &str) -> Option<Region> {
        self.0.world.load().region(name).cloned()
    }

    /// Gives a region another allocator. With live chunks that happens only if the new one can
    /// adopt every chunk where it is; without any it may also be one that is still to be
    /// registered.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]; then the old allocator goes on.
    pub fn set_region_allocator(
        &self,
        region: &Region,
        choice: AllocatorChoice,
    ) -> Result<AllocatorState, ChangeError> {
        if region.owner() != self.0.id {
            return Err(ChangeError::Unregistered);
        }
        region.change_allocator(choice, &*self.0)
    }

    /// Registers an allocator under the name its plug-in gives itself, and attaches it to the
    /// regions that wait for it. The first one registered is the default.
    ///
    /// # Errors
    ///
    /// [`RegisterAllocatorError::NameTaken`] when there is one of that name.
    pub fn allocator_register(
        &self,
        plugin: Plugin,
    ) -> Result<Attachments, RegisterAllocatorError> {
        let name = plugin.name().to_string();
        self.allocator_register_as(Some(&name), plugin)
    }

    /// Registers an allocator under another name, or without one: then only as the default one it
    /// can be had.
    ///
    /// # Errors
    ///
    /// The same, and [`RegisterAllocatorError::BadName`].
    pub fn allocator_register_as(
        &self,
        name: Option<&str>,
        plugin: Plugin,
    ) -> Result<Attachments, RegisterAllocatorError> {
        if let Some((name, fault)) = name.and_then(|name| {
            crate::vocabulary::allocator_name_fault(name).map(|fault| (name, fault))
        }) {
            return Err(RegisterAllocatorError::BadName { name: name.to_string(), fault });
        }
        let registered = Registered { name: name.map(Arc::from), plugin };
        let (regions, first) = {
            let _turn = self.setup();
            let world = self.0.world.load_full();
            let same = |r: &&Registered| name.is_some() && r.name.as_deref() == name;
            if let Some(other) = world.allocators.iter().find(same) {
                let (name, version) =
                    (name.unwrap_or_default().to_string(), other.plugin.version().to_string());
                return Err(RegisterAllocatorError::NameTaken { name, version });
            }
            self.change(|world| world.with_allocator(registered.clone()));
            (world.regions.clone(), world.allocators.is_empty())
        };
        Ok(offer(&regions, &registered, first, &self.0))
    }

    /// The registered allocators in the order in which they came; the first is the default.
    pub fn allocators(&self) -> Vec<Registered> {
        self.0.world.load().allocators.clone()
    }

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

    /// The number of a (device, type) pair that the host asks for, or a user of a front end; `None`
    /// when there is no room for another pair.
    pub(crate) fn intern(&self, device: &str, kind: &str, user: Option<u32>) -> Option<Asker> {
        let number = || self.0.askers.number(device, kind, user);
        number().or_else(|| {
            self.drop_unused_askers();
            number()
        })
    }

    /// Makes room for further pairs by dropping those that no live chunk, refusal or recent request
    /// refers to.
    fn drop_unused_askers(&self) {
        // A request never waits for a change of the configuration. A later one drops them.
        let Ok(turn) = self.0.setup.try_lock() else { return };
        let Some(sweep) = self.0.askers.begin_sweep() else { return };
        // Routes keep numbers. In a new picture each is looked up again and asks for its number.
        self.change(World::next);
        drop(turn);
        let used: Result<Vec<_>, Stuck> = self.regions().iter().map(Region::askers).collect();
        match used {
            Ok(used) => self.0.askers.end_sweep(sweep, &used.into_iter().flatten().collect()),
            // What the books of a stuck region refer to nobody knows.
            Err(_) => self.0.askers.put_off_sweep(),
        }
    }

    /// The live chunks of `region` in ascending order of address: where each is, whose, and for how
    /// long. None for a region of another framework.
    ///
    /// # Errors
    ///
    /// [`Stuck`]: nobody can look at the books while the region's allocator doesn't return.
    pub fn owners(&self, region: &Region) -> Result<Vec<Owner>, Stuck> {
        if region.owner() != self.0.id {
            return Ok(Vec::new());
        }
        region.owners(self.0.askers.names())
    }

    /// The last refusals of `region`, oldest first, each with its reason.
    /// None for a region of another framework.
    ///
    /// # Errors
    ///
    /// [`Stuck`].
    pub fn failures(&self, region: &Region) -> Result<Vec<Failure>, Stuck> {
        if region.owner() != self.0.id {
            return Ok(Vec::new());
        }
        region.failures(self.0.askers.names())
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0
    }
}

/// Attaches a newly registered allocator to those of `regions` that wait for it. Nobody waits for
/// this: a region that is busy gets it when it is free, one that needs it before finds it for
/// itself.
fn offer(regions: &[Region], registered: &Registered, first: bool, all: &Shared) -> Attachments {
    let mut attachments = Attachments::default();
    for region in regions {
        match region.offer(registered, first, all) {
            None => {}
            Some(Ok(())) => attachments.attached.push(region.clone()),
            Some(Err(reason)) => attachments.failed.push((region.clone(), reason)),
        }
    }
    attachments
}

impl Setup {
    fn early(&self) -> impl Iterator<Item = &EarlyHandle> {
        let configured = self.command_line.as_ref().or(self.platform.as_ref());
        configured.into_iter().flatten().chain(&self.single)
    }
}

impl Shared {
    /// Distinguishes this framework from others in the process.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn world(&self) -> arc_swap::Guard<Arc<World>> {
        self.world.load()
    }

    #[inline]
    pub(crate) fn world_number(&self) -> u64 {
        self.world_number.load(Ordering::Acquire)
    }
}

impl Allocators for Shared {
    fn look<T>(&self, f: impl FnOnce(&[Registered]) -> T) -> T {
        f(&self.world.load().allocators)
    }
}
