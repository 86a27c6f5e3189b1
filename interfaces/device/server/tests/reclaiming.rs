//! A chunk is free after its last reference, however the references end.

mod common;

use cma_client::Error;
use cma_device_protocol::{Answer, Request};
use common::{MIB, TestServer, alloc, eventually, with_memory};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;

/// A chunk whose connection is closed and of whose memory a descriptor remains.
fn held_memory(server: &TestServer, size: u64) -> OwnedFd {
    let shared = server.client().alloc("camera", None, size, 0).unwrap().share().unwrap();
    shared.pieces()[0].as_fd().try_clone_to_owned().unwrap()
}

#[test]
fn held_memory_stays_booked_and_charged_until_it_is_released() {
    let server = TestServer::with_config(with_memory(), "user-bytes=40M", "*=*");
    let held = held_memory(&server, 32 * MIB);
    let client = server.client();
    eventually("the connection is closed", || {
        client.chunks().unwrap().iter().all(|chunk| chunk.left_behind)
    });
    assert_eq!(server.free_bytes("camera"), 32 * MIB);
    // The chunk is still booked, and counts for its user.
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
fn a_request_that_needs_released_memory_gets_it_at_once() {
    let server = TestServer::start(with_memory());
    let client = server.client();
    for _ in 0..20 {
        let held = held_memory(&server, 64 * MIB);
        eventually("the connection is closed", || {
            client.chunks().unwrap().iter().all(|chunk| chunk.left_behind)
        });
        assert!(client.alloc("camera", None, 4096, 0).is_err());
        drop(held);
        client.alloc("camera", None, 64 * MIB, 0).unwrap().free().unwrap();
    }
}

#[test]
fn a_chunk_whose_memory_is_held_keeps_its_connection_slot() {
    let server = TestServer::with_config(with_memory(), "user-connections=3", "*=*");
    let held = [held_memory(&server, 4096), held_memory(&server, 4096)];
    // The third connection is the one that this client uses.
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
fn a_chunk_lives_until_the_last_descriptor_of_its_connection_is_closed() {
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
fn memory_in_flight_to_a_client_that_ended_is_freed() {
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
fn a_free_is_refused_while_the_memory_is_held() {
    let server = TestServer::start(with_memory());
    let connection = server.connection();
    connection.send(1, &alloc("camera", MIB));
    let (_, memory) = connection.receive_with_descriptors().unwrap();
    connection.send(2, &Request::Free);
    assert_eq!(Errno::from_raw_os_error(connection.refusal().0), Errno::BUSY);
    drop(memory);
    connection.send(3, &Request::Free);
    assert_eq!(connection.receive().unwrap().as_answer(), Ok((3, Answer::Freed)));
    // The connection can allocate again.
    connection.send(4, &alloc("camera", MIB));
    assert!(matches!(connection.receive().unwrap().as_answer(), Ok((4, Answer::Chunk(_)))));
}

#[test]
fn a_server_that_ends_frees_everything_and_removes_its_socket() {
    let server = TestServer::start(with_memory());
    let (cma, path) = (server.cma.clone(), server.path.clone());
    let (_held, chunk) =
        (held_memory(&server, MIB), server.client().alloc("camera", None, MIB, 0).unwrap());
    let silent = server.connection();
    server.stop().unwrap();
    assert!(!path.exists());
    assert_eq!(cma.info("camera", None).unwrap().free_bytes, 64 * MIB);
    assert!(silent.is_closed_after_messages());
    let refused = chunk.map().map(|mapped| mapped.start());
    // The memory came with the chunk, so it can still be mapped, and no other process has it.
    assert!(refused.is_ok());
}
