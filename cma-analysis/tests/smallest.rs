//! The smallest region agrees with first fit and best fit as they are defined, simulated here
//! without any part of the framework.

use cma_analysis::{Allocator, Demand, Failure, serves, smallest_region};
use cma_api::{
    AllocatorInfo, CannotAdopt, InitError, NoRoom, NotMine, PageRange, Pages, Placement, Request,
    Tag,
};
use cma_framework::Plugin;
use cma_trace::{Action, Recording, Trace};
use std::fs::File;
use std::path::Path;

const PAGE: u64 = 4096;

/// The smallest region with first fit, divided by the live bytes at the peak, as published with the
/// traces.
const PUBLISHED: [(&str, &str); 7] = [
    ("ffmpeg-transcode-1080p", "1.079"),
    ("ffmpeg-switching", "1.047"),
    ("mpv-zapping", "1.018"),
    ("gstreamer-phone", "1.104"),
    ("xserver-composite", "1.221"),
    ("chromium-viz-maps", "1.139"),
    ("ovs-dpdk-9ports", "1.231"),
];

fn recorded(name: &str) -> Trace {
    read("traces", name)
}

fn read(folder: &str, name: &str) -> Trace {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cma-trace").join(folder);
    Trace::read(File::open(folder.join(format!("{name}.trace.gz"))).unwrap()).unwrap()
}

fn first_fit() -> Allocator {
    Allocator::new(Plugin::built_in::<cma_bitmap::Bitmap>())
}

fn best_fit() -> Allocator {
    Allocator::new(Plugin::built_in::<cma_best_fit::BestFit>())
}

/// Runs `trace` with `place`, which gets the live chunks as (start, end) in ascending order, the
/// pages and the alignment in pages of a request, and returns the first page of the chunk. Returns
/// one past the highest page that was used, or nothing if `place` refuses a request.
fn simulate(
    trace: &Trace,
    mut place: impl FnMut(&[(u64, u64)], u64, u64) -> Option<u64>,
) -> Option<u64> {
    let mut live: Vec<(u64, u64)> = Vec::new();
    let mut starts = Vec::new();
    let mut highest = 0;
    for operation in trace.operations() {
        match operation.action {
            Action::Allocate { size, alignment, limits: 0, .. } => {
                let pages = size.div_ceil(PAGE);
                let first = place(&live, pages, alignment.div_ceil(PAGE))?;
                let at = live.partition_point(|(start, _)| *start < first);
                live.insert(at, (first, first + pages));
                starts.push(first);
                highest = highest.max(first + pages);
            }
            Action::Free { chunk } => {
                let first = starts[chunk as usize];
                live.remove(live.partition_point(|(start, _)| *start < first));
            }
            Action::Allocate { .. } | Action::Refused { .. } => {
                panic!("the recorded traces have no limits and no refused requests")
            }
        }
    }
    Some(highest)
}

/// The holes between `live` chunks, up to `end`, as (start, end).
fn holes(live: &[(u64, u64)], end: u64) -> impl Iterator<Item = (u64, u64)> {
    let starts = std::iter::once(0).chain(live.iter().map(|(_, end)| *end));
    let ends = live.iter().map(|(start, _)| *start).chain([end]);
    starts.zip(ends)
}

/// First fit: the lowest place. In a region without an end: where it ends doesn't matter to first
/// fit, so the highest page that is used is that of the smallest region.
fn smallest_with_first_fit(trace: &Trace) -> u64 {
    let lowest = |live: &[(u64, u64)], pages: u64, alignment: u64| {
        let mut places =
            holes(live, u64::MAX).map(|(start, end)| (start.next_multiple_of(alignment), end));
        places.find(|(place, end)| place + pages <= *end).map(|(place, _)| place)
    };
    simulate(trace, lowest).unwrap()
}

/// Best fit: the smallest hole, the lowest of equal ones; in it the lowest place, or the highest if
/// that leaves no gap behind it and the lowest does before it.
fn served_with_best_fit(trace: &Trace, region: u64) -> bool {
    let best = |live: &[(u64, u64)], pages: u64, alignment: u64| {
        let in_hole = |(start, end): (u64, u64)| {
            let lowest = start.next_multiple_of(alignment);
            if lowest + pages > end {
                return None;
            }
            let last = end - pages;
            let place =
                if lowest > start && last.is_multiple_of(alignment) { last } else { lowest };
            Some((end - start, start, place))
        };
        holes(live, region).filter_map(in_hole).min().map(|(.., place)| place)
    };
    simulate(trace, best).is_some()
}

/// The search as its documentation defines it, one size after the other.
fn searched(least: u64, serves: impl Fn(u64) -> bool) -> u64 {
    let mut smallest = 2 * least;
    while !serves(smallest) {
        smallest *= 2;
    }
    let mut failed = least - 1;
    let mut step = smallest / 128;
    while step > 0 {
        while smallest > failed + step {
            if !serves(smallest - step) {
                failed = smallest - step;
                break;
            }
            smallest -= step;
        }
        step = if step == 1 { 0 } else { (step / 16).max(1) };
    }
    smallest
}

