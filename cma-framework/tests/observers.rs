//! Observers receive what the books of each region went through, in order and as values; what they
//! do with it stops nobody.

mod common;

use cma_framework::config::{Bytes, Map};
use cma_framework::events::{Event, Observation, Observer, What};
use cma_framework::{
    AllocError, AllocatorChoice, ChunkRequest, Cma, DmaAddr, Holder, PageRange, Plugin, Process,
    Reason, Source,
};
use common::{BASE, Kept, MIB, region};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use std::{mem, thread};

const LONG: Duration = Duration::from_secs(60);

/// A framework with regions whose allocators are attached, which the first request does.
fn attached(names: &[&str], map: &str) -> Cma {
    let cma = common::with_regions(names, map);
    names.iter().for_each(|name| drop(cma.alloc_from(name, 4096, 0).unwrap()));
    cma
}

fn lines(kept: &Kept, observation: &Observation) -> Vec<String> {
    kept.take(observation).iter().map(line).collect()
}

fn line(event: &Event) -> String {
    let text = match &event.what {
        What::Began { allocator, live } => {
            let live: Vec<_> = live.iter().map(ToString::to_string).collect();
            format!("began {} [{}]", allocator.as_deref().unwrap_or("-"), live.join(", "))
        }
        What::Placed { range, request, asked } => {
            let device = asked.device.as_ref().map(|(device, kind)| format!("{device}/{kind}"));
            let process = asked.process.as_ref().map(|process| format!(" for {}", process.name));
            format!(
                "placed {range} of {request} asked as {} by {}{}{}",
                asked.request,
                device.unwrap_or_default(),
                asked.regions,
                process.unwrap_or_default()
            )
        }
        What::Released { range } => format!("released {range}"),
        What::Refused { request, reason, last, .. } => {
            format!("refused {request}{}: {reason}", if *last { " at last" } else { "" })
        }
        What::Failed { error, .. } => format!("failed: {error}"),
        other => format!("{other:?}"),
    };
    match &event.region {
        Some(region) => format!("{region}: {text}"),
        None => text,
    }
}

#[test]
fn events_tell_each_change_and_the_request_as_it_was_made() {
    let cma = attached(&["r", "q"], "camera=r;scaler=r,q");
    let kept_before = cma.alloc("camera", Some("frame"), 8192, 0).unwrap();
    let (kept, observation) = Kept::observing(&cma);
    let one = cma.alloc("camera", None, 5000, 0x4000).unwrap();
    let process = Process { uid: 7, pid: 8, name: "viewer".into() };
    let source = Source::Device { name: "scaler", kind: None };
    let shared = cma.to_share(process, source, &ChunkRequest::new(Bytes::kib(8))).unwrap();
    let shared = shared.alloc().unwrap();
    let address = cma.alloc_from("q,r", 4096, 0).unwrap().into_addr();
    let limited = ChunkRequest::parse("4K below=0x40010000").unwrap();
    let device = cma.device("camera", Some("frame")).unwrap();
    let limited = device.allocate(&limited).unwrap();
    drop(kept_before);
    cma.free(address).unwrap();
    drop((one, shared, limited));
    cma.allocator_register(Plugin::built_in::<cma_buddy::Buddy>()).unwrap();
    let choice = AllocatorChoice::named("buddy");
    cma.set_region_allocator(&cma.region("r").unwrap(), choice).unwrap();
    let expected = [
        "r: began best-fit [0x40000000+0x2000 of camera/frame]",
        "q: began best-fit []",
        "r: placed 0x40004000+0x2000 of 8K/16K asked as 5000/16K by camera/common",
        "r: placed 0x40002000+0x2000 of 8K/4K asked as 8K by scaler/common for viewer",
        "q: placed 0x41000000+0x1000 of 4K/4K asked as 4K by q,r",
        "r: placed 0x40006000+0x1000 of 4K/4K below=0x40010000 asked as 4K below=0x40010000 by camera/frame",
        "r: released 0x40000000+0x2000",
        "q: released 0x41000000+0x1000",
        "r: released 0x40004000+0x2000",
        "r: released 0x40002000+0x2000",
        "r: released 0x40006000+0x1000",
        "r: Detached { allocator: \"best-fit\" }",
        "r: Attached { allocator: \"buddy\" }",
    ];
    assert_eq!(lines(&kept, &observation), expected);
}

