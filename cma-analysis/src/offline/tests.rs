use super::*;
use cma_framework::{ChunkRequest, DmaAddr};
use cma_trace::{Recording, Trace};

/// Whether no two chunks of the layout overlap while both live, and each place serves its request.
#[track_caller]
fn assert_valid(demand: &Demand<'_>, layout: &Layout) {
    let chunks = demand.chunks();
    assert_eq!(layout.places().len(), chunks.len());
    let start = demand.start().page();
    for (n, (chunk, place)) in chunks.iter().zip(layout.places()).enumerate() {
        assert!(chunk.request.accepts(*place), "chunk {n}");
        assert!(place.first_page() >= start && place.end_page() <= start + layout.pages.get());
        for (m, other) in chunks.iter().enumerate().skip(n + 1) {
            let both = other.birth < chunk.death && chunk.birth < other.death;
            assert!(!(both && place.overlaps(layout.places()[m])), "chunks {n} and {m}");
        }
    }
}

/// `operations` random operations from `seed`: chunks of several sizes and alignments, of which
/// some live long and some have limits.
fn random(seed: u64, operations: usize) -> Trace {
    let mut state = seed;
    let mut random = move |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut recording = Recording::new("random");
    let mut live = Vec::new();
    for time in 0..operations as u64 {
        if live.len() > 20 || (live.len() > 5 && random(2) == 0) {
            let at = random(live.len() as u64) as usize;
            recording.free(time, live.swap_remove(at)).unwrap();
        } else {
            let alignment = [1, 1, 8192, 65536][random(4) as usize];
            let limits = ["", "", "", " below=0x100100000", " boundary=64K"][random(5) as usize];
            let pages = 1 + random(16);
            let text = format!("{}/{alignment}{limits}", pages * 4096);
            let request = ChunkRequest::parse(&text).unwrap();
            live.push(recording.allocate_limited(time, &request, "device").unwrap());
        }
    }
    recording.finish()
}

#[test]
fn a_layout_serves_every_request_and_no_two_live_chunks_overlap() {
    for seed in 0..20 {
        let trace = random(seed, 400);
        let demand = Demand::of(&trace, Some(DmaAddr::new(1 << 32))).unwrap();
        let layout = demand.offline().unwrap();
        assert_valid(&demand, &layout);
        assert!(layout.pages >= demand.peak().pages);
    }
}

#[test]
fn a_layout_avoids_the_hole_that_first_fit_leaves() {
    // First fit puts the long chunk behind the short one, whose hole is too small for the last.
    let mut recording = Recording::new("a hole");
    let short = recording.allocate(0, 2 * 4096, 1, "a").unwrap();
    recording.allocate(1, 4096, 1, "b").unwrap();
    recording.free(2, short).unwrap();
    recording.allocate(3, 3 * 4096, 1, "c").unwrap();
    let trace = recording.finish();
    let demand = Demand::of(&trace, None).unwrap();
    let layout = demand.offline().unwrap();
    assert_eq!(layout.pages, demand.peak().pages);
    assert_eq!((layout.moment.operation, layout.moment.chunks), (3, 2));
}

#[test]
fn a_chunk_with_a_fixed_address_has_it_although_larger_ones_come_first() {
    let mut recording = Recording::new("a fixed address");
    recording.allocate(0, 8 * 4096, 1, "a").unwrap();
    let at = ChunkRequest::parse("4K/1 at=0x100000000").unwrap();
    recording.allocate_limited(1, &at, "b").unwrap();
    let trace = recording.finish();
    let demand = Demand::of(&trace, None).unwrap();
    let layout = demand.offline().unwrap();
    assert_valid(&demand, &layout);
    assert_eq!(layout.pages, demand.peak().pages);
}

#[test]
fn two_chunks_at_one_address_have_no_layout() {
    let mut recording = Recording::new("one address");
    let at = ChunkRequest::parse("4K/1 at=0x100000000").unwrap();
    recording.allocate_limited(0, &at, "a").unwrap();
    recording.allocate_limited(1, &at, "b").unwrap();
    let trace = recording.finish();
    assert!(Demand::of(&trace, None).unwrap().offline().is_none());
}

#[test]
fn every_pair_that_lives_at_one_time_is_visited_once_in_each_direction() {
    let trace = random(7, 1000);
    let demand = Demand::of(&trace, None).unwrap();
    let chunks = demand.chunks();
    let overlaps = Overlaps::new(chunks, demand.pairs());
    let placed: Vec<_> = chunks
        .iter()
        .zip(0..)
        .map(|(chunk, number)| {
            let mut placed = Placed::nowhere(chunk);
            placed.put(PageRange::from_pages(number, 1));
            placed
        })
        .collect();
    let mut visits = 0;
    for (number, chunk) in (0_u32..).zip(chunks) {
        let mut found = Vec::new();
        overlaps.visit(number, &placed, |other| found.push(other.first as u32));
        found.sort_unstable();
        let lives = |other: &Lifetime| other.birth < chunk.death && chunk.birth < other.death;
        let expected: Vec<u32> = (0..)
            .zip(chunks)
            .filter(|(other, life)| *other != number && lives(life))
            .map(|(other, _)| other)
            .collect();
        assert_eq!(found, expected, "chunk {number}");
        visits += found.len() as u64;
    }
    assert_eq!(visits, 2 * demand.pairs());
}
