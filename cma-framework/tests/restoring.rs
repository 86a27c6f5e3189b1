//! Chunks of a process that has ended: where they may be, what the books have of them, and who
//! serves their region afterwards. Memory has tests of its own (`cma-memory/tests/restoring.rs`).

mod common;

use cma_api::{
    Allocator, AllocatorInfo, CannotAdopt, InitError, NoRoom, NotMine, Placement, Request, Tag,
};
use cma_framework::config::{Bytes, Map};
use cma_framework::errors::{InvalidRequest, Misplacement};
use cma_framework::events::{Observation, What};
use cma_framework::memory::{Backing, Claim, Contiguity, Memory, Store};
use cma_framework::reserve::Reserved;
use cma_framework::restore::{RestoreError, RestoredChunk, WithMemory};
use cma_framework::{
    AllocatorChoice, AllocatorState, Chunk, ChunkRequest, Cma, MemoryError, Owner, PageRange,
    Pages, Plugin, Process, Region, Source, keep_time,
};
use common::{BASE, Kept, MIB, NoBytes};
use rustix::time::{ClockId, clock_gettime};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PAGE: u64 = 4096;

/// The region `r` of 16 MiB, whose choice is this allocator, and no registered allocator.
fn framework(choice: AllocatorChoice) -> (Cma, Region) {
    let cma = Cma::new();
    let region = common::region(&cma, "r", BASE, 16 * MIB, choice);
    cma.set_map(Map::parse("*=r").unwrap());
    (cma, region)
}

fn at(page: u64, pages: u64) -> PageRange {
    PageRange::from_pages(BASE / PAGE + page, pages)
}

fn process() -> Process {
    Process { uid: 1000, pid: 4711, name: "camera".into() }
}

/// A chunk of plain memory for `camera/frame`.
fn recorded(range: PageRange) -> RestoredChunk {
    RestoredChunk {
        range,
        request: ChunkRequest::new(Bytes(range.bytes())),
        device: Some(("camera".into(), "frame".into())),
        process: Some(process()),
        since: None,
    }
}

/// The chunk of `owner`, whose age was taken just now.
fn recorded_owner(owner: &Owner) -> RestoredChunk {
    let now = clock_gettime(ClockId::Monotonic);
    let now = Duration::new(now.tv_sec as u64, now.tv_nsec as u32);
    RestoredChunk {
        range: owner.range,
        request: owner.request,
        device: owner.device.clone(),
        process: owner.process.clone(),
        since: owner.age.map(|age| now - age),
    }
}

fn restore(cma: &Cma, region: &Region, range: PageRange) -> Chunk {
    match cma.restore_chunk(region, &recorded(range), Vec::new()).unwrap() {
        WithMemory::AddressesOnly(chunk) => chunk,
        WithMemory::Shared(shared) => panic!("{shared:?} has memory"),
    }
}

fn plugins() -> [Plugin; 4] {
    [
        Plugin::built_in::<cma_best_fit::BestFit>(),
        Plugin::built_in::<cma_buddy::Buddy>(),
        Plugin::built_in::<cma_bitmap::Bitmap>(),
        Plugin::built_in::<cma_tlsf::Tlsf>(),
    ]
}

fn problem(cma: &Cma) -> String {
    cma.attributes().read("regions/0x40000000/problem").unwrap()
}

/// Best fit that can't adopt.
struct NeverAdopts(cma_best_fit::BestFit);

