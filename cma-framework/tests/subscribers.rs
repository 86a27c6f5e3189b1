//! The host's subscriber is foreign code. Whether it blocks or panics, at any event, the books are
//! correct, no chunk is lost, and no region waits for it.

mod common;

use cma_framework::config::Map;
use cma_framework::{AllocatorChoice, Cma, Plugin};
use common::{BASE, MIB, region};
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use tracing::field::Field;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Calls a function with the name of each event.
struct Each<F>(F);

impl<F: Fn(&'static str) + 'static> Subscriber for Each<F> {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn event(&self, event: &Event<'_>) {
        // Formats the fields, as subscribers do.
        event.record(&mut |_: &Field, value: &dyn Debug| drop(format!("{value:?}")));
        self.0(event.metadata().name());
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

type Work = fn(&Cma);

/// Causes every event: attaching late, refusing, changing, faults, freeing.
fn use_everything() {
    let cma = Cma::new();
    let late = region(&cma, "late", BASE, MIB, AllocatorChoice::Default);
    let waits = region(&cma, "waits", BASE + 2 * MIB, MIB, AllocatorChoice::named("nobody"));
    cma.set_map(Map::parse("*=waits,late").unwrap());
    cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
    cma.allocator_register(Plugin::built_in::<cma_buddy::Buddy>()).unwrap();
    let guard = cma.alloc("camera", None, 8192, 0).unwrap();
    assert_eq!(guard.region(), &late);
    let address = cma.alloc_from("late", 4096, 0).unwrap().into_addr();
    cma.alloc_from("late", 2 * MIB, 0).unwrap_err();
    assert_eq!(cma.failures(&late).unwrap().len(), 1);
    assert_eq!(cma.failures(&waits).unwrap().len(), 1);
    cma.set_region_allocator(&late, AllocatorChoice::named("nobody")).unwrap_err();
    cma.set_region_allocator(&late, AllocatorChoice::named("buddy")).unwrap();
    late.check().unwrap();
    cma.region_unregister(&late).unwrap_err();
    cma.free(address).unwrap();
    cma.free(address).unwrap_err();
    drop(guard);
    assert_eq!((late.status().users, late.status().free_bytes), (0, MIB));
    late.check().unwrap();
    cma.attributes().write("map", b"*=none").unwrap();
    cma.attributes().write("map", b"=").unwrap_err();
    assert!(!cma.attributes().read("map").unwrap().is_empty());

    // An allocator is taken out of service under a live chunk.
    let bad = region(&cma, "bad", BASE + 4 * MIB, MIB, common::scripted("0+1 -1+1"));
    let live = cma.alloc_from("bad", 4096, 0).unwrap();
    cma.alloc_from("bad", 4096, 0).unwrap_err();
    cma.set_region_allocator(&bad, AllocatorChoice::Default).unwrap();
    bad.check().unwrap();
    drop((live, cma.alloc_from("bad", 4096, 0).unwrap()));
    assert_eq!(bad.status().users, 0);
    cma.region_unregister(&bad).unwrap();
    cma.region_unregister(&late).unwrap();
}

#[test]
fn a_panicking_subscriber_changes_nothing_at_any_event() {
    let count = Arc::new(AtomicUsize::new(0));
    let all = count.clone();
    tracing::subscriber::with_default(
        Each(move |_| {
            all.fetch_add(1, Ordering::Relaxed);
        }),
        use_everything,
    );
    let all = count.load(Ordering::Relaxed);
    assert!(all > 20, "only {all} events");
    for panics_at in (0..all).chain([usize::MAX]) {
        let (count, reached) = (AtomicUsize::new(0), Arc::new(AtomicBool::new(false)));
        let seen = reached.clone();
        let subscriber = Each(move |_| {
            let number = count.fetch_add(1, Ordering::Relaxed);
            if number == panics_at || panics_at == usize::MAX {
                seen.store(true, Ordering::Relaxed);
                panic!("the subscriber panics at event {number}, as the test requires");
            }
        });
        tracing::subscriber::with_default(subscriber, use_everything);
        assert!(reached.load(Ordering::Relaxed), "event {panics_at} did not occur again");
    }
}

#[test]
fn a_guard_dropped_during_a_panic_is_freed_although_the_subscriber_panics() {
    let cma = common::with_regions(&["r"], "*=r");
    let dropped = cma.clone();
    let panicked = thread::spawn(move || {
        tracing::subscriber::with_default(Each(|_| panic!("the subscriber panics")), || {
            let _guard = dropped.alloc("camera", None, 4096, 0).unwrap();
            panic!("the host panics");
        });
    });
    panicked.join().unwrap_err();
    assert_eq!(cma.region("r").unwrap().status().users, 0);
}

#[test]
fn no_region_and_no_change_waits_for_a_blocked_subscriber() {
    let cma = common::with_regions(&["r"], "*=r");
    cma.allocator_register(Plugin::built_in::<cma_buddy::Buddy>()).unwrap();
    let r = cma.region("r").unwrap();
    let works: [(&str, Work); 6] = [
        ("cma_refuse", |cma| drop(cma.alloc_from("r", 64 * MIB, 0))),
        ("cma_alloc_finish", |cma| drop(cma.alloc("camera", None, 4096, 0).unwrap())),
        ("cma_release", |cma| drop(cma.alloc("camera", None, 4096, 0).unwrap())),
        ("cma_attach", |cma| {
            let r = cma.region("r").unwrap();
            cma.set_region_allocator(&r, AllocatorChoice::named("buddy")).unwrap();
        }),
        ("cma_detach", |cma| {
            let r = cma.region("r").unwrap();
            cma.set_region_allocator(&r, AllocatorChoice::named("best-fit")).unwrap();
        }),
        ("cma_attach", |cma| {
            let given = AllocatorChoice::Given {
                plugin: Plugin::built_in::<cma_buddy::Buddy>(),
                params: String::new(),
            };
            region(cma, "new", BASE + 512 * MIB, MIB, given);
        }),
    ];
    for (name, work) in works {
        let (blocks, blocked) = channel::<()>();
        let (resume, resumed) = channel::<()>();
        let (resumed, working) = (Mutex::new(resumed), cma.clone());
        let blocking = thread::spawn(move || {
            let once = AtomicBool::new(false);
            let subscriber = Each(move |event| {
                if event == name && !once.swap(true, Ordering::Relaxed) {
                    blocks.send(()).unwrap();
                    resumed.lock().unwrap().recv().unwrap();
                }
            });
            tracing::subscriber::with_default(subscriber, || work(&working));
        });
        blocked.recv().unwrap();
        // The subscriber is blocked in that event.
        assert_eq!(r.stuck(), None, "{name}");
        drop(cma.alloc("camera", None, 4096, 0).unwrap());
        r.check().unwrap();
        cma.set_map(Map::parse("*=r").unwrap());
        resume.send(()).unwrap();
        blocking.join().unwrap();
    }
}
