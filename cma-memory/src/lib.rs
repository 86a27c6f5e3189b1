//! Memory ports: they put memory behind a region that a program can access and, where the machine
//! permits it, memory that is physically contiguous.
//!
//! A port is a [`Reserver`](cma_framework::reserve::Reserver). A region owns the memory that it
//! gets from a port. A chunk becomes bytes with [`Chunk::map`](cma_framework::Chunk::map), or
//! descriptors for another process with [`Chunk::share`](cma_framework::Chunk::share).
//! [`map_shared`] maps a chunk that other processes have at the same time.
//!
//! | port | memory | physically contiguous | addresses | a shareable chunk is | requires |
//! | --- | --- | --- | --- | --- | --- |
//! | [`Banks`](cma_framework::reserve::Banks) | none | no | the board's | no | nothing |
//! | [`Memfd`] | a file for each chunk, allocated on use | no | the board's | any chunk | nothing |
//! | [`Hugetlb`] | huge pages, allocated at once | yes, and verified as root; else within each page | physical; else the board's | whole huge pages | a pool of them (`/proc/sys/vm/nr_hugepages`); root to verify |
//! | [`Ports`] | one of these for each region | | | | |
//!
//! Linux 5.14 or newer, 64 bits.

mod addresses;
mod choice;
pub mod hugetlb;
mod mapping;
mod memfd;
mod ports;
mod restored;
mod sealed;
mod shared;
mod system;

pub use addresses::Addresses;
pub use choice::{Choice, ChoiceError, Port, Unfit};
pub use cma_shared::SharedBytes;
pub use hugetlb::Hugetlb;
pub use memfd::Memfd;
pub use ports::{Outcome, Ports, RestoredRegion};
pub use shared::{MapSharedError, map_shared};

/// The name of a region's files in `/proc/PID/maps` and `/proc/PID/fd`.
fn label(region: Option<&str>) -> String {
    // The kernel allows 249 bytes.
    format!("cma:{}", region.unwrap_or("(private)")).chars().take(60).collect()
}
