//! Requests that wait for room: who is served when, and what a wait leaves behind.

mod common;

use cma_api::{
    Allocator, AllocatorInfo, CannotAdopt, InitError, NoRoom, NotMine, PageRange, Pages, Placement,
    Request, Tag,
};
use cma_framework::config::{Bytes, Map};
use cma_framework::{
    AllocError, AllocatorChoice, Chunk, ChunkRequest, Cma, DmaAddr, Errno, PendingChunk, Plugin,
    Process, Reason, Region, Source,
};
use common::{BASE, MIB, region, with_regions};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

const CAMERA: Source<'_> = Source::Device { name: "camera", kind: None };
const LONG: Duration = Duration::from_secs(3600);

fn mib(count: u64) -> ChunkRequest {
    ChunkRequest::new(Bytes::mib(count))
}

/// A request that a test polls by hand, and how often it was woken.
struct Polled {
    pending: PendingChunk,
    wakes: Arc<Wakes>,
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Polled {
    /// A request that was polled once and waits.
    fn waiting(cma: &Cma, request: &ChunkRequest) -> Polled {
        let mut polled = Polled::new(cma, CAMERA, request);
        assert!(polled.poll().is_none());
        polled
    }

    fn new(cma: &Cma, source: Source<'_>, request: &ChunkRequest) -> Polled {
        let pending = cma.allocate_async(source, request).unwrap();
        Polled { pending, wakes: Arc::default() }
    }

    fn poll(&mut self) -> Option<Result<Chunk, AllocError>> {
        let waker = Waker::from(self.wakes.clone());
        match Pin::new(&mut self.pending).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }

    /// Whether it was woken since this was asked last.
    fn is_woken(&self) -> bool {
        self.wakes.0.swap(0, Ordering::SeqCst) > 0
    }
}

fn refusals(error: &AllocError) -> Vec<Reason> {
    match error {
        AllocError::NoRegion(refusals) => refusals.iter().map(|r| r.reason.clone()).collect(),
        AllocError::TimedOut(end) => end.refusals.iter().map(|r| r.reason.clone()).collect(),
        error => panic!("{error}"),
    }
}

#[track_caller]
fn assert_nothing_left(cma: &Cma) {
    assert!(cma.waiters().is_empty());
    for region in cma.regions() {
        assert_eq!(region.status().waiters, 0, "{region}");
        region.check().unwrap();
    }
}

#[test]
fn a_blocked_request_is_served_as_soon_as_there_is_room() {
    let cma = with_regions(&["a"], "*=a");
    let full = cma.allocate(CAMERA, &mib(16)).unwrap();
    thread::scope(|scope| {
        let waits = scope.spawn(|| cma.allocate(CAMERA, &mib(4).wait(LONG)).unwrap());
        while cma.waiters().is_empty() {
            thread::yield_now();
        }
        drop(full);
        assert_eq!(waits.join().unwrap().size(), 4 * MIB);
    });
    assert_nothing_left(&cma);
}

#[test]
fn a_request_that_has_room_does_not_wait() {
    let cma = with_regions(&["a"], "*=a");
    let device = cma.device("camera", None).unwrap();
    let chunk = device.allocate(&mib(1).wait(LONG)).unwrap();
    let mut polled = Polled::new(&cma, Source::Regions("a"), &mib(1));
    let other = polled.poll().unwrap().unwrap();
    assert!(polled.poll().is_none(), "a future that was ready is pending for good");
    assert_ne!(chunk.start(), other.start());
    assert_nothing_left(&cma);
}

#[test]
fn a_request_that_was_answered_makes_no_other_one_when_its_time_is_over() {
    let cma = with_regions(&["a"], "*=a");
    let mut served = Polled::new(&cma, CAMERA, &mib(1));
    let chunk = served.poll().unwrap().unwrap();
    let mut refused = Polled::new(&cma, CAMERA, &mib(17));
    assert!(refused.poll().unwrap().is_err());
    let failures = cma.failures(&cma.regions()[0]).unwrap().len();
    for answered in [served, refused] {
        let error = answered.pending.time_out().unwrap_err();
        assert_eq!((&error, error.errno()), (&AllocError::Answered, Errno::EINVAL));
    }
    assert_eq!(cma.regions()[0].status().users, 1);
    assert_eq!(cma.failures(&cma.regions()[0]).unwrap().len(), failures);
    drop(chunk);
    assert_nothing_left(&cma);
}

#[test]
fn those_who_wait_are_served_in_their_order_and_smaller_requests_do_not_pass() {
    let cma = with_regions(&["a", "b"], "camera=a;other=a,b");
    let mut chunks: VecDeque<_> = (0..4).map(|_| cma.allocate(CAMERA, &mib(4)).unwrap()).collect();
    let mut first = Polled::waiting(&cma, &mib(8));
    let mut second = Polled::waiting(&cma, &mib(1));
    // Room for the second, but not for the first.
    chunks.pop_front();
    assert!(!first.is_woken() && !second.is_woken());
    assert!(second.poll().is_none());
    // A request that doesn't wait goes on to the next region, if it has one.
    let refused = refusals(&cma.alloc_from("a", 4096, 0).unwrap_err());
    assert_eq!(refused, [Reason::Queued { ahead: 2 }]);
    let elsewhere = cma.alloc("other", None, 4096, 0).unwrap();
    assert_eq!(elsewhere.region().name(), Some("b"));
    // Room for the first. Only when it is served, or gives up, the second has its turn.
    chunks.pop_front();
    assert!(first.is_woken() && !second.is_woken());
    let served = first.poll().unwrap().unwrap();
    assert_eq!((served.start().get(), second.is_woken()), (BASE, false));
    chunks.pop_front();
    assert!(second.is_woken());
    assert_eq!(second.poll().unwrap().unwrap().size(), MIB);
    assert_nothing_left(&cma);
}

#[test]
fn a_wait_that_ends_without_a_chunk_times_out_with_the_reasons_of_its_last_try() {
    let cma = with_regions(&["a", "b"], "*=a,none,b");
    let full = ["a", "b"].map(|name| cma.alloc_from(name, 16 * MIB, 0).unwrap());
    let ahead = Polled::new(&cma, Source::Regions("b"), &mib(1));
    let mut ahead = ahead;
    assert!(ahead.poll().is_none());
    let wait = Duration::from_millis(30);
    let begun = Instant::now();
    let error = cma.allocate(CAMERA, &mib(1).wait(wait)).unwrap_err();
    assert!(begun.elapsed() >= wait);
    assert_eq!(error.errno(), Errno::ETIMEDOUT);
    let AllocError::TimedOut(end) = &error else { panic!("{error}") };
    assert!(end.waited >= wait);
    assert_eq!(
        refusals(&error),
        [
            Reason::Full { free_bytes: 0, region_bytes: 16 * MIB },
            Reason::UnknownRegion,
            Reason::Queued { ahead: 1 }
        ]
    );
    // However often it tried, each region counts one refusal.
    for region in cma.regions() {
        assert_eq!(region.statistics().unwrap().alloc_pages_fail, 256, "{region}");
        assert_eq!(cma.failures(&region).unwrap().len(), 1);
    }
    drop((ahead, full));
    assert_nothing_left(&cma);
}

#[test]
fn a_last_try_is_served_if_there_is_room_by_then() {
    let cma = with_regions(&["a"], "*=a");
    let full = cma.alloc("x", None, 16 * MIB, 0).unwrap();
    let polled = Polled::waiting(&cma, &mib(2));
    drop(full);
    assert!(polled.is_woken());
    assert_eq!(polled.pending.time_out().unwrap().size(), 2 * MIB);
    // Also when it was never polled.
    let unpolled = cma.allocate_async(CAMERA, &mib(2)).unwrap();
    assert_eq!(unpolled.time_out().unwrap().size(), 2 * MIB);
    assert_nothing_left(&cma);
}

#[test]
fn what_no_region_could_ever_serve_is_refused_at_once() {
    let cma = with_regions(&["a", "b"], "*=a,b;");
    for text in ["17M", "1M below=1G", "1M/128M above=0x40100000"] {
        let request = ChunkRequest::parse(text).unwrap().wait(LONG);
        let Err(error) = cma.allocate(CAMERA, &request) else { panic!("{text}") };
        assert_ne!(error.errno(), Errno::ETIMEDOUT, "{text}: {error}");
    }
    let nowhere = mib(1).at(DmaAddr::new(BASE + 40 * MIB)).wait(LONG);
    assert_eq!(cma.allocate(CAMERA, &nowhere).unwrap_err().errno(), Errno::EINVAL);
    let unknown = cma.allocate(Source::Regions("none"), &mib(1).wait(LONG)).unwrap_err();
    assert_eq!(refusals(&unknown), [Reason::UnknownRegion]);
    cma.set_map(Map::default());
    let unmatched = cma.allocate(CAMERA, &mib(1).wait(LONG)).unwrap_err();
    assert_eq!(unmatched.errno(), Errno::ENOENT);
    assert_nothing_left(&cma);
}

#[test]
fn a_waiter_that_is_dropped_leaves_nothing_behind_and_passes_its_turn_on() {
    let cma = with_regions(&["a", "b"], "*=a,b");
    let mut full: Vec<_> = (0..2).map(|_| cma.alloc("x", None, 16 * MIB, 0).unwrap()).collect();
    let first = Polled::waiting(&cma, &mib(4));
    let mut second = Polled::waiting(&cma, &mib(4));
    let mut third = Polled::waiting(&cma, &mib(4));
    assert_eq!(cma.region("a").unwrap().status().waiters, 3);
    full.pop();
    // Woken, and never polled again.
    assert!(first.is_woken() && !second.is_woken());
    let wakes = first.wakes.clone();
    drop(first);
    assert_eq!(Arc::strong_count(&wakes), 1);
    assert!(second.is_woken() && !third.is_woken());
    assert!(second.poll().unwrap().is_ok());
    assert!(third.is_woken());
    let wakes = third.wakes.clone();
    assert!(third.poll().unwrap().is_ok());
    drop(third);
    assert_eq!(Arc::strong_count(&wakes), 1);
    drop((second, full));
    assert_nothing_left(&cma);
    // Requests take the fast path again: none is ahead.
    let _chunk = cma.alloc_from("a", 16 * MIB, 0).unwrap();
}

#[test]
fn a_request_at_an_address_waits_until_that_place_is_free() {
    let cma = with_regions(&["a"], "*=a");
    let [low, high] = [0, MIB].map(|at| cma.allocate(CAMERA, &mib(1).at(DmaAddr::new(BASE + at))));
    let mut waits = Polled::waiting(&cma, &mib(2).at(DmaAddr::new(BASE)));
    drop(low.unwrap());
    assert!(!waits.is_woken());
    drop(high.unwrap());
    assert!(waits.is_woken());
    assert_eq!(waits.poll().unwrap().unwrap().start(), DmaAddr::new(BASE));
    assert_nothing_left(&cma);
}

#[test]
fn a_request_waits_for_an_allocator_that_is_registered_later() {
    for choice in [AllocatorChoice::Default, AllocatorChoice::named("best-fit")] {
        let cma = Cma::new();
        cma.set_map(Map::parse("*=a").unwrap());
        region(&cma, "a", BASE, 16 * MIB, choice);
        let mut waits = Polled::waiting(&cma, &mib(1));
        cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
        assert!(waits.is_woken());
        assert!(waits.poll().unwrap().is_ok());
        assert_nothing_left(&cma);
    }
}

#[test]
fn a_waiter_follows_changes_of_the_configuration_and_keeps_its_turn() {
    let cma = with_regions(&["a", "b", "c"], "*=a,b");
    let full: Vec<_> =
        ["a", "b"].map(|name| cma.alloc_from(name, 16 * MIB, 0).unwrap()).into_iter().collect();
    let mut first = Polled::waiting(&cma, &mib(8));
    let mut second = Polled::waiting(&cma, &mib(8));
    // Neither has region a any more; b is where they have waited before.
    cma.set_map(Map::parse("*=b").unwrap());
    assert!(second.is_woken() && first.is_woken());
    assert!(second.poll().is_none() && first.poll().is_none());
    let ahead = |name: &str| cma.region(name).unwrap().status().waiters;
    assert_eq!((ahead("a"), ahead("b")), (0, 2));
    drop(full);
    assert!(first.is_woken() && !second.is_woken());
    assert!(first.poll().unwrap().is_ok());
    // One gets a region that has room.
    let full = cma.alloc_from("b", 8 * MIB, 0);
    assert!(full.is_ok() || second.is_woken());
    cma.set_map(Map::parse("*=c").unwrap());
    assert_eq!(second.poll().unwrap().unwrap().region().name(), Some("c"));
    drop(full);
    // One is left without a rule.
    let full = cma.alloc_from("c", 16 * MIB, 0).unwrap();
    let mut third = Polled::waiting(&cma, &mib(1));
    cma.set_map(Map::default());
    assert_eq!(third.poll().unwrap().unwrap_err().errno(), Errno::ENOENT);
    drop(full);
    assert_nothing_left(&cma);
}

#[test]
fn the_waiters_of_a_region_that_is_unregistered_are_refused() {
    let cma = with_regions(&["a"], "*=a");
    let a = cma.region("a").unwrap();
    let full = cma.alloc("x", None, 16 * MIB, 0).unwrap();
    let mut by_map = Polled::waiting(&cma, &mib(1));
    let mut by_handle = Polled::new(&cma, Source::Region(&a), &mib(1));
    assert!(by_handle.poll().is_none());
    // Neither is served in between: a region can be unregistered as soon as it has no live chunk.
    drop(full);
    cma.region_unregister(&a).unwrap();
    assert!(by_map.is_woken() && by_handle.is_woken());
    assert_eq!(refusals(&by_map.poll().unwrap().unwrap_err()), [Reason::UnknownRegion]);
    assert_eq!(by_handle.poll().unwrap().unwrap_err(), AllocError::Unregistered);
    assert!(cma.waiters().is_empty());
}

#[test]
fn waiters_are_reported_with_their_region_request_and_process() {
    let cma = with_regions(&["a", "b"], "*=a,b");
    let full: Vec<_> = (0..2).map(|_| cma.alloc("x", None, 16 * MIB, 0).unwrap()).collect();
    let _own = Polled::waiting(&cma, &mib(1).below(DmaAddr::new(BASE + 16 * MIB)));
    let process = Process { uid: 1000, pid: 4711, name: "ffmpeg".into() };
    let decoder = Source::Device { name: "decoder", kind: Some("frame") };
    let wanted = ChunkRequest::parse("4K/64K below=4G wait=2s").unwrap();
    let shared = cma.to_share(process.clone(), decoder, &wanted).unwrap().alloc_async();
    let mut shared = Polled { pending: shared, wakes: Arc::default() };
    assert!(shared.poll().is_none());
    let found: Vec<_> = cma
        .waiters()
        .into_iter()
        .map(|w| {
            let device = w.device.map(|(device, kind)| format!("{device}/{kind}"));
            (w.region.to_string(), w.ahead, w.request.to_string(), device.unwrap(), w.process)
        })
        .collect();
    let decoder = |region: &str, ahead| {
        let device = "decoder/frame".to_string();
        (region.to_string(), ahead, wanted.to_string(), device, Some(process.clone()))
    };
    let own = ("a".into(), 0, "1M below=1040M".to_string(), "camera/common".to_string(), None);
    assert_eq!(found, [own, decoder("a", 1), decoder("b", 0)]);
    drop(full);
    // Its chunk is the process's.
    let chunk = shared.poll().unwrap().unwrap();
    let owners = cma.owners(chunk.region()).unwrap();
    assert_eq!(owners[0].process, Some(process));
}

/// Frees and allocates in the middle of a call that made room, as an executor might that polls at
/// once, and panics.
struct Meddles(Cma, Mutex<Option<Chunk>>);

impl Wake for Meddles {
    fn wake(self: Arc<Self>) {
        drop(self.1.lock().unwrap().take());
        let _ = self.0.alloc_from("b", MIB, 0).unwrap();
        self.0.set_map(Map::parse("*=a,b").unwrap());
        panic!("a waker that panics");
    }
}

#[test]
fn a_waker_may_use_the_framework_and_panic() {
    let cma = with_regions(&["a", "b"], "*=a");
    let full = cma.alloc("x", None, 12 * MIB, 0).unwrap();
    let other = cma.alloc("x", None, 4 * MIB, 0).unwrap();
    let mut pending = cma.allocate_async(CAMERA, &mib(4)).unwrap();
    let waker = Waker::from(Arc::new(Meddles(cma.clone(), Mutex::new(Some(other)))));
    assert!(Pin::new(&mut pending).poll(&mut Context::from_waker(&waker)).is_pending());
    drop(full);
    assert_eq!(cma.region("a").unwrap().users().unwrap(), 0);
    assert!(pending.time_out().is_ok());
    assert_nothing_left(&cma);
}

/// Panics when it is dropped.
struct PanicsAtItsEnd;

impl Wake for PanicsAtItsEnd {
    fn wake(self: Arc<Self>) {}
}

impl Drop for PanicsAtItsEnd {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic!("a waker that panics when it is dropped");
        }
    }
}

