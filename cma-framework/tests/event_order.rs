//! Events of one region are delivered in the order of its changes, one at a time, whatever the
//! subscribers of the threads do.

mod common;

use cma_framework::config::{Bank, Growth};
use cma_framework::reserve::Banks;
use cma_framework::{AllocatorChoice, Cma, EarlyRegion, Plugin};
use common::{BASE, MIB};
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;
use tracing::dispatcher::{self, Dispatch};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::NoSubscriber;
use tracing::{Event, Level, Metadata, Subscriber};

/// The methods of a subscriber that has no spans.
macro_rules! ignores_spans {
    () => {
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    };
}

/// The recorded releases: the recorder's name and the start of each chunk.
type Releases = Arc<Mutex<Vec<(&'static str, String)>>>;

/// Records releases. May block before it records the first one.
struct Recorder {
    name: &'static str,
    releases: Releases,
    block: Mutex<Option<(Sender<()>, Receiver<()>)>>,
}

impl Recorder {
    fn new(name: &'static str, releases: &Releases) -> Self {
        Recorder { name, releases: Arc::clone(releases), block: Mutex::default() }
    }

    /// One that reports when it blocks, and what resumes it.
    fn blocking(name: &'static str, releases: &Releases) -> (Self, Receiver<()>, Sender<()>) {
        let ((blocks, blocked), (resume, resumed)) = (channel(), channel());
        let recorder = Recorder::new(name, releases);
        *recorder.block.lock().unwrap() = Some((blocks, resumed));
        (recorder, blocked, resume)
    }
}

struct Start(String);

impl Visit for Start {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "start" {
            self.0 = format!("{value:?}");
        }
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.name() == "cma_release"
    }
    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(Level::TRACE.into())
    }
    fn event(&self, event: &Event<'_>) {
        let block = self.block.lock().unwrap().take();
        if let Some((blocks, resumed)) = block {
            blocks.send(()).unwrap();
            resumed.recv().unwrap();
        }
        let mut start = Start(String::new());
        event.record(&mut start);
        self.releases.lock().unwrap().push((self.name, start.0));
    }
    ignores_spans!();
}

/// Frees one chunk in a thread whose subscriber blocks at its release; meanwhile has `others` run.
/// Returns what was recorded.
fn release_while_blocked(cma: &Cma, releases: &Releases, others: impl FnOnce(Sender<()>)) {
    let first = cma.alloc_from("r", 4096, 0).unwrap();
    let (recorder, blocked, resume) = Recorder::blocking("first", releases);
    let freeing =
        thread::spawn(move || tracing::subscriber::with_default(recorder, || drop(first)));
    blocked.recv().unwrap();
    others(resume);
    freeing.join().unwrap();
}

#[test]
fn a_later_release_is_delivered_later_and_to_the_subscriber_of_its_thread() {
    let cma = common::with_regions(&["r", "other"], "*=r");
    let releases = Releases::default();
    release_while_blocked(&cma, &releases, |resume| {
        tracing::subscriber::with_default(Recorder::new("second", &releases), || {
            let fence = cma.alloc_from("r", 4096, 0).unwrap();
            drop(cma.alloc_from("r", 4096, 0).unwrap());
            drop(fence);
            // Regions are independent of each other.
            drop(cma.alloc_from("other", 4096, 0).unwrap());
        });
        resume.send(()).unwrap();
    });
    let at = |offset: u64| format!("{:#x}", BASE + offset);
    let expected =
        [("second", at(16 << 20)), ("first", at(0)), ("second", at(0x1000)), ("second", at(0))];
    assert_eq!(*releases.lock().unwrap(), expected);
}

