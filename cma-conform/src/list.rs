//! The one list of guarantees. [`ALL`](crate::guarantees::ALL) and the tests of an allocator are
//! both generated from it.

/// Calls the macro `$then` with the names of all guarantees.
#[doc(hidden)]
#[macro_export]
macro_rules! __guarantees {
    ($($then:tt)+) => {
        $($then)+! {
            random_operations_match_the_model
            every_short_sequence_matches_the_model
            a_whole_region_can_be_one_chunk
            a_region_fills_page_by_page_and_empties_in_any_order
            a_region_filled_with_mixed_sizes_empties_in_any_order
            thousands_of_holes_are_kept_and_merged
            huge_alignments_stay_inside_the_region
            a_region_may_end_at_the_top_of_the_address_space
            a_region_of_64_gibibytes_is_served_or_refused_with_a_reason
            a_request_larger_than_the_region_changes_nothing
            every_limit_in_a_small_region_is_kept
            limits_around_words_and_blocks_are_kept
            fit_names_the_hole_that_allocate_uses
            asking_for_a_fit_changes_nothing
            the_largest_request_is_served_and_no_larger_one
            a_refused_adoption_changes_nothing
            a_fresh_allocator_adopts_all_chunks_of_a_full_one
            chunks_are_adopted_in_any_order
            placements_are_valid_for_every_asker
            hosts_accept_the_name_version_and_description
            unknown_parameters_are_refused_by_name
            a_full_allocator_can_be_dropped
            regions_are_independent
            an_allocator_may_move_between_threads
        }
    };
}
