//! A region whose allocator doesn't return: its callers get an error, nothing is lost, and other
//! regions serve as before.

mod common;

use cma_api::{
    Allocator, AllocatorInfo, CannotAdopt, InitError, NoRoom, NotMine, PageRange, Pages, Placement,
    Request, Tag,
};
use cma_framework::config::Map;
use cma_framework::events::{Event, Observer, What};
use cma_framework::{
    AllocError, AllocatorChoice, AllocatorState, ChangeError, Chunk, ChunkRequest, Cma, DmaAddr,
    Errno, Holder, PendingChunk, Plugin, Process, Reason, Region, Source,
};
use common::{BASE, CallGate, MIB, region};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Best fit, with a gate before `allocate`, `fit` and `check`.
struct Gated(cma_best_fit::BestFit, Arc<CallGate>);

impl Allocator for Gated {
    const INFO: AllocatorInfo =
        AllocatorInfo { name: "gated", version: "1", description: "waits before it allocates" };
    fn new(region: PageRange, params: &str) -> Result<Self, InitError> {
        Ok(Gated(cma_best_fit::BestFit::new(region, "")?, CallGate::named(params)))
    }
    fn allocate(&mut self, request: &Request) -> Result<Placement, NoRoom> {
        self.1.pass();
        self.0.allocate(request)
    }
    fn fit(&mut self, request: &Request) -> Option<PageRange> {
        self.1.pass();
        self.0.fit(request)
    }
    fn free(&mut self, chunk: Placement) -> Result<(), NotMine> {
        self.0.free(chunk)
    }
    fn adopt(&mut self, range: PageRange) -> Result<Tag, CannotAdopt> {
        self.0.adopt(range)
    }
    fn holes(&self, visit: &mut dyn FnMut(PageRange)) {
        self.0.holes(visit);
    }
    fn largest_request(&self) -> Pages {
        self.0.largest_request()
    }
    fn check(&self) -> Result<(), String> {
        self.1.pass();
        self.0.check()
    }
}

/// A framework with the regions `stuck`, which has live chunks, and `sound`; and a thread whose
/// request is stuck.
struct Scene {
    cma: Cma,
    region: Region,
    gate: Arc<CallGate>,
    guards: Vec<Chunk>,
    address: DmaAddr,
    request: JoinHandle<Result<Chunk, AllocError>>,
}

impl Scene {
    fn new() -> Scene {
        let cma = Cma::new();
        cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
        let (params, gate) = CallGate::new();
        let choice = AllocatorChoice::Given { plugin: Plugin::built_in::<Gated>(), params };
        let region = region(&cma, "stuck", BASE, MIB, choice);
        common::region(&cma, "sound", BASE + MIB, MIB, AllocatorChoice::Default);
        cma.set_map(Map::parse("*=stuck,sound").unwrap());
        let guards = (0..4).map(|_| cma.alloc_from("stuck", 4096, 0).unwrap()).collect();
        let address = cma.alloc_from("stuck", 4096, 0).unwrap().into_addr();
        gate.set(true);
        let asking = cma.clone();
        let request = thread::spawn(move || asking.alloc_from("stuck", 4096, 0));
        gate.wait_for_a_call();
        Scene { cma, region, gate, guards, address, request }
    }

    /// Lets the allocator return. The region serves as before.
    fn resume(self, live: u32) {
        self.gate.set(false);
        let chunk = self.request.join().unwrap().unwrap();
        assert_eq!(self.region.users().unwrap(), live + 1);
        self.region.check().unwrap();
        assert_eq!(self.cma.attributes().read("regions/stuck/problem").unwrap(), "");
        drop((chunk, self.guards));
        drop(self.cma.alloc_from("stuck", MIB / 2, 0).unwrap());
        self.region.check().unwrap();
    }
}

