//! A replay makes the requests of the trace, and its figures are those of the served requests.

use super::*;
use crate::recording::Recording;
use cma_framework::config::Bytes;
use cma_framework::{ChunkRequest, Reason};
use std::sync::Arc;

const PAGE: u64 = 4096;

fn best_fit() -> Plugin {
    Plugin::built_in::<cma_best_fit::BestFit>()
}

#[test]
fn figures_count_served_requests_and_a_failed_chunk_is_not_freed() {
    let mut recording = Recording::new("");
    let first = recording.allocate(0, 3 * PAGE - 5, 1, "a").unwrap(); // 3 of 4 pages
    let failed = recording.allocate(1, 2 * PAGE, 1, "b/frame").unwrap();
    recording.free(2, failed).unwrap();
    recording.free(3, first).unwrap();
    recording.allocate(4, 1, 1, "a").unwrap();
    let trace = recording.finish();
    assert_eq!(trace.peak_live().get(), 5);

    let report = replay(&trace, &best_fit(), "", 4 * PAGE, |_| {}).unwrap();
    assert_eq!((report.region_bytes, report.ops, report.failed), (4 * PAGE, 5, 1));
    assert_eq!((report.peak_live_bytes, report.live_bytes), (3 * PAGE, PAGE));
    assert_eq!((report.free_bytes, report.largest_hole_bytes), (3 * PAGE, 3 * PAGE));
    let failure = report.first_failure.unwrap();
    assert_eq!((failure.operation, failure.time_us, failure.size), (2, 1, 2 * PAGE));
    assert_eq!(
        failure.to_string(),
        "operation 2, 8K for b/frame: no region could serve it: trace: full: 4K of 16K free"
    );
}

#[test]
fn the_first_of_several_failures_is_reported() {
    let mut recording = Recording::new("");
    recording.allocate(0, PAGE, 1, "a").unwrap();
    for size in [2, 3] {
        recording.allocate(0, size * PAGE, 64, "a").unwrap();
    }
    let report = replay(&recording.finish(), &best_fit(), "", PAGE, |_| {}).unwrap();
    assert_eq!(report.failed, 2);
    let failure = report.first_failure.unwrap();
    assert_eq!((failure.operation, failure.size, failure.alignment), (2, 2 * PAGE, 64));
    assert!(failure.to_string().starts_with("operation 2, 8K for a aligned to 64: "), "{failure}");
}

#[test]
fn alignments_are_requested_as_recorded() {
    let mut recording = Recording::new("");
    recording.allocate(0, PAGE, 1, "a").unwrap();
    recording.allocate(0, PAGE, 1 << 20, "a").unwrap();
    let report = replay(&recording.finish(), &best_fit(), "", 1 << 20, |_| {}).unwrap();
    assert_eq!(report.failed, 1, "a region of one such alignment has no second place for it");
}

#[test]
fn limits_are_requested_as_recorded() {
    // The region begins at 4 GiB.
    let mut recording = Recording::new("");
    for text in [
        "8K/1 at=0x100002000",
        "8K/1 above=0x100003000",
        "8K/1 boundary=8K",
        "4K/1 below=4G",
        "16K/1 at=0x100000000",
        "4K/1 above=0x100001000 below=0x100003000",
    ] {
        recording.allocate_limited(0, &ChunkRequest::parse(text).unwrap(), "a").unwrap();
    }
    let report = replay(&recording.finish(), &best_fit(), "", 16 * PAGE, |_| {}).unwrap();
    assert_eq!((report.failed, report.live_bytes), (3, 6 * PAGE));
    let failure = report.first_failure.unwrap();
    assert_eq!(failure.operation, 4);
    assert!(failure.to_string().starts_with("operation 4, 4K for a below=4G: "), "{failure}");
}

/// An operation of a trace: pages to allocate with limits, or the number of a chunk to free.
enum Step {
    Take(u64, &'static str),
    Free(u32),
}

/// The report of `operations`, each at a time in microseconds, in a region of 4 pages.
fn waits(operations: &[(u64, Step)]) -> Report {
    let mut recording = Recording::new("");
    for (time_us, operation) in operations {
        match *operation {
            Step::Take(pages, limits) => {
                let request = ChunkRequest::parse(&format!("{}/1 {limits}", pages * PAGE)).unwrap();
                recording.allocate_limited(*time_us, &request, "a").unwrap();
            }
            Step::Free(chunk) => recording.free(*time_us, chunk).unwrap(),
        }
    }
    let begun = std::time::Instant::now();
    let report = replay(&recording.finish(), &best_fit(), "", 4 * PAGE, |_| {}).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(60), "the replay itself waited");
    report
}