#[test]
fn a_waker_that_panics_when_it_is_dropped_leaves_nobody_in_the_queue() {
    let cma = with_regions(&["a"], "*=a");
    let full = cma.alloc("x", None, 16 * MIB, 0).unwrap();
    let mut first = cma.allocate_async(CAMERA, &mib(1)).unwrap();
    let waker = Waker::from(Arc::new(PanicsAtItsEnd));
    assert!(Pin::new(&mut first).poll(&mut Context::from_waker(&waker)).is_pending());
    // The request has the last handle to it.
    drop(waker);
    let mut second = Polled::waiting(&cma, &mib(1));
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(first)));
    assert!(dropped.is_err());
    assert_eq!(cma.waiters().len(), 1);
    drop(full);
    assert!(second.is_woken());
    assert!(second.poll().unwrap().is_ok());
    assert_nothing_left(&cma);
}

#[test]
fn a_last_try_follows_the_configuration_also_when_the_request_was_not_polled_since() {
    let cma = with_regions(&["a", "b"], "*=a");
    let _full = cma.alloc("x", None, 16 * MIB, 0).unwrap();
    let [waits, stays] = [(); 2].map(|()| Polled::waiting(&cma, &mib(1)));
    cma.set_map(Map::parse("*=b").unwrap());
    assert_eq!(waits.pending.time_out().unwrap().region().name(), Some("b"));
    cma.set_map(Map::default());
    assert_eq!(stays.pending.time_out().unwrap_err().errno(), Errno::ENOENT);
    assert_nothing_left(&cma);
}