#[test]
fn a_request_that_fails_is_told_once_as_failed() {
    let cma = attached(&["r", "q"], "one=r;two=r,q;unknown=r,nowhere");
    let (kept, observation) = Kept::observing(&cma);
    let failures = |ask: &dyn Fn() -> AllocError| {
        kept.take(&observation);
        ask();
        let events = kept.take(&observation);
        let failed = |event: &&Event| {
            matches!(event.what, What::Failed { .. } | What::Refused { last: true, .. })
        };
        assert_eq!(events.iter().filter(failed).count(), 1, "{events:?}");
        assert!(matches!(events.last(), Some(event) if failed(&event)), "{events:?}");
        events.len()
    };
    let size = 32 * MIB;
    let request = ChunkRequest::new(Bytes(size));
    let source = |name| Source::Device { name, kind: None };
    let region = cma.region("q").unwrap();
    assert_eq!(failures(&|| cma.alloc("one", None, size, 0).unwrap_err()), 1);
    assert_eq!(failures(&|| cma.alloc("two", None, size, 0).unwrap_err()), 2);
    assert_eq!(failures(&|| cma.alloc("unknown", None, size, 0).unwrap_err()), 2);
    assert_eq!(failures(&|| cma.alloc("nobody", None, size, 0).unwrap_err()), 1);
    assert_eq!(failures(&|| cma.alloc_from("q,r", size, 0).unwrap_err()), 2);
    assert_eq!(failures(&|| cma.alloc_from("nowhere", size, 0).unwrap_err()), 1);
    assert_eq!(failures(&|| cma.alloc_from_region(&region, size, 0).unwrap_err()), 1);
    assert_eq!(failures(&|| cma.allocate(source("two"), &request).unwrap_err()), 2);
    let waiting = request.wait(Duration::from_millis(1));
    assert_eq!(failures(&|| cma.allocate(source("two"), &waiting).unwrap_err()), 2);
    let full = cma.alloc("one", None, 16 * MIB, 0).unwrap();
    let waiting = ChunkRequest::new(Bytes(4096)).wait(Duration::from_millis(1));
    assert_eq!(failures(&|| cma.allocate(source("one"), &waiting).unwrap_err()), 1);
    drop(full);
}

#[test]
fn a_request_that_waits_is_told_when_it_is_served_or_given_up() {
    let cma = attached(&["r"], "*=r");
    let (kept, observation) = Kept::observing(&cma);
    let full = cma.alloc("first", None, 16 * MIB, 0).unwrap();
    let source = |name| Source::Device { name, kind: None };
    let page = ChunkRequest::new(Bytes(4096));
    let waiting = |name, wait| {
        let pending = cma.allocate_async(source(name), &page.wait(wait)).unwrap();
        let mut pending = Box::pin(pending);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(pending.as_mut().poll(&mut context).is_pending());
        pending
    };
    let (given_up, served) = (waiting("gives-up", LONG), waiting("waits", LONG));
    drop(given_up);
    let served = thread::scope(|threads| {
        let served = threads.spawn(move || {
            let mut served = served;
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            loop {
                if let std::task::Poll::Ready(chunk) = served.as_mut().poll(&mut context) {
                    return chunk.unwrap();
                }
                thread::yield_now();
            }
        });
        drop(full);
        served.join().unwrap()
    });
    let events = kept.take(&observation);
    let devices = |wanted: fn(&What) -> Option<&Arc<cma_framework::events::Asked>>| -> Vec<_> {
        let asked = events.iter().filter_map(|event| wanted(&event.what));
        asked.map(|asked| asked.device.clone().unwrap().0.to_string()).collect()
    };
    let placed = devices(|what| match what {
        What::Placed { asked, .. } => Some(asked),
        _ => None,
    });
    assert_eq!(placed, ["first", "waits"]);
    let given_up = devices(|what| match what {
        What::GivenUp { asked } => Some(asked),
        _ => None,
    });
    assert_eq!(given_up, ["gives-up"]);
    assert!(events.iter().all(|event| !matches!(event.what, What::Failed { .. })));
    drop(served);
}

