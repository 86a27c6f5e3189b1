//! Misuse of huge pages by a client, and the chunks of the next clients.

mod common;
#[path = "../../../../cma-memory/tests/machine/mod.rs"]
mod machine;

use cma_memory::Hugetlb;
use common::{MIB, TestServer, banks, eventually, framework};
use machine::{HUGE, Machine, POOL, Window, free};
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

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
