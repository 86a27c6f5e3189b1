//! The immutable snapshot of the configuration that requests are routed by.
//!
//! A change builds the next snapshot and swaps it in whole. So a request sees the configuration of
//! one moment and never waits for a change. Routing takes no lock.

use crate::core::routes::{self, Candidate, Routes};
use crate::host::region::{Region, Registered};
use crate::vocabulary::errors::RegisterError;
use crate::vocabulary::{GroupSpec, Map};
use cma_api::{Asker, DmaAddr, PageRange};
use hashbrown::HashMap;
use std::sync::Arc;

pub(crate) type Route = routes::Route<Region>;
pub(crate) type Choice<'a> = routes::Choice<'a, Region>;

/// Map, regions and allocators at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Grows with each snapshot of a framework.
    pub(crate) generation: u64,
    pub(crate) map: Arc<Map>,
    /// Ascending, disjoint.
    pub(crate) regions: Vec<Region>,
    by_name: HashMap<Arc<str>, Region>,
    pub(crate) allocators: Vec<Registered>,
    /// Whether somebody observes the framework.
    pub(crate) observed: bool,
    routes: Routes<Region>,
}

impl Snapshot {
    pub(crate) fn new() -> Self {
        Snapshot {
            generation: 0,
            map: Arc::default(),
            regions: Vec::new(),
            by_name: HashMap::new(),
            allocators: Vec::new(),
            observed: false,
            routes: Routes::default(),
        }
    }

    /// The next generation, before its changes. Routes are resolved anew.
    pub(crate) fn next(&self) -> Self {
        Snapshot {
            generation: self.generation + 1,
            map: self.map.clone(),
            regions: self.regions.clone(),
            by_name: self.by_name.clone(),
            allocators: self.allocators.clone(),
            observed: self.observed,
            routes: Routes::default(),
        }
    }

    pub(crate) fn with_map(&self, map: Map) -> Self {
        Snapshot { map: Arc::new(map), ..self.next() }
    }

    pub(crate) fn with_observers(&self, observed: bool) -> Self {
        Snapshot { observed, ..self.next() }
    }

    /// Adds a region whose name and range are free.
    pub(crate) fn admit(&mut self, region: &Region) -> Result<(), RegisterError> {
        let range = region.range();
        if let Some(other) = region.name().and_then(|name| self.region(name)) {
            let name = region.name().unwrap_or_default().to_string();
            return Err(RegisterError::NameTaken { name, range: other.range() });
        }
        if let Some(other) = self.overlapping(range) {
            let (region, other) = (other.to_string(), other.range());
            return Err(RegisterError::Overlaps { wanted: range, region, range: other });
        }
        let at = self.regions.partition_point(|r| r.range().first_page() < range.first_page());
        self.regions.insert(at, region.clone());
        if let Some(name) = region.shared_name() {
            self.by_name.insert(name.clone(), region.clone());
        }
        Ok(())
    }

    pub(crate) fn without_region(&self, region: &Region) -> Self {
        let mut next = self.next();
        next.regions.retain(|r| r != region);
        if let Some(name) = region.name() {
            next.by_name.remove(name);
        }
        next
    }

    pub(crate) fn with_allocator(&self, registered: Registered) -> Self {
        let mut next = self.next();
        next.allocators.push(registered);
        next
    }

    /// Replaces the allocator of the same name by `registered`.
    pub(crate) fn with_allocator_replaced(&self, registered: &Registered) -> Self {
        let mut next = self.next();
        for allocator in
            next.allocators.iter_mut().filter(|allocator| allocator.name == registered.name)
        {
            allocator.clone_from(registered);
        }
        next
    }

    pub(crate) fn region(&self, name: &str) -> Option<&Region> {
        self.by_name.get(name)
    }

    /// The region that contains `address`.
    pub(crate) fn region_of(&self, address: DmaAddr) -> Option<&Region> {
        let at = self.regions.partition_point(|r| r.range().first_page() <= address.page());
        self.regions[..at].last().filter(|r| r.range().contains(address))
    }

    /// The first region that overlaps `range`.
    fn overlapping(&self, range: PageRange) -> Option<&Region> {
        let after = self.regions.partition_point(|r| r.range().end_page() <= range.first_page());
        self.regions.get(after).filter(|r| r.range().overlaps(range))
    }

    /// The route of (`device`, `kind`), if it is kept.
    #[inline(always)]
    pub(crate) fn kept_route(&self, device: &str, kind: &str) -> Option<&Arc<Route>> {
        self.routes.get(device, kind)
    }

    /// Resolves (`device`, `kind`) by the map and keeps the route. `intern` numbers the pair, if
    /// there is room for another.
    #[cold]
    pub(crate) fn new_route(
        &self,
        device: &str,
        kind: &str,
        intern: impl FnOnce() -> Option<Asker>,
    ) -> Arc<Route> {
        let candidates = self.candidates(device, kind);
        self.routes.add(self.generation, (device, kind), candidates, self.observed, intern)
    }

    /// The regions that the map has for (`device`, `kind`), in the order of their groups; `None`
    /// when no rule matches.
    pub(crate) fn candidates(&self, device: &str, kind: &str) -> Option<Vec<Candidate<Region>>> {
        let groups = self.map.regions_for(device, kind)?;
        Some(groups.flat_map(|group| self.group(group)).collect())
    }

    /// The route of a request that names regions instead of a device. It is not kept.
    pub(crate) fn route_of_regions<'a>(
        &self,
        groups: impl Iterator<Item = GroupSpec<'a>>,
    ) -> Route {
        let candidates = groups.flat_map(|group| self.group(group.regions())).collect();
        Route::of_regions(self.generation, candidates)
    }

    /// The route of a request to `region`.
    pub(crate) fn route_of_region(&self, region: &Region) -> Route {
        let name = region.to_string().into();
        let candidate = Candidate { name, region: Some(region.clone()), rest: 0 };
        Route::of_regions(self.generation, vec![candidate])
    }

    fn group<'a>(&self, names: impl Iterator<Item = &'a str>) -> Vec<Candidate<Region>> {
        let names: Vec<&str> = names.collect();
        let candidate = |(i, name): (usize, &&str)| Candidate {
            name: (*name).into(),
            region: self.region(name).cloned(),
            rest: names.len() - 1 - i,
        };
        names.iter().enumerate().map(candidate).collect()
    }
}