impl Allocator for NeverAdopts {
    const INFO: AllocatorInfo =
        AllocatorInfo { name: "never", version: "1", description: "best fit that adopts nothing" };
    fn new(region: PageRange, _: &str) -> Result<Self, InitError> {
        Ok(NeverAdopts(Allocator::new(region, "")?))
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
    fn adopt(&mut self, _: PageRange) -> Result<Tag, CannotAdopt> {
        Err(CannotAdopt::new("it adopts nothing"))
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

#[test]
fn owners_are_the_same_as_before_with_names_limits_and_ages() {
    let _time = keep_time().unwrap();
    let (before, region) = framework(AllocatorChoice::Default);
    before.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
    let camera = Source::Device { name: "camera", kind: Some("frame") };
    let mut live = Vec::new();
    for text in ["20K", "1M/64K", "64K below=0x40800000", "32K boundary=32K", "8K at=0x40c00000"] {
        let request = ChunkRequest::parse(text).unwrap();
        let chunk = before.to_share(process(), camera, &request).unwrap().alloc().unwrap();
        live.push(chunk);
    }
    live.push(before.alloc_from("r", 4096, 0).unwrap());
    live.push(before.alloc("codec", None, 4096, 0).unwrap());
    let owners = before.owners(&region).unwrap();
    let chunks: Vec<_> = owners.iter().map(recorded_owner).collect();

    let (after, region) = framework(AllocatorChoice::Default);
    let restored: Vec<_> = chunks
        .iter()
        .rev()
        .map(|chunk| after.restore_chunk(&region, chunk, Vec::new()).unwrap())
        .collect();
    let ages = |owners: &[Owner]| owners.iter().map(|owner| owner.age.unwrap()).collect::<Vec<_>>();
    let ageless = |mut owners: Vec<Owner>| {
        owners.iter_mut().for_each(|owner| owner.age = None);
        owners
    };
    let found = after.owners(&region).unwrap();
    for (before, after) in ages(&owners).iter().zip(ages(&found)) {
        assert!(after + Duration::from_millis(200) >= *before, "{before:?} {after:?}");
    }
    assert_eq!(ageless(found), ageless(owners));
    drop(restored);
    assert_eq!(region.status().users, 0);

    let old = RestoredChunk { since: Some(Duration::ZERO), ..recorded(at(3, 2)) };
    let _chunk = after.restore_chunk(&region, &old, Vec::new()).unwrap();
    let up = clock_gettime(ClockId::Monotonic).tv_sec as u64;
    let age = after.owners(&region).unwrap()[0].age.unwrap();
    assert!(age + Duration::from_secs(1) >= Duration::from_secs(up), "{age:?}");
}

/// What is wrong with a place.
type Fault = fn(PageRange) -> Misplacement;

/// What could have changed.
fn state(cma: &Cma, region: &Region) -> (Vec<Owner>, u64, cma_framework::RegionStatistics) {
    (cma.owners(region).unwrap(), region.status().free_bytes, region.statistics().unwrap())
}

#[test]
fn a_chunk_that_breaks_a_rule_of_placements_is_refused_and_changes_nothing() {
    for plugin in [None, Some(Plugin::built_in::<cma_best_fit::BestFit>())] {
        let (cma, region) = framework(AllocatorChoice::Default);
        if let Some(plugin) = plugin {
            cma.allocator_register(plugin).unwrap();
        }
        let _live = restore(&cma, &region, at(8, 4));
        let before = state(&cma, &region);
        let request = |text: &str| ChunkRequest::parse(text).unwrap();
        let sized = |range: PageRange| ChunkRequest::new(Bytes(range.bytes()));
        let (past, inside, none) = (at(4095, 2), at(100, 2), at(1, 0));
        let cases: Vec<(PageRange, ChunkRequest, Fault)> = vec![
            (past, sized(past), Misplacement::Outside),
            (at(0, 4097), sized(at(0, 4097)), Misplacement::Outside),
            (PageRange::from_pages(0, 2), request("8K"), Misplacement::Outside),
            (at(7, 2), request("8K"), Misplacement::Overlaps),
            (at(11, 2), request("8K"), Misplacement::Overlaps),
            (at(8, 4), request("16K"), Misplacement::Overlaps),
            (at(0, 64), sized(at(0, 64)), Misplacement::Overlaps),
            (inside, request("12K"), Misplacement::WrongSize),
            (inside, request("4K"), Misplacement::WrongSize),
            (none, request("4K"), Misplacement::WrongSize),
            (at(101, 2), request("8K/8K"), Misplacement::Unaligned),
            (inside, request("8K below=0x40064000"), Misplacement::OutsideWindow),
            (inside, request("8K above=0x40065000"), Misplacement::OutsideWindow),
            (inside, request("8K at=0x40065000"), Misplacement::OutsideWindow),
            (at(101, 2), request("8K boundary=8K"), Misplacement::CrossesBoundary),
        ];
        for (range, request, expected) in cases {
            let chunk = RestoredChunk { request, ..recorded(range) };
            let error = cma.restore_chunk(&region, &chunk, Vec::new()).unwrap_err();
            assert!(
                matches!(&error, RestoreError::Misplaced(found) if *found == expected(range)),
                "{range} {request}: {error}"
            );
            assert_eq!(state(&cma, &region), before, "{range} {request}");
        }
        let invalid = RestoredChunk { request: ChunkRequest::new(Bytes(0)), ..recorded(inside) };
        assert!(matches!(
            cma.restore_chunk(&region, &invalid, Vec::new()),
            Err(RestoreError::Request(InvalidRequest::NoSize))
        ));
        let file = vec![OwnedFd::from(std::fs::File::open("/dev/null").unwrap())];
        assert!(matches!(
            cma.restore_chunk(&region, &recorded(inside), file),
            Err(RestoreError::AddressesOnly)
        ));
        assert!(matches!(
            cma.restore_set_aside(&region, inside, true),
            Err(RestoreError::AddressesOnly)
        ));
        let other = framework(AllocatorChoice::Default).0;
        assert!(matches!(
            other.restore_chunk(&region, &recorded(inside), Vec::new()),
            Err(RestoreError::Unregistered)
        ));
        assert_eq!(state(&cma, &region), before);
    }
}

#[test]
fn every_allocator_adopts_restored_chunks_whether_it_comes_before_or_after_them() {
    for plugin in plugins() {
        for attached_first in [false, true] {
            let (cma, region) = framework(AllocatorChoice::Default);
            if attached_first {
                cma.allocator_register(plugin.clone()).unwrap();
                // It attaches with the first request.
                drop(cma.alloc("camera", None, PAGE, 0).unwrap());
            }
            let places = [at(0, 3), at(17, 1), at(64, 256), at(1000, 5), at(4095, 1)];
            let mut restored: Vec<_> =
                places.iter().map(|place| restore(&cma, &region, *place)).collect();
            if !attached_first {
                cma.allocator_register(plugin.clone()).unwrap();
            }
            let name = Some(plugin.name().to_string());
            let finished = cma.finish_restoring(&region).unwrap();
            assert_eq!(finished.allocator, AllocatorState::Attached(name));
            assert_eq!((finished.stand_in, finished.missing), (None, vec![]));
            assert_eq!(region.check(), Ok(()), "{}", plugin.name());
            let found: Vec<_> =
                cma.owners(&region).unwrap().iter().map(|owner| owner.range).collect();
            assert_eq!(found, places);

            let new = cma.alloc("camera", None, 64 * PAGE, 0).unwrap();
            assert!(places.iter().all(|place| !place.overlaps(new.range())));
            drop(restored.remove(2));
            assert_eq!(region.check(), Ok(()));
            let again = restored.remove(0).into_addr();
            cma.free(again).unwrap();
            drop((new, restored));
            assert_eq!(region.check(), Ok(()));
            assert_eq!(region.status().free_bytes, 16 * MIB);
        }
    }
}

#[test]
fn an_allocator_that_is_attached_by_a_request_adopts_restored_chunks_first() {
    let cma = Cma::new();
    cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
    let region = common::region(&cma, "r", BASE, 16 * MIB, AllocatorChoice::Default);
    let first = restore(&cma, &region, at(0, 16));
    assert!(matches!(region.allocator(), AllocatorState::Waiting { .. }));
    let chunk = cma.alloc_from("r", PAGE, 0).unwrap();
    assert!(!chunk.range().overlaps(first.range()));
    assert_eq!(region.check(), Ok(()));
}

#[test]
fn figures_start_anew_and_count_restored_chunks_apart() {
    let (cma, region) = framework(AllocatorChoice::Default);
    let (kept, freed) = (restore(&cma, &region, at(0, 3)), restore(&cma, &region, at(9, 5)));
    cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
    let placed = cma.alloc("camera", None, PAGE, 0).unwrap();
    drop(freed);
    let found = region.statistics().unwrap();
    assert_eq!((found.chunks_placed, found.chunks_restored, found.chunks_freed), (1, 2, 1));
    assert_eq!((found.alloc_pages_success, found.release_pages_success), (1, 5));
    assert_eq!(found.high_water_bytes, 9 * PAGE);
    drop((kept, placed));
    let found = region.statistics().unwrap();
    assert_eq!((found.chunks_freed, found.release_pages_success), (3, 9));
}

/// What happened up to now, without what was taken before.
fn taken(kept: &Kept, observation: &Observation) -> Vec<What> {
    kept.take(observation).into_iter().map(|event| event.what).collect()
}

#[test]
fn the_first_allocator_that_can_adopt_stands_in_until_the_choice_is_registered() {
    let (cma, region) = framework(AllocatorChoice::named("tlsf"));
    cma.allocator_register(Plugin::built_in::<NeverAdopts>()).unwrap();
    cma.allocator_register(Plugin::built_in::<cma_buddy::Buddy>()).unwrap();
    cma.allocator_register(Plugin::built_in::<cma_bitmap::Bitmap>()).unwrap();
    let (kept, observation) = Kept::observing(&cma);
    let chunk = restore(&cma, &region, at(4, 4));
    let finished = cma.finish_restoring(&region).unwrap();
    assert_eq!(finished.allocator, AllocatorState::Attached(Some("buddy".to_string())));
    let why = "no allocator: it waits for \"tlsf\", which is not registered";
    assert_eq!(finished.stand_in.as_deref(), Some(why));
    assert_eq!(problem(&cma), format!("\"buddy\" stands in: {why}\n"));
    let events = taken(&kept, &observation);
    let events: Vec<_> = events.iter().map(|what| format!("{what:?}")).collect();
    assert!(events.iter().any(|what| what.starts_with("NotAttached") && what.contains("tlsf")));
    assert!(events.iter().any(|what| what.starts_with("Attached") && what.contains("buddy")));
    assert_eq!(region.check(), Ok(()));
    let more = cma.alloc("camera", None, PAGE, 0).unwrap();

    let attachments = cma.allocator_register(Plugin::built_in::<cma_tlsf::Tlsf>()).unwrap();
    assert_eq!(attachments.attached, std::slice::from_ref(&region));
    assert_eq!(region.allocator(), AllocatorState::Attached(Some("tlsf".to_string())));
    assert_eq!((region.stand_in(), problem(&cma)), (None, String::new()));
    assert_eq!(region.check(), Ok(()));
    drop((chunk, more));
    assert_eq!(region.check(), Ok(()));
}

#[test]
fn a_stand_in_does_not_get_the_parameters_of_the_choice() {
    let choice = AllocatorChoice::Named { name: "absent".to_string(), params: "its=own".into() };
    let (cma, region) = framework(choice);
    cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
    let all = restore(&cma, &region, at(0, 4096));
    let finished = cma.finish_restoring(&region).unwrap();
    assert_eq!(finished.allocator, AllocatorState::Attached(Some("best-fit".to_string())));
    // An explanation starts another instance of it.
    let refused = cma.alloc("camera", None, PAGE, 0).unwrap_err();
    let explanation = format!("{:?}", refused.explain(&cma));
    assert!(explanation.contains("Placed("), "{explanation}");
    drop(all);
}

#[test]
fn a_choice_that_can_not_adopt_is_replaced_whether_it_was_attached_or_not() {
    for attached_first in [false, true] {
        let (cma, region) = framework(AllocatorChoice::named("never"));
        cma.allocator_register(Plugin::built_in::<NeverAdopts>()).unwrap();
        cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
        let live = attached_first.then(|| cma.alloc("camera", None, PAGE, 0).unwrap());
        let chunk = restore(&cma, &region, at(4, 4));
        let finished = cma.finish_restoring(&region).unwrap();
        assert_eq!(finished.allocator, AllocatorState::Attached(Some("best-fit".to_string())));
        let why = finished.stand_in.unwrap();
        assert!(why.contains("\"never\"") && why.contains("it adopts nothing"), "{why}");
        assert_eq!(region.check(), Ok(()));
        drop((live, chunk));
        assert_eq!(region.status().free_bytes, 16 * MIB);
        // The host can choose again.
        cma.set_region_allocator(&region, AllocatorChoice::named("never")).unwrap();
        assert_eq!((region.stand_in(), problem(&cma)), (None, String::new()));
    }
}

#[test]
fn without_an_allocator_that_can_adopt_frees_work_and_requests_are_refused_with_the_reason() {
    let (cma, region) = framework(AllocatorChoice::Default);
    cma.allocator_register(Plugin::built_in::<NeverAdopts>()).unwrap();
    let (one, two) = (restore(&cma, &region, at(4, 4)), restore(&cma, &region, at(40, 4)));
    let finished = cma.finish_restoring(&region).unwrap();
    assert!(matches!(finished.allocator, AllocatorState::Waiting { failure: Some(_), .. }));
    let refused = cma.alloc("camera", None, PAGE, 0).unwrap_err().to_string();
    assert!(refused.contains("it can't adopt the live chunk"), "{refused}");
    drop(one);
    assert_eq!(region.status().free_bytes, 16 * MIB - 4 * PAGE);
    cma.free(two.into_addr()).unwrap();
    assert_eq!((region.status().free_bytes, region.status().users), (16 * MIB, 0));
    cma.set_region_allocator(&region, AllocatorChoice::Default).unwrap();
    drop(cma.alloc("camera", None, PAGE, 0).unwrap());
}

/// Memory that refuses to be restored at `bad`, and lacks `missing` until it is told to have it.
#[derive(Clone, Debug)]
struct Fragile {
    bad: PageRange,
    missing: Arc<Mutex<Option<PageRange>>>,
}

// SAFETY: a store has no bytes.
unsafe impl Memory for Fragile {
    fn backing(&self) -> Backing {
        Backing { kind: "fragile", contiguity: Contiguity::No, granule: Pages::new(2) }
    }

    fn store(&self, claim: Claim) -> Result<Box<dyn Store>, MemoryError> {
        let missing = self.missing.lock().unwrap().filter(|range| range.overlaps(claim.range()));
        match missing {
            Some(range) => Err(MemoryError::Lost { range }),
            None => Ok(Box::new(NoBytes)),
        }
    }

    fn restore(&self, claim: Claim, files: Vec<OwnedFd>) -> Result<Box<dyn Store>, MemoryError> {
        assert!(files.is_empty());
        if claim.range().overlaps(self.bad) {
            let (range, reason) = (claim.range(), "it is bad".to_string());
            return Err(MemoryError::NotRestored { range, reason });
        }
        Ok(Box::new(NoBytes))
    }

    fn missing(&self) -> Vec<PageRange> {
        self.missing.lock().unwrap().into_iter().collect()
    }
}

fn fragile(bad: PageRange, missing: Option<PageRange>) -> (Cma, Region, Fragile) {
    let cma = Cma::new();
    let memory = Fragile { bad, missing: Arc::new(Mutex::new(missing)) };
    let reserved = Reserved { range: at(0, 4096), memory: Some(Box::new(memory.clone())) };
    let region =
        cma.region_register_reserved(Some("r"), reserved, AllocatorChoice::Default).unwrap();
    cma.set_map(Map::parse("*=r").unwrap());
    (cma, region, memory)
}

#[test]
fn a_chunk_whose_memory_can_not_be_restored_leaves_no_trace_but_its_two_events() {
    let (cma, region, _) = fragile(at(8, 2), None);
    cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
    let _live = cma.restore_chunk(&region, &recorded(at(0, 4)), Vec::new()).unwrap();
    cma.finish_restoring(&region).unwrap();
    let before = RegionStatisticsWithoutPeak::of(&region);
    let (kept, observation) = Kept::observing(&cma);
    let error = cma.restore_chunk(&region, &recorded(at(6, 4)), Vec::new()).unwrap_err();
    assert!(error.to_string().ends_with("can't be restored: it is bad"), "{error}");
    assert_eq!(RegionStatisticsWithoutPeak::of(&region), before);
    assert_eq!((region.check(), region.status().users), (Ok(()), 1));
    let whole = cma.restore_chunk(&region, &recorded(at(10, 4)), Vec::new()).unwrap();
    let events = taken(&kept, &observation);
    let ranges: Vec<_> = events
        .iter()
        .filter_map(|what| match what {
            What::Restored(owner) => Some((true, owner.range)),
            What::Released { range } => Some((false, *range)),
            _ => None,
        })
        .collect();
    assert_eq!(ranges, [(true, at(6, 4)), (false, at(6, 4)), (true, at(10, 4))]);
    let What::Restored(owner) = events.last().unwrap() else { panic!("{events:?}") };
    assert_eq!((owner.device.clone(), owner.process.clone()), {
        let recorded = recorded(at(10, 4));
        (recorded.device, recorded.process)
    });
    drop(whole);
}

#[derive(Debug, PartialEq)]
struct RegionStatisticsWithoutPeak([u64; 6]);

impl RegionStatisticsWithoutPeak {
    fn of(region: &Region) -> Self {
        let found = region.statistics().unwrap();
        RegionStatisticsWithoutPeak([
            found.chunks_placed,
            found.chunks_restored,
            found.chunks_freed,
            found.alloc_pages_success,
            found.release_pages_success,
            region.status().free_bytes,
        ])
    }
}

#[test]
fn memory_that_is_missing_or_was_set_aside_is_set_aside_until_it_is_usable() {
    let (cma, region, memory) = fragile(at(0, 0), Some(at(100, 8)));
    let chunk = cma.restore_chunk(&region, &recorded(at(102, 2)), Vec::new()).unwrap();
    cma.restore_set_aside(&region, at(200, 2), false).unwrap();
    for range in [at(201, 2), at(103, 1), at(4095, 2), at(300, 0)] {
        let refused = cma.restore_set_aside(&region, range, false);
        assert!(matches!(refused, Err(RestoreError::Misplaced(_))), "{range}");
    }
    cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
    let finished = cma.finish_restoring(&region).unwrap();
    assert_eq!(finished.missing, [at(100, 2), at(104, 4)]);
    assert_eq!(region.check(), Ok(()));
    let aside = |cma: &Cma| {
        let owners = cma.owners(&region).unwrap().into_iter();
        owners.filter(|owner| owner.set_aside).map(|owner| owner.range).collect::<Vec<_>>()
    };
    assert_eq!(aside(&cma), [at(100, 2), at(104, 4), at(200, 2)]);

    *memory.missing.lock().unwrap() = None;
    while let Some(due) = cma.recover_memory() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    assert_eq!(aside(&cma), []);
    drop(chunk);
    assert_eq!(region.status().free_bytes, 16 * MIB);
}

#[test]
fn a_recorded_request_may_be_the_one_that_was_made_or_the_one_in_whole_pieces() {
    let (cma, region, _) = fragile(at(0, 0), None);
    for (text, range) in [("100", at(0, 2)), ("8K", at(2, 2)), ("9K/4K", at(4, 4))] {
        let request = ChunkRequest::parse(text).unwrap();
        let chunk = RestoredChunk { request, ..recorded(range) };
        let restored = cma.restore_chunk(&region, &chunk, Vec::new()).unwrap();
        assert_eq!(restored.chunk().range(), range);
        let WithMemory::Shared(_) = restored else { panic!("{text} has no memory") };
    }
}

#[test]
fn a_request_that_waited_before_keeps_the_moment_at_which_it_was_made() {
    let (cma, region) = framework(AllocatorChoice::Default);
    cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
    let _all = cma.alloc("camera", None, 16 * MIB, 0).unwrap();
    let made = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
    let source = Source::Device { name: "camera", kind: None };
    let request = ChunkRequest::new(Bytes(PAGE));
    let pending = cma.allocate_async(source, &request).unwrap().since(made);
    let mut pending = std::pin::pin!(pending);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(pending.as_mut().poll(&mut context).is_pending());
    assert!(pending.waited() >= Duration::from_secs(60));
    assert!(cma.waiters_for(&region).unwrap()[0].waited >= Duration::from_secs(60));
}
