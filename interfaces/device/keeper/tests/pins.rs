//! Pages that the keeper's process pins, with ordinary and with huge pages.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../../../../cma-memory/tests/machine/mod.rs"]
mod machine;

use cma_keeper::{Keeper, KeeperError, KeeperProcess, Name, Store, serve};
use machine::{HUGE, Machine, POOL, free, skipped};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create};
use rustix::io::Errno;
use std::fs;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

const PAGE: u64 = 4096;

/// The tests count the pages that this process has pinned.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The bytes that this process has pinned, in which the keeper is a thread.
fn pinned() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPin:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

/// The server of a keeper with that store.
fn server(store: &Arc<Mutex<Store>>) -> KeeperProcess {
    let (server, keeper) = cma_keeper::socket_pair().unwrap();
    let store = store.clone();
    thread::spawn(move || serve(keeper, &mut store.lock().unwrap()));
    KeeperProcess::new(server)
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn file(flags: MemfdFlags, len: u64) -> OwnedFd {
    let file = memfd_create("kept", flags | MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&file, len).unwrap();
    file
}

/// A server that has pinned all pages of a file of that many; `None` where nothing can be pinned.
fn pinning(flags: MemfdFlags, page: u64, count: u64) -> Option<(Arc<Mutex<Store>>, OwnedFd)> {
    let store = Arc::default();
    let mut server = server(&store);
    let file = file(flags, page * count);
    server.put(&name("home"), &file).unwrap();
    match server.pin(&name("home"), 0, page * count) {
        Err(KeeperError::Refused(errno @ (Errno::PERM | Errno::NOSYS | Errno::NOMEM))) => {
            skipped(&format!("memory can't be pinned here: {errno}"));
            None
        }
        pinned => {
            pinned.unwrap();
            Some((store, file))
        }
    }
}

#[test]
fn pages_are_pinned_one_by_one_and_outlive_the_server() {
    let _alone = alone();
    // More than a ring has.
    let pages = (1 << 14) + 3;
    let Some((store, _file)) = pinning(MemfdFlags::empty(), PAGE, pages) else { return };
    assert_eq!(pinned(), pages * PAGE);
    let (mut server, home) = (server(&store), name("home"));
    server.unpin(&home, PAGE, 2 * PAGE).unwrap();
    server.unpin(&home, 2 * PAGE, 2 * PAGE).unwrap();
    assert_eq!(pinned(), (pages - 3) * PAGE, "what is not pinned is not unpinned");
    server.pin(&home, 0, pages * PAGE).unwrap();
    assert_eq!(pinned(), pages * PAGE, "what is pinned is not pinned twice");
    server.put(&name("other"), file(MemfdFlags::empty(), PAGE)).unwrap();
    server.pin(&name("other"), 0, PAGE).unwrap();
    server.remove(&home).unwrap();
    assert_eq!(pinned(), PAGE, "a file that is removed has no pinned pages");
    server.remove(&name("other")).unwrap();
    assert_eq!(pinned(), 0);
}

#[test]
fn what_is_no_part_of_a_stored_file_is_not_pinned() {
    let _alone = alone();
    let store = Arc::default();
    let (mut server, home) = (server(&store), name("home"));
    let unknown = Err(KeeperError::Unknown { name: home.clone() });
    assert_eq!(server.pin(&home, 0, PAGE), unknown);
    assert_eq!(server.unpin(&home, 0, PAGE), unknown);
    server.put(&home, file(MemfdFlags::empty(), 3 * PAGE)).unwrap();
    let refused = Err(KeeperError::Refused(Errno::INVAL));
    let max = u64::MAX;
    for (offset, len) in
        [(0, 0), (1, PAGE), (0, 1), (0, 4 * PAGE), (3 * PAGE, PAGE), (max - PAGE + 1, PAGE)]
    {
        assert_eq!(server.pin(&home, offset, len), refused, "{offset} {len}");
        assert_eq!(server.unpin(&home, offset, len), refused, "{offset} {len}");
    }
    server.put(&name("null"), fs::File::open("/dev/null").unwrap()).unwrap();
    assert_eq!(server.pin(&name("null"), 0, PAGE), refused);
    let readable = fs::File::open("/proc/self/exe").unwrap();
    server.put(&name("program"), readable).unwrap();
    let refused = server.pin(&name("program"), 0, PAGE).unwrap_err();
    assert!(matches!(refused, KeeperError::Refused(_)), "{refused}");
    assert_eq!(pinned(), 0);
}

#[test]
fn a_huge_page_that_its_file_has_lost_stays_pinned_until_it_is_unpinned() {
    let _alone = alone();
    let Some(_machine) = Machine::with_huge_pages(4) else { return };
    let flags = MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
    let Some((store, file)) = pinning(flags, HUGE, 2) else { return };
    assert_eq!((pinned(), free(POOL)), (2 * HUGE, 2));
    let punch = |offset| {
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&file, hole, offset, HUGE).unwrap();
    };
    punch(0);
    assert_eq!(free(POOL), 2, "the page is in no file, and not in the pool");
    let (mut server, home) = (server(&store), name("home"));
    // Another page takes its place in the file, and only that is pinned then.
    server.pin(&home, 0, HUGE).unwrap();
    assert_eq!((pinned(), free(POOL)), (2 * HUGE, 2));
    server.unpin(&home, 0, 2 * HUGE).unwrap();
    punch(0);
    punch(HUGE);
    assert_eq!((pinned(), free(POOL)), (0, 4));
}
