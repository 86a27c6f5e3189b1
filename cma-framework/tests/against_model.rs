//! Random use of the whole framework, compared with plain bookkeeping: several regions, a map,
//! guards and addresses, devices that keep what they free, changes of allocators and regions. Books
//! and allocators are compared after every few steps.

mod common;

use cma_api::{Asker, Boundary, Request};
use cma_framework::config::{Bytes, Map};
use cma_framework::errors::Limit;
use cma_framework::{
    Alignment, AllocError, AllocatorChoice, Chunk, ChunkRequest, Cma, Device, DmaAddr, PageRange,
    Pages, Plugin, Reason, Source,
};
use common::BASE;
use proptest::prelude::*;
use std::collections::HashMap;

const REGION_PAGES: u64 = 64;
const NAMES: [&str; 3] = ["a", "b", "c"];
const MAP: &str = "x/f*=a;x=a,b;y?=b,c,none;*=c";

/// The regions that the map above gives a device.
fn route(device: &str, kind: &str) -> &'static [usize] {
    match device {
        "x" if kind.starts_with('f') => &[0],
        "x" => &[0, 1],
        "y1" => &[1, 2],
        _ => &[2],
    }
}

#[derive(Clone, Debug)]
enum Step {
    Alloc {
        device: &'static str,
        kind: &'static str,
        request: ChunkRequest,
        as_address: bool,
        keeps: bool,
    },
    Free(usize),
    SetAllocator {
        region: usize,
        name: &'static str,
    },
    Reregister(usize),
    Compare,
}

/// A request with any limits that don't contradict each other.
fn chunk_request() -> impl Strategy<Value = ChunkRequest> {
    // Some sizes recur.
    let any_size = (1..20 * 4096u64, 12..19u32);
    let size = prop_oneof![any_size, (1..3 * 4096u64, 12..13u32)];
    // The window begins and ends in any of the regions, or beside them.
    let window = prop::option::of((0..3 * REGION_PAGES + 10, 1..2 * REGION_PAGES));
    let boundary = prop::option::of(12..20u32);
    (size, window, boundary).prop_map(|((size, log2), window, boundary)| {
        let plain = ChunkRequest::new(Bytes(size)).aligned(Bytes(1 << log2));
        let bounded = boundary.map_or(plain, |log2| plain.boundary(Bytes(1 << log2)));
        let limited = window.map_or(bounded, |(first, pages)| {
            let address = |page: u64| DmaAddr::new(BASE - 4 * 4096 + page * 4096);
            bounded.above(address(first)).below(address(first + pages))
        });
        if limited.check().is_ok() { limited } else { plain }
    })
}

fn step() -> impl Strategy<Value = Step> {
    let alloc = (
        prop::sample::select(vec!["x", "y1", "z"]),
        prop::sample::select(vec!["common", "f", "frame", "g"]),
        chunk_request(),
        any::<bool>(),
        any::<bool>(),
    );
    prop_oneof![
        6 => alloc.prop_map(|(device, kind, request, as_address, keeps)| Step::Alloc { device, kind, request, as_address, keeps }),
        5 => any::<usize>().prop_map(Step::Free),
        1 => (0..3usize, prop::sample::select(vec!["best-fit", "buddy", "bitmap", "tlsf"]))
            .prop_map(|(region, name)| Step::SetAllocator { region, name }),
        1 => (0..3usize).prop_map(Step::Reregister),
        2 => Just(Step::Compare),
    ]
}

enum Live {
    Guard(Chunk),
    Address(DmaAddr),
}

/// The regions are adjacent, and start at a multiple of few alignments.
fn region_range(region: usize) -> PageRange {
    PageRange::from_pages((BASE >> 12) + 4 + region as u64 * REGION_PAGES, REGION_PAGES)
}

/// The maximal free ranges between the `live` ones of a region.
fn free_ranges(region: usize, live: &[(PageRange, Live)]) -> Vec<PageRange> {
    let range = region_range(region);
    let mut taken: Vec<_> =
        live.iter().map(|(taken, _)| *taken).filter(|t| t.within(range)).collect();
    taken.sort_unstable_by_key(|range| range.first_page());
    taken.push(PageRange::from_pages(range.end_page(), 0));
    let mut from = range.first_page();
    let mut free = Vec::new();
    for taken in taken {
        if from < taken.first_page() {
            free.push(PageRange::from_pages(from, taken.first_page() - from));
        }
        from = taken.end_page();
    }
    free
}

