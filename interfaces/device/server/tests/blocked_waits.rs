//! A request that waits and whose allocator hangs takes one thread, also after its deadline and
//! when its client is gone. The test has a program of its own: an allocator hangs once.

mod common;
#[path = "common/hanging.rs"]
mod hanging;

use cma_device_protocol::{ChunkRequest, RegionSelector, Request};
use common::{MIB, TestServer, eventually};
use std::thread::sleep;
use std::time::Duration;

#[test]
fn a_waiting_client_whose_allocator_hangs_leaves_threads_to_its_user() {
    let server = TestServer::start(hanging::framework());
    let waits = server.connection();
    let from = RegionSelector::Device { device: "hanging", kind: "" };
    let chunk = ChunkRequest::new(MIB).wait(Duration::from_millis(100));
    waits.send(1, &Request::Alloc { from, chunk, memory: true });
    eventually("a request is blocked", || hanging::blocked_requests() == 1);
    // First one thread learns that the client is gone, then another that its deadline has passed.
    drop(waits);
    sleep(Duration::from_millis(200));
    for _ in 0..20 {
        drop(server.client().alloc("camera", None, 64 * MIB, 0).unwrap());
    }
    hanging::release();
    eventually("its wait has ended", || server.cma.waiters().is_empty());
}
