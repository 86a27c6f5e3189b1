//! A panic while a client is served ends that client's connection at most.

mod common;

use cma_device_protocol::{Answer, Request};
use cma_framework::DmaAddr;
use cma_framework::memory::{Backing, Claim, Contiguity, Memory, MemoryError, Store};
use cma_framework::reserve::{Banks, ReserveError, ReserveRequest, Reserved, Reserver};
use common::{MIB, Raw, Served, alloc, banks, framework, with_memory};
use std::sync::atomic::{AtomicUsize, Ordering};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// A log that can't be written and takes that badly.
struct Panics;

static SAID: AtomicUsize = AtomicUsize::new(0);

impl Subscriber for Panics {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("cma_device_server")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        SAID.fetch_add(1, Ordering::SeqCst);
        panic!("nobody can read {}", event.metadata().name());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Memory of a faulty port.
#[derive(Debug)]
struct Faulty(Banks);

#[derive(Debug)]
struct FaultyMemory;

impl Reserver for Faulty {
    fn reserve(&mut self, request: &ReserveRequest) -> Result<Reserved, ReserveError> {
        Ok(Reserved { range: self.0.place(request)?, memory: Some(Box::new(FaultyMemory)) })
    }
}

// SAFETY: it never gives any memory away.
unsafe impl Memory for FaultyMemory {
    fn backing(&self) -> Backing {
        let granule = cma_framework::Pages::new(1);
        Backing { kind: "faulty", contiguity: Contiguity::No, granule }
    }

    fn store(&self, _: Claim) -> Result<Box<dyn Store>, MemoryError> {
        panic!("a fault of the port")
    }
}

fn is_served(line: &Raw, id: u64) -> bool {
    line.ask(id, &alloc("bare", 4096));
    let has = matches!(line.hear().unwrap().as_answer(), Ok((_, Answer::Chunk(_))));
    line.ask(id + 1, &Request::Free);
    has && matches!(line.hear().unwrap().as_answer(), Ok((_, Answer::Freed)))
}

#[test]
fn a_subscriber_that_panics_at_every_line_ends_nothing() {
    let _ = tracing::subscriber::set_global_default(Panics);
    let served = Served::by(
        with_memory(),
        "connections=20,user-connections=20",
        "camera,bare=*;secret=uid:4000000000",
    );
    // Each connection, each refusal and each connection that is closed writes a line, and so does
    // what is left behind.
    let first = served.line();
    for n in 0..40 {
        let line = served.line();
        assert!(is_served(&line, 1 + n));
        line.ask(100, &alloc("secret", 4096));
        line.refusal();
        line.say(b"nonsense");
        assert!(line.is_over());
    }
    let held = served.client().alloc("camera", None, MIB, 0).unwrap().share().unwrap();
    let file = held.pieces()[0].file.try_clone().unwrap();
    drop(held);
    assert!(is_served(&first, 1));
    drop(file);
    served.wait_until_free("camera", 64 * MIB);
    assert!(SAID.load(Ordering::SeqCst) > 50, "{SAID:?}");
    served.end().unwrap();
}

#[test]
fn a_panic_while_a_client_is_served_closes_its_connection_and_frees_its_chunk() {
    let cma = framework("faulty=16M", "bare=bare;*=faulty", &mut Faulty(banks()));
    let choice = cma_framework::AllocatorChoice::Default;
    cma.region_register(Some("bare"), DmaAddr::new(common::BASE + (1 << 37)), 16 * MIB, choice)
        .unwrap();
    let served = Served::new(cma);
    let other = served.line();
    // More often than there are threads.
    for _ in 0..40 {
        let line = served.line();
        line.ask(1, &alloc("camera", 4096));
        assert!(line.is_over());
        assert!(is_served(&other, 1));
    }
    served.wait_until_free("camera", 16 * MIB);
    served.end().unwrap();
}