#[test]
fn a_request_waits_in_the_time_of_the_trace_until_frees_make_room() {
    let report = waits(&[
        (0, Step::Take(3, "")),
        (10, Step::Take(2, "wait=5m")),
        (20, Step::Take(2, "wait=5m boundary=8K")),
        (299_000_000, Step::Free(0)),
        (299_000_001, Step::Free(1)),
    ]);
    assert_eq!((report.failed, report.waited), (0, 2), "{report:?}");
    assert_eq!((report.live_bytes, report.peak_live_bytes), (2 * PAGE, 4 * PAGE));
    // One that has room at once does not wait.
    assert_eq!(waits(&[(0, Step::Take(4, "wait=1s"))]).waited, 0);
}

#[test]
fn a_wait_ends_after_its_time_with_the_reasons_of_the_last_try() {
    let until = |freed| {
        waits(&[(0, Step::Take(4, "")), (100, Step::Take(2, "wait=1ms")), (freed, Step::Free(0))])
    };
    assert_eq!((until(1100).failed, until(1100).waited), (0, 1), "to the microsecond");
    let late = until(1101);
    assert_eq!((late.failed, late.waited, late.live_bytes), (1, 0, 0));
    let failure = late.first_failure.unwrap();
    assert_eq!(failure.operation, 2);
    let AllocError::TimedOut(timed_out) = &failure.error else { panic!("{failure}") };
    assert_eq!(timed_out.waited, Duration::from_millis(1));
    let json = serde_json::to_value(&failure).unwrap();
    assert_eq!(json["refusals"][0]["reason"], "full: 0 of 16K free");
    // Nothing is freed before the end of the trace.
    let left = waits(&[(0, Step::Take(4, "")), (0, Step::Take(2, "wait=5m"))]);
    assert_eq!((left.failed, left.live_bytes), (1, 4 * PAGE));
    assert!(matches!(left.first_failure.unwrap().error, AllocError::TimedOut(_)));
}

#[test]
fn a_chunk_that_is_freed_while_its_request_waits_was_never_there() {
    let report = waits(&[
        (0, Step::Take(3, "")),
        (0, Step::Take(4, "wait=5m")),
        (0, Step::Take(1, "wait=5m")), // behind the request of 4 pages
        (1, Step::Free(1)),            // now it has its turn
        (2, Step::Free(0)),
    ]);
    assert_eq!((report.failed, report.waited, report.live_bytes), (1, 1, PAGE), "{report:?}");
    assert_eq!(report.first_failure.unwrap().operation, 2);
}

#[test]
fn a_wait_that_ends_lets_those_behind_it_pass() {
    let report = waits(&[
        (0, Step::Take(2, "")),
        (0, Step::Take(4, "wait=10us")),
        (0, Step::Take(1, "wait=5m")),
        (0, Step::Take(1, "")), // refused: others wait
        (20, Step::Take(1, "")),
    ]);
    assert_eq!((report.failed, report.waited, report.live_bytes), (2, 1, 4 * PAGE), "{report:?}");
    assert_eq!(report.first_failure.unwrap().operation, 4);
}

#[test]
fn devices_are_served_from_the_regions_that_the_map_gives_them() {
    let cma = Cma::new();
    for (name, start) in [("left", 0x10_0000), ("right", 0x20_0000)] {
        let given = AllocatorChoice::Given { plugin: best_fit(), params: String::new() };
        cma.region_register(Some(name), DmaAddr::new(start), 16 * PAGE, given).unwrap();
    }
    cma.set_map(Map::parse("camera/frame=left;camera=right").unwrap());

    let mut recording = Recording::new("");
    recording.allocate(0, 4 * PAGE, 1, "camera/frame").unwrap();
    recording.allocate(0, 7 * PAGE, 1, "camera").unwrap();
    recording.allocate(0, PAGE, 1, "codec").unwrap();
    let report = replay_on(&cma, &recording.finish(), |_| {});

    assert_eq!((report.region_bytes, report.free_bytes), (32 * PAGE, 21 * PAGE));
    assert_eq!(report.largest_hole_bytes, 12 * PAGE, "left has more in one piece than right");
    let failure = report.first_failure.unwrap();
    assert!(matches!(failure.error, AllocError::NoRule { .. }), "{failure}");
    assert!(
        cma.regions().iter().all(|region| region.status().users == 0),
        "chunks that were left live are freed"
    );
}

