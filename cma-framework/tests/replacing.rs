//! A newer build of an allocator replaces the older one, also during other changes.

mod common;

use cma_api::{
    Allocator, AllocatorInfo, CannotAdopt, InitError, NoRoom, NotMine, Placement, Request, Tag,
};
use cma_framework::errors::RegisterError;
use cma_framework::{AllocatorChoice, AllocatorState, ChangeError, Cma, PageRange, Pages, Plugin};
use common::{BASE, MIB, region, scripted, with_regions};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// A build of one allocator: best fit with special behaviour when it starts or adopts.
macro_rules! build {
    ($name:ident, $version:literal, |$params:ident| $new:expr, $adopts:expr) => {
        struct $name(cma_best_fit::BestFit);
        impl Allocator for $name {
            const INFO: AllocatorInfo = AllocatorInfo {
                name: "revised",
                version: $version,
                description: "one of many builds",
            };
            fn new(region: PageRange, $params: &str) -> Result<Self, InitError> {
                $new?;
                Ok($name(Allocator::new(region, "")?))
            }
            fn allocate(&mut self, request: &Request) -> Result<Placement, NoRoom> {
                self.0.allocate(request)
            }
            fn fit(&mut self, request: &Request) -> Option<PageRange> {
                self.0.fit(request)
            }
            fn free(&mut self, chunk: Placement) -> Result<(), NotMine> {
                self.0.free(chunk)
            }
            fn adopt(&mut self, range: PageRange) -> Result<Tag, CannotAdopt> {
                if $adopts { self.0.adopt(range) } else { Err(CannotAdopt::new("it doesn't")) }
            }
            fn holes(&self, visit: &mut dyn FnMut(PageRange)) {
                self.0.holes(visit);
            }
            fn largest_request(&self) -> Pages {
                self.0.largest_request()
            }
            fn check(&self) -> Result<(), String> {
                self.0.check()
            }
        }
    };
}

/// Blocks the start of an allocator with the parameter `gate` until it is opened.
struct Gate {
    reached: AtomicBool,
    open: AtomicBool,
}

impl Gate {
    const fn new() -> Gate {
        Gate { reached: AtomicBool::new(false), open: AtomicBool::new(false) }
    }

    fn pass(&self, params: &str) -> Result<(), InitError> {
        if params == "gate" {
            self.reached.store(true, Ordering::SeqCst);
            while !self.open.load(Ordering::SeqCst) {
                thread::yield_now();
            }
        }
        Ok(())
    }

    fn wait(&self) {
        while !self.reached.load(Ordering::SeqCst) {
            thread::yield_now();
        }
    }
}

build!(First, "1", |_p| Ok(()), true);
build!(Second, "2", |_p| Ok(()), true);
build!(Third, "3", |_p| Ok(()), true);
build!(Refuses, "1r", |_p| Err(InitError::new("not this region")), true);
build!(AdoptsNothing, "2n", |_p| Ok(()), false);

fn built<A: Allocator>() -> Plugin {
    Plugin::built_in::<A>()
}

fn with_params(params: &str) -> AllocatorChoice {
    AllocatorChoice::Named { name: "revised".to_string(), params: params.to_string() }
}

#[test]
fn a_region_that_the_old_build_refused_gets_the_new_build() {
    let cma = Cma::new();
    cma.allocator_register(built::<Refuses>()).unwrap();
    let region = region(&cma, "r", BASE, MIB, AllocatorChoice::named("revised"));
    cma.alloc_from("r", 4096, 0).unwrap_err();
    assert_eq!(cma.allocator_replace(built::<Second>()).unwrap().taken_over, [region]);
    drop(cma.alloc_from("r", 4096, 0).unwrap());
}

#[test]
fn a_waiting_region_gets_the_new_build_at_once() {
    let cma = Cma::new();
    cma.allocator_register(built::<First>()).unwrap();
    let region = region(&cma, "r", BASE, MIB, AllocatorChoice::named("revised"));
    assert!(matches!(region.status().allocator, AllocatorState::Waiting { failure: None, .. }));
    assert_eq!(cma.allocator_replace(built::<Second>()).unwrap().attachments.attached, [region]);
}

