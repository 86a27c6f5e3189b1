//! Devices that keep what they free: it serves their next requests, and is free for everybody else.

mod common;

use cma_framework::config::{Bytes, Map};
use cma_framework::events::What;
use cma_framework::restore::RestoredChunk;
use cma_framework::{
    AllocError, AllocatorChoice, AllocatorState, Chunk, ChunkRequest, Cma, Device, Holder,
    PageRange, Plugin, Process, Reason, Region, Source, keep_time,
};
use common::{BASE, Kept, MIB, freed_in, region, scripted, with_regions};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

const PAGE: u64 = 4096;
const REGION: u64 = 16 * MIB;

/// A framework with best fit in the region `r`, and its device `camera`, which keeps up to 4 MiB.
fn keeping() -> (Cma, Region, Device) {
    let cma = with_regions(&["r", "other"], "*=r");
    let (region, device) = (cma.region("r").unwrap(), device(&cma));
    (cma, region, device)
}

fn device(cma: &Cma) -> Device {
    cma.device("camera", None).unwrap().keeping(Bytes::mib(4))
}

/// A framework whose allocator places single pages one behind the other and never again at the same
/// place, so a place that comes again was kept.
fn counting(pages: u64) -> (Cma, Region, Device) {
    let script: Vec<_> = (0..pages).map(|page| format!("{page}+1")).collect();
    with_script(&script.join(" "))
}

/// A framework whose allocator places chunks as `script` has them.
fn with_script(script: &str) -> (Cma, Region, Device) {
    let cma = Cma::new();
    let region = region(&cma, "r", BASE, REGION, scripted(script));
    cma.set_map(Map::parse("*=r").unwrap());
    let device = device(&cma);
    (cma, region, device)
}

fn places(chunks: &[Chunk]) -> Vec<u64> {
    chunks.iter().map(|chunk| (chunk.start().get() - BASE) / PAGE).collect()
}

fn pages(device: &Device, count: usize) -> Vec<Chunk> {
    (0..count).map(|_| device.alloc(PAGE, 0).unwrap()).collect()
}

#[test]
fn the_chunk_freed_last_serves_the_next_request_of_its_size_without_the_allocator() {
    let (_cma, region, device) = counting(4);
    let mut chunks = pages(&device, 3);
    assert_eq!(places(&chunks), [0, 1, 2]);
    drop(chunks.swap_remove(1));
    drop(chunks.pop());
    let again = pages(&device, 2);
    // The order of freeing was 1, 2.
    assert_eq!((places(&again), freed_in(&region)), (vec![2, 1], 0));
    assert_eq!(places(&pages(&device, 1)), [3]);
}

#[test]
fn another_size_alignment_or_device_is_not_served_by_a_kept_chunk() {
    let (cma, region, device) = with_script("0+1 2+1 4+2 6+1");
    drop(device.alloc(PAGE, 0).unwrap());
    let others = [
        device.alloc(PAGE, 2 * PAGE).unwrap(),
        device.alloc(2 * PAGE, 0).unwrap(),
        // A clone keeps for itself.
        device.clone().alloc(PAGE, 0).unwrap(),
    ];
    assert_eq!((places(&others), freed_in(&region)), (vec![2, 4, 6], 0));
    drop(cma);
}

#[test]
fn what_is_kept_is_free_in_all_figures_and_has_no_owner() {
    let (cma, region, device) = keeping();
    let live = device.alloc(PAGE, 0).unwrap();
    for size in [PAGE, 3 * PAGE, MIB] {
        drop(device.alloc(size, 0).unwrap());
        let status = region.status();
        assert_eq!((status.users, status.free_bytes), (1, REGION - PAGE));
        assert_eq!(status.largest_hole_bytes, REGION - PAGE);
        drop(device.alloc(size, 0).unwrap());
        assert_eq!(cma.owners(&region).unwrap().len(), 1);
        drop(device.alloc(size, 0).unwrap());
        assert_eq!(region.free().unwrap().bytes(), REGION - PAGE);
        drop(device.alloc(size, 0).unwrap());
        assert_eq!(region.check(), Ok(()));
    }
    drop(live);
    assert_eq!(cma.region_unregister(&region).map_err(drop), Ok(()));
}

#[test]
fn every_request_that_a_kept_chunk_serves_is_counted() {
    let (_cma, region, device) = keeping();
    for _ in 0..1000 {
        drop(device.alloc(2 * PAGE, 0).unwrap());
    }
    let chunk = device.alloc(PAGE, 0).unwrap();
    let figures = region.statistics().unwrap();
    assert_eq!((figures.chunks_placed, figures.chunks_freed), (1001, 1000));
    assert_eq!((figures.alloc_pages_success, figures.release_pages_success), (2001, 2000));
    drop(chunk);
}

