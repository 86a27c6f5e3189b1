//! A shadow follows its region request by request, and nothing that it does reaches the region.

mod common;

use cma_api::{Allocator, AllocatorInfo, CannotAdopt, InitError, NoRoom, NotMine, Request, Tag};
use cma_framework::config::Bytes;
use cma_framework::{
    AllocatorChoice, ChunkRequest, Cma, DmaAddr, PageRange, Pages, Plugin, Reason, ShadowError,
    ShadowReport, ShadowState, Source,
};
use common::{BASE, MIB, region};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A region of 1 MiB that best fit serves, and every allocator.
fn framework() -> Cma {
    let cma = Cma::new();
    cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
    cma.allocator_register(Plugin::built_in::<cma_bitmap::Bitmap>()).unwrap();
    cma.allocator_register(Plugin::built_in::<cma_buddy::Buddy>()).unwrap();
    cma.allocator_register(Plugin::built_in::<cma_tlsf::Tlsf>()).unwrap();
    region(&cma, "r", BASE, MIB, AllocatorChoice::Default);
    cma.set_map(cma_framework::config::Map::parse("*=r").unwrap());
    cma
}

fn shadow(cma: &Cma, choice: &AllocatorChoice) -> Result<(), ShadowError> {
    cma.set_shadow(&cma.region("r").unwrap(), choice)
}