#[test]
fn a_request_that_names_regions_is_served_from_those() {
    let cma = Cma::new();
    for (name, start) in [("left", 0x10_0000), ("right", 0x20_0000)] {
        let given = AllocatorChoice::Given { plugin: best_fit(), params: String::new() };
        cma.region_register(Some(name), DmaAddr::new(start), 4 * PAGE, given).unwrap();
    }
    cma.set_map(Map::parse("*=left").unwrap());
    let mut recording = Recording::new("");
    recording.allocate(0, 3 * PAGE, 1, "camera").unwrap();
    recording.allocate(0, 3 * PAGE, 1, "camera from=left,right").unwrap();
    let limited = ChunkRequest::parse("4K/1 at=0x203000").unwrap();
    recording.allocate_limited(0, &limited, "camera from=right").unwrap();
    recording.allocate(0, PAGE, 1, "camera from=right").unwrap();
    recording.allocate(0, PAGE, 1, "camera from=centre").unwrap();
    let trace = recording.finish();
    let report = replay_on(&cma, &trace, |_| {});
    assert_eq!((report.failed, report.live_bytes), (2, 7 * PAGE));
    let AllocError::NoRegion(refusals) = report.first_failure.unwrap().error else { panic!() };
    assert!(refusals.iter().map(|refusal| &refusal.region).eq(["right"]));

    // A single region serves as any.
    let mut recording = Recording::new("");
    recording.allocate(0, PAGE, 1, "camera from=left,right").unwrap();
    let report = replay(&recording.finish(), &best_fit(), "", PAGE, |_| {}).unwrap();
    assert_eq!(report.failed, 0);
}

#[test]
fn a_request_that_was_refused_is_made_again_and_takes_nothing() {
    let mut recording = Recording::new("");
    let two = ChunkRequest::parse("8K/1").unwrap();
    let first = recording.allocate(0, 3 * PAGE, 1, "a").unwrap();
    recording.refuse(1, &two, "b").unwrap();
    recording.free(2, first).unwrap();
    recording.refuse(3, &two, "b").unwrap();
    recording.refuse(3, &two.wait(Duration::from_secs(1)), "b").unwrap();
    recording.allocate(4, 4 * PAGE, 1, "a").unwrap();
    let report = replay(&recording.finish(), &best_fit(), "", 4 * PAGE, |_| {}).unwrap();
    assert_eq!((report.ops, report.refused, report.failed, report.waited), (6, 3, 1, 0));
    assert_eq!((report.live_bytes, report.peak_live_bytes), (4 * PAGE, 4 * PAGE));
    assert_eq!(report.first_failure.unwrap().operation, 2);
}

#[test]
fn a_refused_request_that_waits_is_served_in_its_turn_and_lets_those_behind_it_pass() {
    let mut recording = Recording::new("");
    let all = ChunkRequest::parse("16K/1 wait=1s").unwrap();
    let first = recording.allocate(0, PAGE, 1, "a").unwrap();
    recording.refuse(0, &all, "b").unwrap();
    recording.allocate_limited(0, &all, "c").unwrap();
    recording.free(5, first).unwrap();
    let report = replay(&recording.finish(), &best_fit(), "", 4 * PAGE, |_| {}).unwrap();
    assert_eq!((report.failed, report.waited, report.live_bytes), (0, 2, 4 * PAGE));
}

