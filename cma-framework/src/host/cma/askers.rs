//! Numbers for (device, type) pairs, so that books and requests carry a word instead of two names.
//!
//! Clients can invent names, so the table is bounded. When it is full, a *sweep* drops the pairs
//! that nothing refers to; a dropped pair gets a new number with its next request. No number is
//! used twice, so an outdated number refers to no pair and never to a wrong one.

use super::Cma;
use crate::host::region::Region;
use crate::host::snapshot::Snapshot;
use crate::vocabulary::errors::Stuck;
use cma_api::Asker;
use hashbrown::{Equivalent, HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A (device, type) pair.
pub(crate) type Pair = (Arc<str>, Arc<str>);

/// The most pairs that have a number.
const MAX_PAIRS: usize = 1 << 16;

/// The most pairs of one user of a front end.
const MAX_PAIRS_OF_USER: usize = 1 << 10;

/// The pairs that a rule has matched. It has a lock of its own: a request of a new pair must not
/// wait for a change of the configuration.
#[derive(Debug)]
pub(super) struct Askers {
    table: Mutex<Table>,
    max_pairs: usize,
    max_pairs_of_user: usize,
}

#[derive(Debug, Default)]
struct Table {
    numbers: HashMap<Names, Known>,
    pairs: HashMap<Asker, Pair>,
    of_user: HashMap<u32, usize>,
    newest: u32,
    /// The number of the sweep that is in progress or comes next.
    sweep: u64,
    /// The number of requests since the last sweep that got no number.
    unnumbered: usize,
    /// Whether the last sweep dropped few pairs.
    mostly_used: bool,
}

#[derive(Debug)]
struct Known {
    asker: Asker,
    user: Option<u32>,
    /// The sweep before which the last request of the pair came.
    sweep: u64,
}

/// A pair as a key of the table, which is looked up by two borrowed names.
#[derive(Debug, PartialEq, Eq)]
struct Names(Pair);

impl Hash for Names {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&*self.0.0, &*self.0.1).hash(state);
    }
}

impl Equivalent<Names> for (&str, &str) {
    fn equivalent(&self, key: &Names) -> bool {
        (&*key.0.0, &*key.0.1) == *self
    }
}

/// A sweep in progress. Pairs with a request since its start stay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sweep(u64);

impl Default for Askers {
    fn default() -> Self {
        Askers::with_limits(MAX_PAIRS, MAX_PAIRS_OF_USER)
    }
}

impl Askers {
    fn with_limits(max_pairs: usize, max_pairs_of_user: usize) -> Self {
        Askers { table: Mutex::default(), max_pairs, max_pairs_of_user }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a pair. A new one is charged to `user` of a front end, if there is one. `None`
    /// when there is no room for another pair.
    pub(super) fn number(&self, device: &str, kind: &str, user: Option<u32>) -> Option<Asker> {
        let table = &mut *self.table();
        if let Some(known) = table.numbers.get_mut(&(device, kind)) {
            known.sweep = table.sweep;
            return Some(known.asker);
        }
        let has = user.and_then(|user| table.of_user.get(&user)).copied().unwrap_or(0);
        if table.pairs.len() == self.max_pairs
            || has >= self.max_pairs_of_user
            || table.newest == u32::MAX
        {
            table.unnumbered += 1;
            return None;
        }
        table.newest += 1;
        let asker = Asker(table.newest);
        let pair: Pair = (device.into(), kind.into());
        table.numbers.insert(Names(pair.clone()), Known { asker, user, sweep: table.sweep });
        table.pairs.insert(asker, pair);
        if let Some(user) = user {
            *table.of_user.entry(user).or_default() += 1;
        }
        Some(asker)
    }

    /// Begins a sweep, if it is worth its cost: it visits every live chunk. After a sweep that
    /// dropped few pairs, many requests must have got no number before the next.
    pub(super) fn begin_sweep(&self) -> Option<Sweep> {
        let table = &mut *self.table();
        let is_worth_it = !table.mostly_used || table.unnumbered > self.max_pairs / 4;
        is_worth_it.then(|| {
            table.unnumbered = 0;
            table.sweep += 1;
            Sweep(table.sweep)
        })
    }

    /// Drops the pairs that are not in `used` and had no request since the sweep began.
    pub(super) fn end_sweep(&self, Sweep(sweep): Sweep, used: &HashSet<Asker>) {
        let Table { numbers, pairs, of_user, mostly_used, .. } = &mut *self.table();
        let before = pairs.len();
        numbers.retain(|_, known| {
            let stays = known.sweep >= sweep || used.contains(&known.asker);
            if !stays {
                pairs.remove(&known.asker);
                if let Some(count) = known.user.and_then(|user| of_user.get_mut(&user)) {
                    *count -= 1;
                }
            }
            stays
        });
        of_user.retain(|_, count| *count > 0);
        *mostly_used = before - pairs.len() < self.max_pairs / 4;
    }

    /// Ends a sweep without dropping any pair, as if all were used.
    pub(super) fn abandon_sweep(&self) {
        self.table().mostly_used = true;
    }

    /// Maps numbers to pairs; `None` for [`Asker::NOBODY`] and for outdated numbers.
    pub(super) fn names(&self) -> impl FnMut(Asker) -> Option<Pair> {
        |asker| self.table().pairs.get(&asker).cloned()
    }
}

impl Cma {
    /// The number of a (device, type) pair, charged to `user` of a front end, if there is one.
    /// `None` when there is no room for another pair.
    pub(crate) fn intern(&self, device: &str, kind: &str, user: Option<u32>) -> Option<Asker> {
        let number = || self.0.askers.number(device, kind, user);
        number().or_else(|| {
            self.drop_unused_askers();
            number()
        })
    }

