//! Chunks of open files: each request comes on a connection of its own.

mod common;

use cma_device_protocol::{Answer, RegionSelector, Request};
use common::{MIB, RawConnection, TestServer, eventually, with_memory};
use rustix::io::Errno;

const FILE: u128 = 0x1234_5678_9abc_def0_0fed_cba9_8765_4321;

fn alloc_file(file: u128, size: u64) -> Request<'static> {
    Request::AllocFile {
        file,
        from: RegionSelector::Device { device: "camera", kind: "" },
        size,
        alignment: 0,
    }
}

/// The chunk's start and the number of descriptors, or the errno of a refusal.
fn request(connection: &RawConnection, request: &Request<'_>) -> Result<(u64, usize), Errno> {
    connection.send(1, request);
    let (message, descriptors) = connection.receive_with_descriptors().unwrap();
    match message.as_answer().unwrap().1 {
        Answer::Chunk(chunk) => Ok((chunk.start, descriptors.len())),
        Answer::Refused { errno, .. } => Err(Errno::from_raw_os_error(errno)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_connection_that_sends_the_file_number_gets_the_memory_and_no_other_does() {
    let server = TestServer::start(with_memory());
    let owner = server.connection();
    let (start, descriptors) = request(&owner, &alloc_file(FILE, MIB)).unwrap();
    assert_eq!(descriptors, 0);
    for file in [FILE, FILE + 1, FILE ^ 1 << 127, 0] {
        let client = server.connection();
        let found = request(&client, &Request::ChunkOfFile { file, first: 0 });
        assert_eq!(found, if file == FILE { Ok((start, 1)) } else { Err(Errno::BADFD) });
        // The chunk does not belong to this connection.
        assert_eq!(request(&client, &Request::Chunk { first: 0 }), Err(Errno::BADFD));
        assert_eq!(request(&client, &Request::Free), Err(Errno::BADFD));
    }
    drop(owner);
    server.wait_until_free("camera", 64 * MIB);
    assert_eq!(
        request(&server.connection(), &Request::ChunkOfFile { file: FILE, first: 0 }),
        Err(Errno::BADFD)
    );
}

#[test]
fn a_file_has_one_chunk_and_a_connection_keeps_one() {
    let server = TestServer::start(with_memory());
    let owner = server.connection();
    request(&owner, &alloc_file(FILE, MIB)).unwrap();
    assert_eq!(request(&server.connection(), &alloc_file(FILE, MIB)), Err(Errno::BADFD));
    assert_eq!(request(&owner, &alloc_file(FILE + 1, MIB)), Err(Errno::BADFD));
    assert_eq!(request(&owner, &common::alloc("camera", MIB)), Err(Errno::BADFD));
    assert_eq!(request(&owner, &Request::Free), Err(Errno::BADFD));
    assert_eq!(server.free_bytes("camera"), 63 * MIB);
    // A refusal changes nothing.
    let other = server.connection();
    assert_eq!(request(&other, &alloc_file(FILE + 1, 65 * MIB)), Err(Errno::NOMEM));
    request(&other, &alloc_file(FILE + 1, MIB)).unwrap();
}

#[test]
fn a_file_whose_client_ends_before_the_answer_has_no_chunk() {
    let server = TestServer::start(with_memory());
    for _ in 0..300 {
        let ended = server.connection();
        ended.send(1, &alloc_file(FILE, 64 * MIB));
        drop(ended);
        let next = server.connection();
        // The request of the client that ended may still be in progress.
        eventually("the file has no chunk", || request(&next, &alloc_file(FILE, 64 * MIB)).is_ok());
    }
}

#[test]
fn the_last_connection_of_a_user_is_reserved_for_queries_about_files() {
    let server = TestServer::with_config(with_memory(), "user-connections=3", "*=*");
    let owners = [server.connection(), server.connection()];
    request(&owners[0], &alloc_file(1, MIB)).unwrap();
    request(&owners[1], &alloc_file(2, MIB)).unwrap();
    let third = server.connection();
    assert_eq!(request(&third, &alloc_file(3, MIB)), Err(Errno::DQUOT));
    for file in [1, 2] {
        assert_eq!(request(&third, &Request::ChunkOfFile { file, first: 0 }).unwrap().1, 1);
    }
}
