//! Routes: which regions serve a (device, type) pair under one configuration.
//!
//! A route holds host handles `R` to regions; nothing here looks into them. Routes are kept in a
//! table that belongs to one configuration, so a change of the configuration drops them all.

use crate::vocabulary::errors::{AllocError, Unmatched};
use cma_api::{Asker, PageRange, Pages};
use rustc_hash::FxHasher;
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::{Arc, OnceLock};

/// Pairs with a longer name, in bytes, are served without being kept.
const MAX_KEPT_NAME: usize = 255;

/// The regions that serve one (device, type) pair.
#[derive(Debug)]
pub(crate) struct Route<R> {
    device: Box<str>,
    kind: Box<str>,
    /// The generation of the configuration that the route belongs to.
    pub(crate) generation: u64,
    pub(crate) asker: Asker,
    /// The regions of the matching rule, in the order of its groups; `None` when no rule matches.
    pub(crate) candidates: Option<Vec<Candidate<R>>>,
    /// The region of the first candidate, if that is a group of its own: most requests need no
    /// other. `None` in an observed framework, where every request takes the path that reports.
    pub(crate) first: Option<R>,
}

/// A name in a rule's region list, and the registered region of that name.
#[derive(Debug)]
pub(crate) struct Candidate<R> {
    pub(crate) name: Box<str>,
    pub(crate) region: Option<R>,
    /// The number of candidates that follow in the same group.
    pub(crate) rest: usize,
}

/// A [`Candidate`], borrowed.
#[derive(Debug)]
pub(crate) struct Choice<'a, R> {
    pub(crate) name: &'a str,
    pub(crate) region: Option<&'a R>,
    pub(crate) rest: usize,
}

impl<R> Candidate<R> {
    #[inline(always)]
    pub(crate) fn choice(&self) -> Choice<'_, R> {
        Choice { name: &self.name, region: self.region.as_ref(), rest: self.rest }
    }
}

fn first_alone<R: Clone>(candidates: &[Candidate<R>]) -> Option<R> {
    candidates.first().filter(|first| first.rest == 0)?.region.clone()
}

/// `choices` in the order in which they are tried: group by group, and in a group of several by the
/// size of the hole that `fit` finds, the smallest first, the first named of equals. Those where it
/// finds none come last. A group is looked at when its turn comes.
pub(crate) fn by_fit<'a, R>(
    mut choices: VecDeque<Choice<'a, R>>,
    mut fit: impl FnMut(&R) -> Option<PageRange>,
) -> impl Iterator<Item = Choice<'a, R>> {
    let mut group: VecDeque<Choice<'a, R>> = VecDeque::new();
    std::iter::from_fn(move || {
        if group.is_empty() {
            let size = choices.front()?.rest + 1;
            group = choices.drain(..size.min(choices.len())).collect();
            if group.len() > 1 {
                let hole = |choice: &Choice<'_, R>| {
                    let hole = choice.region.and_then(&mut fit);
                    hole.map_or(Pages::new(u64::MAX), PageRange::pages)
                };
                group.make_contiguous().sort_by_cached_key(hole);
            }
        }
        group.pop_front()
    })
}

impl<R: Clone> Route<R> {
    /// The route of a request that names regions instead of a device.
    pub(crate) fn of_regions(generation: u64, candidates: Vec<Candidate<R>>) -> Self {
        Route {
            device: "".into(),
            kind: "".into(),
            generation,
            asker: Asker::NOBODY,
            first: first_alone(&candidates),
            candidates: Some(candidates),
        }
    }

    /// Device and type; `None` when the request names regions.
    pub(crate) fn device(&self) -> Option<(Arc<str>, Arc<str>)> {
        let (device, kind) = self.pair();
        (!device.is_empty()).then(|| (device.into(), kind.into()))
    }

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

/// The kept routes of one configuration. A look-up takes no lock and changes no shared memory, and
/// a route never moves, so requests of any number of threads don't slow one another down.
///
/// The size is bounded. A pair that finds no slot is resolved by the map at each request.
#[derive(Debug)]
pub(crate) struct Routes<R> {
    first: Slots<R>,
    /// For pairs that find no slot in the first table. Each table is made on first use.
    overflow: OnceLock<Box<OverflowTables<R>>>,
    /// Keeps clients from choosing names that collide.
    seed: usize,
}

type OverflowTables<R> = [OnceLock<Box<Slots<R>>>; OVERFLOW_TABLES];

/// The most overflow tables, a power of two. With the first table they have room for
/// some 65,000 routes.
const OVERFLOW_TABLES: usize = 128;

impl<R> Default for Routes<R> {
    fn default() -> Self {
        Routes {
            first: Slots::default(),
            overflow: OnceLock::new(),
            seed: RandomState::new().hash_one(0) as usize,
        }
    }
}

impl<R: Clone> Routes<R> {
    #[inline(always)]
    fn hash(&self, device: &str, kind: &str) -> usize {
        let mut hasher = FxHasher::with_seed(self.seed);
        (device, kind).hash(&mut hasher);
        hasher.finish() as usize
    }

    /// The route of (`device`, `kind`), if it is kept.
    #[inline(always)]
    pub(crate) fn get(&self, device: &str, kind: &str) -> Option<&Arc<Route<R>>> {
        let hash = self.hash(device, kind);
        self.first.get(hash, device, kind).or_else(|| self.get_overflow(hash, device, kind))
    }

