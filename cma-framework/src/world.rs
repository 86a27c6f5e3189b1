//! The immutable picture of regions, map and allocators that requests are routed by.
//!
//! A change makes a new picture and swaps it in whole, so a request sees the configuration of one moment and
//! never waits for a change. Routing takes no lock.

use crate::allocate::{AllocError, Unmatched};
use crate::config::Map;
use crate::region::{Region, Registered};
use cma_api::{Asker, DmaAddr, PageRange};
use hashbrown::HashMap;
use rustc_hash::FxHasher;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::{Arc, OnceLock};

/// Longer names, in bytes, are served and not remembered.
const MAX_KEPT_NAME: usize = 255;

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
    routes: Routes,
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
    /// Device and type.
    pub(crate) fn pair(&self) -> (&str, &str) {
        (&self.device, &self.kind)
    }

    #[cold]
    pub(crate) fn no_rule(&self) -> AllocError {
        AllocError::NoRule(Box::new(Unmatched {
            device: self.device.to_string(),
            kind: self.kind.to_string(),
        }))
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
            routes: Routes::default(),
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
            routes: Routes::default(),
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

    /// With `registered` in the place of the allocator of its name.
    pub(crate) fn with_allocator_replaced(&self, registered: &Registered) -> Self {
        let mut next = self.next();
        for allocator in next.allocators.iter_mut().filter(|allocator| allocator.name == registered.name) {
            allocator.clone_from(registered);
        }
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
        let behind = self.regions.partition_point(|r| r.range().end_page() <= range.first_page());
        self.regions.get(behind).filter(|r| r.range().overlaps(range))
    }

    /// The route of (`device`, `kind`), if it was looked up before.
    #[inline]
    pub(crate) fn known_route(&self, device: &str, kind: &str) -> Option<&Arc<Route>> {
        self.routes.get(device, kind)
    }

    /// Looks the route of (`device`, `kind`) up in the map and keeps it for the next time. `intern` numbers the pair.
    #[cold]
    pub(crate) fn new_route(&self, device: &str, kind: &str, intern: impl FnOnce() -> Asker) -> Arc<Route> {
        let stops: Option<Vec<Stop>> =
            self.map.regions_for(device, kind).map(|names| names.map(|name| self.stop(name)).collect());
        // Made-up names must not fill memory: what nothing serves, or is longer than any name needs to be, is not kept.
        let keep = stops.is_some() && device.len().max(kind.len()) <= MAX_KEPT_NAME;
        let asker = if keep { intern() } else { Asker::NOBODY };
        let route =
            Arc::new(Route { device: device.into(), kind: kind.into(), world: self.number, asker, stops });
        if keep {
            self.routes.keep(&route);
        }
        route
    }

    /// The route of a request that names regions in place of a device. It is not kept.
    pub(crate) fn route_of<'a>(&self, names: impl Iterator<Item = &'a str>) -> Route {
        let stops = Some(names.map(|name| self.stop(name)).collect());
        Route { device: "".into(), kind: "".into(), world: self.number, asker: Asker::NOBODY, stops }
    }

    fn stop(&self, name: &str) -> Stop {
        Stop { name: name.into(), region: self.region(name).cloned() }
    }
}

/// The routes that were looked up in one world. Looking takes no lock and no atomic change, and what was found is never
/// moved, so requests of any number of threads share it without slowing one another.
///
/// It doesn't grow: pairs that find no place are looked up in the map each time, so that clients that make up names can't fill
/// memory.
#[derive(Debug)]
struct Routes {
    /// Open addressing with linear probing. A slot that is filled stays so. They are as many as a power of two known when this is
    /// compiled, because dividing by another number takes longer than all the rest of looking up.
    slots: Box<[OnceLock<Arc<Route>>; 512]>,
    /// So that nobody can choose names that share their slots.
    seed: usize,
}

impl Default for Routes {
    fn default() -> Self {
        Routes {
            slots: Box::new([const { OnceLock::new() }; 512]),
            seed: RandomState::new().hash_one(0) as usize,
        }
    }
}

impl Routes {
    /// The slots in which the route of a pair may be, in order.
    #[inline]
    fn places(&self, device: &str, kind: &str) -> impl Iterator<Item = &OnceLock<Arc<Route>>> {
        let mut hasher = FxHasher::with_seed(self.seed);
        (device, kind).hash(&mut hasher);
        let hash = hasher.finish() as usize;
        (0..8).map(move |n| &self.slots[hash.wrapping_add(n) % self.slots.len()])
    }

    #[inline]
    fn get(&self, device: &str, kind: &str) -> Option<&Arc<Route>> {
        self.places(device, kind)
            .map_while(OnceLock::get)
            .find(|route| *route.device == *device && *route.kind == *kind)
    }

    fn keep(&self, route: &Arc<Route>) {
        for place in self.places(&route.device, &route.kind) {
            let there = place.get_or_init(|| route.clone());
            if there.device == route.device && there.kind == route.kind {
                return;
            }
        }
    }
}
