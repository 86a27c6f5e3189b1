//! Chunks of huge pages as clients get them; misuse by a client, and the chunks of the next
//! clients.

mod common;
#[path = "../../../../cma-memory/tests/machine/mod.rs"]
mod machine;

use cma_client::MappedChunk;
use cma_device_protocol::{Answer, Extent};
use cma_memory::Hugetlb;
use common::{MIB, TestServer, alloc, banks, eventually, framework};
use machine::{HUGE, Machine, POOL, Window, free};
use rustix::fs::{FallocateFlags, fallocate};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::Mutex;

/// A server with a region `ram` of 8 MiB in huge pages.
fn server() -> TestServer {
    let mut pages = Hugetlb::new(banks()).with_page_size(HUGE);
    TestServer::start(framework("ram=8M", "*=ram", &mut pages))
}

/// A chunk of one page, of a client that has released all of it but the file.
fn piece(server: &TestServer) -> (u64, OwnedFd) {
    let shared = server.client().alloc("camera", None, HUGE, 0).unwrap().share().unwrap();
    (shared.start(), shared.pieces()[0].file.try_clone().unwrap())
}

/// Asserts that another client can allocate all of the region but `less` pages, page by page, and
/// that they are zero.
fn others_have_it(server: &TestServer, less: usize) {
    let client = server.client();
    let count = (8 * MIB / HUGE) as usize - less;
    let mut chunks: Vec<_> = (0..count)
        .map(|_| client.alloc("video", None, HUGE, 0).unwrap().map().unwrap())
        .inspect(|chunk| assert!(chunk.iter().all(|byte| *byte == 0)))
        .collect();
    chunks.iter_mut().for_each(|chunk| chunk.fill(7));
}

#[test]
fn a_page_that_a_client_returned_to_the_pool_is_restored() {
    let Some(_machine) = Machine::with_huge_pages(6) else { return };
    let server = server();
    let (_, file) = piece(&server);
    fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, HUGE).unwrap();
    drop(file);
    server.wait_until_free("camera", 8 * MIB);
    others_have_it(&server, 0);
    server.wait_until_free("camera", 8 * MIB);
    server.stop().unwrap();
    assert_eq!(free(POOL), 6);
}

/// A client that kept a page in a pipe once put the whole region out of service, or saw the next
/// client's data.
#[test]
fn a_page_that_a_client_has_pinned_is_set_aside_and_the_rest_is_served() {
    let Some(_machine) = Machine::with_huge_pages(6) else { return };
    let server = server();
    let (start, file) = piece(&server);
    let window = Window::onto(&file, HUGE);
    window.write(0, 1);
    let pipe = window.pinned();
    drop((window, file));
    server.wait_until_free("camera", 8 * MIB);
    others_have_it(&server, 1);
    server.wait_until_free("camera", 8 * MIB - HUGE);
    others_have_it(&server, 1);
    let mut byte = [0];
    File::from(pipe).read_exact(&mut byte).unwrap();
    assert_eq!(byte, [1], "no other process has written to the page");
    server.wait_until_free("camera", 8 * MIB);
    others_have_it(&server, 0);
    server.wait_until_free("camera", 8 * MIB);
    let (again, _) = piece(&server);
    assert_eq!(again, start);
}

#[test]
fn pages_that_a_client_added_to_its_file_return_to_the_pool() {
    let Some(_machine) = Machine::with_huge_pages(8) else { return };
    let server = server();
    let (_, file) = piece(&server);
    let window = Window::onto(&file, 4 * HUGE);
    assert!(free(POOL) < 4, "it has taken from the pool");
    drop((window, file));
    server.wait_until_free("camera", 8 * MIB);
    eventually("the pool has them back", || free(POOL) == 4);
}

/// A restarted client allocates by region names, while another process holds the memory of the
/// first region.
#[test]
fn a_list_of_regions_is_served_from_the_next_one_while_memory_of_the_first_is_held() {
    let Some(_machine) = Machine::with_huge_pages(4) else { return };
    let mut pages = Hugetlb::new(banks()).with_page_size(HUGE);
    let server = TestServer::start(framework("a=2M;b=4M", "*=a", &mut pages));
    let (start, file) = piece(&server);
    let window = Window::onto(&file, HUGE);
    let pipe = window.pinned();
    drop((window, file));
    server.wait_until_free("camera", HUGE);
    let client = server.client();
    let errno = client
        .alloc_from("a", HUGE, 0)
        .and_then(|chunk| chunk.map().map_err(|refused| refused.error));
    assert!(errno.is_err(), "the region has no other page");
    let chunk = client.alloc_from("a,b", HUGE, 0).unwrap();
    assert_ne!(chunk.start(), start);
    drop((chunk, pipe));
}

