//! The defects of the code posted in 2010 (specification section 9). Each has a test that fails
//! with that code's behaviour.

mod common;

use cma_api::Allocator;
use cma_framework::config::{Map, SyntaxError, lint, parse_regions};
use cma_framework::errors::{InvalidRegion, RegisterError, UnregisterError};
use cma_framework::reserve::Banks;
use cma_framework::{
    AllocError, AllocatorChoice, AllocatorState, Cma, DmaAddr, Errno, Plugin, Reason,
};
use common::{BASE, MIB, region, scripted, with_regions};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

type BestFit = cma_best_fit::BestFit;
type Buddy = cma_buddy::Buddy;

fn reason(error: AllocError) -> Reason {
    match error {
        AllocError::NoRegion(refusals) => refusals.iter().last().unwrap().reason.clone(),
        other => panic!("{other}"),
    }
}

#[test]
fn defect_01_an_allocator_is_attached_to_the_regions_that_request_it_and_to_no_others() {
    let cma = Cma::new();
    let by_name = region(&cma, "a", BASE, MIB, AllocatorChoice::named("buddy"));
    let by_default = region(&cma, "b", BASE + MIB, MIB, AllocatorChoice::Default);
    let other = region(&cma, "c", BASE + 2 * MIB, MIB, AllocatorChoice::named("bitmap"));

    let first = cma.allocator_register(Plugin::built_in::<BestFit>()).unwrap();
    assert_eq!(
        first.attached,
        std::slice::from_ref(&by_default),
        "the first ever is the default, and no region requests it by name"
    );
    let second = cma.allocator_register(Plugin::built_in::<Buddy>()).unwrap();
    assert_eq!(second.attached, std::slice::from_ref(&by_name));

    let late = region(&cma, "d", BASE + 3 * MIB, MIB, AllocatorChoice::Default);
    let third = cma.allocator_register_as(Some("third"), Plugin::built_in::<Buddy>()).unwrap();
    assert!(third.attached.is_empty(), "it is not the first ever, and no region requests it");

    let attached = |name: &str| AllocatorState::Attached(Some(name.to_string()));
    assert!(matches!(late.status().allocator, AllocatorState::Waiting { wanted: None, .. }));
    assert_eq!(by_name.status().allocator, attached("buddy"));
    assert_eq!(by_default.status().allocator, attached("best-fit"));
    assert_eq!(
        other.status().allocator,
        AllocatorState::Waiting { wanted: Some("bitmap".to_string()), failure: None }
    );
}

#[test]
fn defect_02_the_second_region_of_a_list_is_tried_and_the_list_ends_at_its_end() {
    let cma = with_regions(&["b1", "b2"], "codec=b1,b2");
    let full = cma.alloc("codec", None, 16 * MIB, 0).unwrap();
    let second = cma.alloc("codec", None, MIB, 0).unwrap();
    assert_eq!((full.region().name(), second.region().name()), (Some("b1"), Some("b2")));
    let third = cma.alloc_from("b1,b2;nonsense", MIB, 0).unwrap();
    assert_eq!(third.region().name(), Some("b2"));
    // Neither can serve it: the request ends with an error that names both, and no lock is held.
    let AllocError::NoRegion(refusals) = cma.alloc("codec", None, 16 * MIB, 0).unwrap_err() else {
        panic!()
    };
    assert_eq!(refusals.iter().map(|r| r.region.as_str()).collect::<Vec<_>>(), ["b1", "b2"]);
    drop(full);
    assert!(cma.alloc("codec", None, 16 * MIB, 0).is_ok());
}

#[test]
fn defect_03_best_fit_tries_further_holes_when_the_first_large_enough_one_fails_the_alignment() {
    let cma = with_regions(&["r"], "*=r");
    // Holes of 1 MiB at +0.5 MiB, which has no aligned MiB, and of 14 MiB behind it.
    let _low = cma.alloc("x", None, MIB / 2, 0).unwrap();
    let hole = cma.alloc("x", None, MIB, 0).unwrap();
    let _high = cma.alloc("x", None, MIB / 2, 0).unwrap();
    drop(hole);
    let chunk = cma.alloc("x", None, MIB, MIB).unwrap();
    assert_eq!(chunk.start(), DmaAddr::new(BASE + 2 * MIB));
}