#[test]
fn a_request_that_would_be_refused_gets_what_devices_keep() {
    let (cma, _region, device) = keeping();
    let other = device.clone();
    for (requester, refused) in [(None, false), (Some(&other), false), (Some(&device), false)] {
        let chunks: Vec<_> = (0..16).map(|_| device.alloc(MIB, 0).unwrap()).collect();
        let others: Vec<_> = Vec::from_iter(other.alloc(MIB, 0).ok());
        assert!(others.is_empty());
        drop(chunks);
        // All of the region in one chunk, which fits if and only if nothing is kept.
        let whole = match requester {
            Some(device) => device.alloc(REGION, 0),
            None => cma.alloc("somebody", None, REGION, 0),
        };
        assert_eq!(whole.is_err(), refused);
    }
    let _live = device.alloc(PAGE, 0).unwrap();
    drop(device.alloc(MIB, 0).unwrap());
    let error = cma.alloc("somebody", None, REGION, 0).unwrap_err();
    let AllocError::NoRegion(refusals) = error else { panic!("{error}") };
    let free_bytes = REGION - PAGE;
    let reasons: Vec<_> = refusals.iter().map(|refusal| &refusal.reason).collect();
    assert_eq!(reasons, [&Reason::Full { free_bytes, region_bytes: REGION }]);
}

#[test]
fn a_request_with_limits_finds_kept_memory_free_and_no_other_gets_its_limits() {
    let (cma, region, device) = keeping();
    drop(device.alloc(MIB, 0).unwrap());
    let limited = ChunkRequest::parse("1M below=0x40100000").unwrap();
    for request in [limited, limited] {
        let chunk = device.allocate(&request).unwrap();
        assert_eq!(chunk.start().get(), BASE);
    }
    let chunks = [device.alloc(MIB, 0), device.allocate(&ChunkRequest::new(Bytes(MIB)))];
    let owners = cma.owners(&region).unwrap();
    assert_eq!(owners.len(), chunks.iter().flatten().count());
    assert!(owners.iter().all(|owner| owner.request.below.is_none()), "{owners:?}");
}

#[test]
fn the_holder_of_a_chunk_is_not_that_of_the_next() {
    let (cma, region, device) = keeping();
    let mut chunk = device.alloc(PAGE, 0).unwrap();
    let process = Process { uid: 1, pid: 2, name: "p".into() };
    chunk.set_holder(Holder { process, device: None });
    drop(chunk);
    let _next = device.alloc(PAGE, 0).unwrap();
    let owners = cma.owners(&region).unwrap();
    assert_eq!((owners.len(), &owners[0].process), (1, &None));
}

#[test]
fn a_chunk_is_as_old_as_its_last_request() {
    let _time = keep_time().unwrap();
    let (cma, region, device) = keeping();
    let old = device.alloc(PAGE, 0).unwrap();
    drop(device.alloc(2 * PAGE, 0).unwrap());
    thread::sleep(Duration::from_millis(1200));
    let again = device.alloc(2 * PAGE, 0).unwrap();
    let owners = cma.owners(&region).unwrap();
    let age = |chunk: &Chunk| {
        let owner = owners.iter().find(|owner| owner.range == chunk.range()).unwrap();
        owner.age.unwrap()
    };
    assert!(age(&old) >= Duration::from_secs(1), "{:?}", age(&old));
    assert!(age(&again) < age(&old), "{:?}", age(&again));
}

#[test]
fn a_kept_chunk_goes_to_a_request_that_waits() {
    let (cma, _region, device) = keeping();
    drop(device.alloc(MIB, 0).unwrap());
    let chunks: Vec<_> = (0..16).map(|_| device.alloc(MIB, 0).unwrap()).collect();
    let waits = ChunkRequest::new(Bytes(REGION)).wait(Duration::from_secs(60));
    thread::scope(|scope| {
        let waiter =
            scope.spawn(|| cma.allocate(Source::Device { name: "w", kind: None }, &waits).unwrap());
        while cma.waiters().is_empty() {
            thread::yield_now();
        }
        drop(chunks);
        assert_eq!(waiter.join().unwrap().size(), REGION);
    });
    // And one that begins to wait while something is kept is served at once.
    drop(device.alloc(MIB, 0).unwrap());
    assert_eq!(cma.allocate(Source::Regions("r"), &waits).unwrap().size(), REGION);
}

