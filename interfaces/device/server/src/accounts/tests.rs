use super::*;

fn peer(uid: u32, pid: u32) -> Peer {
    Peer { uid, gid: 0, groups: [].into(), pid }
}

fn accounts() -> Arc<Accounts> {
    let (process, user) = (Quota { chunks: 2, bytes: 100 }, Quota { chunks: 3, bytes: 150 });
    let limits = Limits { user_connections: 2, connections: 3, ..Limits::default() };
    Accounts::new(Limits { process, user, ..limits })
}

fn error(result: Result<impl Sized, ErrorReply>) -> (Errno, String) {
    let error = result.err().expect("an error");
    (Errno::from_raw_os_error(error.errno), error.reason)
}

fn slot(accounts: &Arc<Accounts>, uid: u32) -> Result<ConnectionSlot, (Errno, String)> {
    accounts.connection_slot(&peer(uid, 1)).map_err(|no_slot| match no_slot {
        NoSlot::UserLimit(error) | NoSlot::AllInUse { error, .. } => {
            (Errno::from_raw_os_error(error.errno), error.reason)
        }
    })
}

#[test]
fn connections_are_limited_for_each_user_and_in_all() {
    let accounts = accounts();
    let mine = [slot(&accounts, 1).unwrap(), slot(&accounts, 1).unwrap()];
    let refused = (
        Errno::DQUOT,
        "user 1 has all 2 connections of one user; close one, or raise the limit user-connections"
            .to_string(),
    );
    assert_eq!(slot(&accounts, 1).unwrap_err(), refused);
    let other = slot(&accounts, 2).unwrap();
    assert_eq!(
        slot(&accounts, 3).unwrap_err(),
        (Errno::USERS, "all 3 connections are in use; try again later".to_string())
    );
    drop(mine);
    slot(&accounts, 3).unwrap();
    drop(other);
    assert!(accounts.ledger.lock().users.is_empty());
}

#[test]
fn users_with_many_connections_leave_some_to_each_other_user_and_to_root() {
    let limits = Limits { user_connections: 32, connections: 64, ..Limits::default() };
    let accounts = Accounts::new(limits);
    let take_all = |uid| {
        let mut slots = Vec::new();
        while let Ok(slot) = slot(&accounts, uid) {
            slots.push(slot);
        }
        slots
    };
    let many = [1, 2, 3, 4].map(take_all);
    // 48 beyond the first four of each user.
    assert_eq!(many.each_ref().map(Vec::len), [32, 24, 4, 0]);
    let root = take_all(ROOT);
    assert_eq!(root.len(), 4);
    drop(many);
    drop(root);
    let ledger = accounts.ledger.lock();
    assert_eq!((ledger.slots, ledger.unreserved_slots, ledger.users.len()), (0, 0, 0));
}

#[test]
fn chunks_and_bytes_are_limited_for_each_process_and_each_user() {
    let accounts = accounts();
    let first = accounts.charge(&peer(1, 1), 40).unwrap();
    let (errno, why) = error(accounts.charge(&peer(1, 1), 61));
    assert_eq!(
        (errno, &*why),
        (
            Errno::DQUOT,
            "61 more are too much: the connections that process 1 opened have 40 of the 100 of one process"
        )
    );
    let second = accounts.charge(&peer(1, 1), 60).unwrap();
    assert_eq!(
        error(accounts.charge(&peer(1, 1), 1)).1,
        "the connections that process 1 opened have all 2 chunks of one process"
    );
    assert_eq!(
        error(accounts.charge(&peer(1, 2), 51)).1,
        "51 more are too much: user 1 has 100 of the 150 of one user"
    );
    let third = accounts.charge(&peer(1, 2), 50).unwrap();
    assert_eq!(error(accounts.charge(&peer(1, 3), 1)).1, "user 1 has all 3 chunks of one user");
    // Another user's process of the same number has an account of its own.
    let other = accounts.charge(&peer(2, 1), 100).unwrap();
    drop((first, third));
    drop((accounts.charge(&peer(1, 1), 40).unwrap(), second, other));
    assert!(accounts.ledger.lock().users.is_empty());
}

