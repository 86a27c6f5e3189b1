//! The service for well-behaved clients.

mod common;

use cma_client::{ChunkRequest, Error, RegionSelector};
use common::{BASE, MIB, TestServer, framework, with_memory};
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;

fn errno(error: &Error) -> Errno {
    Errno::from_raw_os_error(error.errno())
}

#[test]
fn a_chunk_is_bytes_at_an_address_and_is_freed_when_it_is_dropped() {
    let server = TestServer::start(with_memory());
    let client = server.client();
    let mut chunk = client.alloc("camera", Some("frame"), 3 * MIB + 1, MIB).unwrap().map().unwrap();
    assert_eq!(chunk.len() as u64, 3 * MIB + 4096);
    assert!(chunk.start().is_multiple_of(MIB));
    assert!(chunk.iter().all(|byte| *byte == 0));
    chunk.fill(0x5a);
    assert!(chunk.iter().all(|byte| *byte == 0x5a));
    assert_eq!(server.free_bytes("camera"), 61 * MIB - 4096);
    drop(chunk);
    server.wait_until_free("camera", 64 * MIB);
}

#[test]
fn chunks_do_not_overlap_and_new_ones_are_zero() {
    let server = TestServer::start(with_memory());
    let client = server.client();
    let mut chunks: Vec<_> =
        (0..8).map(|_| client.alloc("camera", None, MIB, 0).unwrap().map().unwrap()).collect();
    for (chunk, byte) in chunks.iter_mut().zip(1..) {
        assert!(chunk.iter().all(|byte| *byte == 0));
        chunk.fill(byte);
    }
    for (chunk, byte) in chunks.iter().zip(1..) {
        assert!(chunk.iter().all(|found| *found == byte));
    }
    drop(chunks);
    let whole = client.alloc("camera", None, 64 * MIB, 0).unwrap().map().unwrap();
    assert!(whole.iter().all(|byte| *byte == 0));
}

#[test]
fn a_chunk_lies_within_the_limits_of_its_request() {
    let server = TestServer::start(with_memory());
    let client = server.client();
    let from = RegionSelector::Device { device: "camera", kind: "frame" };
    let upper = client.allocate(from, &ChunkRequest::new(MIB).above(BASE + 32 * MIB)).unwrap();
    assert!(upper.start() >= BASE + 32 * MIB, "{:#x}", upper.start());
    let lower = ChunkRequest::new(MIB).below(BASE + MIB);
    let lower = client.allocate(from, &lower).unwrap();
    assert_eq!(lower.start(), BASE);
    let whole = ChunkRequest::new(2 * MIB).boundary(2 * MIB).below(BASE + 5 * MIB);
    assert_eq!(client.allocate(from, &whole).unwrap().start(), BASE + 2 * MIB);
    let at = ChunkRequest::new(MIB).at(BASE + 5 * MIB);
    let regions = RegionSelector::Regions("bare,ram");
    assert_eq!(client.allocate(regions, &at).unwrap().start(), BASE + 5 * MIB);
}

#[test]
fn limits_that_contradict_each_other_are_refused() {
    let server = TestServer::start(with_memory());
    let client = server.client();
    let from = RegionSelector::Device { device: "camera", kind: "" };
    for request in [
        ChunkRequest::new(MIB).above(BASE).below(BASE),
        ChunkRequest::new(MIB).boundary(4096),
        ChunkRequest::new(MIB).at(BASE + 1),
    ] {
        let error = client.allocate(from, &request).unwrap_err();
        assert_eq!(errno(&error), Errno::INVAL, "{error}");
    }
    assert_eq!(server.free_bytes("camera"), 64 * MIB);
}

#[test]
fn freed_memory_is_available_to_the_next_request() {
    let server = TestServer::start(with_memory());
    let client = server.client();
    for round in 0..300 {
        let mut chunk = client.alloc("camera", None, 64 * MIB, 0).unwrap().map().unwrap();
        chunk[round] = 1;
    }
    client.alloc("camera", None, 64 * MIB, 0).unwrap().free().unwrap();
    assert_eq!(server.free_bytes("camera"), 64 * MIB);
}