#[test]
fn the_first_failure_in_a_region_without_an_allocator_has_that_reason() {
    let cma = Cma::new();
    cma.region_register(Some("r"), DmaAddr::new(0), 16 * PAGE, AllocatorChoice::named("late"))
        .unwrap();
    cma.set_map(Map::parse("*=r").unwrap());
    let mut recording = Recording::new("");
    recording.allocate(0, 1, 1, "a").unwrap();
    let report = replay_on(&cma, &recording.finish(), |_| {});
    let Some(AllocError::NoRegion(refusals)) = report.first_failure.map(|failure| failure.error)
    else {
        panic!("it was served");
    };
    assert!(refusals.iter().all(|r| matches!(r.reason, Reason::NoAllocator { .. })));
}

#[test]
fn an_invalid_region_is_refused() {
    let trace = Recording::new("").finish();
    for bytes in [0, 1, !(PAGE - 1)] {
        assert!(replay(&trace, &best_fit(), "", bytes, |_| {}).is_err(), "{bytes}");
    }
    assert!(replay(&trace, &best_fit(), "no-such=parameter", PAGE, |_| {}).is_err());
}

#[test]
fn progress_only_rises_and_ends_at_the_number_of_operations() {
    let mut recording = Recording::new("");
    for _ in 0..BLOCK {
        let chunk = recording.allocate(0, 1, 1, "a").unwrap();
        recording.free(0, chunk).unwrap();
    }
    recording.allocate(0, 1, 1, "a").unwrap();
    let mut reported = Vec::new();
    replay(&recording.finish(), &best_fit(), "", PAGE, |done| reported.push(done)).unwrap();
    let block = BLOCK as u64;
    assert_eq!(reported, [block, 2 * block, 2 * block + 1]);
}

#[test]
fn live_chunks_never_share_a_slot_and_there_are_as_many_slots_as_the_peak() {
    let trace = Trace::read(crate::DEMO).unwrap();
    let mut slots = Slots::default();
    let mut taken = vec![false; usize::try_from(trace.figures().peak_live_chunks).unwrap()];
    for operation in trace.operations() {
        let operation = slots.translate(0, operation);
        let (slot, free) = match operation {
            SlotOperation::Allocate { slot, .. } => (slot, false),
            SlotOperation::Free { slot } => (slot, true),
        };
        assert_eq!(taken[slot as usize], free);
        taken[slot as usize] = !free;
    }
    assert_eq!(u64::from(slots.used), trace.figures().peak_live_chunks);
}

#[test]
fn json_results_have_these_fields_in_this_order() {
    let mut recording = Recording::new("");
    recording.allocate(0, 1, 1, "a").unwrap();
    let mut report = replay(&recording.finish(), &best_fit(), "", 2 * PAGE, |_| {}).unwrap();
    report.ns_per_op = 12.4567;
    assert_eq!(
        serde_json::to_string(&report.named("small", "best-fit")).unwrap(),
        "{\"trace\":\"small\",\"allocator\":\"best-fit\",\"region_bytes\":8192,\"ops\":1,\"failed\":0,\"waited\":0,\"refused\":0,\
         \"peak_live_bytes\":4096,\"live_bytes\":4096,\"free_bytes\":4096,\"largest_hole_bytes\":4096,\"ns_per_op\":12.5,\"first_failure\":null}"
    );
}

#[test]
fn the_first_failure_as_json_has_the_reason_of_each_region() {
    let cma = Cma::new();
    for (name, start, pages) in [("left", 0x10_0000, 4), ("right", 0x20_0000, 1)] {
        let given = AllocatorChoice::Given { plugin: best_fit(), params: String::new() };
        cma.region_register(Some(name), DmaAddr::new(start), pages * PAGE, given).unwrap();
    }
    cma.set_map(Map::parse("camera=left,right").unwrap());
    let mut recording = Recording::new("");
    let request = ChunkRequest::parse("8K/64K below=1M wait=1s").unwrap();
    recording.allocate_limited(7, &request, "camera/frame").unwrap();
    recording.allocate(7, 1, 1, "codec").unwrap();
    let report = replay_on(&cma, &recording.finish(), |_| {});
    let failure = serde_json::to_value(report.first_failure).unwrap();
    let mut request = failure.clone();
    for key in ["error", "refusals"] {
        request.as_object_mut().unwrap().remove(key);
    }
    let expected = serde_json::json!({
        "operation": 1,
        "time_us": 7,
        "requester": "camera/frame",
        "size": 8192,
        "alignment": 65536,
        "limits": "below=1M wait=1s",
    });
    assert_eq!(request, expected);
    let regions: Vec<_> =
        failure["refusals"].as_array().unwrap().iter().map(|refusal| &refusal["region"]).collect();
    assert_eq!(regions, ["left", "right"]);
    let reason = failure["refusals"][1]["reason"].as_str().unwrap();
    assert!(reason.starts_with("too small"), "{reason}");
    assert!(failure["error"].as_str().unwrap().contains(reason));

    // Without a rule no region was tried.
    let mut recording = Recording::new("");
    recording.allocate(7, 1, 1, "codec").unwrap();
    let report = replay_on(&cma, &recording.finish(), |_| {});
    let failure = serde_json::to_value(report.first_failure).unwrap();
    assert_eq!(failure["limits"], "");
    assert_eq!(failure["refusals"], serde_json::json!([]));
}