#[test]
fn without_a_quota_every_size_is_charged_and_no_sum_overflows() {
    let accounts = Accounts::new(Limits { user_connections: 1, ..Limits::default() });
    let charges = [1, 1, 2].map(|pid| accounts.charge(&peer(1, pid), u64::MAX).unwrap());
    charges[0].set_placed(0, u64::MAX).unwrap();
    drop(charges);
    assert!(accounts.ledger.lock().users.is_empty());
    let quota = Quota { chunks: 9, bytes: u64::MAX - 1 };
    let accounts = Accounts::new(Limits { process: quota, ..Limits::default() });
    let _most = accounts.charge(&peer(1, 1), u64::MAX - 1).unwrap();
    assert_eq!(error(accounts.charge(&peer(1, 1), u64::MAX)).0, Errno::DQUOT);
}

#[test]
fn a_chunk_that_its_region_rounded_up_is_charged_for_its_real_size() {
    let accounts = accounts();
    let chunk = accounts.charge(&peer(1, 1), 10).unwrap();
    chunk.set_placed(0x1000, 90).unwrap();
    assert_eq!(error(accounts.charge(&peer(1, 1), 11)).0, Errno::DQUOT);
    let small = accounts.charge(&peer(1, 1), 10).unwrap();
    let refused = error(small.set_placed(0x2000, 11));
    assert_eq!(refused.0, Errno::DQUOT);
    drop(small);
    accounts.charge(&peer(1, 1), 10).unwrap().set_placed(0x2000, 10).unwrap();
    drop(chunk);
    assert!(accounts.ledger.lock().users.is_empty());
}

#[test]
fn a_chunk_left_behind_counts_for_its_user_and_not_for_its_process() {
    let accounts = accounts();
    let left = accounts.charge(&peer(1, 1), 100).unwrap();
    left.set_placed(0x1000, 100).unwrap();
    left.set_left_behind();
    let again = accounts.charge(&peer(1, 1), 50).unwrap();
    assert_eq!(error(accounts.charge(&peer(1, 1), 1)).0, Errno::DQUOT);
    assert_eq!(
        accounts.list(1, 0, 9),
        [ListedChunk { number: 1, start: 0x1000, size: 100, pid: 1, left_behind: true }]
    );
    drop((left, again));
    assert!(accounts.ledger.lock().users.is_empty());
}

#[test]
fn a_chunk_that_is_about_to_be_free_is_charged_and_not_listed() {
    let accounts = accounts();
    let charge = accounts.charge(&peer(1, 1), 100).unwrap();
    charge.set_placed(0x1000, 100).unwrap();
    let freed = accounts.freed();
    drop(charge.listing());
    assert!(accounts.list(1, 0, 9).is_empty());
    assert_eq!(error(accounts.charge(&peer(1, 1), 1)).0, Errno::DQUOT);
    assert_eq!(accounts.freed(), freed);
    drop(charge);
    assert_eq!(accounts.freed(), freed + 1);
}

#[test]
fn a_user_sees_its_own_allocated_chunks() {
    let accounts = accounts();
    let charges =
        [(1, 1), (2, 2), (1, 3)].map(|(uid, pid)| accounts.charge(&peer(uid, pid), 10).unwrap());
    assert!(accounts.list(1, 0, 9).is_empty());
    charges
        .iter()
        .zip([0x1000, 0x2000, 0x3000])
        .for_each(|(charge, start)| charge.set_placed(start, 10).unwrap());
    let numbers = |after, most| {
        accounts.list(1, after, most).iter().map(|listed| listed.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(0, 9), [1, 3]);
    assert_eq!(numbers(0, 1), [1]);
    assert_eq!(numbers(1, 9), [3]);
    assert!(numbers(u64::MAX, 9).is_empty() && accounts.list(3, 0, 9).is_empty());
}
