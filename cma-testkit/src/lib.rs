//! The conformance suite as tests of an allocator, in process and as a plug-in.
//!
//! The author of an allocator declares where it places chunks ([`Placing`]) and gets every
//! guarantee of [`guarantees`] as a separate test, from one line:
//!
//! ```ignore
//! // tests/conformance.rs of the algorithm's crate
//! use cma_testkit::{conformance, conformance_of_plugin};
//!
//! conformance!(my_crate::MyAllocator, BestFit);
//! conformance_of_plugin!("cma_my_crate_plugin", BestFit);
//! ```
//!
//! The word after the allocator is the strictest rule of [`Placing`] that is true of it. If the
//! word is too strict, the suite reports the broken part of the rule: after `Misplaced` declare
//! [`Exact`](Placing::Exact) or less, after `NoRoomThoughFree` declare [`Any`](Placing::Any),
//! unless the allocator is at fault.
//!
//! A violation is reported with the region and the operations that lead to it, shrunk to few.
//! `PROPTEST_CASES` sets the number of random cases (256), `PROPTEST_RNG_SEED` their seed. The
//! default seed is fixed, so that a verdict depends on the allocator alone.
//!
//! If a call of the allocator doesn't return within a minute, the test fails with the call, the
//! seed and the operations before it. A crash ends the tests; the command `cma conform` runs the
//! same suite in processes of its own, and reports it.
//!
//! The suite itself, with the shadow model and the generators for an author's own tests, is
//! [`cma_conform`], of which this crate has every name.

mod macros;
mod plugin;

pub use cma_conform::*;
pub use plugin::{built_library, load};
#[doc(hidden)]
pub use plugin::{panics_stay_in_the_library, skipped, subject_of_plugin};

// For the expansion of `conformance!` in a test.
#[doc(hidden)]
pub use cma_api;
