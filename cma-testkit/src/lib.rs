//! Shadow model and conformance suite for allocators, in process and as plug-ins.
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
//! The word after the allocator is the strictest of these that is true of it:
//!
//! | word | the allocator | such as |
//! | --- | --- | --- |
//! | [`FirstFit`](Placing::FirstFit) | finds the lowest free place | a bitmap that is searched from its start |
//! | [`BestFit`](Placing::BestFit) | finds the smallest hole that holds the request within its limits | a tree of holes by size |
//! | [`Exact`](Placing::Exact) | finds any place, and returns `NoRoom` only when there is none | another rule, such as next fit |
//! | [`Any`](Placing::Any) | may refuse a request that would fit | buddy blocks, size classes |
//!
//! If the word is too strict, the suite reports the broken part of the rule: after `Misplaced`
//! declare [`Exact`](Placing::Exact) or less, after `NoRoomThoughFree` declare
//! [`Any`](Placing::Any), unless the allocator is at fault.
//!
//! A violation is reported with the region and the operations that lead to it, shrunk to few.
//! `PROPTEST_CASES` sets the number of random cases (256), `PROPTEST_RNG_SEED` their seed. The
//! default seed is fixed, so that a verdict depends on the allocator alone.
//!
//! If a call of the allocator doesn't return within a minute, the test fails with the call, the
//! seed and the operations before it.
//!
//! For an author's own tests there are the shadow model ([`Model`]), the generators of
//! [`operations`], and [`CheckedAllocator`], which checks every result of an allocator against the
//! model.

mod checked;
pub mod guarantees;
mod macros;
mod model;
pub mod operations;
mod placing;
mod plugin;
mod requests;
mod violation;
mod watch;

pub use checked::{CheckedAllocator, Subject};
pub use model::Model;
pub use placing::Placing;
pub use plugin::{built_library, load};
#[doc(hidden)]
pub use plugin::{panics_stay_in_the_library, skipped, subject_of_plugin};
pub use requests::{alignment, request, request_of};
pub use violation::{Call, Failure, Step, Violation};

// For the expansion of `conformance!` in a test.
#[doc(hidden)]
pub use cma_api;