#[test]
fn defect_04_a_region_whose_allocator_was_changed_attaches_again() {
    let cma = with_regions(&["r"], "*=r");
    let r = cma.region("r").unwrap();
    drop(cma.alloc("x", None, MIB, 0).unwrap());

    // To a registered one, to one that is registered later, and to the default.
    cma.allocator_register(Plugin::built_in::<Buddy>()).unwrap();
    cma.set_region_allocator(&r, AllocatorChoice::named("buddy")).unwrap();
    drop(cma.alloc("x", None, MIB, 0).unwrap());
    cma.set_region_allocator(&r, AllocatorChoice::named("bitmap")).unwrap();
    assert!(matches!(
        reason(cma.alloc("x", None, MIB, 0).unwrap_err()),
        Reason::NoAllocator { .. }
    ));
    cma.allocator_register(Plugin::built_in::<cma_bitmap::Bitmap>()).unwrap();
    drop(cma.alloc("x", None, MIB, 0).unwrap());
    cma.set_region_allocator(&r, AllocatorChoice::Default).unwrap();
    drop(cma.alloc("x", None, MIB, 0).unwrap());
    assert_eq!(r.status().allocator, AllocatorState::Attached(Some("best-fit".to_string())));
}

#[test]
fn defect_05_a_device_that_is_a_prefix_of_a_pattern_does_not_match_a_following_type_pattern() {
    let cma = with_regions(&["r1", "r2"], "foobar=r1;/x=r2");
    assert_eq!(cma.alloc("foo", Some("x"), MIB, 0).unwrap_err().errno(), Errno::ENOENT);
    assert_eq!(cma.alloc("foobar", Some("x"), MIB, 0).unwrap().region().name(), Some("r1"));
}

#[test]
fn defect_06_a_refused_chunk_is_not_freed_and_free_space_stays_correct() {
    let cma = Cma::new();
    let r = region(&cma, "r", BASE, MIB, scripted("0+4 8+4 8+4"));
    let first = cma.alloc_from("r", 4 * 4096, 0).unwrap();
    let second = cma.alloc_from("r", 4 * 4096, 0).unwrap();
    let error = cma.alloc_from("r", 4 * 4096, 0).unwrap_err();
    assert_eq!(error.errno(), Errno::EADDRINUSE);
    assert_eq!(common::freed_in(&r), 0, "the refused chunk is not freed");
    assert_eq!((r.status().free_bytes, r.status().users), (MIB - 8 * 4096, 2));
    drop(second);
    drop(first);
    assert_eq!(common::freed_in(&r), 0, "an allocator out of service is not called");
    assert_eq!((r.status().free_bytes, r.status().users), (MIB, 0));

    // An allocator in service frees each chunk once.
    let r = region(&cma, "s", BASE + MIB, MIB, scripted("0+4 8+4"));
    let first = cma.alloc_from("s", 4 * 4096, 0).unwrap();
    let address = cma.alloc_from("s", 4 * 4096, 0).unwrap().into_addr();
    drop(first);
    assert_eq!((common::freed_in(&r), r.status().free_bytes), (1, MIB - 4 * 4096));
    cma.free(address).unwrap();
    assert_eq!(cma.free(address).unwrap_err().errno(), Errno::ENOENT);
    assert_eq!((common::freed_in(&r), r.status().free_bytes), (2, MIB));
}

#[test]
fn defect_07_the_type_part_of_a_pattern_takes_a_star() {
    let cma = with_regions(&["r1", "r2"], "foo/quaz=r1;/*=r2");
    assert_eq!(cma.alloc("foo", Some("quaz"), MIB, 0).unwrap().region().name(), Some("r1"));
    assert_eq!(cma.alloc("foo", Some("other"), MIB, 0).unwrap().region().name(), Some("r2"));
    assert_eq!(cma.alloc("foo", None, MIB, 0).unwrap().region().name(), Some("r2"));
}

#[test]
fn defect_08_nonsense_in_the_map_is_not_accepted_silently() {
    let kind = |text| Map::parse(text).unwrap_err().kind;
    assert_eq!(kind("a*b=r"), SyntaxError::StarInside);
    assert_eq!(kind("a="), SyntaxError::NoRegions);
    assert_eq!(kind("a==b"), SyntaxError::SecondEquals);
    // An unknown region is legal. Both the linter and the failed request report it.
    let regions = parse_regions("r=1M").unwrap();
    let found =
        lint::lint(&regions, &Map::parse("*=r;x=q,r").unwrap(), &[], Default::default(), &[]);
    assert!(
        found.iter().any(|f| f.problem == lint::Problem::UnknownRegion { name: "q".to_string() })
    );
    let cma = with_regions(&[], "*=q");
    assert_eq!(reason(cma.alloc("x", None, MIB, 0).unwrap_err()), Reason::UnknownRegion);
}

