use super::*;
use cma_framework::ChunkRequest;
use cma_trace::Recording;

fn trace(requests: &[&str]) -> Trace {
    let mut recording = Recording::new("requests");
    for request in requests {
        let request = ChunkRequest::parse(request).unwrap();
        recording.allocate_limited(0, &request, "camera").unwrap();
    }
    recording.finish()
}

#[test]
fn the_peak_is_the_first_moment_with_most_pages_and_has_its_owners() {
    let mut recording = Recording::new("two devices");
    recording.allocate(1, 4096, 1, "codec").unwrap();
    let frame = recording.allocate(2, 3 * 4096, 1, "camera/frame").unwrap();
    recording.free(3, frame).unwrap();
    recording.allocate(4, 2 * 4096 + 1, 1, "camera/frame").unwrap();
    let trace = recording.finish();
    let demand = Demand::of(&trace, None).unwrap();
    let holding = |requester, pages| Holding { requester, chunks: 1, pages: Pages::new(pages) };
    let peak = Moment {
        operation: 1,
        time_us: 2,
        chunks: 2,
        pages: Pages::new(4),
        holdings: vec![holding(1, 3), holding(0, 1)],
    };
    assert_eq!(demand.peak(), &peak);
    assert_eq!(demand.live_pages(0).collect::<Vec<_>>(), [1, 4, 1, 4]);
    assert_eq!(demand.live_pages(2).collect::<Vec<_>>(), [1, 4]);
}

#[test]
fn the_start_follows_from_the_addresses_in_limits() {
    let start = |requests: &[&str]| usual_start(trace(requests).limits()).get();
    assert_eq!(start(&["4K/1"]), 1 << 32);
    assert_eq!(start(&["4K/1 boundary=1M"]), 1 << 32);
    assert_eq!(start(&["4K/1", "4K/1 at=0x40005000", "4K/1 above=0x40001234"]), 0x4000_1000);
    assert_eq!(start(&["4K/1 below=1G"]), 0);
    assert_eq!(start(&["4K/1 above=1G", "4K/1 below=4G"]), 1 << 30);
    assert_eq!(start(&["4K/1 above=1G", "4K/1 below=1G"]), 0);
}

#[test]
fn a_request_that_has_no_place_after_the_start_is_named() {
    let trace = trace(&["4K/1", "8K/1 below=1G"]);
    let refused = Demand::of(&trace, Some(DmaAddr::new(1 << 30))).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "operation 2: no region that starts at 0x40000000 has a place for 8K/1 below=1G"
    );
    assert!(Demand::of(&trace, Some(DmaAddr::new((1 << 30) - 8192))).is_ok());
}

#[test]
fn a_region_reaches_as_far_as_its_requests_want_to_lie() {
    let trace = trace(&["4K/1 at=0x40000000", "4K/1 at=0x40009000"]);
    assert_eq!(Demand::of(&trace, None).unwrap().least(), 10);
}

#[test]
fn a_trace_without_a_request_has_no_demand() {
    assert_eq!(
        Demand::of(&Recording::new("nothing").finish(), None).unwrap_err(),
        NoDemand::NoRequest
    );
}

#[test]
fn a_request_that_was_refused_counts_while_it_is_made() {
    let mut recording = Recording::new("refused");
    let request = ChunkRequest::parse("12K/1").unwrap();
    recording.refuse(1, &request, "camera").unwrap();
    let first = recording.allocate(2, 4096, 1, "codec").unwrap();
    recording.refuse(3, &request, "camera").unwrap();
    recording.free(4, first).unwrap();
    recording.allocate(5, 8192, 1, "codec").unwrap();
    let trace = recording.finish();
    let demand = Demand::of(&trace, None).unwrap();
    assert_eq!(demand.live_pages(0).collect::<Vec<_>>(), [3, 1, 4, 0, 2]);
    let peak = demand.peak();
    assert_eq!((peak.operation, peak.chunks, peak.pages.get()), (2, 2, 4));
    assert_eq!(demand.pairs(), 1);
}

#[test]
fn more_than_lies_above_the_start_is_an_error() {
    let mut recording = Recording::new("huge");
    recording.allocate(0, 8 << 60, 1, "camera").unwrap();
    recording.allocate(0, 4 << 60, 1, "camera").unwrap();
    let trace = recording.finish();
    let start = DmaAddr::new(8 << 60);
    let refused = Demand::of(&trace, Some(start)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "12E are live at a time, more than lie above 0x8000000000000000"
    );
    assert!(Demand::of(&trace, None).is_ok());
}
