//! Groups of regions, `a|b`: the one that fits best serves.

mod common;

use cma_framework::config::Map;
use cma_framework::{
    AllocError, AllocatorChoice, Chunk, ChunkRequest, Cma, Plugin, Process, Region, Source,
};
use common::{BASE, MIB, region, scripted};

const CAMERA: Source<'_> = Source::Device { name: "camera", kind: None };

/// Regions of 16 MiB in which so many megabytes are free, in one hole.
fn framework(free: &[(&str, u64)], map: &str) -> (Cma, Vec<Chunk>) {
    let names: Vec<_> = free.iter().map(|(name, _)| *name).collect();
    let cma = common::with_regions(&names, map);
    let used = free.iter().filter(|(_, free)| *free < 16);
    let fill = |(name, free): &(&str, u64)| cma.alloc_from(name, (16 - free) * MIB, 0).unwrap();
    let chunks = used.map(fill).collect();
    (cma, chunks)
}

fn name(chunk: &Chunk) -> &str {
    chunk.region().name().unwrap()
}

/// The region of a chunk by every call that uses the map.
fn served_by(cma: &Cma, size: u64) -> Result<String, AllocError> {
    let request = ChunkRequest::parse(&size.to_string()).unwrap();
    let device = cma.device("camera", None).unwrap();
    let process = Process { uid: 0, pid: 1, name: "p".into() };
    let calls: [&dyn Fn() -> Result<Chunk, AllocError>; 6] = [
        &|| cma.alloc("camera", None, size, 0),
        &|| device.alloc(size, 0),
        &|| cma.allocate(CAMERA, &request),
        &|| device.allocate(&request),
        &|| cma.to_share(process.clone(), CAMERA, &request)?.alloc(),
        &|| cma.allocate_async(CAMERA, &request)?.time_out(),
    ];
    let served: Vec<_> = calls.iter().map(|call| call().map(|c| name(&c).to_string())).collect();
    for other in &served[1..5] {
        assert_eq!(*other, served[0]);
    }
    assert_eq!(served[5].is_ok(), served[0].is_ok());
    served.into_iter().next().unwrap()
}

#[test]
fn the_region_with_the_smallest_hole_serves_and_of_equals_the_first() {
    let (cma, chunks) =
        framework(&[("a", 8), ("b", 2), ("c", 4), ("d", 4), ("e", 16)], "*=a|b|d|c,e");
    for (size, expected) in [(1, "b"), (2, "b"), (3, "d"), (4, "d"), (5, "a"), (8, "a"), (9, "e")] {
        assert_eq!(served_by(&cma, size * MIB).unwrap(), expected, "{size}");
    }
    let error = served_by(&cma, 17 * MIB).unwrap_err().to_string();
    let places: Vec<_> = ["a:", "b:", "d:", "c:", "e:"].map(|n| error.find(n).unwrap()).into();
    assert!(places.is_sorted(), "{error}");
    // A group of one keeps its place in the order.
    cma.set_map(Map::parse("*=e,a|b").unwrap());
    assert_eq!(served_by(&cma, MIB).unwrap(), "e");
    drop(chunks);
}

#[test]
fn names_without_a_region_are_passed_over_in_a_group() {
    let (cma, _chunks) = framework(&[("a", 4), ("b", 2)], "*=none|a|nothing|b");
    assert_eq!(served_by(&cma, MIB).unwrap(), "b");
    assert_eq!(served_by(&cma, 3 * MIB).unwrap(), "a");
    let error = served_by(&cma, 5 * MIB).unwrap_err().to_string();
    assert!(error.contains("none: no such region"), "{error}");
}

#[test]
fn a_region_that_fits_best_and_then_declines_is_followed_by_the_next_best() {
    let (cma, _chunks) = framework(&[("a", 8), ("b", 4)], "*=a|b|liar");
    // Its hole is the smallest, and it places nothing but this one chunk, outside the region.
    region(&cma, "liar", BASE + 64 * MIB, MIB, scripted("900+1"));
    assert_eq!(name(&cma.alloc("camera", None, 4096, 0).unwrap()), "b");
}

/// The region of a chunk by every call that takes a list of regions.
fn served_from(cma: &Cma, list: &str, size: u64) -> Result<String, AllocError> {
    let request = ChunkRequest::parse(&size.to_string()).unwrap();
    let source = Source::Regions(list);
    let process = Process { uid: 0, pid: 1, name: "p".into() };
    let calls: [&dyn Fn() -> Result<Chunk, AllocError>; 4] = [
        &|| cma.alloc_from(list, size, 0),
        &|| cma.allocate(source, &request),
        &|| cma.to_share(process.clone(), source, &request)?.alloc(),
        &|| cma.allocate(source, &request.wait(std::time::Duration::from_secs(3600))),
    ];
    let served: Vec<_> = calls.iter().map(|call| call().map(|c| name(&c).to_string())).collect();
    assert!(served.iter().all(|other| *other == served[0]), "{served:?}");
    served.into_iter().next().unwrap()
}

#[test]
fn a_list_of_regions_has_groups_as_a_rule_of_the_map_has() {
    let (cma, chunks) = framework(&[("a", 8), ("b", 2), ("c", 4), ("e", 16)], "");
    for (list, size, expected) in [
        ("a|b|c,e", 1, "b"),
        ("a|c|b,e", 3, "c"),
        (" a | b | c , e ;nothing", 5, "a"),
        ("a|b|c,e", 9, "e"),
        ("e,a|b", 1, "e"),
        ("none|a|b", 1, "b"),
        ("none,a", 1, "a"),
    ] {
        assert_eq!(served_from(&cma, list, size * MIB).unwrap(), expected, "{list} {size}");
    }
    let info = cma.info_about("a|b,c").unwrap();
    assert_eq!((info.regions, info.free_bytes), (3, 14 * MIB));
    for list in ["a|", "|a", "a||b", "a, |b", "|"] {
        let error = cma.alloc_from(list, MIB, 0).unwrap_err();
        assert!(error.to_string().contains("b1|b2 for the one"), "{list}: {error}");
    }
    drop(chunks);
}

#[test]
fn a_region_for_which_others_wait_is_tried_last() {
    let (cma, chunks) = framework(&[("a", 2), ("b", 4)], "*=a|b");
    let waits = ChunkRequest::parse("3M").unwrap();
    let mut pending = cma.allocate_async(Source::Regions("a"), &waits).unwrap();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(std::pin::Pin::new(&mut pending).poll(&mut context).is_pending());
    assert_eq!(served_by(&cma, MIB).unwrap(), "b");
    drop(pending);
    assert_eq!(served_by(&cma, MIB).unwrap(), "a");
    drop(chunks);
}

#[test]
fn an_allocator_that_waits_to_be_attached_is_attached_by_the_choice() {
    let cma = Cma::new();
    cma.allocator_register(Plugin::built_in::<cma_bitmap::Bitmap>()).unwrap();
    let sizes = [("a", 0, 8), ("b", 8, 4)];
    let regions: Vec<Region> = sizes
        .iter()
        .map(|(name, at, size)| {
            region(&cma, name, BASE + at * MIB, size * MIB, AllocatorChoice::Default)
        })
        .collect();
    cma.set_map(Map::parse("*=a|b").unwrap());
    assert_eq!(served_by(&cma, MIB).unwrap(), "b");
    for region in regions {
        assert_eq!(region.allocator().to_string(), "bitmap");
        region.check().unwrap();
    }
}