#[test]
fn defect_09_aquila_and_goni_boot() {
    for platform in [cma_platform_aquila::PLATFORM, cma_platform_goni::PLATFORM] {
        let cma = Cma::new();
        cma.set_platform(&platform).unwrap();
        cma.early_regions_reserve(&mut Banks::new(platform.banks, platform.growth));
        for early in cma.initialise() {
            assert!(early.registered().is_some(), "{}: {:?}", platform.name, early.state());
        }
        cma.allocator_register(Plugin::built_in::<BestFit>()).unwrap();
        // The posted code had a flag, an asterisk, for this.
        assert_eq!(cma.alloc("anything", None, MIB, 0).unwrap().region().name(), Some("b1"));
    }
}

/// Blocks inside `allocate` until it is resumed, in the one region whose parameters select that.
mod gate {
    use super::mpsc::{Receiver, Sender};
    use cma_api::Allocator;
    use std::sync::Mutex;
    use std::time::Duration;

    pub(super) static INSIDE: Mutex<Option<Sender<()>>> = Mutex::new(None);
    pub(super) static GO_ON: Mutex<Option<Receiver<()>>> = Mutex::new(None);

    pub(super) struct Gate(cma_best_fit::BestFit, bool);

    crate::common::delegate!(
        Gate,
        |this| ({
            pass(this.1);
            this
        })
        .0,
        |region, params| Ok(Gate(Allocator::new(region, "")?, params == "stop"))
    );

    fn pass(stops: bool) {
        if stops && let Some(inside) = INSIDE.lock().unwrap().take() {
            inside.send(()).unwrap();
            // With a time limit, so that the test fails instead of hanging.
            let _ = GO_ON.lock().unwrap().take().unwrap().recv_timeout(Duration::from_secs(20));
        }
    }
}

#[test]
fn defect_10_devices_on_different_regions_never_wait_for_each_other() {
    let cma = Cma::new();
    let stop = |params: &str| AllocatorChoice::Given {
        plugin: Plugin::built_in::<gate::Gate>(),
        params: params.to_string(),
    };
    region(&cma, "slow", BASE, MIB, stop("stop"));
    region(&cma, "fast", BASE + MIB, MIB, stop(""));
    cma.set_map(Map::parse("slow=slow;*=fast").unwrap());
    let (inside, entered) = mpsc::channel();
    let (release, go_on) = mpsc::channel();
    *gate::INSIDE.lock().unwrap() = Some(inside);
    *gate::GO_ON.lock().unwrap() = Some(go_on);

    std::thread::scope(|scope| {
        let release = release;
        let slow = scope.spawn(|| cma.alloc("slow", None, 4096, 0).unwrap().size());
        entered.recv().unwrap();
        // One region's allocator is inside a call, with that region's lock. Everything else works:
        // new devices, guards and addresses, other regions' figures, and changes of the
        // configuration.
        let chunk = cma.alloc("fast", None, 4096, 0).unwrap();
        cma.free(cma.alloc_from("fast", 4096, 0).unwrap().into_addr()).unwrap();
        assert_eq!(cma.info("fast", None).unwrap().free_bytes, MIB - 4096);
        cma.set_map(Map::parse("*=fast").unwrap());
        region(&cma, "more", BASE + 2 * MIB, MIB, stop(""));
        assert!(cma.early_regions().is_empty());
        drop(cma.device("new", Some("type")).unwrap().alloc(4096, 0).unwrap());
        // An allocator that is registered now is offered to every region. Registering waits for the
        // busy region, and nothing waits for that.
        let registering =
            scope.spawn(|| cma.allocator_register(Plugin::built_in::<Buddy>()).unwrap());
        while cma.allocators().is_empty() {
            std::thread::yield_now();
        }
        cma.set_map(Map::parse("*=more").unwrap());
        drop(cma.alloc("fast", None, 4096, 0).unwrap());
        drop(chunk);
        assert!(!slow.is_finished(), "it still is inside");
        release.send(()).unwrap();
        assert_eq!(slow.join().unwrap(), 4096);
        registering.join().unwrap();
    });
}

#[test]
fn defect_11_the_largest_size_does_not_round_to_zero() {
    let cma = with_regions(&["r"], "*=r");
    for size in [u64::MAX, u64::MAX - 4094] {
        assert_eq!(cma.alloc("x", None, size, 0).unwrap_err().errno(), Errno::EINVAL, "{size:#x}");
    }
    assert_eq!(cma.alloc("x", None, u64::MAX - 4095, 0).unwrap_err().errno(), Errno::ENOMEM);
    assert_eq!(cma.region("r").unwrap().status().users, 0);
}

