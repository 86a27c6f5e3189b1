//! An allocator that takes long to place or to free. What others leave to its region meanwhile
//! happens when it returns, whichever path called it.

mod common;

use cma_api::{Allocator, InitError, NotMine, PageRange, Placement, Tag};
use cma_framework::config::{Bytes, Map};
use cma_framework::events::What;
use cma_framework::{
    AllocatorChoice, AllocatorState, Chunk, ChunkRequest, Cma, Device, PendingChunk, Plugin,
    Region, Source,
};
use common::{BASE, CallGate, Kept, MIB, region};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

const PAGE: u64 = 4096;

/// Best fit with a gate before `allocate` and `free`. It refuses to free after a number of chunks,
/// if its parameters have one after the name of the gate.
struct Slow {
    inner: cma_best_fit::BestFit,
    gate: Arc<CallGate>,
    frees_left: Option<usize>,
}

impl Allocator for Slow {
    const INFO: cma_api::AllocatorInfo =
        cma_api::AllocatorInfo { name: "slow", version: "1", description: "waits in its calls" };
    fn new(region: PageRange, params: &str) -> Result<Self, InitError> {
        let (gate, frees_left) = params.split_once(' ').unwrap_or((params, ""));
        let inner = cma_best_fit::BestFit::new(region, "")?;
        Ok(Slow { inner, gate: CallGate::named(gate), frees_left: frees_left.parse().ok() })
    }
    fn allocate(&mut self, request: &cma_api::Request) -> Result<Placement, cma_api::NoRoom> {
        self.gate.pass();
        self.inner.allocate(request)
    }
    fn fit(&mut self, request: &cma_api::Request) -> Option<PageRange> {
        self.inner.fit(request)
    }
    fn free(&mut self, chunk: Placement) -> Result<(), NotMine> {
        self.gate.pass();
        if let Some(left) = &mut self.frees_left {
            *left = left.checked_sub(1).ok_or(NotMine)?;
        }
        self.inner.free(chunk)
    }
    fn adopt(&mut self, range: PageRange) -> Result<Tag, cma_api::CannotAdopt> {
        self.inner.adopt(range)
    }
    fn holes(&self, visit: &mut dyn FnMut(PageRange)) {
        self.inner.holes(visit);
    }
    fn largest_request(&self) -> cma_api::Pages {
        self.inner.largest_request()
    }
    fn check(&self) -> Result<(), String> {
        self.inner.check()
    }
}

/// A framework with the region `slow` and its device `camera`, which keeps what it frees. `frees`
/// are those that the allocator carries out; empty for all.
fn slow(frees: &str) -> (Cma, Region, Device, Arc<CallGate>) {
    let cma = Cma::new();
    let (name, gate) = CallGate::new();
    let params = format!("{name} {frees}");
    let choice = AllocatorChoice::Given { plugin: Plugin::built_in::<Slow>(), params };
    let region = region(&cma, "slow", BASE, MIB, choice);
    cma.set_map(Map::parse("*=slow").unwrap());
    let device = cma.device("camera", None).unwrap().keeping(Bytes(MIB));
    (cma, region, device, gate)
}

fn two_pages(device: &Device) -> [Chunk; 2] {
    [(); 2].map(|()| device.alloc(PAGE, 0).unwrap())
}

#[derive(Default)]
struct Wakes(AtomicU32);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A request that waits for the region `full`, and for `slow` when that resumes. While it begins to
/// wait, the gate is shut and a thread makes `call`.
fn waits_during(cma: &Cma, gate: &CallGate, call: impl FnOnce() + Send) -> (PendingChunk, Waker) {
    let plugin = Plugin::built_in::<cma_best_fit::BestFit>();
    let choice = AllocatorChoice::Given { plugin, params: String::new() };
    region(cma, "full", BASE + MIB, MIB, choice);
    cma.alloc_from("full", MIB, 0).unwrap().into_addr();
    let wakes = Arc::<Wakes>::default();
    let waker = Waker::from(wakes.clone());
    let request = ChunkRequest::new(Bytes(PAGE));
    let mut waits = cma.allocate_async(Source::Regions("slow,full"), &request).unwrap();
    thread::scope(|scope| {
        gate.set(true);
        let calling = scope.spawn(call);
        gate.wait_for_a_call();
        let first = Pin::new(&mut waits).poll(&mut Context::from_waker(&waker));
        gate.set(false);
        assert!(first.is_pending());
        calling.join().unwrap();
    });
    assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
    (waits, waker)
}

fn is_served((mut waits, waker): (PendingChunk, Waker)) -> bool {
    let polled = Pin::new(&mut waits).poll(&mut Context::from_waker(&waker));
    matches!(polled, Poll::Ready(Ok(_)))
}

#[test]
fn a_request_that_began_to_wait_during_a_free_is_woken_when_that_returns() {
    let (cma, _region, _, gate) = slow("");
    let chunk = cma.alloc_from("slow", PAGE, 0).unwrap();
    assert!(is_served(waits_during(&cma, &gate, move || drop(chunk))));
}

#[test]
fn a_request_that_began_to_wait_during_another_is_woken_when_that_returns() {
    let (cma, region, _, gate) = slow("");
    drop(cma.alloc_from("slow", PAGE, 0).unwrap());
    let other = || {
        cma.alloc_from_region(&region, PAGE, 0).unwrap().into_addr();
    };
    assert!(is_served(waits_during(&cma, &gate, other)));
}

#[test]
fn what_a_device_keeps_while_other_kept_chunks_are_freed_is_not_lost_with_it() {
    let (_cma, region, device, gate) = slow("");
    let [first, last] = two_pages(&device);
    drop(first);
    gate.set(true);
    thread::scope(|scope| {
        let reading = scope.spawn(|| region.users().unwrap());
        gate.wait_for_a_call();
        drop(last);
        // The region is found to be stuck.
        drop(device);
        gate.set(false);
        reading.join().unwrap();
    });
    assert_eq!((region.users().unwrap(), region.check()), (0, Ok(())));
}

#[test]
fn an_observer_is_not_told_of_an_allocator_that_failed_to_free_what_was_kept() {
    let (cma, region, device, gate) = slow("1");
    let [first, last] = two_pages(&device);
    drop(first);
    gate.set(true);
    let kept = Arc::<Kept>::default();
    thread::scope(|scope| {
        let observing = scope.spawn(|| cma.observe_region(&region, kept.clone()).unwrap());
        gate.wait_for_a_call();
        // The observation begins with freeing it.
        drop(last);
        gate.set(false);
        let events = kept.take(&observing.join().unwrap());
        let what: Vec<_> = events.iter().map(|event| &event.what).collect();
        assert!(matches!(what[..], [What::Began { allocator: None, .. }]), "{what:?}");
    });
    assert!(matches!(region.allocator(), AllocatorState::OutOfService { .. }));
}
