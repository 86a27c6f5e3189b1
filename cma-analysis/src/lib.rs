//! Analysis of recorded traces: what a program's requests need, and what an allocator does with
//! them.
//!
//! - [`Run`] executes a [`Trace`](cma_trace::Trace) on one allocator in one region, operation by
//!   operation, with the live chunks at every moment.
//! - [`Grouping`] divides a trace among several regions.
//!
//! Nothing here reads files or prints.

#![forbid(unsafe_code)]

mod allocator;
mod grouping;
mod run;

pub use allocator::Allocator;
pub use grouping::{Group, Grouping, Unmatched};
pub use run::{LiveChunk, Outcome, Run, Step};