#[test]
fn defect_12_a_huge_alignment_does_not_wrap() {
    for plugin in plugins() {
        let cma = Cma::new();
        let top = DmaAddr::new(0xffff_ffff_ff00_0000);
        cma.allocator_register(plugin.clone()).unwrap();
        cma.region_register(Some("r"), top, 16 * MIB, AllocatorChoice::Default).unwrap();
        for log2 in 25..64 {
            let error = cma.alloc_from("r", 4096, 1 << log2).unwrap_err();
            assert!(matches!(reason(error), Reason::NoPlace { .. }), "{plugin:?} at 2^{log2}");
        }
        assert_eq!(cma.alloc_from("r", 4096, 1 << 24).unwrap().start(), top);
    }
}

#[test]
fn defect_13_a_region_may_end_at_the_top_of_the_address_space_and_must_be_whole_pages() {
    for plugin in plugins() {
        let cma = Cma::new();
        cma.allocator_register(plugin).unwrap();
        let top = cma
            .region_register(
                None,
                DmaAddr::new(u64::MAX - 0xffff),
                0x10000,
                AllocatorChoice::Default,
            )
            .unwrap();
        let whole = cma.alloc_from_region(&top, 0x10000, 0).unwrap();
        assert_eq!(whole.start(), DmaAddr::new(u64::MAX - 0xffff));
        drop(whole);
        let last =
            (0..16).map(|_| cma.alloc_from_region(&top, 4096, 0).unwrap()).collect::<Vec<_>>();
        assert_eq!(last.iter().map(|c| c.start().get()).max(), Some(u64::MAX - 0xfff));
    }
    let cma = Cma::new();
    let register = |start, size| {
        cma.region_register(Some("r"), DmaAddr::new(start), size, AllocatorChoice::Default)
            .unwrap_err()
    };
    for (start, size) in [(0x1001, 0x1000), (0x1000, 0x1001), (0x1800, 0x800)] {
        let error = register(start, size);
        assert!(
            matches!(error, RegisterError::Invalid(InvalidRegion::Unaligned { .. })),
            "{error}"
        );
        assert_eq!(error.errno(), Errno::EINVAL);
    }
    assert!(matches!(
        register(u64::MAX - 0xfff, 0x2000),
        RegisterError::Invalid(InvalidRegion::PastTheTop { .. })
    ));
    assert!(matches!(register(0x1000, 0), RegisterError::Invalid(InvalidRegion::NoSize)));
    assert!(cma.regions().is_empty());
}

/// The number of [`Counted`] allocators that were dropped.
static CLEANED_UP: AtomicUsize = AtomicUsize::new(0);

/// Best fit that counts its drops.
struct Counted(BestFit);

impl Drop for Counted {
    fn drop(&mut self) {
        CLEANED_UP.fetch_add(1, Ordering::SeqCst);
    }
}

common::delegate!(Counted, |this| this.0, |region, _| Ok(Counted(Allocator::new(region, "")?)));

#[test]
fn defect_14_a_full_regions_allocator_can_be_cleaned_up_and_regions_can_be_unregistered() {
    for plugin in plugins() {
        let cma = Cma::new();
        let given = AllocatorChoice::Given { plugin, params: String::new() };
        let r = region(&cma, "r", BASE, MIB, given);
        let chunk = cma.alloc_from("r", MIB, 0).unwrap();
        assert_eq!(cma.region_unregister(&r), Err(UnregisterError::Busy { users: 1 }));
        assert!(cma.alloc_from("r", 4096, 0).is_err() && r.is_registered());
        // Another allocator adopts the chunk, and this one is dropped with it live.
        cma.set_region_allocator(&r, AllocatorChoice::named("none")).unwrap_err();
        cma.allocator_register_as(Some("next"), Plugin::built_in::<Counted>()).unwrap();
        cma.set_region_allocator(&r, AllocatorChoice::named("next")).unwrap();
        drop(chunk);
        // With the last handle, an allocator that has a live chunk is dropped, too.
        let whole = cma.alloc_from("r", MIB, 0).unwrap().into_addr();
        assert_eq!(whole, DmaAddr::new(BASE));
        let before = CLEANED_UP.load(Ordering::SeqCst);
        drop((cma, r));
        assert_eq!(CLEANED_UP.load(Ordering::SeqCst), before + 1);
    }
    let cma = with_regions(&["r"], "*=r");
    let r = cma.region("r").unwrap();
    cma.region_unregister(&r).unwrap();
    assert_eq!(cma.region_unregister(&r), Err(UnregisterError::NotRegistered));
    assert_eq!(cma.alloc_from_region(&r, 4096, 0).unwrap_err().errno(), Errno::EINVAL);
    assert_eq!(reason(cma.alloc("x", None, 4096, 0).unwrap_err()), Reason::UnknownRegion);
    region(&cma, "r", BASE, MIB, AllocatorChoice::Default);
    assert!(cma.alloc("x", None, 4096, 0).is_ok(), "its name and its place are free again");
}