/// The form of a request that allocators get.
fn pages_of(request: &ChunkRequest) -> Request {
    let alignment = Alignment::new(request.alignment.0).unwrap();
    let plain = Request::new(Pages::covering(request.size.0), alignment, Asker::NOBODY).unwrap();
    let (first, end) = match (request.above, request.below) {
        (Some(above), Some(below)) => (above.page(), below.page()),
        _ => (0, PageRange::ADDRESS_SPACE_PAGES),
    };
    let boundary =
        request.boundary.map_or(Boundary::NONE, |Bytes(bytes)| Boundary::new(bytes).unwrap());
    plain.limited(PageRange::from_pages(first, end - first), boundary).unwrap()
}

/// Whether `request` has a place in one of `ranges`. Tries each page.
fn has_place(request: &Request, ranges: &[PageRange]) -> bool {
    ranges.iter().any(|range| {
        let starts = range.first_page()..range.end_page();
        starts.map(|first| PageRange::from_pages(first, request.pages().get())).any(|place| {
            let aligned = place.start().is_aligned(request.alignment());
            let step = request.boundary().pages().get();
            let crosses = place.first_page() / step != (place.end_page() - 1) / step;
            aligned && !crosses && place.within(request.window()) && place.within(*range)
        })
    })
}

/// Whether every statement of `reason` is true: of the limits named, the last one is what leaves
/// the request without a place.
fn is_true(reason: &Reason, region: usize, live: &[(PageRange, Live)], request: &Request) -> bool {
    let (whole, free) = ([region_range(region)], free_ranges(region, live));
    let free_bytes: u64 = free.iter().map(|range| range.bytes()).sum();
    let largest = |ranges: &[PageRange]| ranges.iter().map(|r| r.bytes()).max().unwrap_or(0);
    let (bytes, region_bytes) = (request.pages().bytes(), REGION_PAGES * 4096);
    let aligned = Request::new(request.pages(), request.alignment(), Asker::NOBODY).unwrap();
    let inside = aligned.limited(request.window(), Boundary::NONE).unwrap();
    let by_alignment = |ranges: &[PageRange]| !has_place(&aligned, ranges);
    let by_window =
        |ranges: &[PageRange]| has_place(&aligned, ranges) && !has_place(&inside, ranges);
    let by_boundary =
        |ranges: &[PageRange]| has_place(&inside, ranges) && !has_place(request, ranges);
    match *reason {
        Reason::NoPlace { region, limit } => {
            [region] == whole
                && match limit {
                    Limit::Alignment { bytes } => {
                        bytes == request.alignment().bytes() && by_alignment(&whole)
                    }
                    Limit::Window(window) => window == request.window() && by_window(&whole),
                    Limit::Boundary { bytes } => {
                        Some(bytes) == request.boundary().bytes() && by_boundary(&whole)
                    }
                    _ => false,
                }
        }
        Reason::Full { free_bytes: said, region_bytes: whole } => {
            (said, whole) == (free_bytes, region_bytes) && free_bytes < bytes
        }
        Reason::Fragmented { free_bytes: said, largest_hole_bytes } => {
            (said, largest_hole_bytes) == (free_bytes, largest(&free))
                && free_bytes >= bytes
                && largest_hole_bytes < bytes
        }
        Reason::Alignment { alignment_bytes, largest_hole_bytes } => {
            (alignment_bytes, largest_hole_bytes) == (request.alignment().bytes(), largest(&free))
                && largest_hole_bytes >= bytes
                && by_alignment(&free)
        }
        Reason::Window { window, largest_inside_bytes } => {
            let parts: Vec<_> = free.iter().filter_map(|hole| hole.common(window)).collect();
            (window, largest_inside_bytes) == (request.window(), largest(&parts))
                && by_window(&free)
        }
        Reason::Elsewhere { place } => {
            (place, place.pages()) == (request.window(), request.pages())
                && !place.within(region_range(region))
        }
        Reason::Taken { place, ref owner } => {
            (place, place.pages()) == (request.window(), request.pages())
                && place.within(region_range(region))
                && owner.range.overlaps(place)
                && live.iter().any(|(taken, _)| *taken == owner.range)
        }
        Reason::Boundary { boundary_bytes } => {
            Some(boundary_bytes) == request.boundary().bytes() && by_boundary(&free)
        }
        Reason::Declined { free_range, largest_request_bytes, .. } => {
            let is_larger = |hole: &&PageRange| hole.pages() > free_range.pages();
            free.contains(&free_range)
                && has_place(request, &[free_range])
                && !free.iter().filter(is_larger).any(|hole| has_place(request, &[*hole]))
                && largest_request_bytes <= largest(&free)
        }
        _ => false,
    }
}

