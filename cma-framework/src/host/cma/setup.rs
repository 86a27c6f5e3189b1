//! Setting up: a board's defaults, the command line, and early regions.

use super::{Changed, Cma};
use crate::core::reserve::Reserver;
use crate::host::early::{EarlyError, EarlyHandle, EarlyRegion, EarlyState};
use crate::host::events;
use crate::host::region::Region;
use crate::vocabulary::errors::RegisterError;
use crate::vocabulary::{ConfigError, Map, Platform, RegionSpec, ReserveRequest, parse_regions};
use cma_api::PageRange;
use std::collections::HashSet;
use std::sync::PoisonError;

/// The state that only changes of the configuration need.
#[derive(Debug, Default)]
pub(super) struct Setup {
    /// The platform's early regions; the command line's take precedence.
    platform: Option<Vec<EarlyHandle>>,
    command_line: Option<Vec<EarlyHandle>>,
    /// Registered one by one, or replaced after they had memory.
    single: Vec<EarlyHandle>,
    map_from_command_line: bool,
}

impl Setup {
    fn early(&self) -> impl Iterator<Item = &EarlyHandle> {
        let configured = self.command_line.as_ref().or(self.platform.as_ref());
        configured.into_iter().flatten().chain(&self.single)
    }

    /// Drops the early regions that became regions and were unregistered.
    pub(super) fn drop_ended(&mut self) {
        self.single.retain(|early| !early.has_ended());
    }
}

impl Cma {
    /// Sets a board's defaults: early regions, and the map. The command line takes precedence,
    /// whichever of the two is called first.
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
            setup.change(|snapshot| snapshot.with_map(map));
        }
        Ok(())
    }

    /// [`set_defaults`](Self::set_defaults) of a platform's constants.
    ///
    /// # Errors
    ///
    /// The same, and [`EarlyError::Map`] when the platform's map is invalid.
    pub fn set_platform(&self, platform: &Platform) -> Result<(), EarlyError> {
        self.set_defaults(platform.regions, platform.parsed_map().map_err(EarlyError::Map)?)
    }

    /// Applies the command line: the `cma=` text replaces the platform's regions, the `cma.map=`
    /// text its map. Replaced regions that have memory already keep it and stay.
    ///
    /// # Errors
    ///
    /// The first error with its place in the text; then nothing has changed.
    pub fn command_line(
        &self,
        regions: Option<&str>,
        map: Option<&str>,
    ) -> Result<(), ConfigError> {
        let regions = regions.map(parse_regions).transpose()?;
        let map = map.map(Map::parse).transpose()?;
        let early: Option<Vec<_>> =
            regions.map(|all| all.iter().map(EarlyHandle::parsed).collect());
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
            setup.change(|snapshot| snapshot.with_map(map));
        }
        Ok(())
    }

    /// Adds one early region to those of platform and command line. A private region that still
    /// needs memory is registered this way.
    ///
    /// # Errors
    ///
    /// [`EarlyError`] when the description is wrong.
    pub fn early_region_register(&self, region: EarlyRegion) -> Result<EarlyHandle, EarlyError> {
        let early = EarlyHandle::new(region)?;
        self.setup().single.push(early.clone());
        Ok(early)
    }

    /// The early regions in force, in the order in which they were described.
    pub fn early_regions(&self) -> Vec<EarlyHandle> {
        self.setup().early().cloned().collect()
    }

    /// Reserves memory from `reserver` for each early region that has none yet: first those with a
    /// fixed start, then those with a window, then the rest, each in the order of their
    /// description. A failure is logged and doesn't stop the others; the
    /// [state](EarlyHandle::state) of each returned handle has the result. The handles are in the
    /// order of [`early_regions`](Self::early_regions).
    ///
    /// A lock serialises this call and [`initialise`](Self::initialise), so the reserver must call
    /// neither.
    pub fn early_regions_reserve(&self, reserver: &mut dyn Reserver) -> Vec<EarlyHandle> {
        let all = self.reserve_all(reserver);
        for early in &all {
            if let EarlyState::NotReserved(error) = early.state() {
                let name = early.description().name.as_deref().unwrap_or("(private)");
                events::emit(|| tracing::warn!(region = name, %error, "early region not reserved"));
            }
        }
        all
    }

    fn reserve_all(&self, reserver: &mut dyn Reserver) -> Vec<EarlyHandle> {
        let _reserving = self.0.reserving.lock().unwrap_or_else(PoisonError::into_inner);
        let all = self.early_regions();
        let mut pending: Vec<(ReserveRequest, &EarlyHandle)> =
            all.iter().filter_map(|early| Some((early.pending_request()?, early))).collect();
        pending.sort_by_key(|(request, _)| request.place.reserving_rank());
        let (requests, pending): (Vec<_>, Vec<_>) = pending.into_iter().unzip();
        reserver.announce(&requests);
        pending.iter().for_each(|early| early.reserve(reserver));
        // A region that was replaced meanwhile, and has memory by now, stays.
        let mut setup = self.setup();
        let kept: HashSet<usize> = setup.early().map(EarlyHandle::number).collect();
        let replaced = all
            .iter()
            .filter(|early| early.reserved().is_some() && !kept.contains(&early.number()));
        setup.single.extend(replaced.cloned());
        all
    }

    /// Registers every early region that has memory and is not registered yet. One that fails keeps
    /// its memory, is logged, and doesn't stop the others; the [state](EarlyHandle::state) of each
    /// returned handle has the result.
    pub fn initialise(&self) -> Vec<EarlyHandle> {
        let reserving = self.0.reserving.lock().unwrap_or_else(PoisonError::into_inner);
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
        let (admitted, changed) = self.admit_all(&prepared);
        let (mut registered, mut failed) = (Vec::new(), Vec::new());
        for ((early, range, region), admitted) in prepared.into_iter().zip(admitted) {
            early.set(match admitted.and(region) {
                Ok(region) => {
                    region.open_outbox();
                    registered.push(region.clone());
                    EarlyState::Registered(region)
                }
                Err(error) => {
                    failed.push((range, error.clone()));
                    EarlyState::NotRegistered(range, error)
                }
            });
        }
        drop(reserving);
        drop(changed);
        for region in &registered {
            self.begin_watches(region);
            region.announce();
        }
        for (range, error) in failed {
            events::emit(|| tracing::warn!(%range, %error, "early region not registered"));
        }
        all
    }

    /// Registers the prepared regions in one change: a change for each would copy all the others
    /// each time.
    fn admit_all(
        &self,
        prepared: &[(&EarlyHandle, PageRange, Result<Region, RegisterError>)],
    ) -> (Vec<Result<(), RegisterError>>, Changed<'_>) {
        let mut setup = self.setup();
        let mut snapshot = self.0.snapshot.load().next();
        let admitted: Vec<_> = prepared
            .iter()
            .map(|(early, _, region)| {
                let Ok(region) = region else { return Ok(()) };
                snapshot.admit(region)?;
                region.give_memory(early.memory().take());
                Ok(())
            })
            .collect();
        if !prepared.is_empty() {
            setup.change(|_| snapshot);
        }
        (admitted, setup.release())
    }
}
