//! The framework's allocators beside their peers, on the same operations.
//!
//! A [`Workload`] is a list of operations on numbered slots, made once from a fixed seed: no
//! contestant can influence what is asked of the next. A [`Contestant`] is anything that places
//! chunks, ours ([`ours`]) or a published crate ([`peers`]). [`replay`] puts the two together,
//! times the measured part in CPU time of the thread and looks at how well the chunks lie at the
//! end.
//!
//! [`latency`] looks at single allocations, and [`threads`] at two threads.
//!
//! `cargo bench -p cma-benches --bench table` is what figures are quoted from: it prints all of
//! them as Markdown, ours beside the peers' and the aims beside what was reached. `--bench placing`
//! is criterion, for comparing with a saved baseline and for the chart of how time grows with the
//! number of live chunks. The program `rounds` is for development: a few contestants on a few
//! workloads; `memory` counts the bytes that a live chunk costs.

pub mod contestant;
pub mod entries;
pub mod framework;
pub mod latency;
pub mod ours;
pub mod peers;
mod random;
pub mod replay;
pub mod threads;
pub mod workload;

pub use contestant::Contestant;
pub use entries::Entry;
pub use workload::{Op, Workload};
