//! Memory behind regions: ports that give a region bytes that a program can touch, and, where the
//! machine grants it, memory that really is physically contiguous.
//!
//! A port is a [`Reserver`](cma_framework::reserve::Reserver). What it gives goes with the region;
//! a chunk becomes bytes with [`Chunk::map`](cma_framework::Chunk::map), or descriptors for another
//! process with [`Chunk::share`](cma_framework::Chunk::share).
//!
//! | port | memory | physically contiguous | addresses | a chunk for others | needs |
//! | --- | --- | --- | --- | --- | --- |
//! | [`Banks`](cma_framework::reserve::Banks) | none | no | the board's | no | nothing |
//! | [`Memfd`] | a file for each chunk, as it is used | no | the board's | any | nothing |
//! | [`Hugetlb`] | huge pages, from the start | yes, and proven to who may know; else within each page | physical; else the board's | whole huge pages | a pool of them (`/proc/sys/vm/nr_hugepages`); root for the proof |
//! | [`Ports`] | for each region one of these | | | | |
//!
//! Linux 5.14 or newer, 64 bits.

mod addresses;
mod choice;
pub mod hugetlb;
mod mapping;
mod memfd;
mod ports;
mod refusal;
mod sealed;

pub use addresses::Addresses;
pub use choice::{Choice, ChoiceError, Port, Unfit};
pub use hugetlb::Hugetlb;
pub use memfd::Memfd;
pub use ports::{Outcome, Ports};

/// What a region's files are called in `/proc/PID/maps` and `/proc/PID/fd`.
fn label(region: Option<&str>) -> String {
    // The kernel takes 249 bytes.
    format!("cma:{}", region.unwrap_or("(private)")).chars().take(60).collect()
}
