//! The immutable picture of regions, map and allocators that requests are routed by.
//!
//! A change makes a new picture and swaps it in whole, so a request sees the configuration of one moment and
//! never waits for a change. Routing takes no lock.

use crate::allocate::AllocError;
use crate::config::Map;
use crate::loader::Plugin;
use crate::region::Region;
use arc_swap::ArcSwap;
use cma_api::{Asker, DmaAddr, PageRange};
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use std::hash::BuildHasher;
use std::sync::Arc;

/// How many (device, type) pairs have their route kept. A framework with more still serves them all; it looks
/// the others up in the map each time.
const MAX_ROUTES: usize = 1024;

/// An allocator that regions may ask for.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The name it is registered under; `None` for none.
    pub name: Option<Arc<str>>,
    /// The algorithm.
    pub plugin: Plugin,
}

/// Map, regions and allocators at one moment.
#[derive(Debug)]
pub(crate) struct World {
    /// Distinguishes this picture from every earlier one.
    pub(crate) number: u64,
    pub(crate) map: Arc<Map>,
    /// Ascending, disjoint.
    pub(crate) regions: Vec<Region>,
    by_name: HashMap<Arc<str>, Region>,
    pub(crate) allocators: Vec<Registered>,
    hasher: DefaultHashBuilder,
    routes: ArcSwap<HashTable<Arc<Route>>>,
}

/// Where requests of one (device, type) pair go.
#[derive(Debug)]
pub(crate) struct Route {
    device: Box<str>,
    kind: Box<str>,
    /// The number of the world in which this is so.
    pub(crate) world: u64,
    pub(crate) asker: Asker,
    /// The regions of the rule that matches; `None` when none does.
    pub(crate) stops: Option<Vec<Stop>>,
}

/// A name of a rule's region list, and the region that it is.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) name: Box<str>,
    pub(crate) region: Option<Region>,
}

impl Route {
    #[cold]
    pub(crate) fn no_rule(&self) -> AllocError {
        AllocError::NoRule { device: self.device.to_string(), kind: self.kind.to_string() }
    }
}

impl World {
    pub(crate) fn new() -> Self {
        World {
            number: 0,
            map: Arc::default(),
            regions: Vec::new(),
            by_name: HashMap::new(),
            allocators: Vec::new(),
            hasher: DefaultHashBuilder::default(),
            routes: ArcSwap::default(),
        }
    }

    /// The next picture, before its changes.
    fn next(&self) -> Self {
        World {
            number: self.number + 1,
            map: self.map.clone(),
            regions: self.regions.clone(),
            by_name: self.by_name.clone(),
            allocators: self.allocators.clone(),
            hasher: self.hasher.clone(),
            routes: ArcSwap::default(),
        }
    }

    pub(crate) fn with_map(&self, map: Map) -> Self {
        World { map: Arc::new(map), ..self.next() }
    }

    pub(crate) fn with_region(&self, region: &Region) -> Self {
        let mut next = self.next();
        let at = next.regions.partition_point(|r| r.range().first_page() < region.range().first_page());
        next.regions.insert(at, region.clone());
        if let Some(name) = region.shared_name() {
            next.by_name.insert(name.clone(), region.clone());
        }
        next
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

    pub(crate) fn region(&self, name: &str) -> Option<&Region> {
        self.by_name.get(name)
    }

    /// The region that holds `address`.
    pub(crate) fn region_of(&self, address: DmaAddr) -> Option<&Region> {
        let at = self.regions.partition_point(|r| r.range().first_page() <= address.page());
        self.regions[..at].last().filter(|r| r.range().contains(address))
    }

    /// The first region that overlaps `range`.
    pub(crate) fn overlapping(&self, range: PageRange) -> Option<&Region> {
        self.regions.iter().find(|r| r.range().overlaps(range))
    }

    /// Calls `f` with the route of (`device`, `kind`), which is kept for the next time. `intern` numbers the pair.
    #[inline]
    pub(crate) fn with_route<T>(
        &self,
        device: &str,
        kind: &str,
        intern: impl FnOnce() -> Asker,
        f: impl FnOnce(&Route) -> T,
    ) -> T {
        let routes = self.routes.load();
        match routes.find(self.hash(device, kind), |r| *r.device == *device && *r.kind == *kind) {
            Some(route) => f(route),
            None => f(&self.new_route(device, kind, intern)),
        }
    }

    /// The same, for one who keeps the route.
    pub(crate) fn route(&self, device: &str, kind: &str, intern: impl FnOnce() -> Asker) -> Arc<Route> {
        let routes = self.routes.load();
        let found = routes.find(self.hash(device, kind), |r| *r.device == *device && *r.kind == *kind);
        found.cloned().unwrap_or_else(|| self.new_route(device, kind, intern))
    }

    #[cold]
    fn new_route(&self, device: &str, kind: &str, intern: impl FnOnce() -> Asker) -> Arc<Route> {
        let stops = self.map.regions_for(device, kind).map(|names| {
            names
                .map(|name| Stop { name: name.into(), region: self.region(name).cloned() })
                .collect::<Vec<_>>()
        });
        let asker = if stops.is_some() { intern() } else { Asker::NOBODY };
        let route =
            Arc::new(Route { device: device.into(), kind: kind.into(), world: self.number, asker, stops });
        self.routes.rcu(|old| {
            let hash = self.hash(device, kind);
            let known = old.find(hash, |r| *r.device == *device && *r.kind == *kind).is_some();
            if known || old.len() >= MAX_ROUTES {
                return old.clone();
            }
            let mut routes = HashTable::clone(old);
            routes.insert_unique(hash, route.clone(), |r| self.hash(&r.device, &r.kind));
            Arc::new(routes)
        });
        route
    }

    fn hash(&self, device: &str, kind: &str) -> u64 {
        self.hasher.hash_one((device, kind))
    }
}
