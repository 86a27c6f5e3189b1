//! The macros that apply the suite to an allocator. The one list of guarantees is here; the tests
//! and [`ALL`](crate::guarantees::ALL) are both generated from it.

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

/// One test for each guarantee, on the result of the function `subject` in its scope. Without a
/// subject the tests are skipped: another test reports why there is none.
#[doc(hidden)]
#[macro_export]
macro_rules! __tests {
    ($($guarantee:ident)+) => {
        $(
            #[test]
            fn $guarantee() {
                let Some(subject) = subject() else { return $crate::skipped() };
                if let Err(failure) =
                    $crate::guarantees::verdict($crate::guarantees::$guarantee, &subject)
                {
                    panic!("{failure}");
                }
            }
        )+
    };
}

/// Tests that the allocator `$allocator`, a type that implements [`Allocator`](cma_api::Allocator),
/// keeps every guarantee of [`guarantees`](crate::guarantees) and places chunks by the rule
/// `$placing`, a variant of [`Placing`](crate::Placing). Parameters to initialise it with may
/// follow.
///
/// `$placing` is the strictest of these that is true: `FirstFit` (the lowest free place), `BestFit`
/// (in the smallest hole that holds the request within its limits), `Exact` (any place, and
/// `NoRoom` only when there is none), `Any` (may refuse a request that would fit). The
/// [crate](crate)'s documentation has examples.
///
/// It expands to a module `conformance` with a test for each guarantee. To use it several times in
/// one file, wrap each use in a module.
///
/// ```ignore
/// cma_testkit::conformance!(my_crate::MyAllocator, Exact);
/// mod small_orders {
///     cma_testkit::conformance!(my_crate::MyAllocator, Any, "max-order=3");
/// }
/// ```
#[macro_export]
macro_rules! conformance {
    ($allocator:ty, $placing:ident) => {
        $crate::conformance!($allocator, $placing, "");
    };
    ($allocator:ty, $placing:ident, $params:expr) => {
        #[cfg(test)]
        mod conformance {
            #[allow(
                unused_imports,
                reason = "the allocator may be named from the outermost module"
            )]
            use super::*;

            fn subject() -> Option<$crate::Subject> {
                Some($crate::Subject {
                    module: $crate::cma_api::v1::module_of::<$allocator>(),
                    params: $params,
                    placing: $crate::Placing::$placing,
                })
            }

            $crate::__guarantees! { $crate::__tests }
        }
    };
}

/// Tests the same for the plug-in library `$library`, as `"cma_my_crate_plugin"`, which must be a
/// dev-dependency of the tested package; see [`built_library`](crate::built_library).
///
/// It expands to a module `conformance_of_plugin`. A library that is missing or can't be loaded is
/// one failure. A further test starts the test program again, to check that panics in the library
/// are caught inside it and that dropping its allocator doesn't panic.
#[macro_export]
macro_rules! conformance_of_plugin {
    ($library:expr, $placing:ident) => {
        $crate::conformance_of_plugin!($library, $placing, "");
    };
    ($library:expr, $placing:ident, $params:expr) => {
        #[cfg(test)]
        mod conformance_of_plugin {
            fn subject() -> Option<$crate::Subject> {
                $crate::subject_of_plugin($library, $params, $crate::Placing::$placing).ok()
            }

            #[test]
            fn the_library_is_there_and_can_be_loaded() {
                let subject =
                    $crate::subject_of_plugin($library, $params, $crate::Placing::$placing);
                if let Err(reason) = subject {
                    panic!("{reason}");
                }
            }

            #[test]
            fn panics_stay_in_the_library() {
                let Some(subject) = subject() else { return $crate::skipped() };
                let this = concat!(module_path!(), "::panics_stay_in_the_library");
                if let Err(reason) = $crate::panics_stay_in_the_library(&subject, this) {
                    panic!("{reason}");
                }
            }

            $crate::__guarantees! { $crate::__tests }
        }
    };
}