    /// Makes room for further pairs by dropping those that no live chunk, kept refusal or recent
    /// request refers to.
    fn drop_unused_askers(&self) {
        // A request never waits for a change of the configuration; a later one sweeps.
        let Some(mut setup) = self.try_setup() else { return };
        let Some(sweep) = self.0.askers.begin_sweep() else { return };
        // Routes keep numbers. In the next snapshot each is resolved anew and requests its number.
        setup.change(Snapshot::next);
        drop(setup);
        let used: Result<Vec<_>, Stuck> = self.regions().iter().map(Region::askers).collect();
        match used {
            Ok(used) => self.0.askers.end_sweep(sweep, &used.into_iter().flatten().collect()),
            // The books of a stuck region can't be read, so any pair may be in use.
            Err(_) => self.0.askers.abandon_sweep(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(askers: &Askers, used: &[Asker]) -> bool {
        let Some(begun) = askers.begin_sweep() else { return false };
        askers.end_sweep(begun, &used.iter().copied().collect());
        true
    }

    #[test]
    fn a_pair_has_one_number_and_a_number_one_pair() {
        let askers = Askers::default();
        let [a, b, again] = [("a", "x"), ("a", "y"), ("a", "x")]
            .map(|(device, kind)| askers.number(device, kind, None));
        assert_eq!(a, again);
        assert_ne!(a, b);
        let name = |asker: Option<Asker>| askers.names()(asker.unwrap()).unwrap();
        assert_eq!((name(a), name(b)), (("a".into(), "x".into()), ("a".into(), "y".into())));
        assert_eq!(askers.names()(Asker::NOBODY), None);
    }

    #[test]
    fn invented_names_fill_the_table_only_until_it_is_swept() {
        let askers = Askers::with_limits(8, 8);
        let first: Vec<_> =
            (0..8).map(|n| askers.number(&format!("old{n}"), "", None).unwrap()).collect();
        assert_eq!(askers.number("new", "", None), None);
        assert!(sweep(&askers, &first[..2]));
        let new = askers.number("new", "", None).unwrap();
        assert!(!first.contains(&new));
        let names: Vec<_> = first.iter().map(|asker| askers.names()(*asker)).collect();
        assert!(names[..2].iter().all(Option::is_some) && names[2..].iter().all(Option::is_none));
        // A dropped pair gets a new number, which none of its earlier chunks has.
        assert!(askers.number("old7", "", None).is_some_and(|again| again != first[7]));
    }

    #[test]
    fn a_pair_with_a_request_during_a_sweep_stays() {
        let askers = Askers::with_limits(2, 2);
        let [early, late] = ["early", "late"].map(|name| askers.number(name, "", None).unwrap());
        let begun = askers.begin_sweep().unwrap();
        assert_eq!(askers.number("late", "", None), Some(late));
        askers.end_sweep(begun, &HashSet::new());
        assert_eq!([early, late].map(|asker| askers.names()(asker).is_some()), [false, true]);
    }

    #[test]
    fn sweeps_that_drop_nothing_are_rare() {
        let askers = Askers::with_limits(8, 8);
        let used: Vec<_> =
            (0..8).map(|n| askers.number(&format!("{n}"), "", None).unwrap()).collect();
        let sweeps = |n| {
            (0..n)
                .filter(|_| askers.number("new", "", None).is_none() && sweep(&askers, &used))
                .count()
        };
        assert_eq!((sweeps(1), sweeps(2), sweeps(30)), (1, 0, 10));
    }

    #[test]
    fn a_user_that_invents_names_leaves_room_for_others() {
        let askers = Askers::with_limits(8, 3);
        let mut numbers = (0..20).map(|n| askers.number(&format!("{n}"), "", Some(1000)));
        assert_eq!(numbers.by_ref().flatten().count(), 3);
        assert!(askers.number("other", "", Some(1001)).is_some());
        assert!(askers.number("host", "", None).is_some());
        assert!(sweep(&askers, &[]));
        assert!(askers.number("again", "", Some(1000)).is_some());
    }
}
