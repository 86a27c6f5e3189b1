//! A request is checked and served by the same configuration.

mod common;

use cma_client::Client;
use cma_framework::config::Map;
use cma_framework::reserve::{ReserveError, ReserveRequest, Reserved, Reserver};
use cma_memory::Memfd;
use common::{MIB, PiecewiseMemory, TestServer, banks, framework};
use rustix::io::Errno;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;

/// Memory in pieces of 64 KiB for region `pieces`, and ordinary memory for the other regions.
struct PerRegionMemory(Memfd, PiecewiseMemory);

impl Reserver for PerRegionMemory {
    fn reserve(&mut self, request: &ReserveRequest) -> Result<Reserved, ReserveError> {
        if request.name.as_deref() == Some("pieces") {
            self.1.reserve(request)
        } else {
            self.0.reserve(request)
        }
    }
}

#[test]
fn requests_succeed_while_the_map_changes_between_kinds_of_memory() {
    let server = TestServer::start(framework(
        "pages=32M@0x40000000;pieces=32M@0x50000000",
        "*=pages",
        &mut PerRegionMemory(Memfd::new(banks()), PiecewiseMemory::new()),
    ));
    let over = AtomicBool::new(false);
    let allocate = |n: u64| {
        let client = Client::connect(&server.path).unwrap();
        for i in 0..1500 {
            let size = 1 + (i * 37 + n) % 20 * 4096;
            let chunk = client
                .alloc("camera", None, size, 0)
                .unwrap_or_else(|error| panic!("{size}: {error}"));
            let mapped = chunk.map().unwrap_or_else(|refused| panic!("{size}: {}", refused.error));
            assert!(mapped.len() as u64 >= size);
        }
    };
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let maps =
                ["*=pages", "*=pieces", "*=pieces,pages"].map(|map| Map::parse(map).unwrap());
            while !over.load(Ordering::Relaxed) {
                for map in &maps {
                    server.cma.set_map(map.clone());
                }
            }
        });
        let all: Vec<_> = (0..3).map(|n| threads.spawn(move || allocate(n))).collect();
        let ends: Vec<_> = all.into_iter().map(ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Relaxed);
        assert!(ends.iter().all(Result::is_ok));
    });
    for region in ["pages", "pieces"] {
        common::eventually("all is free", || {
            server.cma.info_about(region).unwrap().free_bytes == 32 * MIB
        });
    }
}

#[test]
fn without_a_quota_no_request_exceeds_one() {
    let server = TestServer::start(common::with_memory());
    let client = server.client();
    let _held = client.alloc("camera", None, 4096, 0).unwrap();
    for (size, expected) in [
        (u64::MAX, Errno::INVAL),
        (u64::MAX - 4095, Errno::NOMEM),
        (1 << 63, Errno::NOMEM),
        (65 * MIB, Errno::NOMEM),
    ] {
        let refused = client.alloc("camera", None, size, 0).unwrap_err();
        assert_eq!(Errno::from_raw_os_error(refused.errno()), expected, "{size}: {refused}");
        let here = server.cma.alloc("camera", None, size, 0).unwrap_err();
        assert_eq!(refused.to_string(), here.to_string());
    }
}

#[test]
fn a_quota_applies_only_to_requests_that_a_region_could_serve() {
    let server = TestServer::with_config(common::with_memory(), "user-bytes=1M,chunks=1", "*,@*=*");
    let client = server.client();
    let errno = |size, alignment| {
        Errno::from_raw_os_error(client.alloc("camera", None, size, alignment).unwrap_err().errno())
    };
    assert_eq!(errno(2 * MIB, 0), Errno::DQUOT);
    let _held = client.alloc("camera", None, 4096, 0).unwrap();
    assert_eq!(errno(4096, 0), Errno::DQUOT);
    assert_eq!([errno(u64::MAX, 0), errno(0, 0), errno(4096, 3)], [Errno::INVAL; 3]);
    assert_eq!(errno(65 * MIB, 0), Errno::NOMEM);
}
