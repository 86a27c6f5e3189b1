//! The example of the guide keeps every guarantee, and serves a framework as any other allocator.

use super::{BASE, MIB, faulty, next_fit, region};
use cma_api::{Alignment, Asker, DmaAddr, PageRange, Pages, Request};
use cma_framework::{AllocatorChoice, Cma, Plugin};
use cma_testkit::{Placing, Subject, guarantees};

#[test]
fn the_example_keeps_every_guarantee() {
    let Some(library) = next_fit() else { return };
    let algorithm = Plugin::load(library).unwrap().algorithm();
    let subject = Subject { algorithm, params: "", placing: Placing::Exact };
    for (name, guarantee) in guarantees::ALL {
        guarantees::verdict(*guarantee, &subject)
            .unwrap_or_else(|failure| panic!("{name}: {failure}"));
    }
}

#[test]
fn chunks_are_adopted_from_rust_to_c_and_back() {
    let Some(library) = next_fit() else { return };
    let (cma, region) = region(&library, "");
    let mut chunks: Vec<_> = (1..10).map(|n| cma.alloc_from("r", n * 4096, 0).unwrap()).collect();
    drop(chunks.remove(4));
    drop(chunks.remove(2));
    let choice = |plugin| AllocatorChoice::Given { plugin, params: String::new() };
    let best_fit = Plugin::built_in::<cma_best_fit::BestFit>();
    for plugin in [best_fit, Plugin::load(&library).unwrap()] {
        cma.set_region_allocator(&region, choice(plugin)).unwrap();
        region.check().unwrap();
        chunks.push(cma.alloc_from("r", 8192, 0).unwrap());
        region.check().unwrap();
    }
    drop(chunks);
    region.check().unwrap();
    assert_eq!(region.status().free_bytes, MIB);
}

#[test]
fn the_example_goes_on_behind_the_last_chunk_and_comes_round() {
    let Some(library) = next_fit() else { return };
    let (cma, _region) = region(&library, "");
    let first = cma.alloc_from("r", MIB / 4, 0).unwrap();
    let second = cma.alloc_from("r", MIB / 4, 0).unwrap();
    drop(first);
    let third = cma.alloc_from("r", MIB / 4, 0).unwrap();
    assert_eq!(third.start().get(), BASE + MIB / 2);
    let fourth = cma.alloc_from("r", MIB / 4, 0).unwrap();
    let fifth = cma.alloc_from("r", MIB / 4, 0).unwrap();
    assert_eq!((fourth.start().get(), fifth.start().get()), (BASE + 3 * MIB / 4, BASE));
    drop(second);
}

#[test]
fn an_unknown_parameter_of_the_example_is_named() {
    let Some(library) = next_fit() else { return };
    let plugin = Plugin::load(library).unwrap();
    let refused = plugin.initialise(PageRange::from_pages(1, 8), "colour=red").map(drop);
    assert_eq!(refused.unwrap_err(), "unknown parameter \"colour=red\"; it takes none");
}

#[test]
fn without_largest_request_it_is_the_largest_hole_and_without_check_all_is_sound() {
    let Some(library) = faulty(&[]) else { return };
    let plugin = Plugin::load(library).unwrap();
    let mut allocator = plugin.initialise(PageRange::from_pages(16, 64), "").unwrap();
    let request = Request::new(Pages::new(24), Alignment::PAGE, Asker::NOBODY).unwrap();
    allocator.allocate(&request).into_result().unwrap();
    assert_eq!(allocator.largest_request(), Pages::new(40));
    assert_eq!(allocator.check().into_result(), Ok(()));
}

#[test]
fn a_rebuilt_plugin_serves_beside_the_old_one() {
    let (Some(old), Some(new)) = (faulty(&["-DADOPTS"]), faulty(&["-DADOPTS", "-O2"])) else {
        return;
    };
    let cma = Cma::new();
    cma.allocator_register(Plugin::load(&old).unwrap()).unwrap();
    let start = DmaAddr::new(BASE);
    let region =
        cma.region_register(Some("r"), start, MIB, AllocatorChoice::named("faulty")).unwrap();
    let chunk = cma.alloc_from("r", 4096, 0).unwrap();
    cma.allocator_replace(Plugin::load(&new).unwrap()).unwrap();
    region.check().unwrap();
    drop(chunk);
    region.check().unwrap();
}