#[test]
fn first_fit_agrees_with_its_simulation_and_with_the_published_figures() {
    for (name, published) in PUBLISHED {
        let trace = recorded(name);
        let demand = Demand::of(&trace, None).unwrap();
        let smallest = smallest_with_first_fit(&trace);
        assert_eq!(serves(&demand, &first_fit(), Pages::new(smallest)), Ok(()), "{name}");
        let smaller = serves(&demand, &first_fit(), Pages::new(smallest - 1));
        assert!(matches!(smaller, Err(Failure::Refused { .. })), "{name}: {smaller:?}");
        let overhead = smallest as f64 / demand.peak().pages.get() as f64;
        assert_eq!(format!("{overhead:.3}"), published, "{name}");
    }
}

#[test]
fn the_search_finds_the_smallest_region_of_first_fit() {
    for name in ["chromium-viz-maps", "ovs-dpdk-9ports"] {
        let trace = recorded(name);
        let demand = Demand::of(&trace, None).unwrap();
        let found = smallest_region(&demand, &first_fit(), &|| ()).unwrap();
        assert_eq!(found.region.pages().get(), smallest_with_first_fit(&trace), "{name}");
        assert_eq!(found.region.start(), demand.start());
        assert_eq!(found.largest.get(), 2 * demand.peak().pages.get());
    }
}

#[test]
fn the_search_finds_the_smallest_region_of_best_fit() {
    let trace = recorded("ovs-dpdk-9ports");
    let demand = Demand::of(&trace, None).unwrap();
    let found = smallest_region(&demand, &best_fit(), &|| ()).unwrap();
    let peak = demand.peak().pages.get();
    let simulated = searched(peak, |pages| served_with_best_fit(&trace, pages));
    assert_eq!(found.region.pages().get(), simulated);
}

/// First fit that serves no region of the pages in its parameter.
struct Picky(cma_bitmap::Bitmap);

impl cma_api::Allocator for Picky {
    const INFO: AllocatorInfo =
        AllocatorInfo { name: "picky", version: "1", description: "dislikes one size" };

    fn new(region: PageRange, params: &str) -> Result<Self, InitError> {
        if region.pages().get().to_string() == params {
            return Err(InitError::new("not this size"));
        }
        Ok(Picky(cma_bitmap::Bitmap::new(region, "")?))
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
        self.0.adopt(range)
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
fn the_result_is_above_every_size_that_failed() {
    let mut recording = Recording::new("one chunk");
    recording.allocate(0, 100 * PAGE, 1, "device").unwrap();
    let trace = recording.finish();
    let demand = Demand::of(&trace, None).unwrap();
    let smallest = |failing: u64| {
        let picky = Allocator { plugin: Plugin::built_in::<Picky>(), params: failing.to_string() };
        smallest_region(&demand, &picky, &|| ()).unwrap().region.pages().get()
    };
    assert_eq!(smallest(99), 100);
    for failing in [100, 101, 150, 199] {
        assert_eq!(smallest(failing), failing + 1);
    }
    // Twice the peak fails, so four times the peak is the first size, and the sizes from there on
    // are three pages apart.
    assert_eq!(smallest(200), 100);
}

#[test]
fn an_allocator_that_serves_no_size_says_what_failed_in_the_largest() {
    let mut recording = Recording::new("one chunk");
    recording.allocate(0, 4 * PAGE, 1, "device").unwrap();
    let trace = recording.finish();
    let demand = Demand::of(&trace, None).unwrap();
    let wrong = Allocator { params: "colour=red".to_string(), ..first_fit() };
    let unserved = smallest_region(&demand, &wrong, &|| ()).unwrap_err();
    assert_eq!(unserved.largest, Pages::new(32));
    assert!(matches!(unserved.reason, Failure::Start(_)), "{unserved:?}");
    assert!(unserved.to_string().starts_with("not served in a region of 128K: "), "{unserved}");
}

#[test]
fn packing_needs_hardly_more_than_the_peak_where_small_chunks_split_the_place_of_large_ones() {
    for (name, best_fit_needs) in [("gs", 1.39), ("magick", 1.39)] {
        let trace = read("programs", name);
        let demand = Demand::of(&trace, None).unwrap();
        let of_the_peak = |allocator| {
            let found = smallest_region(&demand, &allocator, &|| ()).unwrap();
            found.region.pages().get() as f64 / demand.peak().pages.get() as f64
        };
        let packing = of_the_peak(Allocator::new(Plugin::built_in::<cma_packing::Packing>()));
        assert!(packing < 1.02, "{name}: {packing}");
        let best_fit = of_the_peak(best_fit());
        assert!(best_fit > best_fit_needs, "{name}: {best_fit}");
    }
}
