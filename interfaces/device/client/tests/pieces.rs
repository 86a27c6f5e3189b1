//! Chunks in many pieces, as those of huge pages can be.

#[path = "../../server/tests/common/mod.rs"]
mod common;

use cma_client::Client;
use common::{MIB, PiecewiseMemory, TestServer, framework};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

const PIECE: u64 = 64 << 10;

fn server() -> (TestServer, Client) {
    let server = TestServer::start(framework("ram=64M", "*=ram", &mut PiecewiseMemory::new()));
    let client = server.client();
    (server, client)
}

#[test]
fn sizes_and_alignments_are_multiples_of_the_piece() {
    let (_server, client) = server();
    assert_eq!(client.info("camera", None).unwrap().granule_bytes, PIECE);
    let chunk = client.alloc("camera", None, 3 * PIECE + 1, 4096).unwrap();
    assert_eq!(chunk.size(), 4 * PIECE);
    assert!(chunk.start().is_multiple_of(PIECE));
    let chunk = client.alloc_from("ram", 1, MIB).unwrap();
    assert_eq!((chunk.size(), chunk.start() % MIB), (PIECE, 0));
}

#[test]
fn many_pieces_are_one_slice() {
    let (server, client) = server();
    for pieces in [1, 2, 253, 254, 600] {
        let mut chunk = client.alloc("camera", None, pieces * PIECE, 0).unwrap().map().unwrap();
        assert_eq!(chunk.len() as u64, pieces * PIECE);
        assert!(chunk.iter().all(|byte| *byte == 0));
        for (piece, number) in chunk.chunks_exact_mut(PIECE as usize).zip(0_u64..) {
            piece[..8].copy_from_slice(&number.to_ne_bytes());
        }
        // The pieces are in order, each in a file of its own.
        let shared = chunk.share().unwrap();
        assert_eq!(shared.pieces().len() as u64, pieces);
        for (piece, number) in shared.pieces().iter().zip(0_u64..) {
            let mut found = [0; 8];
            let file = File::from(piece.file.try_clone().unwrap());
            file.read_exact_at(&mut found, piece.offset).unwrap();
            assert_eq!((u64::from_ne_bytes(found), piece.len), (number, PIECE));
        }
        drop(shared);
        server.wait_until_free("camera", 64 * MIB);
    }
}

/// The server once opened all pieces of a chunk for each answer, and closed those that did not fit
/// into it.
#[test]
fn each_piece_is_opened_once_however_many_answers_it_takes() {
    let mut memory = PiecewiseMemory::new();
    let opened = memory.opened.clone();
    let server = TestServer::start(framework("ram=64M", "*=ram", &mut memory));
    let client = server.client();
    for pieces in [1, 253, 254, 300, 600] {
        let shared = client.alloc("camera", None, pieces * PIECE, 0).unwrap().share().unwrap();
        assert_eq!(shared.pieces().len() as u64, pieces);
        assert_eq!(opened.swap(0, Ordering::SeqCst) as u64, pieces);
    }
}

#[test]
fn a_chunk_stays_booked_while_one_of_its_pieces_is_held() {
    let (server, client) = server();
    let shared = client.alloc("camera", None, 300 * PIECE, 0).unwrap().share().unwrap();
    let kept = shared.pieces()[299].file.try_clone().unwrap();
    drop(shared);
    std::thread::sleep(std::time::Duration::from_millis(30));
    assert_eq!(server.free_bytes("camera"), 64 * MIB - 300 * PIECE);
    drop(kept);
    server.wait_until_free("camera", 64 * MIB);
}
