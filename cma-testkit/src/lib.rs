//! Shadow model and conformance suite for allocators, in process and as plug-ins.
//!
//! The author of an allocator declares where it puts chunks ([`Placing`]) and gets every guarantee
//! of [`guarantees`] as a test of its own, from one line:
//!
//! ```ignore
//! // tests/conformance.rs of the algorithm's crate
//! use cma_testkit::{conformance, conformance_of_plugin};
//!
//! conformance!(my_crate::MyAllocator, BestFit);
//! conformance_of_plugin!("cma_my_crate_plugin", BestFit);
//! ```
//!
//! The word behind the allocator is the strictest of these that is true of it:
//!
//! | word | the allocator | such as |
//! | --- | --- | --- |
//! | [`FirstFit`](Placing::FirstFit) | finds the lowest place there is | a bitmap that is searched from its start |
//! | [`BestFit`](Placing::BestFit) | finds the smallest hole that holds the request with its alignment | a tree of holes by size |
//! | [`Exact`](Placing::Exact) | finds any place, and says "no room" only when there is none | a rule of its own, such as next fit |
//! | [`Any`](Placing::Any) | may have no room for what would fit | buddy blocks, size classes |
//!
//! With too strict a word the suite says what was not kept: `Misplaced` means
//! [`Exact`](Placing::Exact) or less, `NoRoomThoughFree` means [`Any`](Placing::Any), unless the
//! word is right and the allocator isn't.
//!
//! A violation is reported with the region and the operations that lead to it, shrunk to few.
//! `PROPTEST_CASES` makes the random tests longer than their 256 cases, `PROPTEST_RNG_SEED` makes
//! them others: without it they are the same in every run, so that a verdict is about the allocator
//! and not about luck.
//!
//! A call of the allocator that doesn't return within a minute is a failure that names the call,
//! the seed and the operations before it.
//!
//! For tests of one's own there are the shadow model ([`Model`]), the generators of [`operations`],
//! and [`Trial`], which judges every answer of an allocator against the model.

pub mod guarantees;
mod macros;
mod model;
pub mod operations;
mod placing;
mod plugin;
mod requests;
mod trial;
mod violation;
mod watch;

pub use model::Model;
pub use placing::Placing;
pub use plugin::{built_library, load};
#[doc(hidden)]
pub use plugin::{panics_stay_in_the_library, skipped, subject_of_plugin};
pub use requests::{alignment, request, request_of};
pub use trial::{Subject, Trial};
pub use violation::{Call, Failure, Step, Violation};

// For the code that `conformance!` leaves in a test.
#[doc(hidden)]
pub use cma_api;
