//! A newer build of an allocator takes over the regions of the one it replaces, in a running
//! system.

use crate::fixture;
use cma_framework::config::Map;
use cma_framework::{AllocatorChoice, AllocatorState, Cma, DmaAddr, Plugin, Region};

const MIB: u64 = 1 << 20;

fn load(revision: &str) -> Plugin {
    Plugin::load(fixture(revision)).unwrap()
}

fn region(cma: &Cma, name: &str, start: u64, choice: AllocatorChoice) -> Region {
    cma.region_register(Some(name), DmaAddr::new(start), MIB, choice).unwrap()
}

fn framework() -> (Cma, Region) {
    let cma = Cma::new();
    cma.allocator_register(load("revision-one")).unwrap();
    let region = region(&cma, "r", 0x4000_0000, AllocatorChoice::named("revised"));
    cma.set_map(Map::parse("*=r").unwrap());
    (cma, region)
}

#[test]
fn regions_of_the_old_build_have_the_new_one_with_every_chunk_in_place() {
    let (cma, first) = framework();
    let second = region(&cma, "s", 0x5000_0000, AllocatorChoice::Default);
    let other = AllocatorChoice::Given {
        plugin: Plugin::built_in::<cma_best_fit::BestFit>(),
        params: String::new(),
    };
    let other = region(&cma, "other", 0x6000_0000, other);
    let chunks: Vec<_> = (0..3).map(|_| cma.alloc("camera", None, 5 * 4096, 0).unwrap()).collect();
    let before: Vec<_> = chunks.iter().map(cma_framework::Chunk::range).collect();
    drop(cma.alloc_from_region(&second, 4096, 0).unwrap());

    let replacement = cma.allocator_replace(load("revision-two")).unwrap();
    assert_eq!(replacement.replaced.unwrap().version(), "1.0.0");
    assert_eq!(replacement.taken_over, [first.clone(), second]);
    assert!(replacement.kept.is_empty());
    let versions: Vec<_> = cma.allocators().iter().map(|r| r.plugin.version()).collect();
    assert_eq!(versions, ["2.0.0"]);
    assert_eq!(other.status().allocator, AllocatorState::Attached(Some("best-fit".to_string())));

    first.check().unwrap();
    assert!(
        cma.alloc("camera", None, 4096, 0).unwrap().range().first_page() > before[2].first_page()
    );
    drop(chunks);
    assert_eq!((first.status().users, first.free().unwrap().bytes()), (0, MIB));
    first.check().unwrap();
}

#[test]
fn the_same_build_again_changes_nothing() {
    let (cma, region) = framework();
    let _chunk = cma.alloc("camera", None, 4096, 0).unwrap();
    let replacement = cma.allocator_replace(load("revision-one")).unwrap();
    assert!(replacement.replaced.is_none() && replacement.taken_over.is_empty());
    assert_eq!((cma.allocators().len(), region.status().users), (1, 1));
}

#[test]
fn without_an_older_build_it_is_registered_and_regions_that_wait_have_it() {
    let cma = Cma::new();
    let waits = region(&cma, "r", 0x4000_0000, AllocatorChoice::named("revised"));
    let replacement = cma.allocator_replace(load("revision-one")).unwrap();
    assert!(replacement.replaced.is_none());
    assert_eq!(replacement.attachments.attached, [waits]);
}
