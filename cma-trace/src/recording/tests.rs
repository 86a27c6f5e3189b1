//! A recording refuses every operation that is not allowed in a trace, and a written trace reads
//! back the same.

use super::*;
use cma_framework::DmaAddr;
use proptest::prelude::*;
use std::time::Duration;

fn request(text: &str) -> ChunkRequest {
    ChunkRequest::parse(text).unwrap()
}

#[test]
fn a_refused_operation_changes_nothing() {
    let mut recording = Recording::new("marks");
    let unchecked = ChunkRequest::new(Bytes(8192)).aligned(Bytes(1)).boundary(Bytes(4096));
    let chunk = recording.allocate(5, 4096, 1, "a").unwrap();
    let refusals = [
        recording.allocate(4, 4096, 1, "b").unwrap_err(),
        recording.allocate(5, 0, 1, "b").unwrap_err(),
        recording.allocate(5, 4096, 6, "b").unwrap_err(),
        recording.allocate(5, u64::MAX, 1, "b").unwrap_err(),
        recording.allocate(5, 4096, 1, "/b").unwrap_err(),
        recording.allocate(5, 4096, 1, &"b".repeat(256)).unwrap_err(),
        recording.allocate_limited(5, &request("8K boundary=8K"), "/b").unwrap_err(),
        recording.allocate_limited(5, &unchecked, "b").unwrap_err(),
        recording.free(5, chunk + 1).unwrap_err(),
        recording.free(4, chunk).unwrap_err(),
    ];
    assert!(matches!(refusals[0], RecordError::BackInTime { time_us: 4, last_us: 5 }));
    assert_eq!(recording.allocate(5, 1, 1, "a"), Ok(chunk + 1));
    let trace = recording.finish();
    assert_eq!(trace.operations().len(), 2);
    assert_eq!(trace.requesters().len(), 1);
    assert_eq!(trace.limits(), [Limits::NONE]);
    assert_eq!(
        trace.figures(),
        Figures { operations: 2, peak_live_bytes: 4097, peak_live_chunks: 2 }
    );
}

#[test]
fn a_refused_request_meets_the_rules_of_a_request() {
    let mut recording = Recording::new("");
    recording.refuse(5, &request("4096/1"), "a from=x|y,z").unwrap();
    let refused = |text: &str, requester: &str| {
        let mut recording = Recording::new("");
        recording.refuse(0, &request(text), requester).unwrap_err()
    };
    assert!(matches!(
        recording.refuse(4, &request("1/1"), "a"),
        Err(RecordError::BackInTime { time_us: 4, last_us: 5 })
    ));
    assert_eq!(refused("4096/1", "/a"), RecordError::BadRequester { found: "/a".into() });
    for regions in ["", "x,", "x;", "x y", "x,,y", "x/y"] {
        let found = regions.to_string();
        let requester = format!("a from={regions}");
        assert_eq!(refused("4096/1", &requester), RecordError::BadRegions { found });
    }
    let many = format!("a from={}", "x".repeat(256));
    assert_eq!(refused("4096/1", &many), RecordError::BadRegions { found: "x".repeat(40) });
    let trace = recording.finish();
    assert_eq!(trace.requesters().len(), 1);
    assert_eq!(trace.figures(), Figures { operations: 1, ..Figures::default() });
}

#[test]
fn a_chunk_is_freed_once() {
    let mut recording = Recording::new("");
    let chunk = recording.allocate(0, 1, 1, "a").unwrap();
    recording.free(0, chunk).unwrap();
    assert_eq!(recording.free(0, chunk), Err(RecordError::NotLive));
}

#[test]
fn a_trace_holds_65536_requesters_and_refuses_the_next() {
    let mut recording = Recording::new("");
    for n in 0..1 << 16 {
        recording.allocate(0, 1, 1, &format!("d{n}")).unwrap();
    }
    assert_eq!(
        recording.allocate(0, 1, 1, "one more"),
        Err(RecordError::BadRequester { found: "one more".into() })
    );
    assert_eq!(recording.allocate(0, 1, 1, "one-more"), Err(RecordError::TooManyRequesters));
    recording.allocate(0, 1, 1, "d65535").unwrap();
}

#[test]
fn a_trace_holds_65536_sets_of_limits_and_refuses_the_next() {
    let mut recording = Recording::new("");
    let limited = |n: u64| {
        let request = ChunkRequest::new(Bytes(1)).aligned(Bytes(1));
        if n == 0 { request } else { request.wait(Duration::from_micros(n)) }
    };
    for n in 0..1 << 16 {
        recording.allocate_limited(0, &limited(n), "a").unwrap();
    }
    let refused = recording.allocate_limited(0, &limited(1 << 16), "a");
    assert_eq!(refused, Err(RecordError::TooManyLimits));
    recording.allocate_limited(0, &limited(5), "a").unwrap();
    assert_eq!(recording.finish().limits().len(), 1 << 16);
}

