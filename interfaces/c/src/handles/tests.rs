use super::*;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::sync::atomic::AtomicBool;
use std::thread;

/// A kind of object with a table of its own.
macro_rules! kind {
    ($name:ident, $kind:literal) => {
        struct $name;

        impl Object for $name {
            type Value = u32;
            const KIND: u8 = $kind;
            const NAME: &'static str = stringify!($name);

            fn table() -> &'static Table<Self> {
                static OBJECTS: Table<$name> = Table::new();
                &OBJECTS
            }
        }
    };
}

kind!(Number, 12);
kind!(Other, 13);
// For one test each, which needs to know the places.
kind!(Stale, 14);
kind!(Alone, 15);
kind!(Resting, 16);

fn number(handle: *mut Number) -> Result<u32, BadHandle> {
    Number::table().with(handle, |number| *number)
}

#[test]
fn a_handle_leads_to_its_object_until_it_is_taken() {
    let handle = Number::table().insert(7).unwrap();
    assert_eq!(number(handle), Ok(7));
    assert_eq!(Number::table().take(handle), Ok(7));
    assert_eq!(number(handle), Err(BadHandle::Unknown));
    assert_eq!(Number::table().take(handle), Err(BadHandle::Unknown));
}

#[test]
fn a_place_that_is_reused_does_not_revive_old_handles() {
    let mut old = HashSet::new();
    for n in 0..1000 {
        let handle = Number::table().insert(n).unwrap();
        assert!(old.insert(handle.addr()), "the handle was given before");
        assert_eq!(Number::table().take(handle), Ok(n));
    }
    let live = Number::table().insert(0).unwrap();
    for handle in old {
        assert_eq!(number(ptr::without_provenance_mut(handle)), Err(BadHandle::Unknown));
    }
    assert_eq!(Number::table().take(live), Ok(0));
}

#[test]
fn what_is_no_handle_of_the_kind_is_refused() {
    assert_eq!(number(ptr::null_mut()), Err(BadHandle::Null));
    let own = Number::table().insert(1).unwrap();
    let other = Other::table().insert(2).unwrap();
    assert_eq!(number(other.cast()), Err(BadHandle::Unknown));
    let mut variable = Number;
    assert_eq!(number(&raw mut variable), Err(BadHandle::Unknown));
    // Every bit that differs makes it another handle.
    for bit in 0..usize::BITS {
        let changed = ptr::without_provenance_mut(own.addr() ^ (1 << bit));
        assert_ne!(number(changed), Ok(1), "bit {bit}");
    }
    assert_eq!(number(ptr::without_provenance_mut(usize::MAX)), Err(BadHandle::Unknown));
    assert_eq!(Number::table().take(own), Ok(1));
}

#[test]
fn a_borrowed_object_is_busy_and_comes_back() {
    let handle = Number::table().insert(1).unwrap();
    let loan = Number::table().borrow(handle).unwrap();
    assert_eq!(number(handle), Err(BadHandle::Busy));
    assert_eq!(Number::table().take(handle), Err(BadHandle::Busy));
    assert_eq!(loan.change(|number| (Some(number + 1), "changed")), "changed");
    assert_eq!(number(handle), Ok(2));
    drop(Number::table().borrow(handle).unwrap());
    assert_eq!(number(handle), Ok(2));
    let ended = Number::table().borrow(handle).unwrap().change(|number| (None, number));
    assert_eq!(ended, 2);
    assert_eq!(number(handle), Err(BadHandle::Unknown));
}

#[test]
fn a_borrowed_object_is_changed_in_its_place() {
    let handle = Other::table().insert(1).unwrap();
    let mut loan = Other::table().borrow(handle).unwrap();
    assert_eq!(Other::table().borrow(handle).err(), Some(BadHandle::Busy));
    *loan += 1;
    drop(loan);
    assert_eq!(Other::table().with(handle, |number| *number), Ok(2));
    Other::table().borrow(handle).unwrap().end();
    assert_eq!(Other::table().borrow(handle).err(), Some(BadHandle::Unknown));
}

#[test]
fn an_object_that_is_lost_in_a_panic_ends_its_handle() {
    let handle = Other::table().insert(1).unwrap();
    let loan = Other::table().borrow(handle).unwrap();
    let lost = AssertUnwindSafe(|| loan.change(|_| -> (Option<u32>, ()) { panic!("lost") }));
    assert!(catch_unwind(lost).is_err());
    assert_eq!(Other::table().take(handle), Err(BadHandle::Unknown));
}