/// Waits until the report is as wanted.
fn report_when(cma: &Cma, wanted: impl Fn(&ShadowReport) -> bool) -> ShadowReport {
    let region = cma.region("r").unwrap();
    let begun = Instant::now();
    loop {
        let report = cma.shadow(&region).unwrap();
        if wanted(&report) {
            return report;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{report:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn report_after(cma: &Cma, requests: u64) -> ShadowReport {
    report_when(cma, |report| report.requests == requests)
}

#[test]
fn a_shadow_reports_how_it_would_have_packed() {
    let cma = framework();
    let before = cma.alloc("camera", None, 64 << 10, 0).unwrap();
    shadow(&cma, &AllocatorChoice::named("buddy")).unwrap();
    let report = report_after(&cma, 0);
    assert_eq!(report.state, ShadowState::Following);
    assert_eq!((report.region, report.shadow), (report.region, report.region), "it adopted all");
    // Buddy rounds the place of 68K up to 128K.
    let one = cma.alloc("camera", None, 68 << 10, 0).unwrap();
    let two = cma.alloc("camera", None, 68 << 10, 0).unwrap();
    let report = report_after(&cma, 2);
    assert_eq!(report.region.live_bytes, 200 << 10);
    assert_eq!(report.shadow.live_bytes, 200 << 10);
    assert_eq!(report.region.high_water_bytes, 200 << 10);
    assert!(report.shadow.high_water_bytes > 200 << 10, "{report:?}");
    assert_eq!(report.region.largest_free_bytes, MIB - (200 << 10));
    drop((before, one, two));
    let report = report_when(&cma, |report| report.shadow.live_bytes == 0);
    assert_eq!(report.region.largest_free_bytes, MIB);
    assert_eq!(report.shadow.largest_free_bytes, MIB);
    assert_eq!(report.region.high_water_bytes, 200 << 10, "the most since it began");
    assert_eq!((report.only_region_refused, report.only_shadow_refused), (0, 0));
}

#[test]
fn a_request_that_one_side_alone_refuses_is_reported_with_the_reason() {
    let cma = framework();
    shadow(&cma, &AllocatorChoice::named("buddy")).unwrap();
    // Eight blocks of 128K are full for buddy with 68K each.
    let live: Vec<_> =
        (0..9).map(|_| cma.alloc("camera", Some("frame"), 68 << 10, 0).unwrap()).collect();
    let report = report_after(&cma, 9);
    assert_eq!((report.only_shadow_refused, report.only_region_refused), (1, 0), "{report:?}");
    let refused = &report.last_only_shadow_refused[0];
    assert_eq!(refused.request.size, Bytes(68 << 10));
    assert_eq!(refused.device, Some(("camera".into(), "frame".into())));
    // The ninth chunk is freed, which the shadow never had; then it has room where the region has
    // none.
    drop(live);
    cma.set_region_allocator(&cma.region("r").unwrap(), AllocatorChoice::named("buddy")).unwrap();
    shadow(&cma, &AllocatorChoice::named("best-fit")).unwrap();
    let live: Vec<_> = (0..8).map(|_| cma.alloc("camera", None, 68 << 10, 0).unwrap()).collect();
    cma.alloc("camera", None, 68 << 10, 0).unwrap_err();
    cma.alloc("camera", None, 2 * MIB, 0).unwrap_err();
    let report = report_after(&cma, 9);
    assert_eq!((report.only_shadow_refused, report.only_region_refused), (0, 1), "{report:?}");
    assert_eq!(report.shadow.live_bytes, 8 * (68 << 10), "it got no chunk for that");
    drop(live);
}

#[test]
fn a_shadow_of_the_same_allocator_never_differs() {
    for name in ["best-fit", "bitmap", "buddy", "tlsf"] {
        let cma = framework();
        let region = cma.region("r").unwrap();
        cma.set_region_allocator(&region, AllocatorChoice::named(name)).unwrap();
        shadow(&cma, &AllocatorChoice::named(name)).unwrap();
        let (mut live, mut state, mut requests) = (Vec::new(), 7_u64, 0);
        let mut below = |limit: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % limit
        };
        let source = Source::Device { name: "camera", kind: None };
        for _ in 0..2000 {
            let request = ChunkRequest::new(Bytes(4096 * (1 + below(40))));
            let request = match below(5) {
                0 => request.below(DmaAddr::new(BASE + MIB / 2)),
                1 => request.boundary(Bytes::kib(256)),
                2 => request.at(DmaAddr::new(BASE + 4096 * below(200))),
                3 => request.aligned(Bytes::kib(64)),
                _ => request,
            };
            match cma.allocate(source, &request) {
                Ok(chunk) => live.push(chunk),
                Err(error) => {
                    let elsewhere = |reason: &Reason| matches!(reason, Reason::Elsewhere { .. });
                    let cma_framework::AllocError::NoRegion(refusals) = error else { panic!() };
                    requests -= u64::from(refusals.iter().any(|r| elsewhere(&r.reason)));
                }
            }
            requests += 1;
            if live.len() > 15 || below(3) == 0 && !live.is_empty() {
                let at = below(live.len() as u64) as usize;
                drop(live.swap_remove(at));
            }
        }
        let report = report_after(&cma, requests);
        assert_eq!(report.state, ShadowState::Following);
        assert_eq!((report.only_region_refused, report.only_shadow_refused), (0, 0), "{name}");
        assert_eq!(report.region, report.shadow, "{name}");
    }
}

#[test]
fn a_shadow_that_cannot_start_is_refused_and_the_region_has_none() {
    let cma = framework();
    let region = cma.region("r").unwrap();
    let error = shadow(&cma, &AllocatorChoice::named("nobody")).unwrap_err();
    assert!(matches!(error, ShadowError::NoAllocator { .. }), "{error}");
    cma.allocator_register(misbehaving()).unwrap();
    shadow(&cma, &AllocatorChoice::named("buddy")).unwrap();
    for params in ["init=refuse", "panic=initialise", "nonsense"] {
        let error = shadow(&cma, &faulty(params)).unwrap_err();
        assert!(matches!(error, ShadowError::NotStarted { .. }), "{params}: {error}");
        assert!(cma.shadow(&region).is_none());
    }
    let _live = cma.alloc("camera", None, 4096, 0).unwrap();
    let error = shadow(&cma, &faulty("panic=adopt")).unwrap_err();
    assert!(matches!(error, ShadowError::NotStarted { .. }), "{error}");
}

fn misbehaving() -> Plugin {
    Plugin::load(cma_testkit::built_library("cma_fixture_misbehaving")).unwrap()
}

fn faulty(params: &str) -> AllocatorChoice {
    AllocatorChoice::Named { name: "misbehaving".to_string(), params: params.to_string() }
}

#[test]
fn a_shadow_that_breaks_its_contract_is_ended_and_the_region_does_not_notice() {
    for (params, ends) in [
        ("panic=allocate,after=2", true),
        ("panic=free,after=2", true),
        ("panic=fit", true),
        ("panic=drop", false),
        ("place=outside", true),
        ("place=unaligned", true),
        ("place=small", true),
        ("place=large", true),
        ("place=overlapping", true),
        ("place=wrapping", true),
        ("place=unlimited", true),
        ("fit=region", false),
        ("fit=none", false),
        ("free=refuse,after=1", true),
        ("free=other", true),
        ("adopt=lie", true),
    ] {
        let cma = framework();
        cma.allocator_register(misbehaving()).unwrap();
        let region = cma.region("r").unwrap();
        let first = cma.alloc("camera", None, 4096, 0).unwrap();
        shadow(&cma, &faulty(params)).unwrap();
        let source = Source::Device { name: "camera", kind: None };
        let mut live = vec![first];
        for round in 0..20_u64 {
            let low = ChunkRequest::new(Bytes(8192)).below(DmaAddr::new(BASE + MIB / 2));
            let high = ChunkRequest::new(Bytes(16384)).above(DmaAddr::new(BASE + MIB / 2));
            live.push(cma.allocate(source, if round % 2 == 0 { &low } else { &high }).unwrap());
            live.push(cma.alloc("camera", None, 4096, 16384).unwrap());
            if round % 3 == 0 {
                drop(live.swap_remove(round as usize % live.len()));
            }
            cma.alloc("camera", None, MIB, 0).unwrap_err();
        }
        region.check().unwrap();
        assert_eq!(region.users().unwrap() as usize, live.len(), "{params}");
        let ended = |report: &ShadowReport| matches!(report.state, ShadowState::Ended(_));
        if ends {
            report_when(&cma, ended);
        } else {
            let report = report_after(&cma, 60);
            assert!(!ended(&report), "{params}: {report:?}");
        }
        cma.end_shadow(&region);
        assert!(cma.shadow(&region).is_none());
        drop(live);
        region.check().unwrap();
        cma.region_unregister(&region).unwrap();
    }
}

/// Whether [`Blocking`] may go on.
static GATE: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

/// An allocator that blocks in its first `allocate` until the gate opens.
struct Blocking;

impl Allocator for Blocking {
    const INFO: AllocatorInfo =
        AllocatorInfo { name: "blocking", version: "1", description: "blocks" };

    fn new(_: PageRange, _: &str) -> Result<Self, InitError> {
        Ok(Blocking)
    }

    fn allocate(&mut self, _: &Request) -> Result<cma_api::Placement, NoRoom> {
        let open = GATE.0.lock().unwrap();
        drop(GATE.1.wait_while(open, |open| !*open).unwrap());
        Err(NoRoom)
    }

    fn fit(&mut self, _: &Request) -> Option<PageRange> {
        None
    }

    fn free(&mut self, _: cma_api::Placement) -> Result<(), NotMine> {
        Ok(())
    }

    fn adopt(&mut self, _: PageRange) -> Result<Tag, CannotAdopt> {
        Ok(Tag(0))
    }

    fn holes(&self, _: &mut dyn FnMut(PageRange)) {}

    fn largest_request(&self) -> Pages {
        Pages::ZERO
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

#[test]
fn a_shadow_that_blocks_delays_nobody_counts_what_it_missed_and_begins_anew() {
    let cma = framework();
    let region = cma.region("r").unwrap();
    cma.allocator_register(Plugin::built_in::<Blocking>()).unwrap();
    shadow(&cma, &AllocatorChoice::named("blocking")).unwrap();
    for _ in 0..100_000 {
        drop(cma.alloc("camera", None, 4096, 0).unwrap());
    }
    let report = report_when(&cma, |report| matches!(report.state, ShadowState::Stuck(_)));
    assert!(report.missed > 0 && report.requests == 0, "{report:?}");
    let live = cma.alloc("camera", None, 8192, 0).unwrap();
    // It is replaced although it has not returned.
    shadow(&cma, &AllocatorChoice::named("blocking")).unwrap();
    for _ in 0..100_000 {
        drop(cma.alloc("camera", None, 4096, 0).unwrap());
    }
    *GATE.0.lock().unwrap() = true;
    GATE.1.notify_all();
    let report = report_when(&cma, |report| {
        report.state == ShadowState::Following && report.region.live_bytes == 8192
    });
    assert!(report.missed > 0, "{report:?}");
    // After the events that it missed it began anew, with what was live then.
    let before = report_when(&cma, |report| report.shadow.live_bytes == 8192).requests;
    drop(cma.alloc("camera", None, 4096, 0).unwrap());
    report_when(&cma, |report| report.requests > before);
    drop(live);
    region.check().unwrap();
}

/// The number of [`Noted`] allocators that were dropped.
static DROPPED: AtomicUsize = AtomicUsize::new(0);

/// Best fit, whose end is noted.
struct Noted(cma_best_fit::BestFit);

common::delegate!(Noted, "noted", |this| this.0, |region, params| {
    Ok(Noted(cma_best_fit::BestFit::new(region, params)?))
});

impl Drop for Noted {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Best fit that never returns from its end.
struct Endless(cma_best_fit::BestFit);

common::delegate!(Endless, "endless", |this| this.0, |region, params| {
    Ok(Endless(cma_best_fit::BestFit::new(region, params)?))
});

impl Drop for Endless {
    fn drop(&mut self) {
        loop {
            thread::park();
        }
    }
}

#[test]
fn a_shadow_that_never_returns_from_its_end_delays_nobody() {
    let cma = framework();
    cma.allocator_register(Plugin::built_in::<Endless>()).unwrap();
    let (region, endless) = (cma.region("r").unwrap(), AllocatorChoice::named("endless"));
    // Replaced, ended, with its region's framework.
    shadow(&cma, &endless).unwrap();
    shadow(&cma, &endless).unwrap();
    cma.end_shadow(&region);
    assert!(cma.shadow(&region).is_none());
    shadow(&cma, &endless).unwrap();
    drop(cma.alloc("camera", None, 4096, 0).unwrap());
    region.check().unwrap();
    drop(cma);
}

#[test]
fn a_shadow_ends_with_its_region_and_with_the_framework() {
    let dropped_is = |count| {
        let begun = Instant::now();
        while DROPPED.load(Ordering::Relaxed) != count {
            assert!(begun.elapsed() < Duration::from_secs(60), "a shadow is left");
            thread::sleep(Duration::from_millis(1));
        }
    };
    let cma = framework();
    cma.allocator_register(Plugin::built_in::<Noted>()).unwrap();
    shadow(&cma, &AllocatorChoice::named("noted")).unwrap();
    let region = cma.region("r").unwrap();
    cma.region_unregister(&region).unwrap();
    assert!(cma.shadow(&region).is_none());
    dropped_is(1);
    let error = cma.set_shadow(&region, &AllocatorChoice::named("noted")).unwrap_err();
    assert!(matches!(error, ShadowError::Unregistered), "{error}");
    common::region(&cma, "r", BASE, MIB, AllocatorChoice::Default);
    shadow(&cma, &AllocatorChoice::named("noted")).unwrap();
    drop(cma);
    dropped_is(2);
}

#[test]
fn the_attribute_of_a_shadow_is_set_read_and_ended() {
    let cma = framework();
    let attributes = cma.attributes();
    let path = "regions/r/shadow";
    assert_eq!(attributes.read(path).unwrap(), "");
    attributes.write(path, b"tlsf\n").unwrap();
    let live: Vec<_> =
        (0..4).map(|_| cma.alloc("camera", Some("frame"), 68 << 10, 0).unwrap()).collect();
    report_after(&cma, 4);
    let text = attributes.read(path).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("seconds ")).collect();
    assert_eq!(lines[..4], ["allocator tlsf", "state following", "requests 4", "missed 0"]);
    assert_eq!(lines[4], format!("live_bytes {0} {0}", 4 * (68 << 10)));
    assert!(lines[5].starts_with("high_water_bytes 278528 "), "{text}");
    assert_eq!(lines[7..], ["refused_alone 0 0"]);
    attributes.write(path, b"buddy").unwrap();
    let more: Vec<_> =
        (0..6).map(|_| cma.alloc("camera", Some("frame"), 132 << 10, 0).ok()).collect();
    report_after(&cma, 6);
    let text = attributes.read(path).unwrap();
    let refused = text.lines().find(|line| line.starts_with("shadow_refused ")).unwrap();
    assert!(refused.starts_with("shadow_refused 135168 4096 - camera/frame "), "{text}");
    let error = attributes.write(path, b"nobody").unwrap_err();
    assert_eq!(error.to_string(), "no allocator \"nobody\" is registered");
    assert_eq!(attributes.read(path).unwrap(), "");
    attributes.write(path, b"best-fit").unwrap();
    attributes.write(path, b"\n").unwrap();
    assert_eq!(attributes.read(path).unwrap(), "");
    drop((live, more));
}
