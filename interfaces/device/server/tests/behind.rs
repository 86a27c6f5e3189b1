//! When a chunk is free: at the last reference, whatever ended the others.

mod common;

use cma_client::Error;
use cma_device_protocol::{Answer, Request};
use common::{MIB, TestServer, alloc, eventually, with_memory};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;

/// A chunk of which somebody keeps a descriptor when its connection is gone.
fn left(server: &TestServer, size: u64) -> OwnedFd {
    let shared = server.client().alloc("camera", None, size, 0).unwrap().share().unwrap();
    shared.pieces()[0].as_fd().try_clone_to_owned().unwrap()
}

#[test]
fn memory_that_somebody_holds_stays_booked_and_charged_and_is_free_when_they_let_go() {
    let server = TestServer::with_config(with_memory(), "user-bytes=40M", "*=*");
    let held = left(&server, 32 * MIB);
    let client = server.client();
    eventually("the chunk is left behind", || {
        client.chunks().unwrap().iter().all(|chunk| chunk.left_behind)
    });
    assert_eq!(server.free_bytes("camera"), 32 * MIB);
    // It still is its user's, not to be had twice, and part of what the user may have.
    let refused = client.alloc("camera", None, 9 * MIB, 0).unwrap_err();
    assert_eq!(Errno::from_raw_os_error(refused.errno()), Errno::DQUOT, "{refused}");
    client.alloc("camera", None, 8 * MIB, 0).unwrap().free().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(server.free_bytes("camera"), 32 * MIB);
    drop(held);
    server.wait_until_free("camera", 64 * MIB);
    assert!(client.chunks().unwrap().is_empty());
}

#[test]
fn a_request_that_needs_it_finds_what_was_let_go_at_once() {
    let server = TestServer::start(with_memory());
    let client = server.client();
    for _ in 0..20 {
        let held = left(&server, 64 * MIB);
        eventually("the chunk is left behind", || {
            client.chunks().unwrap().iter().all(|chunk| chunk.left_behind)
        });
        assert!(client.alloc("camera", None, 4096, 0).is_err());
        drop(held);
        client.alloc("camera", None, 64 * MIB, 0).unwrap().free().unwrap();
    }
}

#[test]
fn who_leaves_chunks_behind_has_fewer_connections() {
    let server = TestServer::with_config(with_memory(), "user-connections=3", "*=*");
    let held = [left(&server, 4096), left(&server, 4096)];
    // The last one is what this client asks on.
    eventually("no more than one connection is left", || {
        let chunks = server.client().chunks();
        chunks.is_ok_and(|chunks| chunks.len() == 2 && chunks.iter().all(|chunk| chunk.left_behind))
    });
    let one = server.client().alloc("camera", None, 4096, 0).unwrap();
    let refused = server.client().alloc("camera", None, 4096, 0).unwrap_err();
    assert!(matches!(refused, Error::Refused { .. }), "{refused:?}");
    assert_eq!(Errno::from_raw_os_error(refused.errno()), Errno::DQUOT);
    drop((held, one));
    server.wait_until_free("camera", 64 * MIB);
}

#[test]
fn a_chunk_lives_as_long_as_one_of_those_who_share_its_line() {
    let server = TestServer::start(with_memory());
    let shared = server.client().alloc("camera", None, MIB, 0).unwrap().share().unwrap();
    let connection = shared.as_fd().try_clone_to_owned().unwrap();
    drop(shared);
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(server.free_bytes("camera"), 63 * MIB);
    assert!(server.client().chunks().unwrap().iter().all(|chunk| !chunk.left_behind));
    drop(connection);
    server.wait_until_free("camera", 64 * MIB);
}

#[test]
fn memory_that_is_under_way_to_a_client_that_is_gone_is_free() {
    let server = TestServer::start(with_memory());
    for _ in 0..50 {
        let connection = server.connection();
        connection.send(1, &alloc("camera", MIB));
        eventually("it is allocated", || server.free_bytes("camera") < 64 * MIB);
        drop(connection);
        server.wait_until_free("camera", 64 * MIB);
    }
}

#[test]
fn a_chunk_is_not_given_back_while_its_memory_is_held() {
    let server = TestServer::start(with_memory());
    let connection = server.connection();
    connection.send(1, &alloc("camera", MIB));
    let (_, memory) = connection.receive_with_descriptors().unwrap();
    connection.send(2, &Request::Free);
    assert_eq!(Errno::from_raw_os_error(connection.refusal().0), Errno::BUSY);
    drop(memory);
    connection.send(3, &Request::Free);
    assert_eq!(connection.receive().unwrap().as_answer(), Ok((3, Answer::Freed)));
    // The connection is as good as new.
    connection.send(4, &alloc("camera", MIB));
    assert!(matches!(connection.receive().unwrap().as_answer(), Ok((4, Answer::Chunk(_)))));
}

#[test]
fn a_server_that_ends_frees_everything_and_takes_its_socket_away() {
    let server = TestServer::start(with_memory());
    let (cma, path) = (server.cma.clone(), server.path.clone());
    let (_held, chunk) =
        (left(&server, MIB), server.client().alloc("camera", None, MIB, 0).unwrap());
    let silent = server.connection();
    server.stop().unwrap();
    assert!(!path.exists());
    assert_eq!(cma.info("camera", None).unwrap().free_bytes, 64 * MIB);
    assert!(silent.is_closed_after_messages());
    let refused = chunk.map().map(|mapped| mapped.start());
    // It came with the chunk, so it can still be mapped; it is nobody else's.
    assert!(refused.is_ok());
}
