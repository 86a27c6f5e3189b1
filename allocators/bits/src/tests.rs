//! The set compared with the standard library's ordered set, and its edge cases.

use super::{BitTree, TooLarge, zeroed};
use proptest::prelude::*;
use std::collections::BTreeSet;

#[derive(Clone, Debug)]
enum Operation {
    Insert(u64),
    Remove(u64),
    InsertEvenly(u64),
    RemoveEvenly(u64, bool),
    InsertRange(u64, u64),
    RemoveRange(u64, u64),
}

/// Limits around those at which a level is added, and operations below them.
fn limit_and_operations() -> impl Strategy<Value = (u64, Vec<Operation>)> {
    prop_oneof![1..200u64, 4090..4100u64].prop_flat_map(|limit| {
        let range = (0..limit, 0..=limit).prop_map(|(a, b)| (a.min(b), a.max(b)));
        let operation = prop_oneof![
            (0..limit).prop_map(Operation::Insert),
            (0..limit).prop_map(Operation::Remove),
            (0..limit).prop_map(Operation::InsertEvenly),
            (0..limit, any::<bool>())
                .prop_map(|(i, is_wanted)| Operation::RemoveEvenly(i, is_wanted)),
            range.clone().prop_map(|(a, b)| Operation::InsertRange(a, b)),
            range.prop_map(|(a, b)| Operation::RemoveRange(a, b)),
        ];
        (Just(limit), prop::collection::vec(operation, 1..25))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn behaves_as_an_ordered_set_of_numbers(
        (limit, operations) in limit_and_operations(),
        probes in prop::collection::vec(0..4100u64, 5),
    ) {
        let mut tree = BitTree::new(limit).unwrap();
        let mut model = BTreeSet::new();
        for operation in operations {
            match operation {
                Operation::Insert(i) => {
                    let was_empty = model.is_empty();
                    // The result is only specified for numbers that were not in the set.
                    if model.insert(i) {
                        prop_assert_eq!(tree.insert(i), was_empty);
                    }
                }
                Operation::Remove(i) => {
                    if model.remove(&i) {
                        prop_assert_eq!(tree.remove(i), model.is_empty());
                    }
                }
                Operation::InsertEvenly(i) => {
                    tree.insert_evenly(i);
                    model.insert(i);
                }
                Operation::RemoveEvenly(i, is_wanted) => {
                    // Only specified for numbers that are in the set.
                    if model.contains(&i) {
                        tree.remove_evenly(i, is_wanted);
                        model.retain(|other| *other != i || !is_wanted);
                    }
                }
                Operation::InsertRange(a, b) => {
                    tree.insert_range(a, b);
                    model.extend(a..b);
                }
                Operation::RemoveRange(a, b) => {
                    tree.remove_range(a, b);
                    model.retain(|i| !(a..b).contains(i));
                }
            }
            prop_assert_eq!(tree.check(), Ok(()));
            prop_assert_eq!(tree.is_empty(), model.is_empty());
            prop_assert_eq!(tree.first(), model.first().copied());
            for probe in probes.iter().map(|p| p % limit).chain([0, limit - 1]) {
                prop_assert_eq!(tree.contains(probe), model.contains(&probe));
                prop_assert_eq!(tree.next(probe), model.range(probe..).next().copied());
                prop_assert_eq!(tree.previous(probe), model.range(..probe).next_back().copied());
                for end in probes.iter().map(|p| p % (limit + 1)).filter(|end| *end >= probe) {
                    let absent = (probe..end).find(|i| !model.contains(i)).unwrap_or(end);
                    prop_assert_eq!(tree.run_end(probe, end), absent);
                    let absent = (probe..end).rfind(|i| !model.contains(i)).map_or(probe, |i| i + 1);
                    prop_assert_eq!(tree.run_start(probe, end), absent);
                }
            }
            prop_assert_eq!(tree.previous(limit), model.last().copied());
            prop_assert_eq!(tree.next(limit), None);
            prop_assert_eq!(tree.next(u64::MAX), None);
        }
    }
}

#[test]
fn a_set_too_large_for_any_host_is_refused() {
    assert_eq!(BitTree::new(BitTree::MAX_LIMIT + 1).unwrap_err(), TooLarge(BitTree::MAX_LIMIT + 1));
    assert_eq!(BitTree::new(u64::MAX).unwrap_err(), TooLarge(u64::MAX));
    assert_eq!(zeroed::<u64>(1 << 60).unwrap_err(), TooLarge(u64::MAX));
}

#[test]
fn check_finds_a_wrong_summary_and_a_number_above_the_limit() {
    let mut tree = BitTree::new(100_000).unwrap();
    tree.insert(99_999);
    tree.words[0] = 1;
    assert!(tree.check().unwrap_err().contains("invariant 1"));
    let mut tree = BitTree::new(100).unwrap();
    tree.insert(100);
    assert!(tree.check().unwrap_err().contains("invariant 2"));
}
