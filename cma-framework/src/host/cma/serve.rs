//! The device interface: the calls of section 6 of the specification.

use super::sharing::in_whole_pieces;
use super::{Cma, Shared};
use crate::host::device::Device;
use crate::host::events;
use crate::host::region::{Chunk, NotFreed, Region};
use crate::host::world::Route;
use crate::vocabulary::COMMON;
use crate::vocabulary::errors::{
    AllocError, FreeError, Info, InfoError, InvalidRequest, Reason, Refusal, Refusals, Unmatched,
    normalise,
};
use cma_api::{Alignment, Asker, DmaAddr, PAGE_SIZE, PageRange, Pages, Request};

impl Cma {
    /// A chunk of `size` bytes for `device`, in memory of type `kind` (`common` when it is `None`),
    /// at a multiple of `alignment` bytes (0 for a page). The size is rounded up to a page. The
    /// regions of the map's first matching rule are tried in order.
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
        let kind = type_of(kind);
        if device.is_empty() {
            return Err(InvalidRequest::NoDevice.into());
        }
        let world = self.0.world.load();
        match world.known_route(device, kind) {
            Some(route) => self.0.alloc_by(route, size, alignment),
            None => {
                let route = world.new_route(device, kind, || self.intern(device, kind, None));
                self.0.alloc_by(&route, size, alignment)
            }
        }
    }

    /// A handle for a device that asks for memory of one type, again and again.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::NoDevice`] for a device without a name. Whether the map has a rule for it
    /// is looked up when it asks.
    pub fn device(&self, device: &str, kind: Option<&str>) -> Result<Device, InvalidRequest> {
        if device.is_empty() {
            return Err(InvalidRequest::NoDevice);
        }
        Ok(Device::new(self.clone(), device, type_of(kind)))
    }

    /// A chunk from the first region of `regions` that can serve it: names separated by commas, up
    /// to the end or a `;`.
    ///
    /// # Errors
    ///
    /// [`AllocError`], which says why, for each region of the list.
    pub fn alloc_from(
        &self,
        regions: &str,
        size: u64,
        alignment: u64,
    ) -> Result<Chunk, AllocError> {
        let request = normalise(size, alignment, Asker::NOBODY)?;
        let world = self.0.world.load();
        let stops = region_list(regions)?.map(|name| (name, world.region(name)));
        if events::on() {
            return events::around(("", ""), &request, || self.0.alloc_in(stops, &request));
        }
        self.0.alloc_in(stops, &request)
    }

    /// A chunk from that region; the only way into a private one.
    ///
    /// # Errors
    ///
    /// [`AllocError`]. A region that is not registered (any more) is [`AllocError::Unregistered`].
    pub fn alloc_from_region(
        &self,
        region: &Region,
        size: u64,
        alignment: u64,
    ) -> Result<Chunk, AllocError> {
        let request = normalise(size, alignment, Asker::NOBODY)?;
        if region.owner() != self.0.id {
            return Err(AllocError::Unregistered);
        }
        let alloc = || {
            region.allocate(&request, &*self.0).map_err(|reason| match *reason {
                Reason::Unregistered => AllocError::Unregistered,
                reason => AllocError::NoRegion(Refusals(Box::new([Refusal {
                    region: region.to_string(),
                    reason,
                }]))),
            })
        };
        if events::on() { events::around(("", ""), &request, alloc) } else { alloc() }
    }

    /// Frees the chunk that starts at `address`, whose guard was turned into that address. In a
    /// region whose allocator doesn't return from a call ([`Reason::Stuck`]) it is freed when the
    /// allocator returns; that no chunk starts there is only reported then.
    ///
    /// # Errors
    ///
    /// [`FreeError::NoChunk`] when no chunk starts there, also reported as a warning: somebody's
    /// books are wrong.
    pub fn free(&self, address: DmaAddr) -> Result<(), FreeError> {
        let region = self.0.world.load().region_of(address).cloned();
        let freed = match &region {
            Some(region) if address.is_aligned(Alignment::PAGE) => region.free_at(address.page()),
            _ => Err(NotFreed::NoChunk),
        };
        freed.map_err(|why| {
            let error = match why {
                NotFreed::NoChunk => FreeError::NoChunk { address },
                NotFreed::Held => FreeError::Held { address },
            };
            events::quietly(|| tracing::warn!(%error, "free"));
            error
        })
    }

    /// What the regions amount to that `device` may get memory of type `kind` from.
    ///
    /// # Errors
    ///
    /// [`InfoError`] when no rule matches, or none of the rule's regions is registered.
    pub fn info(&self, device: &str, kind: Option<&str>) -> Result<Info, InfoError> {
        let kind = type_of(kind);
        if device.is_empty() {
            return Err(InvalidRequest::NoDevice.into());
        }
        let world = self.0.world.load();
        let names = world
            .map
            .regions_for(device, kind)
            .ok_or_else(|| Unmatched { device: device.to_string(), kind: kind.to_string() })
            .map_err(|unmatched| InfoError::NoRule(Box::new(unmatched)))?;
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
}

