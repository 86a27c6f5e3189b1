//! A process that is killed between any two stores leaves the old state or the new one.
//!
//! The tests replay every prefix of the stores that were made, and read the journal after each. The
//! shadow model is a list of the live records.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use cma_journal::{
    Change, ChangeError, Contents, CreateError, Journal, PART_BYTES, ReadError, Record, RecordId,
    Version, words_for,
};
use common::{Recorder, as_of, configuration, record, records, replay, version};
use proptest::prelude::*;
use proptest::sample::Index;

/// One change of a run, and whether the process is killed during it.
#[derive(Clone, Debug)]
struct Step {
    added: Vec<Record>,
    removed: Vec<Index>,
    killed: Option<Index>,
    killed_in_recovery: Index,
}

fn step() -> impl Strategy<Value = Step> {
    let added = prop::collection::vec(record(), 0..3);
    let removed = prop::collection::vec(any::<Index>(), 0..3);
    (added, removed, any::<Option<Index>>(), any::<Index>()).prop_map(
        |(added, removed, killed, killed_in_recovery)| Step {
            added,
            removed,
            killed,
            killed_in_recovery,
        },
    )
}

type State = Vec<(RecordId, Record)>;

/// A journal that is written, the memory as it was after its last change, and what is live in it.
struct Run {
    journal: Journal<Recorder>,
    words: Vec<u32>,
    state: State,
}

impl Run {
    fn new(slots: u32, version: Version) -> Self {
        let words = Recorder::new(vec![0; words_for(slots).unwrap()]);
        let journal = Journal::create(words, version).unwrap();
        let words = journal.words().clone().into();
        Run { journal, words, state: Vec::new() }
    }

    /// Makes a change, and reads the journal after each of its stores. Goes on in the same process,
    /// or in a new one after some of the stores.
    fn step(&mut self, step: &Step) {
        let (mut change, mut after) = (Change::new(), self.state.clone());
        for index in step.removed.iter().filter(|_| !self.state.is_empty()) {
            let (id, _) = *index.get(&self.state);
            if after.iter().any(|(live, _)| *live == id) {
                change.remove(id);
                after.retain(|(live, _)| *live != id);
            }
        }
        for record in &step.added {
            change.put(record.clone());
        }
        let (first, free) = (self.journal.words().stores.len(), self.journal.free_slots());
        let result = self.journal.commit(&change);
        let stores = self.journal.words().stores[first..].to_vec();
        let version = self.journal.version();
        match &result {
            Ok(ids) => {
                let added = step.added.iter().map(|record| as_of(version, record.clone()));
                after.extend(ids.iter().copied().zip(added));
            }
            Err(ChangeError::Full { needed, free: found, .. }) => {
                assert!(*found == free && *needed > free, "{result:?} of {free}");
                assert_eq!(stores, [], "a refused change stores nothing");
                after.clone_from(&self.state);
            }
            Err(error) => panic!("{error}"),
        }
        let mut is_new = false;
        let words = replay(self.words.clone(), &stores, |number, words| {
            let found = records(words);
            is_new |= found != self.state;
            let expected = if is_new { &after } else { &self.state };
            assert_eq!(&found, expected, "after store {number} of {}", stores.len());
        });
        assert_eq!(is_new, self.state != after, "a change that returned is recorded");
        match step.killed {
            None => (self.words, self.state) = (words, after),
            Some(killed) => {
                let made = &stores[..killed.index(stores.len() + 1)];
                self.words = replay(self.words.clone(), made, |_, _| {});
                self.state = records(&self.words);
                self.restart(step.killed_in_recovery);
            }
        }
    }

    /// Starts a new process, which is killed before its recovery is complete, and then another.
    fn restart(&mut self, killed: Index) {
        if self.journal.version() != Version::CURRENT {
            return self.convert();
        }
        let journal = self.open();
        let stores = &journal.words().stores;
        replay(self.words.clone(), stores, |_, words| assert_eq!(records(words), self.state));
        let made = &stores[..killed.index(stores.len() + 1)];
        self.words = replay(self.words.clone(), made, |_, _| {});
        self.journal = self.open();
        self.words = self.journal.words().clone().into();
    }

    fn open(&self) -> Journal<Recorder> {
        let (journal, records) = Journal::open(Recorder::new(self.words.clone())).unwrap();
        assert_eq!(records, self.state);
        journal
    }

    fn convert(&mut self) {
        let live = self.state.iter().map(|(_, record)| record.clone());
        let words = Recorder::new(vec![0; self.words.len()]);
        let (journal, ids) = Journal::create_with(words, Version::CURRENT, live.clone()).unwrap();
        self.state = ids.into_iter().zip(live).collect();
        self.words = journal.words().clone().into();
        self.journal = journal;
        assert_eq!(records(&self.words), self.state);
    }
}