#[test]
fn refusals_have_the_errno_and_the_reason_of_the_framework() {
    let server = TestServer::start(with_memory());
    let client = server.client();
    server.cma.set_map(cma_framework::config::Map::parse("camera=ram").unwrap());
    for (device, size, alignment, expected) in [
        ("camera", 0, 0, Errno::INVAL),
        ("camera", 4096, 3, Errno::INVAL),
        ("camera", u64::MAX, 0, Errno::INVAL),
        ("camera", 65 * MIB, 0, Errno::NOMEM),
        ("", 4096, 0, Errno::INVAL),
        ("video", 4096, 0, Errno::NOENT),
    ] {
        let refused = client.alloc(device, None, size, alignment).unwrap_err();
        assert_eq!(errno(&refused), expected, "{device} {size}/{alignment}: {refused}");
        let here = server.cma.alloc(device, None, size, alignment).unwrap_err();
        assert_eq!(refused.to_string(), here.to_string());
    }
    let refused = client.alloc_from("nowhere,ram", 65 * MIB, 0).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "no region could serve it: nowhere: no such region; ram: too small: 65M requested of a region of 64M"
    );
    assert_eq!(errno(&client.alloc_from("", 1, 0).unwrap_err()), Errno::INVAL);
    assert_eq!(errno(&client.info("video", None).unwrap_err()), Errno::NOENT);
    assert_eq!(errno(&client.info_about("nowhere").unwrap_err()), Errno::NOENT);
    let names = "n".repeat(1000);
    assert_eq!(errno(&client.alloc(&names, None, 1, 0).unwrap_err()), Errno::INVAL);
}

#[test]
fn totals_are_those_of_the_framework() {
    let server = TestServer::start(with_memory());
    let client = server.client();
    let _chunk = client.alloc_from("ram;rest", MIB, 0).unwrap();
    let (there, here) =
        (client.info("camera", None).unwrap(), server.cma.info("camera", None).unwrap());
    assert_eq!((there.total_bytes, there.free_bytes), (64 * MIB, 63 * MIB));
    assert_eq!(
        (there.first_page, there.span_pages),
        (here.span.first_page(), here.span.pages().get())
    );
    assert_eq!((there.regions, there.granule_bytes), (1, 4096));
    assert_eq!(client.info_about("ram,bare").unwrap().regions, 2);
}

#[test]
fn a_user_can_list_its_chunks() {
    let server = TestServer::start(with_memory());
    let client = server.client();
    let chunks: Vec<_> =
        (1..=40).map(|n| client.alloc("camera", None, n * 4096, 0).unwrap()).collect();
    let listed = client.chunks().unwrap();
    assert_eq!(listed.len(), 40);
    for (chunk, listed) in chunks.iter().zip(&listed) {
        assert_eq!((listed.start, listed.size), (chunk.start(), chunk.size()));
        assert_eq!((listed.pid, listed.left_behind), (std::process::id(), false));
    }
    assert!(listed.is_sorted_by_key(|listed| listed.number));
}

#[test]
fn chunks_without_memory_can_not_be_mapped() {
    let server = TestServer::start(with_memory());
    let chunk = server.client().alloc("bare", None, MIB, 0).unwrap();
    assert!(!chunk.has_memory());
    let refused = chunk.map().unwrap_err();
    assert_eq!(errno(&refused.error), Errno::NODEV);
    assert_eq!(errno(&refused.chunk.share().unwrap_err().error), Errno::NODEV);
    server.wait_until_free("bare", 16 * MIB);
}

#[test]
fn the_files_of_a_shared_chunk_have_its_content_and_are_sealed() {
    let server = TestServer::start(with_memory());
    let mut chunk = server.client().alloc("camera", None, 8192, 0).unwrap().map().unwrap();
    chunk[5000] = 7;
    let shared = chunk.share().unwrap();
    let [piece] = shared.pieces() else { panic!("{shared:?} has not one piece") };
    let file = File::from(piece.as_fd().try_clone_to_owned().unwrap());
    let mut byte = [0];
    file.read_exact_at(&mut byte, piece.offset + 5000).unwrap();
    assert_eq!(byte, [7]);
    assert!(file.set_len(0).is_err() && file.set_len(1 << 20).is_err());
    assert_eq!(shared.pieces().iter().map(|piece| piece.len).sum::<u64>(), shared.size());
}

#[test]
fn connecting_and_allocating_fail_without_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let error = cma_client::Client::connect(dir.path().join("none")).unwrap_err();
    assert_eq!(errno(&error), Errno::NODEV);
    let server = TestServer::start(framework("r=1M", "*=r", &mut common::banks()));
    let client = server.client();
    server.stop().unwrap();
    assert_eq!(errno(&client.alloc("camera", None, 1, 0).unwrap_err()), Errno::NODEV);
}

#[test]
fn the_books_name_the_process_that_has_a_chunk() {
    let cma = with_memory();
    let server = TestServer::start(cma.clone());
    let chunk = server.client().alloc("camera", Some("frame"), MIB, 0).unwrap();
    let owners = cma.owners(&cma.regions()[0]).unwrap();
    let [owner] = &owners[..] else { panic!("{owners:?}") };
    let process = owner.process.as_ref().unwrap();
    assert_eq!(
        (process.uid, process.pid),
        (rustix::process::getuid().as_raw(), std::process::id())
    );
    let name = std::fs::read_to_string("/proc/self/comm").unwrap();
    assert_eq!(&*process.name, name.trim_end());
    assert_eq!(owner.device, Some(("camera".into(), "frame".into())));
    drop(chunk);
}