#[test]
fn an_observation_of_one_region_has_its_events_alone() {
    let cma = attached(&["r", "q"], "camera=r,q");
    let kept = Arc::new(Kept::default());
    let q = cma.region("q").unwrap();
    let observation = cma.observe_region(&q, kept.clone()).unwrap();
    drop(cma.alloc("camera", None, 4096, 0).unwrap());
    drop(cma.alloc_from("q", 4096, 0).unwrap());
    cma.alloc("nobody", None, 4096, 0).unwrap_err();
    let late = region(&cma, "late", BASE + 64 * MIB, MIB, AllocatorChoice::Default);
    cma.region_unregister(&late).unwrap();
    assert_eq!(lines(&kept, &observation).len(), 3, "began, placed, released");
    cma.region_unregister(&q).unwrap();
    assert!(matches!(kept.take(&observation).last().unwrap().what, What::Ended));
}

#[test]
fn a_region_that_is_registered_later_begins_then() {
    let cma = attached(&[], "*=late");
    let (kept, observation) = Kept::observing(&cma);
    let late = region(&cma, "late", BASE, MIB, AllocatorChoice::Default);
    drop(cma.alloc("camera", None, 4096, 0).unwrap());
    cma.region_unregister(&late).unwrap();
    let lines = lines(&kept, &observation);
    assert!(lines[0].starts_with("late: began"), "{lines:?}");
    assert!(lines.last().unwrap().ends_with("Ended"), "{lines:?}");
    let chunks = lines.iter().filter(|line| line.contains("placed") || line.contains("released"));
    assert_eq!(chunks.count(), 2, "{lines:?}");
}

/// Follows the live chunks of each region by their events. Panics where they contradict each other.
#[derive(Default)]
struct Model(Mutex<BTreeMap<u64, PageRange>>);

impl Observer for Model {
    fn receive(&self, event: &Event) {
        let mut live = self.0.lock().unwrap();
        let mut add = |range: PageRange| {
            let below = live.range(..range.end_page()).next_back();
            assert!(below.is_none_or(|(_, other)| !other.overlaps(range)), "{range} is taken");
            live.insert(range.first_page(), range);
        };
        match &event.what {
            What::Began { live, .. } => live.iter().for_each(|owner| add(owner.range)),
            What::Placed { range, .. } => add(*range),
            What::Released { range } => assert_eq!(live.remove(&range.first_page()), Some(*range)),
            _ => {}
        }
    }
}

#[test]
fn the_events_of_many_threads_replay_the_books() {
    let cma = attached(&["r", "q"], "*=r,q");
    let early: Vec<_> = (1..40).map(|n| cma.alloc("early", None, n * 4096, 0).unwrap()).collect();
    let stop = AtomicBool::new(false);
    let model = Arc::new(Model::default());
    let observation = thread::scope(|threads| {
        for seed in 1..=4 {
            let (cma, stop) = (&cma, &stop);
            threads.spawn(move || {
                let mut random = fastrand(seed);
                let device = cma.device(&format!("device{seed}"), None).unwrap();
                let mut live = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let size = 4096 * (1 + random() % 300);
                    let chunk = match random() % 8 {
                        0 => cma.alloc_from("q,r", size, 0),
                        1 => device.allocate(
                            &ChunkRequest::new(Bytes(size)).below(DmaAddr::new(BASE + 4 * MIB)),
                        ),
                        2 => device.allocate(
                            &ChunkRequest::new(Bytes(size)).wait(Duration::from_micros(50)),
                        ),
                        _ => device.alloc(size, 0),
                    };
                    live.extend(chunk);
                    while live.len() > 30 || !live.is_empty() && random() < u64::MAX >> 17 {
                        let at = random() as usize % live.len();
                        drop(live.swap_remove(at));
                    }
                }
            });
        }
        // The observation begins while they work, and ends after they have ended.
        thread::sleep(Duration::from_millis(20));
        let observation = cma.observe(model.clone()).unwrap();
        drop(early);
        thread::sleep(Duration::from_millis(50));
        stop.store(true, Ordering::Relaxed);
        observation
    });
    let address = cma.alloc("late", None, 4096, 0).unwrap().into_addr();
    assert!(observation.catch_up(LONG));
    let delivery = observation.delivery();
    assert_eq!((delivery.panics, delivery.waiting), (0, 0), "{delivery:?}");
    assert!(delivery.received > 100, "{delivery:?}");
    if delivery.missed == 0 {
        let live: Vec<_> = model.0.lock().unwrap().values().map(|range| range.start()).collect();
        assert_eq!(live, [address]);
    }
    cma.free(address).unwrap();
}

