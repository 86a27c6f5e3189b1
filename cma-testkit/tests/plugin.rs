//! The suite over a loaded plug-in: it finds the library that the same cargo run built, and says through the binary
//! interface what it says of a linked algorithm.

use cma_testkit::{Placing, Subject, Violation, built_library, guarantees, load};

cma_testkit::conformance_of_plugin!("cma_fixture_misbehaving", FirstFit);

macro_rules! caught {
    ($($test:ident: $params:literal, $guarantee:ident says $violation:ident;)+) => {
        $(
            #[test]
            fn $test() {
                let module = load(&built_library("cma_fixture_misbehaving"));
                let subject = Subject { module, params: $params, placing: Placing::Exact };
                let failure = guarantees::$guarantee(&subject).expect_err("the plug-in breaks the contract");
                assert!(matches!(*failure.violation, Violation::$violation { .. }), "{failure}");
            }
        )+
    };
}

caught! {
    a_place_outside_the_region: "place=outside", random_operations_match_the_model says Outside;
    a_place_that_wraps: "place=wrapping", random_operations_match_the_model says Outside;
    a_chunk_that_is_too_small: "place=small", random_operations_match_the_model says WrongSize;
    a_chunk_that_is_too_large: "place=large", random_operations_match_the_model says WrongSize;
    a_chunk_over_another: "place=overlapping,after=1", random_operations_match_the_model says Overlap;
    a_chunk_that_is_none_of_its_own: "free=refuse", random_operations_match_the_model says FreeRefused;
    another_chunk_freed_than_asked: "free=other", random_operations_match_the_model says Holes;
    an_adopted_range_that_is_forgotten: "adopt=lie", random_operations_match_the_model says Holes;
    a_refused_region: "init=refuse", random_operations_match_the_model says RegionRefused;
    a_panic_on_initialising: "panic=initialise", a_region_of_64_gibibytes_is_served_or_refused_with_a_reason says Panicked;
    a_panic_on_allocating: "panic=allocate", a_whole_region_can_be_one_chunk says Panicked;
    a_panic_on_freeing: "panic=free", a_whole_region_can_be_one_chunk says Panicked;
    a_panic_on_adopting: "panic=adopt", adopting_what_is_taken_or_outside_changes_nothing says Panicked;
    a_panic_on_telling_holes: "panic=holes", a_whole_region_can_be_one_chunk says Panicked;
    a_panic_on_telling_the_largest_hole: "panic=largest_hole", a_whole_region_can_be_one_chunk says Panicked;
    a_panic_on_checking: "panic=check,after=2", a_whole_region_can_be_one_chunk says Panicked;
}

#[test]
#[should_panic(expected = "among its [dev-dependencies], by path")]
fn a_library_that_is_not_built_is_asked_for() {
    built_library("cma_no_such_plugin");
}

#[test]
#[should_panic(expected = "can't be loaded")]
fn a_file_that_is_no_library_is_not_loaded() {
    load(std::path::Path::new(file!()));
}