#[test]
fn defect_15_a_failed_registration_leaves_nothing_behind() {
    let cma = Cma::new();
    let name = String::from("copied");
    let error = cma
        .region_register(Some(&name), DmaAddr::new(BASE), MIB, scripted("not a script"))
        .unwrap_err();
    assert!(
        matches!(&error, RegisterError::Allocator { reason, .. } if reason.contains("not a script"))
    );
    assert_eq!(error.errno(), Errno::EINVAL);
    assert!(cma.regions().is_empty() && cma.region(&name).is_none());
    region(&cma, &name, BASE, MIB, AllocatorChoice::Default);
    // The name or the place is taken: each is reported, and the first region is unchanged.
    let twice =
        cma.region_register(Some(&name), DmaAddr::new(BASE + MIB), MIB, AllocatorChoice::Default);
    assert_eq!(twice.unwrap_err().errno(), Errno::EEXIST);
    let over =
        cma.region_register(Some("b"), DmaAddr::new(BASE + MIB / 2), MIB, AllocatorChoice::Default);
    assert_eq!(over.unwrap_err().errno(), Errno::EADDRINUSE);
    assert_eq!(cma.regions().len(), 1);
}

#[test]
fn defect_16_a_failed_call_reports_why_for_each_region_it_tried() {
    let cma = with_regions(
        &["full", "fragmented", "misaligned"],
        "*=unknown,waiting,broken,full,fragmented,misaligned",
    );
    region(&cma, "waiting", BASE + 64 * MIB, MIB, AllocatorChoice::named("later"));
    region(&cma, "broken", BASE + 80 * MIB, MIB, scripted("-1+1024"));
    let _full = cma.alloc_from("full", 16 * MIB, 0).unwrap();
    let comb: Vec<_> = (0..16).map(|_| cma.alloc_from("fragmented", MIB, 0).unwrap()).collect();
    let _kept: Vec<_> = comb.into_iter().enumerate().filter(|(i, _)| i % 2 == 1).collect();
    let _low = cma.alloc_from("misaligned", 4096, 0).unwrap();
    let _high = cma.alloc_from("misaligned", 12 * MIB, 0).unwrap();

    let AllocError::NoRegion(refusals) = cma.alloc("x", None, 4 * MIB - 4096, 2 * MIB).unwrap_err()
    else {
        panic!()
    };
    let said: Vec<_> = refusals.iter().map(|r| r.reason.clone()).collect();
    assert_eq!(said[0], Reason::UnknownRegion);
    assert_eq!(said[1], Reason::NoAllocator { wanted: Some("later".to_string()) });
    assert!(matches!(&said[2], Reason::Misplaced { allocator, .. } if allocator == "scripted"));
    assert_eq!(said[3], Reason::Full { free_bytes: 0, region_bytes: 16 * MIB });
    assert_eq!(said[4], Reason::Fragmented { free_bytes: 8 * MIB, largest_hole_bytes: MIB });
    assert_eq!(
        said[5],
        Reason::Alignment { alignment_bytes: 2 * MIB, largest_hole_bytes: 4 * MIB - 4096 }
    );
    let again = cma.alloc_from("broken", 4096, 0).unwrap_err();
    assert!(matches!(reason(again), Reason::OutOfService { .. }));
    let AllocError::NoRule(pair) = with_regions(&[], "").alloc("x", None, 1, 0).unwrap_err() else {
        panic!()
    };
    assert_eq!((pair.device.as_str(), pair.kind.as_str()), ("x", "common"));
}

fn plugins() -> [Plugin; 3] {
    [
        Plugin::built_in::<BestFit>(),
        Plugin::built_in::<Buddy>(),
        Plugin::built_in::<cma_bitmap::Bitmap>(),
    ]
}