/// A generator of numbers (xorshift).
fn fastrand(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 16
    }
}

/// Blocks in its first event until it is opened.
#[derive(Default)]
struct Gate {
    door: Mutex<Door>,
    /// Somebody opens the gate, or a region begins.
    changed: Condvar,
}

#[derive(Default)]
struct Door {
    open: bool,
    received: Vec<Event>,
    /// How many of them are beginnings of regions.
    begun: usize,
}

impl Gate {
    fn open(&self) {
        self.door.lock().unwrap().open = true;
        self.changed.notify_all();
    }

    /// Returns when regions have begun `count` times.
    fn wait_for_beginnings(&self, count: usize) {
        let door = self.door.lock().unwrap();
        let wait = self.changed.wait_timeout_while(door, LONG, |door| door.begun < count);
        assert!(!wait.unwrap().1.timed_out(), "no region began anew");
    }
}

impl Observer for Gate {
    fn receive(&self, event: &Event) {
        let door = self.door.lock().unwrap();
        let mut door = self.changed.wait_while(door, |door| !door.open).unwrap();
        if matches!(event.what, What::Began { .. }) {
            door.begun += 1;
            self.changed.notify_all();
        }
        door.received.push(event.clone());
    }
}

#[test]
fn an_observer_that_blocks_stops_nobody_and_is_told_what_it_missed() {
    let cma = attached(&["r"], "*=r");
    let gate = Arc::new(Gate::default());
    let observation = cma.observe(gate.clone()).unwrap();
    for _ in 0..100_000 {
        drop(cma.alloc("camera", None, 4096, 0).unwrap());
    }
    assert!(!observation.catch_up(Duration::from_millis(1)));
    let before = observation.delivery();
    assert!(before.missed > 0 && before.received == 0, "{before:?}");
    assert!(before.waiting as u64 + before.missed >= 200_000, "{before:?}");
    gate.open();
    // What was dropped is told behind the last event before it, and the region begins anew.
    gate.wait_for_beginnings(2);
    let chunk = cma.alloc("camera", None, 4096, 0).unwrap();
    let freed = chunk.range();
    drop(chunk);
    assert!(observation.catch_up(LONG));
    let missed = observation.delivery().missed;
    let events = mem::take(&mut gate.door.lock().unwrap().received);
    let told: u64 = events
        .iter()
        .map(|event| if let What::Missed { count } = event.what { count } else { 0 })
        .sum();
    assert_eq!(told, missed);
    let count =
        |wanted: fn(&What) -> bool| events.iter().filter(|e| wanted(&e.what)).count() as u64;
    let placed = count(|what| matches!(what, What::Placed { .. }));
    let released = count(|what| matches!(what, What::Released { .. }));
    assert_eq!(placed + released + missed, 200_002);
    assert!(matches!(events.last().unwrap().what, What::Released { range } if range == freed));
    // The state that it is told last, and the changes after it, are those of the region.
    let again = events.iter().rposition(|event| matches!(event.what, What::Began { .. }));
    let (began, after) = events.split_at(again.unwrap() + 1);
    let What::Began { live, .. } = &began.last().unwrap().what else { panic!() };
    let after = after.iter().filter(|event| matches!(event.what, What::Placed { .. })).count();
    assert_eq!(live.len() + after, 1);
    assert!(began.len() > 1, "it began once more");
}

#[test]
fn an_observer_that_never_returns_can_be_left() {
    let cma = attached(&["r"], "*=r");
    let observation = cma.observe(Arc::new(Gate::default())).unwrap();
    drop(cma.alloc("camera", None, 4096, 0).unwrap());
    drop(observation);
    drop(cma.alloc("camera", None, 4096, 0).unwrap());
    cma.region_unregister(&cma.region("r").unwrap()).unwrap();
}

/// Ends its own observation, and drops its handle of the framework, in an event.
#[derive(Default)]
struct Leaves(Mutex<Option<(Observation, Cma)>>);