proptest! {
    #[test]
    fn a_crash_after_any_store_leaves_the_old_or_the_new_state(
        slots in 1..12_u32,
        first in version(),
        steps in prop::collection::vec(step(), 1..6),
    ) {
        let mut run = Run::new(slots, first);
        steps.iter().for_each(|step| run.step(step));

        // No slot is lost, whatever happened.
        let mut change = Change::new();
        run.state.iter().for_each(|(id, _)| { change.remove(*id); });
        let mut journal = run.journal;
        journal.commit(&change).unwrap();
        prop_assert_eq!((journal.records(), journal.free_slots()), (0, slots as usize));
        for number in 0..slots {
            journal.commit(Change::new().put(configuration(number.to_string()))).unwrap();
        }
        let full = journal.commit(Change::new().put(configuration("one more")));
        prop_assert_eq!(full, Err(ChangeError::Full { needed: 1, free: 0, slots }));
    }

    #[test]
    fn a_crash_while_a_journal_is_created_leaves_none_or_all_of_it(
        first in version(),
        before in any::<u32>(),
        added in prop::collection::vec(record(), 0..4),
    ) {
        let words = vec![before; words_for(16).unwrap()];
        let memory = Recorder::new(words.clone());
        let (journal, ids) = Journal::create_with(memory, first, added.clone()).unwrap();
        let memory = journal.into_words();
        let added = added.into_iter().map(|record| as_of(first, record));
        let complete: State = ids.into_iter().zip(added).collect();
        replay(words, &memory.stores, |number, words| {
            let found = Contents::read(words);
            if number == memory.stores.len() {
                assert_eq!(records(words), complete);
            } else if number > 0 {
                assert_eq!(found, Err(ReadError::Unfinished));
            }
        });
    }

    #[test]
    fn a_crash_while_a_journal_is_copied_leaves_none_or_all_of_it_with_the_same_ids(
        slots in 8..20_u32,
        more in 0..9_u32,
        first in version(),
        added in prop::collection::vec(record(), 1..5),
        removed in any::<Index>(),
        later in record(),
    ) {
        let old = Recorder::new(vec![0; words_for(slots).unwrap()]);
        let mut journal = Journal::create(old, first).unwrap();
        for record in added {
            let _ = journal.commit(Change::new().put(record));
        }
        let live = records(&Vec::from(journal.words().clone()));
        if !live.is_empty() {
            journal.commit(Change::new().remove(removed.get(&live).0)).unwrap();
        }
        let (live, free) = (records(&Vec::from(journal.words().clone())), journal.free_slots());

        let words = vec![7; words_for(slots + more).unwrap()];
        let mut copy = journal.copied_to(Recorder::new(words.clone())).unwrap();
        let stores = copy.words().stores.clone();
        replay(words, &stores, |number, words| match number {
            0 => {}
            _ if number == stores.len() => assert_eq!(records(words), live),
            _ => assert_eq!(Contents::read(words), Err(ReadError::Unfinished)),
        });
        // It goes on as the journal that it is a copy of.
        assert_eq!(copy.free_slots(), free + more as usize);
        if let Ok(ids) = copy.commit(Change::new().put(later.clone())) {
            let in_original = journal.commit(Change::new().put(later));
            assert!(in_original == Ok(ids.clone()) || more > 0, "{in_original:?}");
            let [copied, original] =
                [&copy, &journal].map(|it| records(&Vec::from(it.words().clone())));
            assert!(copied == original || in_original.is_err());
            copy.commit(Change::new().remove(ids[0])).unwrap();
        }
        assert_eq!(copy.free_slots(), free + more as usize);
        let smaller = Recorder::new(vec![0; words_for(slots - 1).unwrap()]);
        assert!(matches!(journal.copied_to(smaller), Err(CreateError::Size { .. })));
    }

    #[test]
    fn every_record_is_read_as_it_was_recorded(first in version(), added in record()) {
        let words = vec![0; words_for(8).unwrap()];
        let (journal, ids) = Journal::create_with(words, first, [added.clone()]).unwrap();
        prop_assert_eq!(records(&journal.into_words()), [(ids[0], as_of(first, added))]);
    }
}

#[test]
fn a_full_journal_refuses_a_change_and_serves_the_next_after_a_removal() {
    let words = vec![0; words_for(2).unwrap()];
    let mut journal = Journal::create(Recorder::new(words), Version::CURRENT).unwrap();
    let two_slots = configuration("x".repeat(PART_BYTES));
    let ids = journal.commit(Change::new().put(two_slots.clone())).unwrap();
    let before = journal.into_words();
    let (mut journal, _) = Journal::open(Recorder::new(before.into())).unwrap();
    let idle = journal.commit(&Change::new()).map(|ids| ids.len());
    assert_eq!(idle, Ok(0), "a change of nothing needs nothing");

    // The slots that a change frees have the old state until it is complete.
    let replaced = journal.commit(Change::new().remove(ids[0]).put(configuration("y")));
    assert_eq!(replaced, Err(ChangeError::Full { needed: 1, free: 0, slots: 2 }));
    journal.commit(Change::new().remove(ids[0])).unwrap();
    journal.commit(Change::new().put(two_slots)).unwrap();
}

#[test]
fn a_change_of_what_is_not_recorded_is_refused_and_stores_nothing() {
    let words = vec![0; words_for(4).unwrap()];
    let mut journal = Journal::create(words, Version::CURRENT).unwrap();
    let id = journal.commit(Change::new().put(configuration("a"))).unwrap()[0];
    let (mut journal, _) = Journal::open(Recorder::new(journal.into_words())).unwrap();
    let twice = journal.commit(Change::new().put(configuration("b")).remove(id).remove(id));
    assert_eq!(twice, Err(ChangeError::Unknown { id }));
    let long = configuration("x".repeat(cma_journal::MAX_RECORD_BYTES));
    let long = journal.commit(Change::new().put(long));
    assert!(matches!(long, Err(ChangeError::RecordTooLong { .. })), "{long:?}");
    // One store is that of `open`.
    assert_eq!(journal.into_words().stores.len(), 1);
}