/// Best fit that panics in `fit` if its parameters say so, and else declines every second request
/// that it said would fit.
struct Fickle {
    inner: cma_best_fit::BestFit,
    panics: bool,
    fits: usize,
}

impl Allocator for Fickle {
    const INFO: AllocatorInfo =
        AllocatorInfo { name: "fickle", version: "1", description: "breaks its word" };
    fn new(region: PageRange, params: &str) -> Result<Self, InitError> {
        let inner = cma_best_fit::BestFit::new(region, "")?;
        Ok(Fickle { inner, panics: params == "panics", fits: 0 })
    }
    fn allocate(&mut self, request: &Request) -> Result<Placement, NoRoom> {
        if self.fits % 2 == 1 { Err(NoRoom) } else { self.inner.allocate(request) }
    }
    fn fit(&mut self, request: &Request) -> Option<PageRange> {
        assert!(!self.panics, "told to panic");
        self.fits += 1;
        self.inner.fit(request)
    }
    fn free(&mut self, chunk: Placement) -> Result<(), NotMine> {
        self.inner.free(chunk)
    }
    fn adopt(&mut self, range: PageRange) -> Result<Tag, CannotAdopt> {
        self.inner.adopt(range)
    }
    fn holes(&self, visit: &mut dyn FnMut(PageRange)) {
        self.inner.holes(visit);
    }
    fn largest_request(&self) -> Pages {
        self.inner.largest_request()
    }
    fn check(&self) -> Result<(), String> {
        self.inner.check()
    }
}