impl Observer for Leaves {
    fn receive(&self, _: &Event) {
        let last = self.0.lock().unwrap().take();
        drop(last);
    }
}

#[test]
fn an_observer_may_end_its_own_observation_and_the_framework() {
    let cma = attached(&["r"], "*=r");
    let leaves = Arc::new(Leaves::default());
    let observation = cma.observe(leaves.clone()).unwrap();
    let chunk = cma.alloc("camera", None, 4096, 0).unwrap();
    *leaves.0.lock().unwrap() = Some((observation, cma));
    drop(chunk);
    // Its thread ends.
    let begun = Instant::now();
    while Arc::strong_count(&leaves) > 1 {
        assert!(begun.elapsed() < LONG, "the observation did not end");
        thread::yield_now();
    }
    assert!(leaves.0.lock().unwrap().is_none());
}

struct Panics;

impl Observer for Panics {
    fn receive(&self, _: &Event) {
        panic!("an observer that panics, in a test");
    }

    fn settle(&self) {
        panic!("an observer that panics when it settles, in a test");
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        panic!("an observer that panics when it is dropped, in a test");
    }
}

#[test]
fn the_panics_of_an_observer_are_counted_and_others_receive_all() {
    let cma = attached(&["r"], "*=r");
    let panics = cma.observe(Arc::new(Panics)).unwrap();
    let (kept, observation) = Kept::observing(&cma);
    drop(cma.alloc("camera", None, 4096, 0).unwrap());
    assert_eq!(kept.take(&observation).len(), 3);
    assert!(panics.catch_up(LONG));
    let delivery = panics.delivery();
    assert!(delivery.received == 3 && delivery.panics >= 3, "{delivery:?}");
    drop(panics);
    drop(cma.alloc("camera", None, 4096, 0).unwrap());
    assert_eq!(kept.take(&observation).len(), 2);
}

#[test]
fn nothing_is_delivered_after_the_observation_has_ended() {
    let cma = attached(&["r"], "*=r");
    let (kept, observation) = Kept::observing(&cma);
    let device = cma.device("camera", None).unwrap();
    let chunk = device.alloc(4096, 0).unwrap();
    assert_eq!(kept.take(&observation).len(), 2);
    drop(observation);
    drop(chunk);
    drop(device.alloc(4096, 0).unwrap());
    let (again, observation) = Kept::observing(&cma);
    assert!(kept.is_empty());
    drop(device.alloc(4096, 0).unwrap());
    assert_eq!(again.take(&observation).len(), 3);
    cma.region("r").unwrap().check().unwrap();
}

#[test]
fn an_observer_may_use_the_framework() {
    struct Echo(Cma, AtomicBool);
    impl Observer for Echo {
        fn receive(&self, event: &Event) {
            if matches!(event.what, What::Placed { .. }) && !self.1.swap(true, Ordering::Relaxed) {
                drop(self.0.alloc("echo", None, 4096, 0).unwrap());
                self.0.set_map(Map::parse("*=r").unwrap());
            }
        }
    }
    let cma = attached(&["r"], "*=r");
    let observation = cma.observe(Arc::new(Echo(cma.clone(), AtomicBool::new(false)))).unwrap();
    drop(cma.alloc("camera", None, 4096, 0).unwrap());
    assert!(observation.catch_up(LONG));
    assert!(observation.catch_up(LONG));
    assert_eq!(observation.delivery().received, 5);
}

#[test]
fn a_holder_of_a_refusal_has_its_reason() {
    let cma = attached(&["r"], "*=r");
    let (kept, observation) = Kept::observing(&cma);
    let mut chunk = cma.alloc("camera", None, 16 * MIB, 0).unwrap();
    let process = Process { uid: 1, pid: 2, name: "p".into() };
    chunk.set_holder(Holder { process, device: None });
    cma.alloc("camera", None, 4096, 0).unwrap_err();
    let refused = kept.take(&observation).pop().unwrap();
    let What::Refused { reason, asked, .. } = refused.what else { panic!("{refused:?}") };
    assert!(matches!(reason, Reason::Full { .. }));
    assert_eq!(asked.device, Some(("camera".into(), "common".into())));
    drop(chunk);
}
