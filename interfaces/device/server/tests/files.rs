//! Chunks of open files: each question comes on a connection of its own.

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

/// The start of the chunk that is answered with, and how many descriptors came; or the errno.
fn answer(connection: &RawConnection, request: &Request<'_>) -> Result<(u64, usize), Errno> {
    connection.send(1, request);
    let (message, descriptors) = connection.receive_with_descriptors().unwrap();
    match message.as_answer().unwrap().1 {
        Answer::Chunk(chunk) => Ok((chunk.start, descriptors.len())),
        Answer::Refused { errno, .. } => Err(Errno::from_raw_os_error(errno)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_connection_that_knows_the_number_gets_the_memory_and_no_other() {
    let server = TestServer::start(with_memory());
    let keeper = server.connection();
    let (start, descriptors) = answer(&keeper, &alloc_file(FILE, MIB)).unwrap();
    assert_eq!(descriptors, 0);
    for file in [FILE, FILE + 1, FILE ^ 1 << 127, 0] {
        let asker = server.connection();
        let found = answer(&asker, &Request::ChunkOfFile { file, first: 0 });
        assert_eq!(found, if file == FILE { Ok((start, 1)) } else { Err(Errno::BADFD) });
        // The chunk is not the asker's.
        assert_eq!(answer(&asker, &Request::Chunk { first: 0 }), Err(Errno::BADFD));
        assert_eq!(answer(&asker, &Request::Free), Err(Errno::BADFD));
    }
    drop(keeper);
    server.wait_until_free("camera", 64 * MIB);
    assert_eq!(
        answer(&server.connection(), &Request::ChunkOfFile { file: FILE, first: 0 }),
        Err(Errno::BADFD)
    );
}

#[test]
fn a_file_has_one_chunk_and_a_connection_keeps_one() {
    let server = TestServer::start(with_memory());
    let keeper = server.connection();
    answer(&keeper, &alloc_file(FILE, MIB)).unwrap();
    assert_eq!(answer(&server.connection(), &alloc_file(FILE, MIB)), Err(Errno::BADFD));
    assert_eq!(answer(&keeper, &alloc_file(FILE + 1, MIB)), Err(Errno::BADFD));
    assert_eq!(answer(&keeper, &common::alloc("camera", MIB)), Err(Errno::BADFD));
    assert_eq!(answer(&keeper, &Request::Free), Err(Errno::BADFD));
    assert_eq!(server.free_bytes("camera"), 63 * MIB);
    // A refusal leaves nothing behind.
    let other = server.connection();
    assert_eq!(answer(&other, &alloc_file(FILE + 1, 65 * MIB)), Err(Errno::NOMEM));
    answer(&other, &alloc_file(FILE + 1, MIB)).unwrap();
}

#[test]
fn a_client_that_dies_before_it_has_the_answer_leaves_the_file_without_a_chunk() {
    let server = TestServer::start(with_memory());
    for _ in 0..300 {
        let dies = server.connection();
        dies.send(1, &alloc_file(FILE, 64 * MIB));
        drop(dies);
        let next = server.connection();
        // The request of the dead client may still be under way.
        eventually("the file has no chunk", || answer(&next, &alloc_file(FILE, 64 * MIB)).is_ok());
    }
}

#[test]
fn files_leave_a_place_for_questions_about_them() {
    let server = TestServer::with_config(with_memory(), "user-connections=3", "*=*");
    let keepers = [server.connection(), server.connection()];
    answer(&keepers[0], &alloc_file(1, MIB)).unwrap();
    answer(&keepers[1], &alloc_file(2, MIB)).unwrap();
    let third = server.connection();
    assert_eq!(answer(&third, &alloc_file(3, MIB)), Err(Errno::DQUOT));
    for file in [1, 2] {
        assert_eq!(answer(&third, &Request::ChunkOfFile { file, first: 0 }).unwrap().1, 1);
    }
}
