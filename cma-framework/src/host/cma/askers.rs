//! Numbers for (device, type) pairs, so that books and requests carry a word instead of two names.
//!
//! Clients make names up, so the table is bounded. When it is full, the pairs that nothing refers
//! to are dropped; a pair that asks again gets a new number. No number is given twice, so a number
//! that is out of date names nobody and never somebody else.

use cma_api::Asker;
use hashbrown::{Equivalent, HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A (device, type) pair.
pub(crate) type Pair = (Arc<str>, Arc<str>);

/// The most pairs that have a number.
const ROOM: usize = 1 << 16;

/// The most pairs of one user of a front end.
const ROOM_OF_USER: usize = 1 << 10;

/// The pairs that found a rule. Its lock is its own: a request of a new pair must not wait for a
/// change of the configuration.
#[derive(Debug)]
pub(super) struct Askers {
    table: Mutex<Table>,
    room: usize,
    room_of_user: usize,
}

#[derive(Debug, Default)]
struct Table {
    numbers: HashMap<Names, Known>,
    pairs: HashMap<Asker, Pair>,
    of_user: HashMap<u32, usize>,
    newest: u32,
    /// The number of the sweep that is under way or comes next.
    sweep: u64,
    /// How many requests got no number since the last sweep.
    turned_away: usize,
    /// Whether the last sweep found little to drop.
    in_use: bool,
}

#[derive(Debug)]
struct Known {
    asker: Asker,
    user: Option<u32>,
    /// The sweep before which the pair asked for its number last.
    sweep: u64,
}

/// A pair as a key that can be looked up without making one.
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

/// A sweep under way: pairs that ask from now on stay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sweep(u64);

impl Default for Askers {
    fn default() -> Self {
        Askers::with_room(ROOM, ROOM_OF_USER)
    }
}

impl Askers {
    fn with_room(room: usize, room_of_user: usize) -> Self {
        Askers { table: Mutex::default(), room, room_of_user }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a pair that `user` of a front end asks for, or the host itself; `None` when
    /// there is no room for another pair.
    pub(super) fn number(&self, device: &str, kind: &str, user: Option<u32>) -> Option<Asker> {
        let table = &mut *self.table();
        if let Some(known) = table.numbers.get_mut(&(device, kind)) {
            known.sweep = table.sweep;
            return Some(known.asker);
        }
        let has = user.and_then(|user| table.of_user.get(&user)).copied().unwrap_or(0);
        if table.pairs.len() == self.room || has >= self.room_of_user || table.newest == u32::MAX {
            table.turned_away += 1;
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

    /// Begins a sweep, if it is worth it: a sweep looks at every live chunk. After one that found
    /// little to drop, many requests have to find no room before the next.
    pub(super) fn begin_sweep(&self) -> Option<Sweep> {
        let table = &mut *self.table();
        let is_worth_it = !table.in_use || table.turned_away > self.room / 4;
        is_worth_it.then(|| {
            table.turned_away = 0;
            table.sweep += 1;
            Sweep(table.sweep)
        })
    }

    /// Drops the pairs that nothing in `used` refers to and that did not ask since the sweep began.
    pub(super) fn end_sweep(&self, Sweep(sweep): Sweep, used: &HashSet<Asker>) {
        let Table { numbers, pairs, of_user, in_use, .. } = &mut *self.table();
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
        *in_use = before - pairs.len() < self.room / 4;
    }

    /// Ends a sweep that dropped nothing. Many requests have to find no room before the next.
    pub(super) fn put_off_sweep(&self) {
        self.table().in_use = true;
    }

    /// The pairs of numbers; `None` for [`Asker::NOBODY`] and for numbers that are out of date.
    pub(super) fn names(&self) -> impl FnMut(Asker) -> Option<Pair> {
        |asker| self.table().pairs.get(&asker).cloned()
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
        let askers = Askers::with_room(8, 8);
        let first: Vec<_> =
            (0..8).map(|n| askers.number(&format!("old{n}"), "", None).unwrap()).collect();
        assert_eq!(askers.number("new", "", None), None);
        assert!(sweep(&askers, &first[..2]));
        let new = askers.number("new", "", None).unwrap();
        assert!(!first.contains(&new));
        let names: Vec<_> = first.iter().map(|asker| askers.names()(*asker)).collect();
        assert!(names[..2].iter().all(Option::is_some) && names[2..].iter().all(Option::is_none));
        // One that is known again has a number that no chunk of it before has.
        assert!(askers.number("old7", "", None).is_some_and(|again| again != first[7]));
    }

    #[test]
    fn a_pair_that_asks_during_a_sweep_stays() {
        let askers = Askers::with_room(2, 2);
        let [early, late] = ["early", "late"].map(|name| askers.number(name, "", None).unwrap());
        let begun = askers.begin_sweep().unwrap();
        assert_eq!(askers.number("late", "", None), Some(late));
        askers.end_sweep(begun, &HashSet::new());
        assert_eq!([early, late].map(|asker| askers.names()(asker).is_some()), [false, true]);
    }

    #[test]
    fn sweeps_that_find_nothing_are_few() {
        let askers = Askers::with_room(8, 8);
        let used: Vec<_> =
            (0..8).map(|n| askers.number(&format!("{n}"), "", None).unwrap()).collect();
        let turned_away = |n| {
            (0..n)
                .filter(|_| askers.number("new", "", None).is_none() && sweep(&askers, &used))
                .count()
        };
        assert_eq!((turned_away(1), turned_away(2), turned_away(30)), (1, 0, 10));
    }

    #[test]
    fn a_user_that_invents_names_takes_no_place_from_others() {
        let askers = Askers::with_room(8, 3);
        let mut numbers = (0..20).map(|n| askers.number(&format!("{n}"), "", Some(1000)));
        assert_eq!(numbers.by_ref().flatten().count(), 3);
        assert!(askers.number("other", "", Some(1001)).is_some());
        assert!(askers.number("host", "", None).is_some());
        assert!(sweep(&askers, &[]));
        assert!(askers.number("again", "", Some(1000)).is_some());
    }
}
