//! The immutable picture of regions, map and allocators that requests are routed by.
//!
//! A change makes a new picture and swaps it in whole, so a request sees the configuration of one
//! moment and never waits for a change. Routing takes no lock.

use crate::host::region::{Region, Registered};
use crate::vocabulary::Map;
use crate::vocabulary::errors::RegisterError;
use crate::vocabulary::errors::{AllocError, Unmatched};
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

    /// The next picture, before its changes. Every route is looked up again.
    pub(crate) fn next(&self) -> Self {
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

    /// Adds a region, if its name and its place are free.
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

    /// With `registered` in the place of the allocator of its name.
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

    /// The region that holds `address`.
    pub(crate) fn region_of(&self, address: DmaAddr) -> Option<&Region> {
        let at = self.regions.partition_point(|r| r.range().first_page() <= address.page());
        self.regions[..at].last().filter(|r| r.range().contains(address))
    }

    /// The first region that overlaps `range`.
    fn overlapping(&self, range: PageRange) -> Option<&Region> {
        let behind = self.regions.partition_point(|r| r.range().end_page() <= range.first_page());
        self.regions.get(behind).filter(|r| r.range().overlaps(range))
    }

    /// The route of (`device`, `kind`), if it was looked up before.
    #[inline(always)]
    pub(crate) fn known_route(&self, device: &str, kind: &str) -> Option<&Arc<Route>> {
        self.routes.get(device, kind)
    }

    /// Looks the route of (`device`, `kind`) up in the map and keeps it for the next time. `intern`
    /// numbers the pair, if there is room for another.
    #[cold]
    pub(crate) fn new_route(
        &self,
        device: &str,
        kind: &str,
        intern: impl FnOnce() -> Option<Asker>,
    ) -> Arc<Route> {
        let stops: Option<Vec<Stop>> = self
            .map
            .regions_for(device, kind)
            .map(|names| names.map(|name| self.stop(name)).collect());
        // Made-up names must not fill memory: a pair that nothing serves, or with a name that is
        // longer than any name needs to be, is not kept.
        let keep = stops.is_some() && device.len().max(kind.len()) <= MAX_KEPT_NAME;
        let asker = if keep { intern() } else { None };
        let route = Arc::new(Route {
            device: device.into(),
            kind: kind.into(),
            world: self.number,
            asker: asker.unwrap_or(Asker::NOBODY),
            stops,
        });
        if asker.is_some() {
            self.routes.keep(&route);
        }
        route
    }

    /// The route of a request that names regions in place of a device. It is not kept.
    pub(crate) fn route_of<'a>(&self, names: impl Iterator<Item = &'a str>) -> Route {
        let stops = Some(names.map(|name| self.stop(name)).collect());
        Route {
            device: "".into(),
            kind: "".into(),
            world: self.number,
            asker: Asker::NOBODY,
            stops,
        }
    }

    fn stop(&self, name: &str) -> Stop {
        Stop { name: name.into(), region: self.region(name).cloned() }
    }
}

/// The routes that were looked up in one world. A look-up takes no lock and no atomic change, and a
/// route is never moved, so requests of any number of threads share it without slowing one another.
///
/// Its size is bounded. A pair that finds no place is looked up in the map each time.
#[derive(Debug)]
struct Routes {
    first: Slots,
    /// For the pairs that find no place in the first table. Each of these tables is made when it is
    /// needed.
    further: OnceLock<Box<[OnceLock<Box<Slots>>; FURTHER]>>,
    /// So that nobody can choose names that share their slots.
    seed: usize,
}

/// How many further tables there are, a power of two: with the first one room for some 65,000
/// routes.
const FURTHER: usize = 128;

/// Open addressing with linear probing. A slot that is filled stays so. The number of slots is a
/// power of two that is known when this is compiled, because dividing by another number takes
/// longer than all the rest of a look-up.
#[derive(Debug)]
struct Slots(Box<[OnceLock<Arc<Route>>; 512]>);

impl Default for Slots {
    fn default() -> Self {
        Slots(Box::new([const { OnceLock::new() }; 512]))
    }
}

impl Slots {
    /// The slots in which a route of this hash may be, in order.
    #[inline(always)]
    fn places(&self, hash: usize) -> impl Iterator<Item = &OnceLock<Arc<Route>>> {
        (0..8).map(move |n| &self.0[hash.wrapping_add(n) % self.0.len()])
    }

    #[inline(always)]
    fn get(&self, hash: usize, device: &str, kind: &str) -> Option<&Arc<Route>> {
        let mut filled = self.places(hash).map_while(OnceLock::get);
        filled.find(|route| *route.device == *device && *route.kind == *kind)
    }

    /// Whether the route has a place here now.
    fn keep(&self, hash: usize, route: &Arc<Route>) -> bool {
        self.places(hash).any(|place| {
            let there = place.get_or_init(|| route.clone());
            there.device == route.device && there.kind == route.kind
        })
    }
}

impl Default for Routes {
    fn default() -> Self {
        Routes {
            first: Slots::default(),
            further: OnceLock::new(),
            seed: RandomState::new().hash_one(0) as usize,
        }
    }
}

impl Routes {
    #[inline(always)]
    fn hash(&self, device: &str, kind: &str) -> usize {
        let mut hasher = FxHasher::with_seed(self.seed);
        (device, kind).hash(&mut hasher);
        hasher.finish() as usize
    }

    #[inline(always)]
    fn get(&self, device: &str, kind: &str) -> Option<&Arc<Route>> {
        let hash = self.hash(device, kind);
        self.first.get(hash, device, kind).or_else(|| self.get_further(hash, device, kind))
    }

    #[cold]
    fn get_further(&self, hash: usize, device: &str, kind: &str) -> Option<&Arc<Route>> {
        self.further.get()?[further(hash)].get()?.get(hash, device, kind)
    }

    fn keep(&self, route: &Arc<Route>) {
        let hash = self.hash(&route.device, &route.kind);
        if !self.first.keep(hash, route) {
            let tables =
                self.further.get_or_init(|| Box::new([const { OnceLock::new() }; FURTHER]));
            tables[further(hash)].get_or_init(Box::default).keep(hash, route);
        }
    }
}

/// Which further table has routes of this hash. The bits are others than those that choose a slot.
fn further(hash: usize) -> usize {
    (hash >> 16) % FURTHER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_of_pairs_keep_their_routes() {
        let world = World::new().with_map(Map::parse("*=a").unwrap());
        let names: Vec<String> = (0..20_000).map(|n| format!("vm{n}")).collect();
        for (name, number) in names.iter().zip(1..) {
            world.new_route(name, "", || Some(Asker(number)));
        }
        let found = |(name, number): (&String, u32)| {
            world.known_route(name, "").is_some_and(|route| route.asker == Asker(number))
        };
        let kept = names.iter().zip(1..).filter(|pair| found(*pair)).count();
        // Tables of this many routes are less than a third full: hardly a pair finds eight slots
        // taken.
        assert!(kept > 19_900, "{kept}");
        assert!(world.known_route("vm20000", "").is_none());
    }

    #[test]
    fn a_pair_without_a_number_is_not_kept() {
        let world = World::new().with_map(Map::parse("*=a").unwrap());
        assert_eq!(world.new_route("invented", "", || None).asker, Asker::NOBODY);
        assert!(world.known_route("invented", "").is_none());
    }
}
