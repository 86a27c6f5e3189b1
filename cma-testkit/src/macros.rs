//! The macros that apply the suite to an allocator.

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
/// [crate]'s documentation has examples.
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
                    algorithm: $crate::cma_api::Algorithm::of::<$allocator>(),
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