fn fickle(params: &str) -> (Cma, Region, Vec<Chunk>) {
    let cma = Cma::new();
    let plugin = Plugin::built_in::<Fickle>();
    let choice = AllocatorChoice::Given { plugin, params: params.to_string() };
    let region = region(&cma, "a", BASE, 16 * MIB, choice);
    cma.set_map(Map::parse("*=a").unwrap());
    let chunks = (0..4).map(|_| cma.alloc("x", None, 4 * MIB, 0).unwrap()).collect();
    (cma, region, chunks)
}

#[test]
fn an_allocator_that_breaks_its_word_costs_a_waiter_nothing_but_time() {
    let (cma, _, mut chunks) = fickle("");
    let mut waits = Polled::waiting(&cma, &mib(4));
    chunks.pop();
    // It fits, says the allocator, and declines.
    assert!(waits.is_woken() && waits.poll().is_none());
    assert!(!waits.is_woken(), "a waiter is not woken without a new reason");
    chunks.pop();
    assert!(waits.is_woken());
    assert!(waits.poll().unwrap().is_ok());
    assert_nothing_left(&cma);
}

#[test]
fn a_waiter_survives_the_panic_of_its_allocator_and_is_served_by_the_next_one() {
    let (cma, region, mut chunks) = fickle("panics");
    let mut waits = Polled::waiting(&cma, &mib(4));
    chunks.pop();
    assert!(!waits.is_woken());
    assert!(region.allocator().to_string().contains("out of service"));
    assert!(waits.poll().is_none());
    cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
    // The change of the configuration has it try again, in vain.
    assert!(waits.is_woken() && waits.poll().is_none() && !waits.is_woken());
    cma.set_region_allocator(&region, AllocatorChoice::named("best-fit")).unwrap();
    assert!(waits.is_woken());
    assert!(waits.poll().unwrap().is_ok());
    drop(chunks);
    assert_nothing_left(&cma);
}

