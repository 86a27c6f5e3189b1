//! Analysis of recorded traces: what a program's requests need, and what an allocator does with
//! them.
//!
//! - [`Run`] executes a [`Trace`](cma_trace::Trace) on one allocator in one region, operation by
//!   operation, with the live chunks at every moment.
//! - [`Grouping`] divides a trace among several regions.
//! - [`Demand`] is what a trace needs whatever the allocator: the peak of its live memory, and a
//!   layout that is computed with the whole trace known ([`Demand::offline`]).
//! - [`smallest_region`] is what it needs with one allocator.
//! - [`learn()`] finds the numbers of packing that suit a program, as a profile.
//! - [`pressure`], [`speeds`] and [`Verdict`] compare allocators.
//!
//! Nothing here reads files or prints.

#![forbid(unsafe_code)]

mod allocator;
mod compare;
mod demand;
mod grouping;
mod learn;
mod offline;
mod run;
mod smallest;

pub use allocator::Allocator;
pub use compare::{Pressure, Score, Spread, Verdict, pressure, speeds};
pub use demand::{Demand, Holding, Moment, NoDemand, usual_start};
pub use grouping::{Group, Grouping, Unmatched};
pub use learn::{CannotLearn, Effect, Learned, learn};
pub use offline::{Layout, Order};
pub use run::{LiveChunk, Outcome, Run, Step};
pub use smallest::{Failure, Smallest, Unserved, serves, smallest_region, start_alignment};