#[test]
fn a_chunk_of_huge_pages_comes_as_one_descriptor_for_all_of_it() {
    let Some(_machine) = Machine::with_huge_pages(4) else { return };
    let server = server();
    let connection = server.connection();
    connection.send(1, &alloc("camera", 8 * MIB));
    let (message, descriptors) = connection.receive_with_descriptors().unwrap();
    let (_, Answer::Chunk(chunk)) = message.as_answer().unwrap() else { panic!("{message:?}") };
    let all = Extent { count: 1, offset: 0, len: 8 * MIB };
    assert_eq!((chunk.pieces, &chunk.extents[..], descriptors.len()), (1, &[all][..], 1));
    let window = Window::onto(&descriptors[0], 8 * MIB);
    let first = chunk.start / 4096;
    for page in 0..4 {
        let at = page * HUGE as usize;
        assert_eq!(window.frame_at(at), Some(first + at as u64 / 4096));
    }
    drop((window, descriptors, connection));
    server.wait_until_free("camera", 8 * MIB);
    let shared = server.client().alloc("camera", None, 4 * MIB, 0).unwrap().share().unwrap();
    assert!(shared.one_piece().is_some());
}

/// The live chunks of several clients, by start: the end, and the client.
type Shadow = Mutex<BTreeMap<u64, (u64, u8)>>;

/// Checks that a new chunk is zero and overlaps no other, and writes the client's byte to it.
fn begin(shadow: &Shadow, chunk: &mut MappedChunk, client: u8) {
    let (start, end) = (chunk.start(), chunk.start() + chunk.len() as u64);
    let mut live = shadow.lock().unwrap();
    let before = live.range(..end).next_back();
    assert!(before.is_none_or(|(_, (other_end, _))| *other_end <= start), "{before:?}");
    live.insert(start, (end, client));
    drop(live);
    assert!(chunk.iter().all(|byte| *byte == 0), "new memory is zero");
    chunk.fill(client);
}

/// Checks that nobody else has written to a chunk that ends.
fn end(shadow: &Shadow, chunk: &MappedChunk, client: u8) {
    assert!(chunk.iter().all(|byte| *byte == client), "another client wrote to the chunk");
    assert_eq!(shadow.lock().unwrap().remove(&chunk.start()).unwrap().1, client);
}

#[test]
fn random_clients_have_their_own_bytes_at_addresses_of_their_own() {
    let Some(_machine) = Machine::with_huge_pages(14) else { return };
    let mut pages = Hugetlb::new(banks()).with_page_size(HUGE);
    let server = TestServer::start(framework("ram=24M", "*=ram", &mut pages));
    let shadow = Shadow::default();
    let work = |client: u8| {
        let connected = server.client();
        let mut random = u64::from(client);
        let mut below = |end: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % end
        };
        let mut live: Vec<MappedChunk> = Vec::new();
        let mut kept: Vec<OwnedFd> = Vec::new();
        for _ in 0..60 {
            if live.len() == 2 || below(2) == 0 && !live.is_empty() {
                let chunk = live.swap_remove(below(live.len() as u64) as usize);
                end(&shadow, &chunk, client);
                if below(3) == 0 {
                    let shared = chunk.share().unwrap();
                    // The memory outlives the chunk for a while.
                    kept.extend(
                        shared.pieces().iter().map(|piece| piece.file.try_clone().unwrap()),
                    );
                }
                continue;
            }
            kept.truncate(1);
            let request = connected.alloc("camera", None, (1 + below(5)) * HUGE, 0);
            if let Ok(chunk) = request {
                let mut chunk = chunk.map().unwrap();
                begin(&shadow, &mut chunk, client);
                live.push(chunk);
            } else {
                kept.clear();
            }
        }
        live.iter().for_each(|chunk| end(&shadow, chunk, client));
    };
    std::thread::scope(|threads| {
        for client in 1..5 {
            threads.spawn(move || work(client));
        }
    });
    server.wait_until_free("camera", 24 * MIB);
    let all = server.client().alloc("camera", None, 24 * MIB, 0).unwrap().map().unwrap();
    assert!(all.iter().all(|byte| *byte == 0));
    assert_eq!(free(POOL), 2);
}
