//! Random use of the whole framework, compared with plain bookkeeping: several regions, a map,
//! guards and addresses, changes of allocators and regions. Books and allocators are compared after
//! each step.

mod common;

use cma_framework::config::Map;
use cma_framework::{AllocError, AllocatorChoice, Chunk, Cma, DmaAddr, PageRange, Plugin, Reason};
use common::BASE;
use proptest::prelude::*;

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
    Alloc { device: &'static str, kind: &'static str, size: u64, log2: u32, as_address: bool },
    Free(usize),
    SetAllocator { region: usize, name: &'static str },
    Reregister(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let alloc = (
        prop::sample::select(vec!["x", "y1", "z"]),
        prop::sample::select(vec!["common", "f", "frame", "g"]),
        1..20 * 4096u64,
        12..19u32,
        any::<bool>(),
    );
    prop_oneof![
        6 => alloc.prop_map(|(device, kind, size, log2, as_address)| Step::Alloc { device, kind, size, log2, as_address }),
        5 => any::<usize>().prop_map(Step::Free),
        1 => (0..3usize, prop::sample::select(vec!["best-fit", "buddy", "bitmap", "tlsf"]))
            .prop_map(|(region, name)| Step::SetAllocator { region, name }),
        1 => (0..3usize).prop_map(Step::Reregister),
    ]
}

enum Live {
    Guard(Chunk),
    Address(DmaAddr),
}

fn region_range(region: usize) -> PageRange {
    PageRange::from_pages((BASE >> 12) + region as u64 * REGION_PAGES, REGION_PAGES)
}

/// Whether `pages` aligned pages fit between the `live` ranges of a region.
fn fits(region: usize, live: &[(PageRange, Live)], pages: u64, step: u64) -> bool {
    let range = region_range(region);
    let place = |first| PageRange::from_pages(first, pages);
    (range.first_page()..range.end_page()).filter(|first| first.is_multiple_of(step)).any(|first| {
        place(first).within(range) && !live.iter().any(|(taken, _)| taken.overlaps(place(first)))
    })
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

/// Whether every statement of `reason` is true.
fn is_true(
    reason: &Reason,
    region: usize,
    live: &[(PageRange, Live)],
    pages: u64,
    step: u64,
) -> bool {
    let free = free_ranges(region, live);
    let free_bytes: u64 = free.iter().map(|range| range.bytes()).sum();
    let largest = free.iter().map(|range| range.bytes()).max().unwrap_or(0);
    let holds =
        |range: &PageRange| range.first_page().next_multiple_of(step) + pages <= range.end_page();
    match reason {
        Reason::Full { free_bytes: said, region_bytes } => {
            (*said, *region_bytes) == (free_bytes, REGION_PAGES * 4096) && free_bytes < pages * 4096
        }
        Reason::Fragmented { free_bytes: said, largest_hole_bytes } => {
            (*said, *largest_hole_bytes) == (free_bytes, largest)
                && free_bytes >= pages * 4096
                && largest < pages * 4096
        }
        Reason::Alignment { alignment_bytes, largest_hole_bytes } => {
            (*alignment_bytes, *largest_hole_bytes) == (step * 4096, largest)
                && largest >= pages * 4096
                && !free.iter().any(holds)
        }
        Reason::Declined { free_range, largest_request_bytes, .. } => {
            free.contains(free_range) && holds(free_range) && *largest_request_bytes <= largest
        }
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

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

        for step in steps {
            match step {
                Step::Alloc { device, kind, size, log2, as_address } => {
                    let (pages, step) = (size.div_ceil(4096), 1u64 << (log2 - 12));
                    match cma.alloc(device, Some(kind), size, 1 << log2) {
                        Ok(chunk) => {
                            let range = chunk.range();
                            prop_assert_eq!(range.pages().get(), pages);
                            prop_assert!(range.first_page().is_multiple_of(step));
                            prop_assert!(live.iter().all(|(taken, _)| !taken.overlaps(range)));
                            let stops = route(device, kind);
                            let at = stops.iter().position(|r| range.within(region_range(*r)));
                            prop_assert!(at.is_some(), "{:?} is in none of the regions of {}/{}", range, device, kind);
                            for passed in &stops[..at.unwrap()] {
                                prop_assert!(!exact[*passed] || !fits(*passed, &live, pages, step));
                            }
                            let owner = if as_address { Live::Address(chunk.into_addr()) } else { Live::Guard(chunk) };
                            live.push((range, owner));
                        }
                        Err(AllocError::NoRegion(refusals)) => {
                            for refusal in &refusals {
                                if let Some(region) = NAMES.iter().position(|name| *name == refusal.region) {
                                    prop_assert!(!exact[region] || !fits(region, &live, pages, step));
                                    prop_assert!(is_true(&refusal.reason, region, &live, pages, step), "{}", refusal.reason);
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
            }
            for (region, name) in NAMES.iter().enumerate() {
                let handle = cma.region(name).unwrap();
                prop_assert_eq!(handle.check(), Ok(()));
                let used: u64 =
                    live.iter().filter(|(r, _)| r.within(region_range(region))).map(|(r, _)| r.bytes()).sum();
                prop_assert_eq!(handle.status().free_bytes, REGION_PAGES * 4096 - used);
                let largest = free_ranges(region, &live).iter().map(|range| range.bytes()).max().unwrap_or(0);
                prop_assert_eq!(handle.status().largest_hole_bytes, largest);
            }
        }
    }
}