#[derive(Clone, Debug)]
enum Step {
    /// A request of this many pages, in all regions or only in the second one, that waits.
    Wait(u64, bool),
    /// The same without waiting.
    Now(u64, bool),
    /// Free the chunk of this number, modulo their number.
    Free(usize),
    GiveUp(usize),
    TimeOut(usize),
    PollAnyway(usize),
    ChangeMap,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = prop_oneof![1..8_u64, 1..40_u64];
    let step = prop_oneof![
        4 => (size.clone(), any::<bool>()).prop_map(|(pages, b)| Step::Wait(pages, b)),
        2 => (size, any::<bool>()).prop_map(|(pages, b)| Step::Now(pages, b)),
        4 => any::<usize>().prop_map(Step::Free),
        1 => any::<usize>().prop_map(Step::GiveUp),
        1 => any::<usize>().prop_map(Step::TimeOut),
        1 => any::<usize>().prop_map(Step::PollAnyway),
        1 => Just(Step::ChangeMap),
    ];
    prop::collection::vec(step, 1..60)
}

/// Two regions of 32 pages, and who waits for them in the order of asking.
struct Scene {
    cma: Cma,
    regions: [Region; 2],
    chunks: Vec<Chunk>,
    waiting: Vec<(Polled, u64, bool)>,
}

