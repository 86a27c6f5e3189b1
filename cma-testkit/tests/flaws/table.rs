//! Each flaw with the rule that is declared, the guarantee that must detect it, and the violation
//! that this must report.

/// Calls the macro `$then` with all of them.
macro_rules! each_flaw {
    ($then:ident) => {
        $then! {
        // Invalid places.
        aligns_down, Exact: every_short_sequence_matches_the_model reports Overlap;
        aligns_the_offset, Exact: random_operations_match_the_model reports Misaligned;
        ignores_alignments_over_a_mebibyte, Exact: huge_alignments_stay_inside_the_region reports Misaligned;
        wraps_when_aligning, Exact: huge_alignments_stay_inside_the_region reports Outside;
        overruns_by_a_page, Exact: a_request_larger_than_the_region_changes_nothing reports Outside;
        rounds_up_to_even_sizes, Any: random_operations_match_the_model reports WrongSize;
        // Places that are not found.
        needs_a_page_more, Exact: a_whole_region_can_be_one_chunk reports NoRoomThoughFree;
        serves_bins_of_powers_of_two, Exact: a_whole_region_can_be_one_chunk reports NoRoomThoughFree;
        needs_room_for_the_alignment, Exact: random_operations_match_the_model reports NoRoomThoughFree;
        never_merges_and_reports_merged_holes, Any: a_region_fills_page_by_page_and_empties_in_any_order reports NotAsNew;
        refuses_beyond_fifty_chunks, Exact: a_region_fills_page_by_page_and_empties_in_any_order reports NoRoomThoughFree;
        serves_nothing, Any: the_largest_request_is_served_and_no_larger_one reports LargestRequestNotServed;
        serves_nothing_and_reports_it, Any: the_largest_request_is_served_and_no_larger_one reports ServesNothing;
        // Valid places that the declared rule doesn't choose.
        places_top_down, FirstFit: random_operations_match_the_model reports Misplaced;
        first_fit_instead, BestFit: every_short_sequence_matches_the_model reports Misplaced;
        best_fit_instead, FirstFit: every_short_sequence_matches_the_model reports Misplaced;
        best_fit_never_moves, BestFit: every_short_sequence_matches_the_model reports Misplaced;
        best_fit_always_moves, BestFit: every_short_sequence_matches_the_model reports Misplaced;
        best_fit_highest_of_equals, BestFit: every_short_sequence_matches_the_model reports Misplaced;
        best_fit_stops_at_the_first_big_enough, BestFit: random_operations_match_the_model reports NoRoomThoughFree;
        // Limits.
        ignores_windows, Any: every_limit_in_a_small_region_is_kept reports OutsideWindow;
        ignores_boundaries, Any: every_limit_in_a_small_region_is_kept reports CrossesBoundary;
        counts_boundaries_from_its_start, Any: random_operations_match_the_model reports CrossesBoundary;
        refuses_limits, Exact: random_operations_match_the_model reports NoRoomThoughFree;
        gives_up_at_a_boundary, Exact: every_limit_in_a_small_region_is_kept reports NoRoomThoughFree;
        wraps_at_the_end_of_a_window, Exact: every_limit_in_a_small_region_is_kept reports NoRoomThoughFree;
        searches_from_the_next_word, Exact: limits_around_words_and_blocks_are_kept reports NoRoomThoughFree;
        best_fit_moves_out_of_the_limits, BestFit: random_operations_match_the_model reports OutsideWindow;
        // Fits.
        fits_in_the_place, Any: fit_names_the_hole_that_allocate_uses reports FitIsNoHole;
        fits_within_no_limits, Any: every_limit_in_a_small_region_is_kept reports FitWithoutAPlace;
        fits_in_the_largest_hole, Any: fit_names_the_hole_that_allocate_uses reports FitNotKept;
        fits_half_as_much, Any: fit_names_the_hole_that_allocate_uses reports FitNotKept;
        promises_three_pages, Any: fit_names_the_hole_that_allocate_uses reports FitNotKept;
        fits_nothing_by_a_panic, Any: fit_names_the_hole_that_allocate_uses reports Panicked;
        takes_what_fits, Any: fit_names_the_hole_that_allocate_uses reports Holes;
        remembers_what_fits, Exact: asking_for_a_fit_changes_nothing reports FitChangedSomething;
        // Wrong books.
        forgets_chunks_of_three_pages, Any: every_short_sequence_matches_the_model reports Holes;
        never_frees_single_pages, Any: every_short_sequence_matches_the_model reports Holes;
        leaks_between_two_neighbours, Any: random_operations_match_the_model reports Holes;
        refuses_the_second_of_three, Any: random_operations_match_the_model reports FreeRefused;
        reports_unmerged_holes, Any: a_region_filled_with_mixed_sizes_empties_in_any_order reports Holes;
        reports_holes_descending, Any: random_operations_match_the_model reports Holes;
        omits_the_last_hole, Any: random_operations_match_the_model reports Holes;
        reports_the_free_pages_as_the_largest_request, Any: random_operations_match_the_model reports LargestRequest;
        reports_one_page_as_the_largest_request, Any: the_largest_request_is_served_and_no_larger_one reports LargestRequestExceeded;
        reports_a_page_less_as_the_largest_request, Exact: random_operations_match_the_model reports LargestRequest;
        serves_powers_of_two, Any: the_largest_request_is_served_and_no_larger_one reports LargestRequestNotServed;
        loses_its_invariant_at_five_chunks, Any: random_operations_match_the_model reports Check;
        loses_a_page_when_full, Exact: a_request_larger_than_the_region_changes_nothing reports Holes;
        // Unusual regions.
        omits_the_hole_at_the_top, Any: a_region_may_end_at_the_top_of_the_address_space reports Holes;
        refuses_odd_regions, Any: random_operations_match_the_model reports RegionRefused;
        refuses_large_regions_silently, Any: a_region_of_64_gibibytes_is_served_or_refused_with_a_reason reports RegionRefused;
        panics_at_large_regions, Any: a_region_of_64_gibibytes_is_served_or_refused_with_a_reason reports Panicked;
        panics_at_sizes_beyond_the_region, Exact: a_request_larger_than_the_region_changes_nothing reports Panicked;
        // Adoption.
        adopts_without_checking, Any: a_refused_adoption_changes_nothing reports Outside;
        adopts_outside, Any: a_refused_adoption_changes_nothing reports Outside;
        adopts_a_part_and_refuses, Any: a_refused_adoption_changes_nothing reports Holes;
        refuses_adoption_silently, Any: a_refused_adoption_changes_nothing reports NoReason;
        forgets_what_it_adopts, Any: a_fresh_allocator_adopts_all_chunks_of_a_full_one reports Holes;
        adopts_powers_of_two_only, Any: a_fresh_allocator_adopts_all_chunks_of_a_full_one reports AdoptRefused;
        adopts_ascending_only, Exact: chunks_are_adopted_in_any_order reports AdoptRefused;
        // Everything but placing.
        indexes_by_asker, Any: placements_are_valid_for_every_asker reports Panicked;
        serves_few_askers, Exact: placements_are_valid_for_every_asker reports NoRoomThoughFree;
        accepts_any_parameter, Any: unknown_parameters_are_refused_by_name reports ParameterAccepted;
        panics_at_parameters, Any: unknown_parameters_are_refused_by_name reports Panicked;
        does_not_name_the_refused_parameter, Any: unknown_parameters_are_refused_by_name reports ParameterNotNamed;
        leaves_chunks_behind, Any: a_full_allocator_can_be_dropped reports Holes;
        panics_when_dropped_with_chunks, Any: a_full_allocator_can_be_dropped reports PanickedInDrop;
        loses_chunks_beyond_250_holes, Any: thousands_of_holes_are_kept_and_merged reports Holes;
        shares_its_books, Exact: regions_are_independent reports NoRoomThoughFree;
        keeps_its_books_in_the_thread, Any: an_allocator_may_move_between_threads reports Holes;
        }
    };
}