#[test]
fn an_observer_sees_every_request_and_nothing_kept() {
    let (cma, _region, device) = keeping();
    let before = device.alloc(PAGE, 0).unwrap();
    drop(device.alloc(PAGE, 0).unwrap());
    let (kept, observation) = Kept::observing(&cma);
    let began = kept.take(&observation);
    let live = began.iter().find_map(|event| match &event.what {
        What::Began { live, .. } => Some(live.len()),
        _ => None,
    });
    assert_eq!(live, Some(1));
    drop(before);
    for _ in 0..3 {
        drop(device.alloc(PAGE, 0).unwrap());
    }
    let count = |events: &[cma_framework::events::Event]| {
        let placed = events.iter().filter(|event| matches!(event.what, What::Placed { .. }));
        let released = events.iter().filter(|event| matches!(event.what, What::Released { .. }));
        (placed.count(), released.count())
    };
    assert_eq!(count(&kept.take(&observation)), (3, 4));
    drop(observation);
    drop(device.alloc(PAGE, 0).unwrap());
    drop(device.alloc(PAGE, 0).unwrap());
}

#[test]
fn another_allocator_adopts_the_live_chunks_and_nothing_kept() {
    let (cma, region, device) = keeping();
    cma.allocator_register(Plugin::built_in::<cma_bitmap::Bitmap>()).unwrap();
    let mut chunks = pages(&device, 20);
    chunks.truncate(10);
    let live = chunks.len() as u32;
    cma.set_region_allocator(&region, AllocatorChoice::named("bitmap")).unwrap();
    assert_eq!((region.status().users, region.check()), (live, Ok(())));
    drop(chunks);
    let again = pages(&device, 20);
    assert_eq!((region.status().users, region.check()), (20, Ok(())));
    drop(again);
    assert_eq!((region.status().users, region.check()), (0, Ok(())));
}

#[test]
fn nothing_kept_is_served_when_the_allocator_is_out_of_service() {
    // The third answer is the place of the first one.
    let (cma, region, device) = with_script("0+1 1+1 0+1");
    let first = device.alloc(PAGE, 0).unwrap();
    drop(device.alloc(PAGE, 0).unwrap());
    cma.alloc("other", None, PAGE, 0).unwrap_err();
    assert!(matches!(region.status().allocator, AllocatorState::OutOfService { .. }));
    device.alloc(PAGE, 0).unwrap_err();
    drop(first);
    device.alloc(PAGE, 0).unwrap_err();
    assert_eq!(region.status().users, 0);
}

#[test]
fn a_device_that_ends_gives_up_what_it_kept() {
    let (_cma, region, device) = counting(40);
    let mut chunks = pages(&device, 3);
    let last = chunks.pop().unwrap();
    drop(chunks);
    drop(device);
    assert_eq!(freed_in(&region), 0, "a guard may still return");
    drop(last);
    assert_eq!((freed_in(&region), region.status().users), (3, 0));
}

#[test]
fn a_device_keeps_no_more_than_its_limit() {
    // A quarter of the limit is the largest chunk, and 64 chunks of a size are the most.
    let (cma, region, _) = counting(1000);
    let device = cma.device("camera", None).unwrap().keeping(Bytes(40 * PAGE));
    drop(pages(&device, 40));
    assert_eq!(freed_in(&region), 0);
    drop(pages(&device, 41));
    // Half of them, those that were freed first.
    assert_eq!(freed_in(&region), 20);
    let large = cma.device("large", None).unwrap().keeping(Bytes(1000 * PAGE));
    let before = freed_in(&region);
    drop(pages(&large, 64));
    assert_eq!(freed_in(&region), before);
    drop(pages(&large, 65));
    assert_eq!(freed_in(&region), before + 32);
    let small = cma.device("small", None).unwrap().keeping(Bytes(3 * PAGE));
    let before = freed_in(&region);
    drop(pages(&small, 1));
    assert_eq!(freed_in(&region), before + 1);
}

#[test]
fn sizes_that_recur_no_more_make_room_for_those_that_do() {
    let (_cma, region, device) = keeping();
    // More sizes than are kept at a time, once each; then one of them again and again.
    (1..100).for_each(|pages| drop(device.alloc(pages * PAGE, 0).unwrap()));
    for pages in 1..100 {
        (0..20).for_each(|_| drop(device.alloc(pages * PAGE, 0).unwrap()));
        let first = device.alloc(pages * PAGE, 0).unwrap().range();
        let again: Vec<PageRange> =
            (0..3).map(|_| device.alloc(pages * PAGE, 0).unwrap().range()).collect();
        assert_eq!(again, [first; 3]);
    }
    assert_eq!((region.status().users, region.check()), (0, Ok(())));
}