#[test]
fn a_request_to_a_stuck_region_is_refused_and_another_region_of_the_list_serves() {
    let scene = Scene::new();
    let error = scene.cma.alloc_from("stuck", 4096, 0).unwrap_err();
    assert_eq!(error.errno(), Errno::EIO);
    assert!(
        error.to_string().contains("stuck: allocator \"gated\" has kept the region busy"),
        "{error}"
    );
    let served = scene.cma.alloc("camera", None, 4096, 0).unwrap();
    assert_eq!(served.region().name(), Some("sound"));
    let error = scene.cma.alloc("camera", None, 2 * MIB, 0).unwrap_err();
    let AllocError::NoRegion(refusals) = &error else { panic!("{error}") };
    let reasons: Vec<_> = refusals.iter().map(|refusal| &refusal.reason).collect();
    assert!(matches!(reasons[..], [Reason::Stuck(_), Reason::TooSmall { .. }]), "{error}");
    assert_eq!(scene.cma.info("camera", None).unwrap().free_bytes, MIB - 4096);
    let (cma, region) = (scene.cma.clone(), scene.region.clone());
    scene.resume(5);
    // The books have the refusals of the stuck region now.
    assert_eq!(cma.failures(&region).unwrap().len(), 3);
    assert_eq!(region.statistics().unwrap().alloc_pages_fail, 1 + 1 + 512);
}

#[test]
fn frees_in_a_stuck_region_are_carried_out_when_it_resumes() {
    let mut scene = Scene::new();
    let kept = scene.guards.pop().unwrap();
    scene.guards.clear();
    scene.cma.free(scene.address).unwrap();
    assert_eq!(scene.cma.free(scene.address).unwrap_err().errno(), Errno::ENOENT, "freed twice");
    // A guard becomes an address, and that is freed, all while the books are locked.
    let address = kept.into_addr();
    scene.cma.free(address).unwrap();
    let cma = scene.cma.clone();
    scene.resume(0);
    assert_eq!(cma.region("stuck").unwrap().free().unwrap().bytes(), MIB);
}

#[test]
fn a_holder_noted_in_a_stuck_region_is_not_that_of_the_next_chunk() {
    let mut scene = Scene::new();
    let mut chunk = scene.guards.pop().unwrap();
    let process = Process { uid: 1, pid: 2, name: "p".into() };
    chunk.set_holder(Holder { process, device: None });
    scene.gate.set(false);
    let served = scene.request.join().unwrap().unwrap();
    drop(chunk);
    let _next = scene.cma.alloc_from("stuck", 4096, 0).unwrap();
    let owners = scene.cma.owners(&scene.region).unwrap();
    assert!(owners.iter().all(|owner| owner.process.is_none()), "{owners:?}");
    drop(served);
}

/// Keeps the events of the region `stuck`.
#[derive(Default)]
struct Kept(Mutex<Vec<What>>);

impl Observer for Kept {
    fn receive(&self, event: &Event) {
        if event.region.as_ref().is_some_and(|region| region.name.as_deref() == Some("stuck")) {
            self.0.lock().unwrap().push(event.what.clone());
        }
    }
}

#[test]
fn an_observation_of_a_stuck_region_begins_when_it_resumes_unless_it_ended_before() {
    const LONG: Duration = Duration::from_secs(60);
    let mut scene = Scene::new();
    let [kept, left] = [(); 2].map(|()| Arc::new(Kept::default()));
    let observation = scene.cma.observe(kept.clone()).unwrap();
    drop(scene.cma.observe(left.clone()).unwrap());
    let freed = scene.guards.pop().unwrap();
    let range = freed.range();
    drop(freed);
    assert!(observation.catch_up(LONG));
    assert!(kept.0.lock().unwrap().is_empty());
    let cma = scene.cma.clone();
    scene.resume(4);
    drop(cma.alloc_from("stuck", 4096, 0).unwrap());
    assert!(observation.catch_up(LONG));
    let events = kept.0.lock().unwrap();
    // The chunk of the request that was stuck is live, and so is the one that was freed meanwhile.
    let [What::Began { live, .. }, What::Released { range: first }, ..] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((live.len(), *first), (6, range));
    assert!(matches!(events.last(), Some(What::Released { .. })), "{events:?}");
    assert!(left.0.lock().unwrap().is_empty());
}