impl Scene {
    const PAGES: u64 = 32;

    fn new() -> Scene {
        let cma = Cma::new();
        cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
        let size = Scene::PAGES << 12;
        let regions = ["a", "b"].map(|name| {
            let start = if name == "a" { BASE } else { BASE + size };
            region(&cma, name, start, size, AllocatorChoice::Default)
        });
        cma.set_map(Map::parse("*=a,b").unwrap());
        Scene { cma, regions, chunks: Vec::new(), waiting: Vec::new() }
    }

    fn request(pages: u64, only_b: bool) -> ChunkRequest {
        let request = ChunkRequest::new(Bytes(pages << 12));
        if only_b { request.above(DmaAddr::new(BASE + (Scene::PAGES << 12))) } else { request }
    }

    /// The size of the largest hole of a region, if nobody waits for it.
    fn open(&self, region: usize) -> u64 {
        let waits = self.waiting.iter().any(|(_, _, only_b)| region == 1 || !only_b);
        if waits { 0 } else { self.regions[region].status().largest_hole.get() }
    }

    fn fits_now(&self, pages: u64, only_b: bool) -> bool {
        self.open(1) >= pages || !only_b && self.open(0) >= pages
    }

    /// Polls those that were woken until none is, as an executor does.
    fn run(&mut self) -> Result<(), TestCaseError> {
        while let Some(at) = self.waiting.iter().position(|(polled, ..)| polled.is_woken()) {
            // Those before it that wait for a region that it can have as well.
            let Some(result) = self.waiting[at].0.poll() else { continue };
            let chunk = result.unwrap();
            let is_b = *chunk.region() == self.regions[1];
            let passed = self.waiting[..at].iter().filter(|(_, _, only_b)| is_b || !only_b).count();
            prop_assert_eq!(passed, 0, "served before {} that asked earlier", passed);
            self.chunks.push(chunk);
            self.waiting.remove(at);
        }
        // Nobody waits for room that is there.
        for (number, region) in self.regions.iter().enumerate() {
            let head = self.waiting.iter().find(|(_, _, only_b)| number == 1 || !only_b);
            if let Some((_, pages, _)) = head {
                let largest = region.status().largest_hole.get();
                prop_assert!(largest < *pages, "{} pages are free for {}", largest, pages);
            }
            let waiters = self.waiting.iter().filter(|(_, _, only_b)| number == 1 || !only_b);
            prop_assert_eq!(region.status().waiters, waiters.count());
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let pick = |number: usize, count: usize| number.checked_rem(count);
        match *step {
            Step::Wait(pages, only_b) => {
                let request = Scene::request(pages, only_b);
                let fits = self.fits_now(pages, only_b);
                let mut polled = Polled::new(&self.cma, CAMERA, &request);
                match polled.poll() {
                    Some(Ok(chunk)) => {
                        prop_assert!(fits);
                        self.chunks.push(chunk);
                    }
                    Some(Err(_)) => prop_assert!(pages > Scene::PAGES),
                    None => {
                        prop_assert!(!fits && pages <= Scene::PAGES);
                        self.waiting.push((polled, pages, only_b));
                    }
                }
            }
            Step::Now(pages, only_b) => {
                let fits = self.fits_now(pages, only_b);
                let result = self.cma.allocate(CAMERA, &Scene::request(pages, only_b));
                prop_assert_eq!(result.is_ok(), fits);
                self.chunks.extend(result);
            }
            Step::Free(number) => {
                let chosen = pick(number, self.chunks.len());
                drop(chosen.map(|at| self.chunks.swap_remove(at)));
            }
            Step::GiveUp(number) => {
                let chosen = pick(number, self.waiting.len());
                drop(chosen.map(|at| self.waiting.remove(at)));
            }
            Step::TimeOut(number) => {
                if let Some(at) = pick(number, self.waiting.len()) {
                    let (polled, ..) = self.waiting.remove(at);
                    let error = polled.pending.time_out().unwrap_err();
                    prop_assert_eq!(error.errno(), Errno::ETIMEDOUT);
                }
            }
            Step::PollAnyway(number) => {
                if let Some(at) = pick(number, self.waiting.len()) {
                    prop_assert!(self.waiting[at].0.poll().is_none());
                }
            }
            Step::ChangeMap => self.cma.set_map(Map::parse("*=a,b").unwrap()),
        }
        self.run()
    }
}

proptest! {
    #[test]
    fn waiters_are_served_in_order_as_soon_as_there_is_room(steps in steps()) {
        let mut scene = Scene::new();
        for step in steps {
            scene.step(&step)?;
        }
        let wakes: Vec<_> = scene.waiting.iter().map(|(polled, ..)| polled.wakes.clone()).collect();
        scene.waiting.clear();
        scene.chunks.clear();
        prop_assert!(wakes.iter().all(|wakes| Arc::strong_count(wakes) == 1));
        prop_assert!(scene.cma.waiters().is_empty());
        for region in &scene.regions {
            region.check().unwrap();
            prop_assert_eq!(region.status().free_bytes, Scene::PAGES << 12);
        }
    }
}

/// A small generator, of a fixed seed for each thread (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound
    }
}