/// Compares books and allocators with the `live` chunks.
fn compare(cma: &Cma, live: &[(PageRange, Live)]) -> Result<(), TestCaseError> {
    for (region, name) in NAMES.iter().enumerate() {
        let handle = cma.region(name).unwrap();
        prop_assert_eq!(handle.check(), Ok(()));
        let inside = live.iter().filter(|(range, _)| range.within(region_range(region)));
        let used: u64 = inside.map(|(range, _)| range.bytes()).sum();
        let largest = free_ranges(region, live).iter().map(|range| range.bytes()).max();
        let status = handle.status();
        prop_assert_eq!(status.free_bytes, REGION_PAGES * 4096 - used);
        prop_assert_eq!(status.largest_hole_bytes, largest.unwrap_or(0));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn the_framework_agrees_with_plain_bookkeeping(steps in prop::collection::vec(step(), 1..120)) {
        let cma = Cma::new();
        cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
        cma.allocator_register(Plugin::built_in::<cma_buddy::Buddy>()).unwrap();
        cma.allocator_register(Plugin::built_in::<cma_bitmap::Bitmap>()).unwrap();
        cma.allocator_register(Plugin::built_in::<cma_tlsf::Tlsf>()).unwrap();
        let register = |region: usize| {
            let range = region_range(region);
            cma.region_register(Some(NAMES[region]), range.start(), range.bytes(), AllocatorChoice::Default).unwrap()
        };
        (0..3).for_each(|region| { register(region); });
        cma.set_map(Map::parse(MAP).unwrap());
        // Best fit and bitmap refuse only what fits nowhere; buddy and tlsf may refuse more.
        let mut exact = [true; 3];
        let mut live: Vec<(PageRange, Live)> = Vec::new();
        let mut devices: HashMap<(&str, &str), Device> = HashMap::new();

        for step in steps.into_iter().chain([Step::Compare]) {
            match step {
                Step::Alloc { device, kind, request, as_address, keeps } => {
                    let pages = pages_of(&request);
                    let fits = |region, live: &[_]| has_place(&pages, &free_ranges(region, live));
                    let allocated = if keeps {
                        let new = || cma.device(device, Some(kind)).unwrap().keeping(Bytes(1 << 18));
                        devices.entry((device, kind)).or_insert_with(new).allocate(&request)
                    } else {
                        cma.allocate(Source::Device { name: device, kind: Some(kind) }, &request)
                    };
                    match allocated {
                        Ok(chunk) => {
                            let range = chunk.range();
                            prop_assert_eq!(range.pages(), pages.pages());
                            prop_assert!(has_place(&pages, &[range]), "{:?} for {}", range, request);
                            prop_assert!(live.iter().all(|(taken, _)| !taken.overlaps(range)));
                            let stops = route(device, kind);
                            let at = stops.iter().position(|r| range.within(region_range(*r)));
                            prop_assert!(at.is_some(), "{:?} is in none of the regions of {}/{}", range, device, kind);
                            for passed in &stops[..at.unwrap()] {
                                prop_assert!(!exact[*passed] || !fits(*passed, &live));
                            }
                            let owner = if as_address { Live::Address(chunk.into_addr()) } else { Live::Guard(chunk) };
                            live.push((range, owner));
                        }
                        Err(AllocError::NoRegion(refusals)) => {
                            for refusal in &refusals {
                                if let Some(region) = NAMES.iter().position(|name| *name == refusal.region) {
                                    prop_assert!(!exact[region] || !fits(region, &live));
                                    prop_assert!(is_true(&refusal.reason, region, &live, &pages), "{}: {}", request, refusal.reason);
                                } else {
                                    prop_assert_eq!(&refusal.reason, &Reason::UnknownRegion);
                                }
                            }
                        }
                        Err(other) => prop_assert!(false, "{}", other),
                    }
                }
                Step::Free(which) if !live.is_empty() => {
                    let at = which % live.len();
                    match live.swap_remove(at).1 {
                        Live::Guard(chunk) => drop(chunk),
                        Live::Address(address) => {
                            cma.free(address).unwrap();
                            prop_assert!(cma.free(address).is_err());
                        }
                    }
                }
                Step::Free(_) => prop_assert!(cma.free(DmaAddr::new(BASE)).is_err()),
                Step::SetAllocator { region, name } => {
                    cma.set_region_allocator(&cma.region(NAMES[region]).unwrap(), AllocatorChoice::named(name)).unwrap();
                    exact[region] = !matches!(name, "buddy" | "tlsf");
                }
                Step::Reregister(region) => {
                    let busy = live.iter().any(|(range, _)| range.within(region_range(region)));
                    let unregistered = cma.region_unregister(&cma.region(NAMES[region]).unwrap());
                    prop_assert_eq!(unregistered.is_err(), busy);
                    if !busy {
                        register(region);
                        exact[region] = true;
                    }
                }
                Step::Compare => compare(&cma, &live)?,
            }
        }
    }
}
