//! The suite put to the test: for each flaw an allocator can have, the guarantee that must catch
//! it, and what it must say.

mod flawed;

use cma_api::AllocatorInfo;
use cma_api::v1::module_of;
use cma_fixture_first_fit::{FirstFit, Named};
use cma_testkit::{Call, Failure, Placing, Subject, Violation, guarantees};
use flawed::Flawed;
use std::process::Command;
use std::time::Duration;

fn subject(flaw: &'static str, placing: Placing) -> Subject {
    Subject { module: module_of::<Flawed>(), params: flaw, placing }
}

/// How `guarantee` fails on an allocator with `flaw`.
fn failure(guarantee: guarantees::Guarantee, flaw: &'static str, placing: Placing) -> Failure {
    guarantee(&subject(flaw, placing)).expect_err("the flaw must be caught")
}

macro_rules! caught {
    ($($flaw:ident, $placing:ident: $guarantee:ident says $violation:ident;)+) => {
        $(
            #[test]
            fn $flaw() {
                let failure = failure(guarantees::$guarantee, stringify!($flaw), Placing::$placing);
                assert!(matches!(*failure.violation, Violation::$violation { .. }), "{failure}");
            }
        )+

        const CAUGHT: &[&str] = &[$(stringify!($guarantee)),+];
    };
}

caught! {
    // Places that are wrong.
    aligns_down, Exact: every_short_sequence_matches_the_model says Overlap;
    aligns_the_offset, Exact: random_operations_match_the_model says Misaligned;
    knows_no_alignment_over_a_mebibyte, Exact: huge_alignments_stay_inside_the_region says Misaligned;
    wraps_when_aligning, Exact: huge_alignments_stay_inside_the_region says Outside;
    overruns_by_a_page, Exact: a_request_larger_than_the_region_changes_nothing says Outside;
    rounds_up_to_even_sizes, Any: random_operations_match_the_model says WrongSize;
    // Places that are not found.
    needs_a_page_more, Exact: a_whole_region_can_be_one_chunk says NoRoomThoughFree;
    serves_bins_of_powers_of_two, Exact: a_whole_region_can_be_one_chunk says NoRoomThoughFree;
    wants_room_for_the_alignment, Exact: random_operations_match_the_model says NoRoomThoughFree;
    never_merges_and_hides_it, Any: a_region_fills_page_by_page_and_empties_in_any_order says NotAsNew;
    fills_to_the_half, Exact: a_region_fills_page_by_page_and_empties_in_any_order says NoRoomThoughFree;
    serves_nothing, Any: the_largest_request_is_served_and_no_larger_one says LargestRequestNotServed;
    serves_nothing_and_says_so, Any: the_largest_request_is_served_and_no_larger_one says ServesNothing;
    // Places that are valid and not the declared ones.
    places_top_down, FirstFit: random_operations_match_the_model says Misplaced;
    first_fit_instead, BestFit: every_short_sequence_matches_the_model says Misplaced;
    best_fit_instead, FirstFit: every_short_sequence_matches_the_model says Misplaced;
    best_fit_never_moves, BestFit: every_short_sequence_matches_the_model says Misplaced;
    best_fit_always_moves, BestFit: every_short_sequence_matches_the_model says Misplaced;
    best_fit_highest_of_equals, BestFit: every_short_sequence_matches_the_model says Misplaced;
    best_fit_stops_at_the_first_big_enough, BestFit: random_operations_match_the_model says NoRoomThoughFree;
    // Books that are wrong.
    forgets_chunks_of_three_pages, Any: every_short_sequence_matches_the_model says Holes;
    never_gives_back_single_pages, Any: every_short_sequence_matches_the_model says Holes;
    leaks_between_two_neighbours, Any: random_operations_match_the_model says Holes;
    refuses_the_second_of_three, Any: random_operations_match_the_model says FreeRefused;
    tells_unmerged_holes, Any: a_region_filled_with_mixed_sizes_empties_in_any_order says Holes;
    tells_holes_descending, Any: random_operations_match_the_model says Holes;
    forgets_the_last_hole, Any: random_operations_match_the_model says Holes;
    tells_the_free_pages_as_the_largest_request, Any: random_operations_match_the_model says LargestRequest;
    tells_of_one_page, Any: the_largest_request_is_served_and_no_larger_one says LargestRequestExceeded;
    tells_of_a_page_less, Exact: random_operations_match_the_model says LargestRequest;
    serves_powers_of_two, Any: the_largest_request_is_served_and_no_larger_one says LargestRequestNotServed;
    loses_its_invariant_at_five_chunks, Any: random_operations_match_the_model says Check;
    loses_a_page_when_full, Exact: a_request_larger_than_the_region_changes_nothing says Holes;
    // Regions that are out of the ordinary.
    knows_no_top, Any: a_region_may_end_at_the_top_of_the_address_space says Holes;
    refuses_odd_regions, Any: random_operations_match_the_model says RegionRefused;
    refuses_large_regions_silently, Any: a_region_of_64_gibibytes_is_served_or_refused_with_a_reason says RegionRefused;
    panics_at_large_regions, Any: a_region_of_64_gibibytes_is_served_or_refused_with_a_reason says Panicked;
    panics_at_sizes_beyond_the_region, Exact: a_request_larger_than_the_region_changes_nothing says Panicked;
    // Adoption.
    adopts_without_looking, Any: adopting_what_is_taken_or_outside_changes_nothing says Outside;
    adopts_outside, Any: adopting_what_is_taken_or_outside_changes_nothing says Outside;
    adopts_a_part_and_refuses, Any: adopting_what_is_taken_or_outside_changes_nothing says Holes;
    refuses_adoption_silently, Any: adopting_what_is_taken_or_outside_changes_nothing says NoReason;
    forgets_what_it_adopts, Any: a_fresh_allocator_adopts_all_chunks_of_a_full_one says Holes;
    adopts_powers_of_two_only, Any: a_fresh_allocator_adopts_all_chunks_of_a_full_one says AdoptRefused;
    adopts_ascending_only, Exact: chunks_are_adopted_in_any_order says AdoptRefused;
    // What surrounds the placing.
    indexes_by_asker, Any: who_asks_does_not_matter_for_validity says Panicked;
    has_room_for_few_askers, Exact: who_asks_does_not_matter_for_validity says NoRoomThoughFree;
    takes_any_parameter, Any: unknown_parameters_are_refused_by_name says ParameterAccepted;
    panics_at_parameters, Any: unknown_parameters_are_refused_by_name says Panicked;
    hides_what_it_refuses, Any: unknown_parameters_are_refused_by_name says ParameterNotNamed;
    leaves_chunks_behind, Any: a_full_allocator_can_be_dropped says Holes;
    panics_when_dropped_with_chunks, Any: a_full_allocator_can_be_dropped says PanickedInDrop;
    loses_chunks_beyond_250_holes, Any: thousands_of_holes_are_kept_and_merged says Holes;
    shares_its_books, Exact: regions_are_independent says NoRoomThoughFree;
    keeps_its_books_in_the_thread, Any: an_allocator_may_move_between_threads says Holes;
}