#[test]
fn no_wake_up_is_lost_among_threads_that_wait_give_up_and_free() {
    let cma = with_regions(&["a", "b"], "*=a,b");
    let served = AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..6 {
            let (cma, served) = (&cma, &served);
            scope.spawn(move || {
                let mut random = Random(thread);
                let mut held = VecDeque::new();
                for _ in 0..400 {
                    let request = ChunkRequest::new(Bytes::kib(4 + random.below(10 * 1024)));
                    match random.below(10) {
                        0 => drop(Polled::new(cma, CAMERA, &request).poll()),
                        1 => {
                            let wait = Duration::from_micros(random.below(500));
                            held.extend(cma.allocate(CAMERA, &request.wait(wait)));
                        }
                        2 => held.extend(cma.allocate(CAMERA, &request)),
                        _ => {
                            // Nobody keeps what it has while it waits: that could last for ever.
                            held.clear();
                            let chunk = cma.allocate(CAMERA, &request.wait(LONG)).unwrap();
                            served.fetch_add(1, Ordering::Relaxed);
                            held.push_back(chunk);
                        }
                    }
                    if held.len() > 2 {
                        held.pop_front();
                    }
                }
            });
        }
    });
    assert!(served.into_inner() > 1000);
    assert_nothing_left(&cma);
    for region in cma.regions() {
        assert_eq!(region.status().free_bytes, 16 * MIB);
    }
}