#[test]
fn a_handle_that_has_ended_is_never_busy() {
    let ended = Stale::table().insert(0).unwrap();
    assert_eq!(Stale::table().take(ended), Ok(0));
    let live = Stale::table().insert(1).unwrap();
    // The same place, which others use and borrow, give up and get again.
    assert_eq!(Key::of(ended).place(), Key::of(live).place());
    assert_eq!(Stale::table().take(live), Ok(1));
    let (ended, end) = (ended.addr(), AtomicBool::new(false));
    thread::scope(|threads| {
        threads.spawn(|| {
            while !end.load(Ordering::Relaxed) {
                let live = Stale::table().insert(1).unwrap();
                drop(Stale::table().borrow(live).unwrap());
                assert_eq!(Stale::table().with(live, |number| *number), Ok(1));
                assert_eq!(Stale::table().take(live), Ok(1));
            }
        });
        for _ in 0..100_000 {
            let ended = ptr::without_provenance_mut(ended);
            assert_eq!(Stale::table().borrow(ended).err(), Some(BadHandle::Unknown));
            assert_eq!(Stale::table().with(ended, |number| *number), Err(BadHandle::Unknown));
        }
        end.store(true, Ordering::Relaxed);
    });
}

#[test]
fn handles_of_one_place_are_not_taken_for_each_other() {
    let mut ended = Vec::new();
    for _ in 0..9 {
        let live = Alone::table().insert(1).unwrap();
        let all_are_unknown = || {
            for &handle in &ended {
                assert_eq!(Key::of(handle).place(), Key::of(live).place());
                assert_eq!(Alone::table().borrow(handle).err(), Some(BadHandle::Unknown));
                assert_eq!(Alone::table().with(handle, |n| *n), Err(BadHandle::Unknown));
            }
        };
        all_are_unknown();
        Alone::table().with(live, |_| all_are_unknown()).unwrap();
        let loan = Alone::table().borrow(live).unwrap();
        all_are_unknown();
        loan.end();
        ended.push(live);
    }
}

#[test]
fn a_place_rests_after_its_last_key() {
    let handle = Resting::table().insert(1).unwrap();
    let last = Key(Key::of(handle).0 | u64::from(u32::MAX));
    Resting::table().place(last).unwrap().word.store(last.0, Ordering::Relaxed);
    assert_eq!(Resting::table().take(last.handle()), Ok(1));
    assert_eq!(Resting::table().take(last.handle()), Err(BadHandle::Unknown));
    let next = Resting::table().insert(2).unwrap();
    assert_ne!(Key::of(next).place(), last.place());
    assert_eq!(Resting::table().take(next), Ok(2));
}

#[test]
fn an_object_that_was_never_made_is_unknown() {
    // The generation of a free place, which a program can only invent.
    let handle = Other::table().insert(1).unwrap();
    assert_eq!(Other::table().take(handle), Ok(1));
    for generation in 0..8 {
        let invented = ptr::without_provenance_mut((handle.addr() & !7) | generation);
        assert_ne!(Other::table().with(invented, |number| *number), Err(BadHandle::Busy));
    }
}

#[test]
fn more_objects_than_a_segment_has_are_kept_apart() {
    let live: Vec<_> = (0..5000).map(|n| (n, Number::table().insert(n).unwrap())).collect();
    for (n, handle) in live {
        assert_eq!(Number::table().take(handle), Ok(n));
    }
}

#[test]
fn no_two_threads_get_one_handle_or_one_object() {
    const THREADS: u32 = 4;
    const ROUNDS: u32 = 20_000;
    let start = Barrier::new(THREADS as usize);
    thread::scope(|threads| {
        for thread in 0..THREADS {
            let start = &start;
            threads.spawn(move || {
                start.wait();
                let mut live = Vec::new();
                for round in 0..ROUNDS {
                    let value = thread * ROUNDS + round;
                    live.push((Number::table().insert(value).unwrap(), value));
                    if live.len() > (round % 90) as usize {
                        let (handle, value) = live.swap_remove(round as usize % live.len());
                        assert_eq!(number(handle), Ok(value));
                        assert_eq!(Number::table().take(handle), Ok(value));
                    }
                }
                for (handle, value) in live {
                    assert_eq!(Number::table().take(handle), Ok(value));
                }
            });
        }
    });
}
