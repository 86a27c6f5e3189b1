//! The framework's allocators compared with published crates, on the same operations.
//!
//! A [`Workload`] is a list of operations on numbered slots, generated once from a fixed seed: it
//! doesn't depend on the contestant. A [`Contestant`] is anything that places chunks, ours
//! ([`ours`]) or a published crate ([`peers`]). [`replay`] runs a workload on a contestant, times
//! the measured part in CPU time of the thread and computes how well the chunks are packed at the
//! end.
//!
//! [`latency`] measures single allocations, [`threads`] two threads, [`instructions`] what the
//! processor executes, and [`start`] the time of the program `cma` up to its first chunk.
//!
//! `cargo bench -p cma-benches --bench table` prints all quoted figures as Markdown: ours and the
//! peers', and the aims with the figures reached. `--bench placing` uses criterion, for comparing
//! with a saved baseline and for the chart of time over the number of live chunks. The program
//! `rounds` is for development: a few contestants on a few workloads. `memory` counts the heap
//! bytes of a live chunk, and `groups` the refusals of several regions by how one is chosen.

pub mod c;
pub mod contestant;
pub mod entries;
pub mod framework;
pub mod instructions;
pub mod latency;
pub mod ours;
pub mod peers;
pub mod random;
pub mod replay;
pub mod start;
pub mod threads;
pub mod workload;

pub use contestant::Contestant;
pub use entries::ContestantEntry;
pub use workload::{Op, Workload};