#[test]
fn attributes_of_a_stuck_region_return_an_error_and_those_of_others_still_work() {
    let scene = Scene::new();
    let attributes = scene.cma.attributes();
    let problem = attributes.read("regions/stuck/problem").unwrap();
    assert!(problem.starts_with("stuck: allocator \"gated\""), "{problem}");
    for name in ["free", "users", "owners", "maxchunk", "failures", "bitmap", "high_water"] {
        let error = attributes.read(&format!("regions/stuck/{name}")).unwrap_err();
        assert_eq!(error.errno(), Errno::EIO, "{name}");
        assert!(error.to_string().starts_with("stuck: allocator \"gated\""), "{name}: {error}");
        attributes.read(&format!("regions/sound/{name}")).unwrap();
    }
    assert_eq!(attributes.read("regions/stuck/alloc").unwrap(), "gated\n");
    assert_eq!(attributes.read("regions/stuck/size").unwrap(), "1048576\n");
    attributes.read("allocators").unwrap();
    attributes.write("map", b"*=sound").unwrap();
    assert_eq!(scene.region.status().stuck.unwrap().allocator, "gated");
    scene.resume(5);
}

#[test]
fn a_stuck_region_is_neither_changed_nor_unregistered_and_blocks_no_other_change() {
    let scene = Scene::new();
    let error =
        scene.cma.set_region_allocator(&scene.region, AllocatorChoice::Default).unwrap_err();
    assert!(matches!(error, ChangeError::Stuck(_)), "{error}");
    assert_eq!(error.errno(), Errno::EIO);
    assert_eq!(scene.cma.region_unregister(&scene.region).unwrap_err().errno(), Errno::EIO);
    let error = scene.cma.attributes().write("regions/stuck/alloc", b"best-fit\n").unwrap_err();
    assert_eq!(error.errno(), Errno::EIO);
    scene.cma.allocator_register(Plugin::built_in::<cma_buddy::Buddy>()).unwrap();
    let other = region(&scene.cma, "other", BASE + 2 * MIB, MIB, AllocatorChoice::named("buddy"));
    drop(scene.cma.alloc_from("other", 4096, 0).unwrap());
    scene.cma.region_unregister(&other).unwrap();
    assert!(scene.region.is_registered());
    scene.resume(5);
}

/// Best fit in two builds of one name. The first has a gate before it starts.
struct First(cma_best_fit::BestFit);
struct Second(cma_best_fit::BestFit);

common::delegate!(First, "build", |this| this.0, |region, params| {
    CallGate::named(params).pass();
    Ok(First(cma_best_fit::BestFit::new(region, "")?))
});
common::delegate!(Second, "build", |this| this.0, |region, _| Ok(Second(
    cma_best_fit::BestFit::new(region, "")?
)));

#[test]
fn no_region_gets_a_build_that_was_replaced_during_its_registration() {
    let cma = Cma::new();
    let (params, gate) = CallGate::new();
    let choice = AllocatorChoice::Named { name: "build".to_string(), params };
    let waits = region(&cma, "waits", BASE, MIB, choice);
    let default = region(&cma, "default", BASE + MIB, MIB, AllocatorChoice::Default);
    gate.set(true);
    let registering = cma.clone();
    let registered =
        thread::spawn(move || registering.allocator_register(Plugin::built_in::<First>()));
    gate.wait_for_a_call();
    // The build is registered; the first region doesn't have it yet.
    let replacement = cma.allocator_replace(Plugin::built_in::<Second>()).unwrap();
    let [(kept, ChangeError::Stuck(_))] = &replacement.kept[..] else {
        panic!("{:?}", replacement.kept)
    };
    assert_eq!(*kept, waits);
    gate.set(false);
    registered.join().unwrap().unwrap();
    assert_eq!(default.allocator(), AllocatorState::Attached(Some("build".to_string())));
    // Only the region that was reported to keep the old build is left.
    let again = cma.allocator_replace(Plugin::built_in::<Second>()).unwrap();
    assert_eq!(again.taken_over, [waits]);
}

/// Counts how often it is woken.
#[derive(Default)]
struct Wakes(AtomicU32);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll(pending: &mut PendingChunk, wakes: &Arc<Wakes>) -> Poll<Result<Chunk, AllocError>> {
    let waker = Waker::from(wakes.clone());
    Pin::new(pending).poll(&mut Context::from_waker(&waker))
}