#[test]
fn every_guarantee_catches_some_flaw() {
    // This one is about what stands in `INFO`, where no parameter can make a flaw.
    let elsewhere = "hosts_accept_what_it_says_of_itself";
    for (name, _) in guarantees::ALL {
        assert!(*name == elsewhere || CAUGHT.contains(name), "no flaw shows that {name} can fail");
    }
}

struct Names;

impl Named for Names {
    const INFO: AllocatorInfo =
        AllocatorInfo { name: "first fit", version: "1.0.0", description: "a name of two words" };
}

struct Describes;

impl Named for Describes {
    const INFO: AllocatorInfo =
        AllocatorInfo { name: "first-fit", version: "1.0.0", description: "two\nlines" };
}

#[test]
fn a_name_or_description_that_hosts_refuse() {
    let cases = [
        (
            module_of::<FirstFit<Names>>(),
            "hosts refuse it, because its name \"first fit\" has a character",
        ),
        (
            module_of::<FirstFit<Describes>>(),
            "its description \"two\\nlines\" has a control character",
        ),
    ];
    for (module, says) in cases {
        let subject = Subject { module, params: "", placing: Placing::FirstFit };
        let failure =
            guarantees::hosts_accept_what_it_says_of_itself(&subject).unwrap_err().to_string();
        assert!(failure.contains(says), "{failure}");
    }
}

#[test]
fn an_endless_loop_fails_with_the_call_the_seed_and_what_came_before() {
    let subject = subject("loops_at_the_third_hole", Placing::Any);
    let guarantee = guarantees::random_operations_match_the_model;
    let verdict = guarantees::verdict_within(Duration::from_secs(2), guarantee, &subject);
    let failure = verdict.expect_err("the flaw must be caught");
    let Violation::Hangs { call: Call::Free(range), .. } = *failure.violation else {
        panic!("{failure}")
    };
    let failure = failure.to_string();
    let says =
        format!("has not returned from this call within 2 s: free {range} (PROPTEST_RNG_SEED=");
    assert!(failure.contains(&says) && failure.contains("   1. "), "{failure}");
}

#[test]
fn an_allocator_that_panics_at_everything_fails_in_a_few_lines() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "every_failure_of_an_allocator_that_panics_at_everything",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env("RUST_BACKTRACE", "1")
        .output()
        .unwrap();
    let printed =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    assert!(output.status.success() && printed.contains("not yet written, at "), "{printed}");
    assert!(printed.lines().count() < 10 * guarantees::ALL.len(), "{printed}");
}

#[test]
#[ignore = "it prints, and another test counts the lines"]
#[allow(clippy::print_stdout, reason = "another test counts the lines")]
fn every_failure_of_an_allocator_that_panics_at_everything() {
    for (_, guarantee) in guarantees::ALL {
        if let Err(failure) =
            guarantees::verdict(*guarantee, &subject("panics_at_everything", Placing::Any))
        {
            println!("{failure}");
        }
    }
}

mod without_a_flaw {
    use super::Flawed;
    cma_testkit::conformance!(Flawed, FirstFit, "none");
    mod best_fit {
        use super::Flawed;
        cma_testkit::conformance!(Flawed, BestFit, "best_fit");
    }
}

#[test]
fn a_random_failure_is_shrunk_to_the_operations_that_matter() {
    let guarantee = guarantees::random_operations_match_the_model;
    let failure = failure(guarantee, "never_gives_back_single_pages", Placing::Any);
    assert_eq!(
        failure.to_string(),
        "allocator \"flawed\" on the region 0x0+0x1000:\n\
         \x20   1. allocate 0x1000 aligned 0x1000 -> 0x0+0x1000\n\
         \x20   2. free 0x0+0x1000\n\
         hole 0: it tells of none, the model has 0x0+0x1000"
    );
}

#[test]
fn an_exhaustive_failure_is_a_shortest_one() {
    let guarantee = guarantees::every_short_sequence_matches_the_model;
    let failure = failure(guarantee, "leaks_between_two_neighbours", Placing::Any);
    assert_eq!(failure.steps.len(), 4, "{failure}");
}
