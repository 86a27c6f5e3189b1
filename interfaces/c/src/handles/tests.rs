use super::*;
use std::collections::HashSet;
use std::sync::Barrier;
use std::thread;

struct Number;

impl Object for Number {
    type Value = u32;
    const KIND: u8 = 14;
    const NAME: &'static str = "number";

    fn table() -> &'static Table<Self> {
        static NUMBERS: Table<Number> = Table::new();
        &NUMBERS
    }
}

struct Other;

impl Object for Other {
    type Value = u32;
    const KIND: u8 = 15;
    const NAME: &'static str = "other";

    fn table() -> &'static Table<Self> {
        static OTHERS: Table<Other> = Table::new();
        &OTHERS
    }
}

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
    assert_eq!(loan.change(|number| (Some(number + 1), "changed")), Some("changed"));
    assert_eq!(number(handle), Ok(2));
    drop(Number::table().borrow(handle).unwrap());
    assert_eq!(number(handle), Ok(2));
    let ended = Number::table().borrow(handle).unwrap().change(|number| (None, number));
    assert_eq!(ended, Some(2));
    assert_eq!(number(handle), Err(BadHandle::Unknown));
}

#[test]
fn an_object_in_exclusive_use_is_busy() {
    let handle = Other::table().insert(1).unwrap();
    let again = Other::table()
        .exclusively(handle, |_| Other::table().exclusively(handle, |number| *number));
    assert_eq!(again, Ok(Err(BadHandle::Busy)));
    assert_eq!(Other::table().exclusively(handle, |number| *number), Ok(1));
    assert_eq!(Other::table().take(handle), Ok(1));
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