#[test]
fn those_who_wait_for_a_stuck_region_are_woken_when_it_resumes_and_may_leave_before() {
    let cma = Cma::new();
    let (params, gate) = CallGate::new();
    let choice = AllocatorChoice::Given { plugin: Plugin::built_in::<Gated>(), params };
    let region = region(&cma, "stuck", BASE, MIB, choice);
    let source = Source::Region(&region);
    let mut quarters: Vec<_> =
        (0..4).map(|_| cma.alloc_from("stuck", MIB / 4, 0).unwrap()).collect();
    let wakes: [Arc<Wakes>; 3] = Default::default();
    let waiting = ["256K", "512K", "4K"].map(|text| ChunkRequest::parse(text).unwrap());
    let [mut first, mut second, mut third] =
        waiting.map(|request| cma.allocate_async(source, &request).unwrap());
    for (pending, wakes) in [&mut first, &mut second, &mut third].into_iter().zip(&wakes) {
        assert!(poll(pending, wakes).is_pending());
    }
    drop(quarters.pop());
    // The first is woken, and its allocator doesn't return.
    assert_eq!(wakes[0].0.load(Ordering::SeqCst), 1);
    gate.set(true);
    let its_wakes = wakes[0].clone();
    let stuck = thread::spawn(move || poll(&mut first, &its_wakes));
    gate.wait_for_a_call();
    // Room for the second, which is known only when the region resumes.
    quarters.truncate(1);
    drop(third);
    assert_eq!(Arc::strong_count(&wakes[2]), 1);
    let mut late = cma.allocate_async(source, &ChunkRequest::parse("4K").unwrap()).unwrap();
    let Poll::Ready(Err(error)) = poll(&mut late, &wakes[2]) else { panic!("it waits") };
    assert_eq!(error.errno(), Errno::EIO);
    gate.set(false);
    let Poll::Ready(Ok(_chunk)) = stuck.join().unwrap() else { panic!("it was not served") };
    assert_eq!(wakes[1].0.load(Ordering::SeqCst), 1);
    let Poll::Ready(Ok(_chunk)) = poll(&mut second, &wakes[1]) else { panic!("it was not served") };
    assert!(cma.waiters().is_empty());
    region.check().unwrap();
}

#[test]
fn a_free_that_was_deferred_wakes_those_who_wait_without_a_further_call() {
    let cma = Cma::new();
    let (params, gate) = CallGate::new();
    let choice = AllocatorChoice::Given { plugin: Plugin::built_in::<Gated>(), params };
    let region = region(&cma, "stuck", BASE, MIB, choice);
    let mut quarters: Vec<_> =
        (0..4).map(|_| cma.alloc_from("stuck", MIB / 4, 0).unwrap()).collect();
    let wakes = Arc::<Wakes>::default();
    let half = ChunkRequest::parse("512K").unwrap();
    let mut waits = cma.allocate_async(Source::Region(&region), &half).unwrap();
    assert!(poll(&mut waits, &wakes).is_pending());
    gate.set(true);
    let first = quarters.pop().unwrap();
    // While it looks for those who wait, the allocator doesn't return.
    let freeing = thread::spawn(move || drop(first));
    gate.wait_for_a_call();
    drop(quarters.pop());
    gate.set(false);
    freeing.join().unwrap();
    assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
    assert!(matches!(poll(&mut waits, &wakes), Poll::Ready(Ok(_))));
}

#[test]
fn a_request_that_is_woken_into_a_stuck_region_is_woken_again_when_that_resumes() {
    let cma = Cma::new();
    let (params, gate) = CallGate::new();
    let choice = AllocatorChoice::Given { plugin: Plugin::built_in::<Gated>(), params };
    let region = region(&cma, "stuck", BASE, MIB, choice);
    let full = cma.alloc_from("stuck", MIB, 0).unwrap();
    let wakes = Arc::<Wakes>::default();
    let request = ChunkRequest::parse("4K").unwrap();
    let mut waits = cma.allocate_async(Source::Region(&region), &request).unwrap();
    assert!(poll(&mut waits, &wakes).is_pending());
    drop(full);
    assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
    gate.set(true);
    let check = thread::spawn({
        let region = region.clone();
        move || region.check()
    });
    gate.wait_for_a_call();
    assert!(poll(&mut waits, &wakes).is_pending());
    gate.set(false);
    check.join().unwrap().unwrap();
    assert_eq!(wakes.0.load(Ordering::SeqCst), 2);
    assert!(matches!(poll(&mut waits, &wakes), Poll::Ready(Ok(_))));
}