#[test]
fn a_time_to_wait_is_recorded_in_whole_microseconds() {
    let recorded = |wait| Limits::of(&request("1").wait(wait)).request(1, 1).wait;
    assert_eq!(recorded(Duration::from_nanos(1)), Some(Duration::from_micros(1)));
    assert_eq!(recorded(Duration::from_nanos(2000)), Some(Duration::from_micros(2)));
    assert_eq!(recorded(Duration::ZERO), Some(Duration::ZERO));
    assert_eq!(recorded(Duration::MAX), Some(Duration::from_micros(u64::MAX)));
}

#[test]
fn operations_beyond_the_limit_are_refused() {
    let mut recording = Recording::new("");
    for _ in 0..MAX_OPERATIONS {
        recording.allocate(0, 1, 1, "a").unwrap();
    }
    assert_eq!(recording.allocate(0, 1, 1, "a"), Err(RecordError::TooManyOperations));
    assert_eq!(recording.free(0, 0), Err(RecordError::TooManyOperations));
    assert_eq!(recording.finish().operations().len(), MAX_OPERATIONS);
}

#[test]
fn a_source_of_several_lines_becomes_one() {
    let trace = Recording::new(" two\nlines\r\n").finish();
    assert_eq!(trace.source(), "two lines");
}

#[test]
fn the_peak_in_pages_counts_every_chunk_rounded_up() {
    let mut recording = Recording::new("");
    let first = recording.allocate(0, 1, 1, "a").unwrap();
    recording.allocate(0, 4097, 1, "a").unwrap();
    recording.free(1, first).unwrap();
    recording.allocate(2, 4096, 1, "a").unwrap();
    let trace = recording.finish();
    assert_eq!(trace.peak_live().get(), 3);
    assert_eq!(trace.figures().peak_live_bytes, 4097 + 4096);
    assert_eq!(trace.usual_region_bytes(), 2 << 20);
}

#[test]
fn a_usual_region_is_twice_the_peak_in_whole_huge_pages_at_any_size() {
    assert_eq!(Recording::new("").finish().usual_region_bytes(), 2 << 20);
    for (size, expected) in [(1 << 20, 2 << 20), ((1 << 20) + 1, 4 << 20), (1 << 30, 2 << 30)] {
        let mut recording = Recording::new("");
        recording.allocate(0, size, 1, "a").unwrap();
        assert_eq!(recording.finish().usual_region_bytes(), expected);
    }
    let mut recording = Recording::new("");
    recording.allocate(0, u64::MAX - 8192, 1, "a").unwrap();
    assert_eq!(recording.finish().usual_region_bytes(), u64::MAX - (2 << 20) + 1);
}

/// An operation to record.
#[derive(Clone, Debug)]
enum Next {
    Allocate { request: ChunkRequest, requester: String, refused: bool },
    Free(prop::sample::Index),
}

fn operations() -> impl Strategy<Value = Vec<(u64, Next)>> {
    let limits = prop::option::of((any::<u64>(), any::<u64>(), 40..64u32, any::<u64>()));
    let allocate = (
        1..1u64 << 40,
        0..64u32,
        limits,
        "[a-z.-]{1,8}(/[a-z]{1,5})?( from=[a-c](,[a-c]){0,2})?",
        any::<bool>(),
    )
        .prop_map(|(size, log2, limits, requester, refused)| {
            let plain = ChunkRequest::new(Bytes(size)).aligned(Bytes(1 << log2));
            let Some((one, other, boundary, wait)) = limits else {
                return Next::Allocate { request: plain, requester, refused };
            };
            let limited = [
                plain.above(DmaAddr::new(one.min(other))).below(DmaAddr::new(one.max(other))),
                plain.boundary(Bytes(1 << boundary)),
                plain.at(DmaAddr::new(one & !((1 << log2) - 1) & !4095)),
                plain,
            ][usize::from(wait % 4 == 0) + usize::from(one % 3 == 0) * 2];
            let limited =
                if wait % 5 < 3 { limited.wait(Duration::from_nanos(wait)) } else { limited };
            let valid = if limited.check().is_ok() { limited } else { plain };
            Next::Allocate { request: valid, requester, refused }
        });
    let free = any::<prop::sample::Index>().prop_map(Next::Free);
    prop::collection::vec((0..1000u64, prop_oneof![allocate, free]), 0..200)
}

proptest! {
    #[test]
    fn every_recording_reads_back_the_same_after_writing(source in "[ -~]{0,40}", operations in operations()) {
        let mut recording = Recording::new(&source);
        let (mut time, mut live) = (0, Vec::new());
        for (pause, operation) in operations {
            time += pause;
            match operation {
                Next::Allocate { request, requester, refused: true } => {
                    recording.refuse(time, &request, &requester).unwrap();
                }
                Next::Allocate { request, requester, refused: false } => {
                    live.push(recording.allocate_limited(time, &request, &requester).unwrap());
                }
                Next::Free(_) if live.is_empty() => {}
                Next::Free(which) => recording.free(time, live.swap_remove(which.index(live.len()))).unwrap(),
            }
        }
        let trace = recording.finish();
        let (mut text, mut compressed) = (Vec::new(), Vec::new());
        trace.write(&mut text).unwrap();
        trace.write_compressed(&mut compressed).unwrap();
        prop_assert_eq!(&Trace::read(&text[..]).unwrap(), &trace);
        prop_assert_eq!(&Trace::read(&compressed[..]).unwrap(), &trace);
    }
}
