//! A function that breaks the contract ends the service of its allocator, with its name and what it
//! returned. The chunks stay, and another allocator adopts them.

use super::{BASE, MIB, faulty, region};
use cma_api::{DmaAddr, PageRange};
use cma_framework::config::Map;
use cma_framework::{AllocatorChoice, AllocatorState, Cma, Plugin, Region};

/// The region's allocator is out of service for a reason with these words, and another adopts what
/// is live.
fn is_out_of_service(cma: &Cma, region: &Region, words: &str) {
    let AllocatorState::OutOfService { reason, .. } = region.status().allocator else {
        panic!("{words}: still trusted: {:?}", region.status().allocator)
    };
    assert!(reason.contains(words), "\"{words}\" is not in: {reason}");
    let plugin = Plugin::built_in::<cma_best_fit::BestFit>();
    let choice = AllocatorChoice::Given { plugin, params: String::new() };
    cma.set_region_allocator(region, choice).unwrap();
    drop(cma.alloc_from("r", 4096, 0).unwrap());
    region.check().unwrap();
}

#[test]
fn a_result_that_is_none_ends_the_service() {
    let Some(library) = faulty(&[]) else { return };
    for (params, words) in [
        ("unwritten", "`allocate` returned 0 without a result"),
        (
            "allocate",
            "failed while allocating: `allocate` returned 7, which is none of its results",
        ),
        ("broken", "`allocate` reports that the allocator's data are broken"),
        ("outside", "outside the region"),
    ] {
        let (cma, region) = region(&library, params);
        cma.alloc_from("r", 4096, 0).unwrap_err();
        is_out_of_service(&cma, &region, words);
    }
}

#[test]
fn a_refused_free_ends_the_service_and_frees_the_chunk() {
    let Some(library) = faulty(&[]) else { return };
    let (cma, region) = region(&library, "free");
    let kept = cma.alloc_from("r", 4096, 0).unwrap();
    drop(cma.alloc_from("r", 4096, 0).unwrap());
    assert_eq!(region.status().users, 1);
    is_out_of_service(&cma, &region, "refused to free");
    drop(kept);
}

#[test]
fn more_holes_than_a_region_can_have_end_the_service() {
    let Some(library) = faulty(&[]) else { return };
    let (cma, region) = region(&library, "holes");
    let error = region.check().unwrap_err();
    assert!(error.contains("`holes` visits more than 129 holes"), "{error}");
    is_out_of_service(&cma, &region, "`holes` visits more than 129 holes");
}

#[test]
fn a_broken_check_is_reported_and_one_that_refuses_ends_the_service() {
    let Some(library) = faulty(&["-DADOPTS"]) else { return };
    let (serves, sound) = region(&library, "check");
    assert_eq!(sound.check().unwrap_err(), "allocator faulty: the books are wet");
    drop(serves.alloc_from("r", 4096, 0).unwrap());
    let (cma, region) = region(&library, "check-refuses");
    region.check().unwrap_err();
    is_out_of_service(&cma, &region, "`check` returned 1, which is none of its results");
}

#[test]
fn an_adoption_without_a_result_keeps_the_old_allocator() {
    let Some(library) = faulty(&["-DADOPTS"]) else { return };
    let (cma, region) = region(&library, "");
    let chunk = cma.alloc_from("r", 4096, 0).unwrap();
    let plugin = Plugin::load(&library).unwrap();
    let choice = AllocatorChoice::Given { plugin, params: "adopt".to_string() };
    let error = cma.set_region_allocator(&region, choice).unwrap_err().to_string();
    assert!(error.contains("`adopt` returned 9, which is none of its results"), "{error}");
    drop(chunk);
    region.check().unwrap();
}

#[test]
fn a_region_that_is_refused_has_the_reason() {
    let Some(library) = faulty(&[]) else { return };
    for (params, words) in [
        ("none-made", "`initialise` returned 0, but made no allocator"),
        ("strange", "`initialise` returned -5, which is none of its results"),
        ("silent", "it refuses the region or the parameters"),
        ("unended", "xxxxxxxxxxx"),
        ("latin", "caf\u{fffd}"),
        ("a\0b", "a character 0"),
    ] {
        let plugin = Plugin::load(&library).unwrap();
        let reason = plugin.initialise(PageRange::from_pages(1, 8), params).map(drop).unwrap_err();
        assert!(reason.contains(words), "{params}: {reason}");
        assert!(reason.len() <= 256, "{reason}");
        let choice = AllocatorChoice::Given { plugin, params: params.to_string() };
        let cma = Cma::new();
        let refused = cma.region_register(Some("r"), DmaAddr::new(0), MIB, choice).map(drop);
        let error = refused.unwrap_err().to_string();
        assert!(error.contains(words), "{params}: {error}");
    }
}

#[test]
fn a_hole_that_is_not_written_leaves_the_choice_to_other_regions() {
    let Some(library) = faulty(&[]) else { return };
    let (cma, region) = region(&library, "fit");
    let best_fit = Plugin::built_in::<cma_best_fit::BestFit>();
    let choice = AllocatorChoice::Given { plugin: best_fit, params: String::new() };
    cma.region_register(Some("other"), DmaAddr::new(BASE + MIB), MIB, choice).unwrap();
    cma.set_map(Map::parse("*=r|other").unwrap());
    let chunk = cma.alloc("camera", None, 4096, 0).unwrap();
    assert_eq!(chunk.region().name(), Some("other"));
    is_out_of_service(&cma, &region, "`fit` returned 0 without a result");
}

#[test]
fn an_allocator_is_released_unless_its_data_are_broken() {
    let Some(library) = faulty(&[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    for (fault, is_released) in [("", true), ("broken", false)] {
        let file = folder.path().join(format!("released-{fault}"));
        let (cma, region) = region(&library, &format!("{fault}{}", file.display()));
        let served = cma.alloc_from("r", 4096, 0);
        assert_eq!(served.is_ok(), is_released);
        assert!(!file.exists());
        drop(served);
        cma.region_unregister(&region).unwrap();
        drop((cma, region));
        assert_eq!(file.exists(), is_released, "{fault}");
    }
}

#[test]
fn without_adopt_what_needs_an_adoption_is_refused() {
    let Some(library) = faulty(&[]) else { return };
    let (cma, region) = region(&library, "");
    let chunk = cma.alloc_from("r", 4096, 0).unwrap();
    let plugin = Plugin::load(&library).unwrap();
    let choice = AllocatorChoice::Given { plugin, params: "again".to_string() };
    let error = cma.set_region_allocator(&region, choice).unwrap_err().to_string();
    assert!(error.contains("the plug-in has no function `adopt`"), "{error}");
    region.check().unwrap();
    drop(chunk);
}