/// Changes the map, an allocator or the regions of [`with_regions`].
fn change(cma: &Cma, random: &mut Random) {
    let [a, b] = ["a", "b"].map(|name| cma.region(name).unwrap());
    match random.below(3) {
        0 => {
            let maps = ["*=a,b", "*=b,a", "*=a|b", "*=a"];
            cma.set_map(Map::parse(maps[random.below(4) as usize]).unwrap());
        }
        1 => {
            let plugin = Plugin::built_in::<cma_best_fit::BestFit>();
            let choice = AllocatorChoice::Given { plugin, params: String::new() };
            cma.set_region_allocator(&a, choice).unwrap();
        }
        _ => {
            if cma.region_unregister(&b).is_ok() {
                let start = b.range().start().get();
                region(cma, "b", start, 16 * MIB, AllocatorChoice::Default);
            }
        }
    }
}

#[test]
fn no_wake_up_is_lost_while_maps_allocators_and_regions_change() {
    let cma = with_regions(&["a", "b"], "*=a,b");
    let in_time = Duration::from_secs(30);
    let request_often = |seed| {
        let mut random = Random(seed);
        for _ in 0..50 {
            let request = ChunkRequest::new(Bytes::kib(4 + random.below(12 * 1024)));
            let placed = mib(1 + random.below(2)).at(DmaAddr::new(BASE + MIB));
            let request = match random.below(8) {
                0 => {
                    drop(Polled::new(&cma, CAMERA, &request).poll());
                    continue;
                }
                1 => request.wait(Duration::from_micros(random.below(300))),
                2 => placed.wait(in_time),
                _ => request.wait(in_time),
            };
            let chunk = cma.allocate(CAMERA, &request);
            assert!(chunk.is_ok() || request.wait != Some(in_time), "{chunk:?}");
            thread::sleep(Duration::from_micros(20));
        }
    };
    for round in 0..20 {
        thread::scope(|scope| {
            for thread in 1..5 {
                let request_often = &request_often;
                scope.spawn(move || request_often(round * 5 + thread));
            }
            // A change makes up for a wake-up that was lost, so there are few.
            let mut random = Random(round * 5);
            for _ in 0..8 {
                change(&cma, &mut random);
                thread::sleep(Duration::from_micros(random.below(500)));
            }
        });
        assert_nothing_left(&cma);
        for region in cma.regions() {
            assert_eq!(region.status().free_bytes, 16 * MIB);
        }
    }
}

#[test]
fn a_future_can_be_sent_to_another_thread() {
    fn assert_send<T: Send + Unpin + 'static>() {}
    assert_send::<PendingChunk>();
}
