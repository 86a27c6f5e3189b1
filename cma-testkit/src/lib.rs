//! Shadow model and conformance suite for allocators, in process and as plug-ins.
//!
//! The author of an allocator declares where it puts chunks ([`Placing`]) and gets every guarantee of
//! [`guarantees`] as a test of its own, from one line:
//!
//! ```ignore
//! // tests/conformance.rs of the algorithm's crate
//! use cma_testkit::{conformance, conformance_of_plugin};
//!
//! conformance!(my_crate::MyAllocator, BestFit);
//! conformance_of_plugin!("cma_my_crate_plugin", BestFit);
//! ```
//!
//! A violation is reported with the region and the operations that lead to it, shrunk to few. `PROPTEST_CASES` makes the
//! random tests longer than their 256 cases, `PROPTEST_RNG_SEED` makes them others: without it they are the
//! same in every run, so that a verdict is about the allocator and not about luck.
//!
//! For tests of one's own there are the shadow model ([`Model`]), the generators of [`operations`], and [`Trial`], which
//! judges every answer of an allocator against the model.

pub mod guarantees;
mod macros;
mod model;
pub mod operations;
mod placing;
mod plugin;
mod trial;
mod violation;

pub use model::Model;
pub use placing::Placing;
pub use plugin::{built_library, load};
pub use trial::{Subject, Trial, alignment, request, request_of};
pub use violation::{Failure, Step, Violation};

// For the code that `conformance!` leaves in a test.
#[doc(hidden)]
pub use cma_api;
