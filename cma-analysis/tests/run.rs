//! A run does what the trace says, step by step, and its state can be seen between steps.

use cma_analysis::{Allocator, Outcome, Run};
use cma_framework::{AllocError, ChunkRequest, PageRange, Plugin, Reason};
use cma_trace::{DEMO, Recording, Trace, replay};

const PAGE: u64 = 4096;

/// A region of `pages` pages at 4 GiB, as replays have it.
fn region(pages: u64) -> PageRange {
    PageRange::from_pages(1 << 20, pages)
}

fn first_fit() -> Allocator {
    Allocator::new(Plugin::built_in::<cma_bitmap::Bitmap>())
}

#[test]
fn every_operation_has_its_outcome_and_a_refused_chunk_is_not_freed() {
    let mut recording = Recording::new("three chunks, two pages");
    let first = recording.allocate(10, PAGE, 1, "camera").unwrap();
    let second = recording.allocate(20, 2 * PAGE, 1, "codec").unwrap();
    recording.allocate(30, 100, 1, "camera").unwrap();
    recording.free(40, second).unwrap();
    recording.free(50, first).unwrap();
    let trace = recording.finish();
    let mut run = Run::new(&trace, &first_fit(), region(2)).unwrap();
    let page = |n: u64| PageRange::from_pages((1 << 20) + n, 1);

    assert_eq!(run.step().unwrap().outcome, Outcome::Placed(page(0)));
    let refused = run.step().unwrap();
    assert_eq!(refused.operation, 1);
    let Outcome::Refused(AllocError::NoRegion(reasons)) = refused.outcome else { panic!() };
    let full = Reason::Full { free_bytes: PAGE, region_bytes: 2 * PAGE };
    assert_eq!(reasons.iter().next().unwrap().reason, full);
    assert_eq!(run.step().unwrap().outcome, Outcome::Placed(page(1)));

    let mut live: Vec<_> = run.live().collect();
    live.sort_by_key(|chunk| chunk.range.first_page());
    let seen: Vec<_> =
        live.iter().map(|c| (c.number, c.range, c.requester, c.operation, c.since_us)).collect();
    assert_eq!(seen, [(0, page(0), 0, 0, 10), (2, page(1), 0, 2, 30)]);

    assert_eq!(run.step().unwrap().outcome, Outcome::NothingToFree);
    assert_eq!(run.step().unwrap().outcome, Outcome::Freed(page(0)));
    assert_eq!(run.step(), None);
    assert_eq!(run.region().free().unwrap().get(), 1);
}

#[test]
fn limits_hold_and_nothing_waits() {
    let mut recording = Recording::new("limits");
    for request in
        ["4K/1 at=0x100003000", "4K/1 above=0x100002000", "4K/1 below=0x100001000 wait=1m"]
    {
        let request = ChunkRequest::parse(request).unwrap();
        recording.allocate_limited(0, &request, "camera").unwrap();
    }
    let again = ChunkRequest::parse("4K/1 below=0x100001000 wait=1m").unwrap();
    recording.allocate_limited(0, &again, "camera").unwrap();
    let trace = recording.finish();
    let mut run = Run::new(&trace, &first_fit(), region(4)).unwrap();
    for page in [3, 2, 0] {
        let place = PageRange::from_pages((1 << 20) + page, 1);
        assert_eq!(run.step().unwrap().outcome, Outcome::Placed(place));
    }
    assert!(matches!(run.step().unwrap().outcome, Outcome::Refused(_)));
}

#[test]
fn a_run_refuses_what_a_replay_of_the_framework_refuses() {
    let trace = Trace::read(DEMO).unwrap();
    let allocator = first_fit();
    let pages = trace.peak_live().get();
    for pages in [pages - 1, pages, pages + pages / 20, 2 * pages] {
        let report = replay(&trace, &allocator.plugin, "", pages * PAGE, |_| {}).unwrap();
        let mut run = Run::new(&trace, &allocator, region(pages)).unwrap();
        let mut refused = Vec::new();
        while let Some((operation, error)) = run.next_refusal() {
            refused.push((operation, error));
        }
        assert_eq!(refused.len() as u64, report.failed);
        let first = report.first_failure.map(|first| (first.operation as usize - 1, first.error));
        assert_eq!(refused.into_iter().next(), first);
    }
}

#[test]
fn an_allocator_that_refuses_the_region_gives_its_reason() {
    let trace = Recording::new("empty").finish();
    let allocator = Allocator { params: "colour=red".to_string(), ..first_fit() };
    let refused = Run::new(&trace, &allocator, region(1)).unwrap_err();
    assert!(refused.to_string().contains("colour"), "{refused}");
}