impl Shared {
    /// A chunk for the device and type that asked before, by the map in force, from another region
    /// than `besides`.
    pub(crate) fn alloc_elsewhere(&self, request: &Request, besides: &Region) -> Option<Chunk> {
        let (device, kind) = self.askers.names()(request.asker())?;
        let world = self.world.load();
        let names = world.map.regions_for(&device, &kind)?;
        let mut others =
            names.filter_map(|name| world.region(name)).filter(|region| *region != besides);
        others.find_map(|region| region.allocate(&in_whole_pieces(request, region), self).ok())
    }

    /// A chunk by a route that was looked up.
    #[inline(always)]
    pub(crate) fn alloc_by(
        &self,
        route: &Route,
        size: u64,
        alignment: u64,
    ) -> Result<Chunk, AllocError> {
        let request = normalise(size, alignment, route.asker)?;
        if events::on() {
            return events::around(route.pair(), &request, || self.alloc_on(route, &request));
        }
        self.alloc_on(route, &request)
    }

    #[inline(always)]
    fn alloc_on(&self, route: &Route, request: &Request) -> Result<Chunk, AllocError> {
        match &route.stops {
            Some(stops) => {
                self.alloc_in(stops.iter().map(|s| (&*s.name, s.region.as_ref())), request)
            }
            None => Err(route.no_rule()),
        }
    }

    /// A chunk from the first of `stops` that can serve it.
    #[inline(always)]
    fn alloc_in<'a>(
        &self,
        stops: impl Iterator<Item = (&'a str, Option<&'a Region>)> + Clone,
        request: &Request,
    ) -> Result<Chunk, AllocError> {
        let reason = match stops.clone().next() {
            None => return Err(AllocError::NoRegion(Refusals(Box::default()))),
            Some((_, None)) => Reason::UnknownRegion,
            Some((_, Some(region))) => match region.allocate(request, self) {
                Ok(chunk) => return Ok(chunk),
                Err(reason) => *reason,
            },
        };
        self.alloc_further(reason, stops, request)
    }

    /// The same, when the first of `stops` has refused, for `reason`.
    #[cold]
    fn alloc_further<'a>(
        &self,
        reason: Reason,
        mut stops: impl Iterator<Item = (&'a str, Option<&'a Region>)>,
        request: &Request,
    ) -> Result<Chunk, AllocError> {
        let refusal = |name: &str, reason| Refusal { region: name.to_string(), reason };
        let mut refusals: Vec<_> =
            stops.next().map(|(name, _)| refusal(name, reason)).into_iter().collect();
        for (name, region) in stops {
            let reason = match region.map(|region| region.allocate(request, self)) {
                Some(Ok(chunk)) => return Ok(chunk),
                Some(Err(reason)) => *reason,
                None => Reason::UnknownRegion,
            };
            refusals.push(refusal(name, reason));
        }
        Err(AllocError::NoRegion(Refusals(refusals.into())))
    }
}

/// The names of a region list, which ends at its end or a `;`. None of them is empty.
pub(super) fn region_list(
    list: &str,
) -> Result<impl Iterator<Item = &str> + Clone, InvalidRequest> {
    let list = list.split(';').next().unwrap_or_default();
    if list.split(',').any(str::is_empty) {
        return Err(InvalidRequest::NoRegions);
    }
    Ok(list.split(','))
}

/// In bytes; [`u64::MAX`] for a whole 64-bit address space.
fn sum(pages: impl Iterator<Item = Pages>) -> u64 {
    Pages::new(pages.map(Pages::get).sum()).bytes()
}

/// The type of a request that may name none.
pub(super) fn type_of(kind: Option<&str>) -> &str {
    kind.filter(|kind| !kind.is_empty()).unwrap_or(COMMON)
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
        total_bytes: sum(seen.iter().map(|r| r.range().pages())),
        free_bytes: sum(seen.iter().filter_map(|r| r.free().ok())),
        regions: seen.len(),
        granule_bytes: seen
            .iter()
            .filter_map(|r| r.backing())
            .map(|backing| backing.granule.bytes())
            .fold(PAGE_SIZE, u64::max),
    })
}
