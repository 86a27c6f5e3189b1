//! A panic while a client is served closes that client's connection at most.

mod common;

use cma_device_protocol::{Answer, Request};
use cma_framework::DmaAddr;
use cma_framework::memory::{Backing, Claim, Contiguity, Memory, MemoryError, Store};
use cma_framework::reserve::{Banks, ReserveError, ReserveRequest, Reserved, Reserver};
use common::{MIB, RawConnection, TestServer, alloc, banks, framework, with_memory};
use std::sync::atomic::{AtomicUsize, Ordering};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// A subscriber that panics at every event.
struct PanickingSubscriber;

static EVENTS: AtomicUsize = AtomicUsize::new(0);

impl Subscriber for PanickingSubscriber {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("cma_device_server")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        EVENTS.fetch_add(1, Ordering::SeqCst);
        panic!("panic at {}", event.metadata().name());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// A reserver whose memory port panics.
#[derive(Debug)]
struct FaultyReserver(Banks);

#[derive(Debug)]
struct PanickingMemory;

impl Reserver for FaultyReserver {
    fn reserve(&mut self, request: &ReserveRequest) -> Result<Reserved, ReserveError> {
        Ok(Reserved { range: self.0.place(request)?, memory: Some(Box::new(PanickingMemory)) })
    }
}

// SAFETY: it never returns any memory.
unsafe impl Memory for PanickingMemory {
    fn backing(&self) -> Backing {
        let granule = cma_framework::Pages::new(1);
        Backing { kind: "faulty", contiguity: Contiguity::No, granule }
    }

    fn store(&self, _: Claim) -> Result<Box<dyn Store>, MemoryError> {
        panic!("a defect of the port")
    }
}

fn can_allocate(connection: &RawConnection, id: u64) -> bool {
    connection.send(id, &alloc("bare", 4096));
    let has = matches!(connection.receive().unwrap().as_answer(), Ok((_, Answer::Chunk(_))));
    connection.send(id + 1, &Request::Free);
    has && matches!(connection.receive().unwrap().as_answer(), Ok((_, Answer::Freed)))
}

#[test]
fn a_subscriber_that_panics_at_every_event_ends_nothing() {
    let _ = tracing::subscriber::set_global_default(PanickingSubscriber);
    let server = TestServer::with_config(
        with_memory(),
        "connections=20,user-connections=20",
        "camera,bare=*;secret=uid:4000000000",
    );
    // Each new connection, each refusal, each closed connection and each chunk whose memory is held
    // emits an event.
    let first = server.connection();
    for n in 0..40 {
        let connection = server.connection();
        assert!(can_allocate(&connection, 1 + n));
        connection.send(100, &alloc("secret", 4096));
        connection.refusal();
        connection.send_bytes(b"nonsense");
        assert!(connection.is_closed_after_messages());
    }
    let held = server.client().alloc("camera", None, MIB, 0).unwrap().share().unwrap();
    let file = held.pieces()[0].file.try_clone().unwrap();
    drop(held);
    assert!(can_allocate(&first, 1));
    drop(file);
    server.wait_until_free("camera", 64 * MIB);
    assert!(EVENTS.load(Ordering::SeqCst) > 50, "{EVENTS:?}");
    server.stop().unwrap();
}

#[test]
fn a_panic_while_a_client_is_served_closes_its_connection_and_frees_its_chunk() {
    let cma = framework("faulty=16M", "bare=bare;*=faulty", &mut FaultyReserver(banks()));
    let choice = cma_framework::AllocatorChoice::Default;
    cma.region_register(Some("bare"), DmaAddr::new(common::BASE + (1 << 37)), 16 * MIB, choice)
        .unwrap();
    let server = TestServer::start(cma);
    let other = server.connection();
    // More often than the server has threads.
    for _ in 0..40 {
        let connection = server.connection();
        connection.send(1, &alloc("camera", 4096));
        assert!(connection.is_closed_after_messages());
        assert!(can_allocate(&other, 1));
    }
    server.wait_until_free("camera", 16 * MIB);
    server.stop().unwrap();
}