#[test]
fn an_explained_failure_names_the_devices_also_of_requests_that_name_regions() {
    let mut recording = Recording::new("");
    recording.allocate(0, 2 * PAGE, 1, "a/frame from=r").unwrap();
    recording.allocate(1, PAGE, 1, "b from=r").unwrap();
    recording.allocate(2, 2 * PAGE, 1, "c/d from=r").unwrap(); // fails
    let trace = recording.finish();
    let cma = Cma::new();
    let choice = AllocatorChoice::Given { plugin: best_fit(), params: String::new() };
    cma.region_register(Some("r"), DmaAddr::new(1 << 30), 4 * PAGE, choice).unwrap();
    let explanation = replay_to_failure_on(&cma, &trace, None).unwrap().explain();
    let names = |pair: &(Arc<str>, Arc<str>)| format!("{}/{}", pair.0, pair.1);
    assert_eq!(explanation.device.as_ref().map(names), Some("c/d".to_string()));
    let layout = explanation.regions[0].layout.as_ref().unwrap();
    let owners = layout.owners();
    let owners: Vec<_> = owners.iter().filter_map(|owner| owner.device.as_ref()).collect();
    assert_eq!(owners.into_iter().map(names).collect::<Vec<_>>(), ["a/frame", "b/common"]);
    // The owners that have to leave are those of the trace, too.
    assert_eq!(layout.room.as_ref().unwrap().owners_by_bytes.owners, [1]);
}

#[test]
fn a_replay_stops_at_the_first_failure_or_at_that_of_an_operation_with_the_books_of_that_moment() {
    let mut recording = Recording::new("");
    let first = recording.allocate(0, 3 * PAGE, 1, "a/frame").unwrap();
    recording.allocate(1000, 2 * PAGE, 1, "b").unwrap(); // fails
    let all = ChunkRequest::new(Bytes(4 * PAGE)).aligned(Bytes(PAGE));
    recording.refuse(2000, &all, "c").unwrap(); // fails
    recording.free(3000, first).unwrap();
    let waiting = all.wait(Duration::from_millis(1));
    recording.allocate(3500, PAGE, 1, "d").unwrap();
    recording.allocate_limited(4000, &waiting, "e").unwrap(); // fails at 5000
    recording.allocate(6000, PAGE, 1, "f").unwrap();
    let trace = recording.finish();
    let stop = |operation| {
        let stopped = replay_to_failure(&trace, &best_fit(), "", 4 * PAGE, operation).unwrap()?;
        let explanation = stopped.explain();
        let layout = explanation.regions[0].layout.as_ref().unwrap();
        let chunks = layout.chunks.iter().map(|owner| {
            let device = owner.device.as_ref().unwrap();
            (device.0.to_string(), owner.age.unwrap().as_micros())
        });
        Some((stopped.failure.operation, chunks.collect::<Vec<_>>()))
    };
    let of_a = |age| vec![("a".to_string(), age)];
    assert_eq!(stop(None), Some((2, of_a(1000))));
    assert_eq!(stop(Some(2)), stop(None));
    assert_eq!(stop(Some(3)), Some((3, of_a(2000))));
    // The next operation, which is later than the end of the wait, is not executed.
    assert_eq!(stop(Some(6)), Some((6, vec![("d".to_string(), 2500)])));
    for served in [0, 1, 4, 5, 7, 8, u64::MAX] {
        assert_eq!(stop(Some(served)), None);
    }
}