#[test]
fn a_chunk_that_another_thread_drops_returns_to_its_device() {
    let (_cma, region, device) = counting(8);
    let (chunk, place) = (device.alloc(PAGE, 0).unwrap(), 0);
    thread::scope(|scope| scope.spawn(move || drop(chunk)).join().unwrap());
    assert_eq!((places(&pages(&device, 1)), freed_in(&region)), (vec![place], 0));
}

#[test]
fn what_is_kept_follows_the_map() {
    let (cma, region, device) = keeping();
    drop(device.alloc(PAGE, 0).unwrap());
    cma.set_map(Map::parse("*=other").unwrap());
    let moved = device.alloc(PAGE, 0).unwrap();
    assert_eq!(moved.region().name(), Some("other"));
    drop(moved);
    cma.set_map(Map::parse("*=r|other").unwrap());
    let fitting = device.alloc(PAGE, 0).unwrap();
    assert_eq!(region.status().users + cma.region("other").unwrap().status().users, 1);
    drop(fitting);
    assert_eq!(cma.region_unregister(&region).map_err(drop), Ok(()));
}

/// Two threads use their devices of one region, guards go from one to the other, and a third party
/// reads figures and takes all of the region now and then.
#[test]
fn threads_share_a_region_through_what_they_keep() {
    let (cma, region, _) = keeping();
    // Bounded, so that the chunks under way fit into the region.
    let (to_other, from_other) = sync_channel::<Chunk>(100);
    thread::scope(|scope| {
        let (cma, region) = (&cma, &region);
        let producer = scope.spawn(move || {
            let device = device(cma);
            for n in 0..50_000_u64 {
                let chunk = device.alloc((1 + n % 3) * PAGE, 0).unwrap();
                if n % 5 == 0 {
                    to_other.send(chunk).unwrap();
                }
            }
        });
        let consumer = scope.spawn(move || {
            let device = device(cma);
            let mut own = Vec::new();
            for chunk in from_other {
                own.push(device.alloc(PAGE, 0).unwrap());
                drop(chunk);
                if own.len() > 100 {
                    own.clear();
                }
            }
        });
        while !producer.is_finished() {
            region.check().unwrap();
            assert!(region.status().free_bytes <= REGION);
            // With fewer cores than threads, the others would hardly run otherwise.
            thread::sleep(Duration::from_millis(1));
        }
        producer.join().unwrap();
        consumer.join().unwrap();
    });
    let figures = region.statistics().unwrap();
    assert_eq!((region.status().users, figures.chunks_placed), (0, 60_000));
    assert_eq!(figures.alloc_pages_success, figures.release_pages_success);
    assert_eq!(cma.alloc("all", None, REGION, 0).unwrap().size(), REGION);
}

#[test]
fn the_region_of_a_chunk_is_no_way_to_what_a_device_keeps() {
    let (cma, region, device) = keeping();
    let chunk = device.alloc(PAGE, 0).unwrap();
    let of_chunk = chunk.region().clone();
    drop(chunk);
    let of_nobody = cma.alloc_from_region(&of_chunk, PAGE, 0).unwrap();
    assert_eq!(cma.owners(&region).unwrap()[0].device, None);
    drop(of_nobody);
    let _of_camera = device.alloc(PAGE, 0).unwrap();
    let camera = Some(("camera".into(), "common".into()));
    assert_eq!(cma.owners(&region).unwrap()[0].device, camera);
}

#[test]
fn nothing_kept_is_served_while_the_region_has_no_allocator() {
    let (cma, region, device) = counting(4);
    let [chunk, _live] = [(); 2].map(|()| device.alloc(PAGE, 0).unwrap());
    let range = PageRange::from_pages(BASE / PAGE + 100, 1);
    let request = ChunkRequest::new(Bytes(PAGE));
    let recorded = RestoredChunk { range, request, device: None, process: None, since: None };
    let _restored = cma.restore_chunk(&region, &recorded, Vec::new()).unwrap();
    // The script can't adopt.
    assert!(matches!(region.allocator(), AllocatorState::Waiting { .. }));
    drop(chunk);
    device.alloc(PAGE, 0).unwrap_err();
}
