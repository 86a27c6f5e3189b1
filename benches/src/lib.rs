//! The framework's allocators beside their peers, on the same operations.
//!
//! A [`Workload`] is a list of operations on numbered slots, made once from a fixed seed: no contestant can
//! influence what is asked of the next. A [`Contestant`] is anything that places chunks, ours
//! ([`ours`]) or a published crate ([`peers`]). [`replay`] puts the two together, times the measured part in
//! CPU time of the thread and looks at how well the chunks lie at the end.
//!
//! Two programs are made of it. `cargo bench -p cma-benches` is criterion, for a first look and for comparing with a saved
//! baseline. `cargo run --release -p cma-benches --bin rounds` replays every contestant in turn for several rounds, so that
//! the machine's moods hit all alike, and prints medians and ratios; it is what figures are quoted from.

pub mod contestant;
pub mod ours;
pub mod peers;
mod random;
pub mod replay;
pub mod workload;

pub use contestant::{Contestant, Entry};
pub use workload::{Op, Workload};
