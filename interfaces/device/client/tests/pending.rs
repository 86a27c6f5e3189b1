//! Requests whose answer a program awaits beside other events, and shared chunks that it maps.

#[path = "../../server/tests/common/mod.rs"]
mod common;

use cma_client::{ChunkRequest, Client, Error, Outcome, PendingChunk, RegionSelector, RemoteChunk};
use common::{MIB, TestServer, with_memory};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

const CAMERA: RegionSelector<'_> = RegionSelector::Device { device: "camera", kind: "" };

fn request(client: &Client, size: u64, wait: u64) -> PendingChunk {
    client.request(CAMERA, &ChunkRequest::new(size).wait(Duration::from_secs(wait))).unwrap()
}

/// Whether the descriptor becomes readable within that time.
fn is_readable(pending: &PendingChunk, milliseconds: i64) -> bool {
    let limit = Timespec { tv_sec: 0, tv_nsec: milliseconds * 1_000_000 };
    poll(&mut [PollFd::new(pending, PollFlags::IN)], Some(&limit)).unwrap() == 1
}

fn answer(pending: PendingChunk) -> Result<RemoteChunk, Error> {
    poll(&mut [PollFd::new(&pending, PollFlags::IN)], None).unwrap();
    match pending.finish() {
        Outcome::Answered(answer) => answer,
        Outcome::NotYet(_) => panic!("it was readable"),
    }
}

#[test]
fn a_request_is_readable_when_it_is_answered_and_not_before() {
    let server = TestServer::start(with_memory());
    let client = server.client();
    let first = answer(request(&client, 48 * MIB, 0)).unwrap();
    assert_eq!(first.size(), 48 * MIB);

    let pending = request(&client, 48 * MIB, 60);
    assert!(!is_readable(&pending, 50));
    let Outcome::NotYet(pending) = pending.finish() else { panic!("nothing was freed") };
    // The thread that waits can free what the request waits for.
    drop(first);
    let mut second = answer(pending).unwrap().map().unwrap();
    second[48 * MIB as usize - 1] = 1;
}

#[test]
fn a_refusal_is_an_answer_with_the_servers_reason() {
    let server = TestServer::start(with_memory());
    let client = server.client();
    let same = client.alloc("camera", None, 65 * MIB, 0).unwrap_err().to_string();
    let refused = answer(request(&client, 65 * MIB, 60)).unwrap_err();
    assert!(matches!(refused, Error::Refused { .. }));
    assert_eq!(refused.to_string(), same);
}

#[test]
fn a_request_that_is_dropped_leaves_nothing_behind() {
    let server = TestServer::start(with_memory());
    let client = server.client();
    let first = answer(request(&client, 48 * MIB, 0)).unwrap();
    let waiting = request(&client, 48 * MIB, 60);
    assert!(!is_readable(&waiting, 20));
    drop(waiting);
    // One that is answered, and whose chunk nobody takes.
    let answered = request(&client, MIB, 0);
    poll(&mut [PollFd::new(&answered, PollFlags::IN)], None).unwrap();
    drop((first, answered));
    server.wait_until_free("camera", 64 * MIB);
}

#[test]
fn a_server_that_ends_answers_or_ends_a_waiting_request() {
    let server = TestServer::start(with_memory());
    let client = server.client();
    let _first = answer(request(&client, 48 * MIB, 0)).unwrap();
    let waiting = request(&client, 48 * MIB, 60);
    assert!(!is_readable(&waiting, 20));
    server.stop().unwrap();
    answer(waiting).unwrap_err();
}

#[test]
fn a_shared_chunk_is_mapped_and_freed_when_its_mapping_is_gone() {
    let server = TestServer::start(with_memory());
    let client = server.client();
    let shared = client.alloc("camera", None, MIB, 0).unwrap().share().unwrap();
    let bytes = shared.map().unwrap();
    assert_eq!(bytes.len() as u64, shared.size());
    bytes.write(4096, b"NV12");
    // As the process sees it that gets the descriptor.
    let piece = &shared.pieces()[0];
    let file = File::from(piece.as_fd().try_clone_to_owned().unwrap());
    let mut found = [0; 4];
    file.read_exact_at(&mut found, piece.offset + 4096).unwrap();
    assert_eq!(&found, b"NV12");
    drop((shared, file));
    // The memory is still this process's, so it is nobody else's.
    bytes.read(4096, &mut found);
    assert_eq!((&found, client.chunks().unwrap().len()), (b"NV12", 1));
    drop(bytes);
    server.wait_until_free("camera", 64 * MIB);
}

#[test]
fn the_example_on_tokio_waits_for_chunks_without_a_thread() {
    let test = std::env::current_exe().unwrap();
    let example = test.ancestors().nth(2).unwrap().join("examples/with_tokio");
    if !example.exists() {
        let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
        let arguments = ["build", "--package", "cma-client", "--example", "with_tokio"];
        assert!(std::process::Command::new(cargo).args(arguments).status().unwrap().success());
    }
    let output = std::process::Command::new(&example).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = text.lines().collect();
    assert!(output.status.success(), "{output:?}");
    let [first, late, second, remote, without, remote_second, work] = lines[..] else {
        panic!("{text}");
    };
    assert_eq!(first, "the first task has 0x40000000");
    assert!(late.starts_with("after 50 ms: "), "{late}");
    assert_eq!(second, "the second task has 0x40000000");
    assert_eq!(remote, "the first client has 0x40000000");
    assert_eq!(without, "without a wait: true");
    assert_eq!(remote_second, "the second client has 0x40000000");
    assert_eq!(work, "5 pieces of other work were done meanwhile");
}
