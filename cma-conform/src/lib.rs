//! The conformance suite for allocators: a shadow model, generators of operations, and every
//! guarantee that an allocator must keep; and the shortest calls that show a broken one.
//!
//! - [`guarantees`] has a function for each guarantee, which runs on a [`Subject`]: an algorithm
//!   that is linked, or loaded from a plug-in. `cma-testkit` makes a test of each.
//! - [`Examination`] runs a guarantee in a child process, so that an allocator may crash, loop, or
//!   use memory without bound. A [`Finding`] is a broken guarantee with the shortest calls that
//!   show it: calls are left out, and sizes made smaller, as long as the same is seen.
//! - [`Model`], [`operations`] and [`CheckedAllocator`], which checks every result of an allocator
//!   against the model, are there for an author's own tests.

mod checked;
mod child;
mod examination;
mod finding;
pub mod guarantees;
mod list;
mod model;
pub mod operations;
mod placing;
mod requests;
mod script;
mod shrinking;
mod tape;
mod violation;
mod watch;

pub use checked::{CheckedAllocator, Subject};
pub use examination::{Examination, Limits};
pub use finding::{Finding, Recorded};
pub use model::Model;
pub use placing::Placing;
pub use requests::{alignment, request, request_of};
pub use tape::Answer;
pub use violation::{Call, Failure, Step, Violation};
pub use watch::DEFAULT_SEED;
