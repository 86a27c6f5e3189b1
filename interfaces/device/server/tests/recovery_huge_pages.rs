//! Chunks of huge pages outlive the server that dies, and stay where they are.

#![allow(clippy::print_stdout, reason = "a skipped test prints why")]

mod common;
mod lasting;
#[path = "../../../../cma-memory/tests/machine/mod.rs"]
mod machine;

use cma_client::{ChunkRequest, Client, MappedChunk, RegionSelector};
use common::eventually;
use lasting::{Kept, Options, serve_if_started};
use machine::{HUGE, Machine, POOL, free};
use std::fs;
use std::thread;
use std::time::Duration;

#[test]
#[ignore = "the server; other tests start it"]
fn server_process() {
    serve_if_started();
}

fn options() -> Options {
    Options { regions: "ram=8M".into(), huge_pages: true, ..Options::default() }
}

/// The bytes that this process, which is the keeper, has pinned.
fn pinned() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPin:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

/// A chunk with its own bytes, once there is room. The server is started again if it dies.
fn chunk(kept: &mut Kept, pages: u64, byte: u8) -> MappedChunk {
    let path = kept.path();
    let alloc = move || {
        let client = Client::connect(&path).unwrap();
        let from = RegionSelector::Device { device: "camera", kind: "" };
        let request = ChunkRequest::new(pages * HUGE).wait(Duration::from_secs(60));
        let mut chunk = client.allocate(from, &request).unwrap().map().unwrap();
        assert!(chunk.iter().all(|byte| *byte == 0));
        chunk.fill(byte);
        chunk
    };
    while_serving(kept, alloc)
}

/// Does something as a client, on another thread, and starts the server again if it dies.
fn while_serving<T: Send + 'static>(
    kept: &mut Kept,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let client = thread::spawn(work);
    eventually("the client is answered", || {
        kept.start_if_dead();
        client.is_finished()
    });
    client.join().unwrap()
}

/// Chunks come, go, and come again at the same place.
fn scenario(kept: &mut Kept) {
    let first = chunk(kept, 1, 1);
    let second = chunk(kept, 2, 2);
    assert_eq!(pinned(), 3 * HUGE);
    while_serving(kept, || first.free().unwrap());
    assert_eq!(pinned(), 2 * HUGE, "what is freed is not pinned");
    let third = chunk(kept, 1, 3);
    for (chunk, byte) in [(&second, 2), (&third, 3)] {
        assert!(chunk.iter().all(|found| *found == byte), "chunk {byte} has its own bytes");
    }
    while_serving(kept, || drop((second, third)));
    let all = chunk(kept, 4, 4);
    while_serving(kept, || drop(all));
}

#[test]
fn the_keeper_pins_the_pages_of_chunks_while_no_server_runs() {
    let Some(_machine) = Machine::with_huge_pages(4) else { return };
    let mut kept = Kept::started(options());
    let first = chunk(&mut kept, 2, 1);
    let second = chunk(&mut kept, 1, 2);
    assert_eq!(pinned(), 3 * HUGE);
    kept.kill();
    assert_eq!(pinned(), 3 * HUGE, "no server runs");
    kept.start();
    assert_eq!(kept.error(), None);
    second.free().unwrap();
    assert_eq!(pinned(), 2 * HUGE);
    kept.end();
    assert_eq!(pinned(), 0, "the server has ended for good");
    drop(first);
    eventually("the pages are back in the pool", || free(POOL) == 4);
}

#[test]
fn a_server_of_huge_pages_that_dies_at_any_step_is_continued() {
    let Some(_machine) = Machine::with_huge_pages(4) else { return };
    let mut kept = Kept::started(options());
    scenario(&mut kept);
    let steps = kept.steps();
    drop(kept);
    for dies_at in 1..=steps {
        let mut kept = Kept::new(Options { dies_at, ..options() });
        kept.start();
        kept.start_if_dead();
        scenario(&mut kept);
        assert!(kept.deaths == 1 || kept.steps() < dies_at, "step {dies_at}");
        kept.start_if_dead();
        kept.end();
        assert_eq!(pinned(), 0, "the server died at step {dies_at}");
        drop(kept);
        eventually("the pages are back in the pool", || free(POOL) == 4);
    }
}