    #[cold]
    fn get_overflow(&self, hash: usize, device: &str, kind: &str) -> Option<&Arc<Route<R>>> {
        self.overflow.get()?[overflow_table(hash)].get()?.get(hash, device, kind)
    }

    /// Makes the route of (`device`, `kind`) and keeps it. It has a `first` region unless it is
    /// `observed`. `intern` numbers the pair, if there is room for another.
    ///
    /// Invented names must not fill memory, so a route is kept only for a pair that has candidates,
    /// names of bounded length and a number.
    #[cold]
    pub(crate) fn add(
        &self,
        generation: u64,
        (device, kind): (&str, &str),
        candidates: Option<Vec<Candidate<R>>>,
        observed: bool,
        intern: impl FnOnce() -> Option<Asker>,
    ) -> Arc<Route<R>> {
        let keep = candidates.is_some() && device.len().max(kind.len()) <= MAX_KEPT_NAME;
        let asker = if keep { intern() } else { None };
        let route = Arc::new(Route {
            device: device.into(),
            kind: kind.into(),
            generation,
            asker: asker.unwrap_or(Asker::NOBODY),
            first: candidates.as_deref().filter(|_| !observed).and_then(first_alone),
            candidates,
        });
        if asker.is_some() {
            self.insert(&route);
        }
        route
    }

    fn insert(&self, route: &Arc<Route<R>>) {
        let hash = self.hash(&route.device, &route.kind);
        if !self.first.insert(hash, route) {
            let tables = self
                .overflow
                .get_or_init(|| Box::new([const { OnceLock::new() }; OVERFLOW_TABLES]));
            tables[overflow_table(hash)].get_or_init(Box::default).insert(hash, route);
        }
    }
}

/// The overflow table for routes of this hash. It is chosen by other bits than the slot.
fn overflow_table(hash: usize) -> usize {
    (hash >> 16) % OVERFLOW_TABLES
}

/// Open addressing with linear probing. A filled slot stays filled. The number of slots is a power
/// of two known at compile time: a division by any other number would take longer than the rest of
/// the look-up.
#[derive(Debug)]
struct Slots<R>(Box<[OnceLock<Arc<Route<R>>>; 512]>);

impl<R> Default for Slots<R> {
    fn default() -> Self {
        Slots(Box::new([const { OnceLock::new() }; 512]))
    }
}

impl<R> Slots<R> {
    /// The slots that may hold a route of this hash, in probing order.
    #[inline(always)]
    fn probe(&self, hash: usize) -> impl Iterator<Item = &OnceLock<Arc<Route<R>>>> {
        (0..8).map(move |n| &self.0[hash.wrapping_add(n) % self.0.len()])
    }

    #[inline(always)]
    fn get(&self, hash: usize, device: &str, kind: &str) -> Option<&Arc<Route<R>>> {
        let mut filled = self.probe(hash).map_while(OnceLock::get);
        filled.find(|route| *route.device == *device && *route.kind == *kind)
    }

    /// Returns whether the pair has a slot now.
    fn insert(&self, hash: usize, route: &Arc<Route<R>>) -> bool {
        self.probe(hash).any(|slot| {
            let kept = slot.get_or_init(|| route.clone());
            kept.device == route.device && kept.kind == route.kind
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(routes: &Routes<()>, device: &str, asker: Option<Asker>) -> Arc<Route<()>> {
        routes.add(0, (device, ""), Some(Vec::new()), false, || asker)
    }

    #[test]
    fn thousands_of_pairs_keep_their_routes() {
        let routes = Routes::default();
        let names: Vec<String> = (0..20_000).map(|n| format!("vm{n}")).collect();
        for (name, number) in names.iter().zip(1..) {
            add(&routes, name, Some(Asker(number)));
        }
        let found = |(name, number): (&String, u32)| {
            routes.get(name, "").is_some_and(|route| route.asker == Asker(number))
        };
        let kept = names.iter().zip(1..).filter(|pair| found(*pair)).count();
        // The tables are less than a third full, so hardly any pair finds its eight slots filled.
        assert!(kept > 19_900, "{kept}");
        assert!(routes.get("vm20000", "").is_none());
    }

    #[test]
    fn in_a_group_the_smallest_hole_comes_first_and_groups_keep_their_order() {
        // Each region is the size of its hole; 0 for none.
        let group = |sizes: &[u64]| {
            let choice = |(i, size): (usize, &u64)| Candidate {
                name: format!("{size}").into(),
                region: (*size < 100).then_some(*size),
                rest: sizes.len() - 1 - i,
            };
            sizes.iter().enumerate().map(choice).collect::<Vec<_>>()
        };
        let all: Vec<_> = [group(&[9]), group(&[7, 0, 100, 3, 7]), group(&[1, 2])]
            .into_iter()
            .flatten()
            .collect();
        let mut asked = Vec::new();
        let choices = all.iter().map(Candidate::choice).collect();
        let order: Vec<_> = by_fit(choices, |size| {
            asked.push(*size);
            (*size > 0).then(|| PageRange::from_pages(0, *size))
        })
        .map(|choice| choice.name.to_string())
        .take(6)
        .collect();
        assert_eq!(order, ["9", "3", "7", "7", "0", "100"]);
        // Neither a group of one nor a group whose turn has not come is looked at.
        assert_eq!(asked, [7, 0, 3, 7]);
    }

    #[test]
    fn a_pair_without_a_number_is_not_kept() {
        let routes = Routes::default();
        assert_eq!(add(&routes, "invented", None).asker, Asker::NOBODY);
        assert!(routes.get("invented", "").is_none());
    }
}