#[test]
fn a_region_that_kept_the_old_build_gets_the_new_one_once_it_can() {
    let cma = Cma::new();
    cma.allocator_register(built::<First>()).unwrap();
    let region = region(&cma, "r", BASE, MIB, AllocatorChoice::named("revised"));
    let chunk = cma.alloc_from("r", 4096, 0).unwrap();
    let kept = cma.allocator_replace(built::<AdoptsNothing>()).unwrap().kept;
    assert!(matches!(&kept[..], [(kept, ChangeError::Adopt { .. })] if *kept == region));
    // The same build can't while the chunk lives. Another one can at once, and the same one when
    // the region is empty.
    assert_eq!(cma.allocator_replace(built::<AdoptsNothing>()).unwrap().kept.len(), 1);
    assert_eq!(
        cma.allocator_replace(built::<Third>()).unwrap().taken_over,
        std::slice::from_ref(&region)
    );
    assert_eq!(cma.allocator_replace(built::<AdoptsNothing>()).unwrap().kept.len(), 1);
    drop(chunk);
    assert_eq!(cma.allocator_replace(built::<AdoptsNothing>()).unwrap().taken_over, [region]);
}

#[test]
fn of_two_replacements_at_once_the_registered_one_serves() {
    static GATE: Gate = Gate::new();
    build!(Slow, "2s", |params| GATE.pass(params), true);
    let cma = Cma::new();
    cma.allocator_register(built::<First>()).unwrap();
    let region = region(&cma, "r", BASE, MIB, with_params("gate"));
    drop(cma.alloc_from("r", 4096, 0).unwrap());
    thread::scope(|scope| {
        let first = scope.spawn(|| cma.allocator_replace(built::<Slow>()).unwrap());
        GATE.wait();
        let second = cma.allocator_replace(built::<Third>()).unwrap();
        GATE.open.store(true, Ordering::SeqCst);
        let first = first.join().unwrap();
        // Either call may have done it. The region has the registered build, so registering that
        // again changes nothing.
        assert_eq!(first.taken_over.len() + second.taken_over.len(), 1);
    });
    assert!(cma.allocator_replace(built::<Third>()).unwrap().taken_over.is_empty());
    assert_eq!(cma.allocator_replace(built::<Second>()).unwrap().taken_over, [region]);
}

#[test]
fn a_change_of_allocator_during_a_replacement_ends_with_the_new_build() {
    static GATE: Gate = Gate::new();
    build!(Slow, "1s", |params| GATE.pass(params), true);
    let cma = Cma::new();
    cma.allocator_register(built::<Slow>()).unwrap();
    let region = region(&cma, "r", BASE, MIB, AllocatorChoice::Default);
    thread::scope(|scope| {
        let change =
            scope.spawn(|| cma.set_region_allocator(&region, with_params("gate")).unwrap());
        GATE.wait();
        cma.allocator_replace(built::<Second>()).unwrap();
        GATE.open.store(true, Ordering::SeqCst);
        change.join().unwrap();
    });
    assert!(cma.allocator_replace(built::<Second>()).unwrap().taken_over.is_empty());
    assert_eq!(cma.allocator_replace(built::<Third>()).unwrap().taken_over, [region]);
}

#[test]
fn the_new_build_is_given_the_regions_parameters() {
    static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());
    build!(
        Listens,
        "2l",
        |params| Ok::<_, InitError>(SEEN.lock().unwrap().push(params.to_string())),
        true
    );
    let cma = Cma::new();
    cma.allocator_register(built::<First>()).unwrap();
    region(&cma, "r", BASE, MIB, with_params("colour=blue"));
    drop(cma.alloc_from("r", 4096, 0).unwrap());
    cma.allocator_replace(built::<Listens>()).unwrap();
    assert_eq!(*SEEN.lock().unwrap(), ["colour=blue"]);
}

#[test]
fn an_allocator_that_was_given_with_a_region_is_not_replaced_by_a_registered_one() {
    let cma = Cma::new();
    cma.allocator_register(built::<First>()).unwrap();
    let given = || AllocatorChoice::Given { plugin: built::<First>(), params: String::new() };
    region(&cma, "r", BASE, MIB, given());
    assert!(cma.allocator_replace(built::<Second>()).unwrap().taken_over.is_empty());
    // Nor is one of the same name that is out of service.
    cma.allocator_register(built::<cma_best_fit::BestFit>()).unwrap();
    let bad = region(&cma, "bad", BASE + MIB, MIB, scripted("-1+1"));
    cma.alloc_from("bad", 4096, 0).unwrap_err();
    cma.allocator_register_as(Some("scripted"), built::<Third>()).unwrap();
    assert!(cma.allocator_replace(built::<common::Scripted>()).unwrap().taken_over.is_empty());
    assert!(matches!(bad.status().allocator, AllocatorState::OutOfService { .. }));
}