#[test]
fn a_request_that_waits_elsewhere_also_waits_for_a_stuck_region() {
    let cma = Cma::new();
    let (params, gate) = CallGate::new();
    let choice = AllocatorChoice::Given { plugin: Plugin::built_in::<Gated>(), params };
    let stuck = region(&cma, "stuck", BASE, MIB, choice);
    let plugin = Plugin::built_in::<cma_best_fit::BestFit>();
    let other = AllocatorChoice::Given { plugin, params: String::new() };
    let other = region(&cma, "full", BASE + MIB, MIB, other);
    let _full = cma.alloc_from("full", MIB, 0).unwrap();
    gate.set(true);
    let check = thread::spawn({
        let stuck = stuck.clone();
        move || stuck.check()
    });
    gate.wait_for_a_call();
    let wakes: [Arc<Wakes>; 2] = Default::default();
    let request = ChunkRequest::parse("4K").unwrap();
    let source = Source::Regions("stuck,full");
    let [mut waits, mut leaves] = [(); 2].map(|()| cma.allocate_async(source, &request).unwrap());
    assert!(poll(&mut leaves, &wakes[1]).is_pending());
    assert!(poll(&mut waits, &wakes[0]).is_pending());
    drop(leaves);
    gate.set(false);
    check.join().unwrap().unwrap();
    assert_eq!([&wakes[0], &wakes[1]].map(|wakes| wakes.0.load(Ordering::SeqCst)), [1, 0]);
    let Poll::Ready(Ok(chunk)) = poll(&mut waits, &wakes[0]) else { panic!("it was not served") };
    assert_eq!(chunk.region(), &stuck);
    assert_eq!([stuck, other].map(|region| region.status().waiters), [0, 0]);
}

/// Declines every request, with a gate before its end.
struct Declining(PageRange, Arc<CallGate>);

impl Allocator for Declining {
    const INFO: AllocatorInfo =
        AllocatorInfo { name: "declining", version: "1", description: "places nothing" };
    fn new(region: PageRange, params: &str) -> Result<Self, InitError> {
        Ok(Declining(region, CallGate::named(params)))
    }
    fn allocate(&mut self, _: &Request) -> Result<Placement, NoRoom> {
        Err(NoRoom)
    }
    fn fit(&mut self, _: &Request) -> Option<PageRange> {
        None
    }
    fn free(&mut self, _: Placement) -> Result<(), NotMine> {
        Err(NotMine)
    }
    fn adopt(&mut self, _: PageRange) -> Result<Tag, CannotAdopt> {
        Err(CannotAdopt::new("it places nothing"))
    }
    fn holes(&self, visit: &mut dyn FnMut(PageRange)) {
        visit(self.0);
    }
    fn largest_request(&self) -> Pages {
        Pages::ZERO
    }
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

impl Drop for Declining {
    fn drop(&mut self) {
        self.1.pass();
    }
}

#[test]
fn those_who_wait_are_woken_although_the_replaced_allocator_does_not_end() {
    let cma = Cma::new();
    let (params, gate) = CallGate::new();
    let choice = AllocatorChoice::Given { plugin: Plugin::built_in::<Declining>(), params };
    let region = region(&cma, "a", BASE, MIB, choice);
    let wakes = Arc::<Wakes>::default();
    let request = ChunkRequest::parse("4K").unwrap();
    let mut waits = cma.allocate_async(Source::Region(&region), &request).unwrap();
    assert!(poll(&mut waits, &wakes).is_pending());
    gate.set(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            let plugin = Plugin::built_in::<cma_best_fit::BestFit>();
            let choice = AllocatorChoice::Given { plugin, params: String::new() };
            cma.set_region_allocator(&region, choice).unwrap();
        });
        gate.wait_for_a_call();
        let woken = wakes.0.load(Ordering::SeqCst);
        gate.set(false);
        assert_eq!(woken, 1);
    });
    assert!(matches!(poll(&mut waits, &wakes), Poll::Ready(Ok(_))));
}