#[test]
fn a_queue_that_is_full_makes_threads_wait_and_loses_nothing() {
    const MANY: usize = 5000;
    let cma = common::with_regions(&["r"], "*=r");
    let releases = Releases::default();
    let freed = Arc::new(AtomicUsize::new(0));
    let mut freeing = Vec::new();
    release_while_blocked(&cma, &releases, |resume| {
        for _ in 0..2 {
            let (cma, releases, freed) = (cma.clone(), Arc::clone(&releases), Arc::clone(&freed));
            freeing.push(thread::spawn(move || {
                tracing::subscriber::with_default(Recorder::new("other", &releases), || {
                    for _ in 0..MANY {
                        drop(cma.alloc_from("r", 4096, 0).unwrap());
                        freed.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }));
        }
        // Both threads stop when the queue is full.
        while freed.load(Ordering::Relaxed) < 1000 {
            thread::sleep(Duration::from_millis(1));
        }
        assert!(freed.load(Ordering::Relaxed) < 2 * MANY, "no thread waited");
        resume.send(()).unwrap();
    });
    freeing.into_iter().for_each(|freeing| freeing.join().unwrap());
    assert_eq!(releases.lock().unwrap().len(), 2 * MANY + 1);
}

#[test]
fn a_subscriber_that_frees_chunks_itself_neither_waits_nor_recurses() {
    /// Allocates and frees at each release.
    struct Frees(Cma, AtomicUsize);

    impl Subscriber for Frees {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.name() == "cma_release"
        }
        fn event(&self, _: &Event<'_>) {
            self.1.fetch_add(1, Ordering::Relaxed);
            for _ in 0..3000 {
                drop(self.0.alloc_from("r", 4096, 0).unwrap());
            }
        }
        ignores_spans!();
    }

    let cma = common::with_regions(&["r"], "*=r");
    let region = cma.region("r").unwrap();
    tracing::subscriber::with_default(Frees(cma.clone(), AtomicUsize::new(0)), || {
        drop(cma.alloc_from("r", 4096, 0).unwrap());
    });
    assert_eq!(region.status().users, 0);
    region.check().unwrap();
}

#[test]
fn subscribers_that_free_chunks_of_each_others_regions_do_not_deadlock() {
    /// At its first release frees chunks of a region, more than fit into the queue, when the other
    /// thread is inside its subscriber, too.
    struct FreesFrom(Cma, &'static str, Arc<Barrier>, AtomicUsize);

    impl Subscriber for FreesFrom {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.name() == "cma_release"
        }
        fn event(&self, _: &Event<'_>) {
            if self.3.fetch_add(1, Ordering::Relaxed) == 0 {
                self.2.wait();
                for _ in 0..3000 {
                    drop(self.0.alloc_from(self.1, 4096, 0).unwrap());
                }
            }
        }
        ignores_spans!();
    }

    let cma = common::with_regions(&["one", "two"], "*=one");
    let barrier = Arc::new(Barrier::new(2));
    let threads = [("one", "two"), ("two", "one")].map(|(own, other)| {
        let (cma, barrier) = (cma.clone(), Arc::clone(&barrier));
        thread::spawn(move || {
            let subscriber = FreesFrom(cma.clone(), other, barrier, AtomicUsize::new(0));
            tracing::subscriber::with_default(subscriber, || {
                drop(cma.alloc_from(own, 4096, 0).unwrap());
            });
        })
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(cma.regions().iter().all(|region| region.status().users == 0));
}

/// Calls a function with each event of that name.
struct CallsAt<F>(&'static str, F);

impl<F: Fn(&Event<'_>) + 'static> Subscriber for CallsAt<F> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.name() == self.0
    }
    fn event(&self, event: &Event<'_>) {
        self.1(event);
    }
    ignores_spans!();
}

/// Fails the test if `work` takes longer than any busy machine needs, instead of blocking it.
fn in_time(work: impl FnOnce() + Send + 'static) {
    let (done, ended) = channel();
    thread::spawn(move || {
        work();
        done.send(()).unwrap();
    });
    ended.recv_timeout(Duration::from_secs(30)).unwrap();
}

#[test]
fn a_thread_without_a_subscriber_never_waits() {
    let cma = common::with_regions(&["r"], "*=r");
    let releases = Releases::default();
    release_while_blocked(&cma.clone(), &releases, |resume| {
        in_time(move || {
            tracing::subscriber::with_default(NoSubscriber::new(), || {
                for _ in 0..3000 {
                    drop(cma.alloc_from("r", 4096, 0).unwrap());
                }
            });
        });
        resume.send(()).unwrap();
    });
    assert_eq!(releases.lock().unwrap().len(), 1);
}

#[test]
fn a_call_returns_while_other_threads_cause_more_events_than_are_delivered() {
    let cma = common::with_regions(&["r"], "*=r");
    let (releases, stop) = (Releases::default(), Arc::new(AtomicBool::new(false)));
    let (recorder, blocked, resume) = Recorder::blocking("first", &releases);
    let first = cma.alloc_from("r", 4096, 0).unwrap();
    let (returns, returned) = channel();
    let freeing = thread::spawn(move || {
        tracing::subscriber::with_default(recorder, || drop(first));
        returns.send(()).unwrap();
    });
    blocked.recv().unwrap();
    let busy = [0; 2].map(|_| {
        let (cma, stop) = (cma.clone(), Arc::clone(&stop));
        thread::spawn(move || {
            let slow =
                CallsAt("cma_release", |_: &Event<'_>| thread::sleep(Duration::from_micros(100)));
            tracing::subscriber::with_default(slow, || {
                while !stop.load(Ordering::Relaxed) {
                    drop(cma.alloc_from("r", 4096, 0).unwrap());
                }
            });
        })
    });
    resume.send(()).unwrap();
    let in_time = returned.recv_timeout(Duration::from_secs(30));
    stop.store(true, Ordering::Relaxed);
    busy.into_iter().chain([freeing]).for_each(|thread| thread.join().unwrap());
    in_time.expect("it delivers the events of the other threads for ever");
}

#[test]
fn a_subscriber_that_panics_when_it_is_dropped_stops_no_events() {
    struct PanicsWhenDropped;

    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            panic!("the subscriber panics when it is dropped, as the test requires");
        }
    }

    let cma = common::with_regions(&["r"], "*=r");
    let releases = Releases::default();
    release_while_blocked(&cma, &releases, |resume| {
        let panics = PanicsWhenDropped;
        let subscriber = Dispatch::new(CallsAt("cma_release", move |_: &Event<'_>| _ = &panics));
        dispatcher::with_default(&subscriber, || drop(cma.alloc_from("r", 4096, 0).unwrap()));
        // The event has the last handle to it.
        drop(subscriber);
        resume.send(()).unwrap();
    });
    tracing::subscriber::with_default(Recorder::new("later", &releases), || {
        drop(cma.alloc_from("r", 4096, 0).unwrap());
    });
    let recorded: Vec<_> = releases.lock().unwrap().iter().map(|(name, _)| *name).collect();
    assert_eq!(recorded, ["first", "later"]);
}

#[test]
fn a_subscriber_that_blocks_at_an_early_region_delays_no_event_of_another_one() {
    let cma = Cma::new();
    for name in ["one", "two"] {
        let plugin = Plugin::built_in::<cma_best_fit::BestFit>();
        let region = EarlyRegion {
            name: Some(name.to_string()),
            size: MIB,
            allocator: AllocatorChoice::Given { plugin, params: String::new() },
            ..EarlyRegion::default()
        };
        cma.early_region_register(region).unwrap();
    }
    cma.early_regions_reserve(&mut Banks::new(&[Bank::new(BASE, 4 * MIB)], Growth::Up));
    let ((blocks, blocked), (resume, resumed)) = (channel(), channel());
    let block = Mutex::new(Some((blocks, resumed)));
    let initialising = thread::spawn({
        let cma = cma.clone();
        // Blocks when the first allocator is attached.
        let subscriber = CallsAt("cma_attach", move |_: &Event<'_>| {
            let block = block.lock().unwrap().take();
            if let Some((blocks, resumed)) = block {
                blocks.send(()).unwrap();
                resumed.recv().unwrap();
            }
        });
        move || {
            tracing::subscriber::with_default(subscriber, || {
                cma.initialise();
            });
        }
    });
    blocked.recv().unwrap();
    let releases = Releases::default();
    tracing::subscriber::with_default(Recorder::new("two", &releases), || {
        drop(cma.alloc_from("two", 4096, 0).unwrap());
    });
    let recorded = releases.lock().unwrap().len();
    // No lock is held either.
    in_time(move || {
        cma.initialise();
    });
    resume.send(()).unwrap();
    initialising.join().unwrap();
    assert_eq!(recorded, 1);
}

#[test]
fn an_event_that_another_thread_delivers_is_not_in_a_span_of_that_thread() {
    let cma = common::with_regions(&["r"], "*=r");
    let has_span_of_thread = Arc::new(Mutex::new(Vec::new()));
    release_while_blocked(&cma, &Releases::default(), |resume| {
        let seen = Arc::clone(&has_span_of_thread);
        let records = move |event: &Event<'_>| seen.lock().unwrap().push(event.is_contextual());
        tracing::subscriber::with_default(CallsAt("cma_release", records), || {
            drop(cma.alloc_from("r", 4096, 0).unwrap());
        });
        resume.send(()).unwrap();
    });
    let seen = Arc::clone(&has_span_of_thread);
    let records = move |event: &Event<'_>| seen.lock().unwrap().push(event.is_contextual());
    tracing::subscriber::with_default(CallsAt("cma_release", records), || {
        drop(cma.alloc_from("r", 4096, 0).unwrap());
    });
    assert_eq!(*has_span_of_thread.lock().unwrap(), [false, true]);
}