#[test]
fn a_newer_build_heals_a_region_whose_allocator_is_out_of_service() {
    use common::Scripted;
    let cma = Cma::new();
    cma.allocator_register(built::<Scripted>()).unwrap();
    let scripted =
        AllocatorChoice::Named { name: "scripted".to_string(), params: "3+1 -1+1".to_string() };
    let region = region(&cma, "r", BASE, MIB, scripted);
    let chunk = cma.alloc_from("r", 4096, 0).unwrap();
    cma.alloc_from("r", 4096, 0).unwrap_err();
    assert!(matches!(region.status().allocator, AllocatorState::OutOfService { .. }));

    struct Mended(cma_buddy::Buddy);
    common::delegate!(Mended, "scripted", |this| this.0, |region, _| Ok(Mended(Allocator::new(
        region, ""
    )?)));
    assert_eq!(
        cma.allocator_replace(built::<Mended>()).unwrap().taken_over,
        std::slice::from_ref(&region)
    );
    drop(cma.alloc_from("r", 4096, 0).unwrap());
    drop(chunk);
    region.check().unwrap();
}

/// Reports, when it is dropped, whether the lock of the region `r` of [`WATCHED`] is free.
struct Dropper(cma_best_fit::BestFit, bool);
static WATCHED: Mutex<Option<Cma>> = Mutex::new(None);
static UNDER_LOCK: AtomicUsize = AtomicUsize::new(0);
common::delegate!(Dropper, "dropper", |this| this.0, |region, params| Ok(Dropper(
    Allocator::new(region, "")?,
    params == "watch"
)));

impl Drop for Dropper {
    fn drop(&mut self) {
        if !self.1 {
            return;
        }
        let cma = WATCHED.lock().unwrap().clone().expect("a framework is watched");
        let region = cma.regions().into_iter().find(|region| region.name() == Some("r"));
        let asked = thread::spawn(move || region.map(|region| region.free()));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(2);
        while !asked.is_finished() && std::time::Instant::now() < deadline {
            thread::yield_now();
        }
        UNDER_LOCK.fetch_add(usize::from(!asked.is_finished()), Ordering::SeqCst);
    }
}

#[test]
fn a_plugin_is_dropped_without_its_regions_lock() {
    let cma = Cma::new();
    *WATCHED.lock().unwrap() = Some(cma.clone());
    cma.allocator_register(built::<cma_best_fit::BestFit>()).unwrap();
    cma.allocator_register(built::<Dropper>()).unwrap();
    let watched =
        || AllocatorChoice::Named { name: "dropper".to_string(), params: "watch".to_string() };
    let region = region(&cma, "r", BASE, MIB, watched());
    drop(cma.alloc_from("r", 4096, 0).unwrap());
    cma.set_region_allocator(&region, watched()).unwrap();
    cma.set_region_allocator(&region, AllocatorChoice::Default).unwrap();
    cma.set_region_allocator(&region, watched()).unwrap();
    cma.region_unregister(&region).unwrap();
    assert_eq!(UNDER_LOCK.load(Ordering::SeqCst), 0);
}

#[test]
fn an_unregistered_region_starts_no_plugin() {
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    build!(Counted, "1", |_p| Ok::<_, InitError>(STARTED.fetch_add(1, Ordering::SeqCst)), true);
    let cma = Cma::new();
    cma.allocator_register(built::<Counted>()).unwrap();
    let region = region(&cma, "r", BASE, MIB, AllocatorChoice::Default);
    cma.region_unregister(&region).unwrap();
    assert_eq!(
        cma.set_region_allocator(&region, AllocatorChoice::named("revised")),
        Err(ChangeError::Unregistered)
    );
    assert_eq!(STARTED.load(Ordering::SeqCst), 0);
}

#[test]
fn an_invalid_allocator_name_is_refused_by_every_call() {
    let cma = with_regions(&["r"], "*=r");
    let bad = || AllocatorChoice::named("x]\nmap");
    let region = cma.region("r").unwrap();
    assert!(matches!(cma.set_region_allocator(&region, bad()), Err(ChangeError::BadName { .. })));
    let start = cma_framework::DmaAddr::new(BASE + 64 * MIB);
    assert!(matches!(
        cma.region_register(Some("q"), start, MIB, bad()),
        Err(RegisterError::Invalid(_))
    ));
    let early = cma_framework::EarlyRegion { size: MIB, allocator: bad(), ..Default::default() };
    assert!(cma.early_region_register(early).is_err());
}

#[test]
fn a_long_text_of_a_plugin_is_truncated() {
    build!(Talks, "1", |_p| Err(InitError::new("x".repeat(1 << 20))), true);
    let cma = Cma::new();
    cma.allocator_register(built::<Talks>()).unwrap();
    let region = region(&cma, "r", BASE, MIB, AllocatorChoice::Default);
    for _ in 0..100 {
        cma.alloc_from("r", 4096, 0).unwrap_err();
    }
    let failures = cma.failures(&region).unwrap();
    assert!(failures.len() <= 16, "{}", failures.len());
    let kept: usize = failures.iter().map(|failure| failure.reason.to_string().len()).sum();
    assert!(kept < 16 << 10, "{kept}");
}
