//! The errors of registering and unregistering a region.

use super::Stuck;
use cma_api::{DmaAddr, PageRange};

/// Why a region was not registered. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// Start, size or name are invalid.
    #[error(transparent)]
    Invalid(#[from] InvalidRegion),
    /// Another region has that name.
    #[error("region \"{name}\" exists already, at {range}")]
    NameTaken {
        /// The name.
        name: String,
        /// The range of that region.
        range: PageRange,
    },
    /// It overlaps a registered region.
    #[error("{wanted} overlaps region {region} at {range}")]
    Overlaps {
        /// The requested range.
        wanted: PageRange,
        /// The overlapping region: its name, or its range.
        region: String,
        /// The range of that region.
        range: PageRange,
    },
    /// The allocator that was given with it refused it.
    #[error("allocator \"{allocator}\" can't serve this region: {reason}")]
    Allocator {
        /// Its name.
        allocator: String,
        /// The allocator's reason.
        reason: String,
    },
}

/// The fault of the description of a region.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRegion {
    /// Size 0.
    #[error("a region of size 0")]
    NoSize,
    /// Start or size are not whole pages.
    #[error("start {start} and size {size:#x} are not both whole pages of 4096 bytes")]
    Unaligned {
        /// The start.
        start: DmaAddr,
        /// The size in bytes.
        size: u64,
    },
    /// It passes the top of the address space.
    #[error("start {start} + size {size:#x} passes the top of the address space")]
    PastTheTop {
        /// The start.
        start: DmaAddr,
        /// The size in bytes.
        size: u64,
    },
    /// A name that no allocator can have.
    #[error("\"{}\" can't be the name of an allocator: it {fault}", name.escape_debug())]
    BadAllocatorName {
        /// The name.
        name: String,
        /// The fault of the name.
        fault: &'static str,
    },
    /// A name that can't be written in the map.
    #[error("\"{}\" can't be the name of a region: a word without white space, control characters, wildcards or any of ; , = / | @ : ( )", name.escape_debug())]
    BadName {
        /// The name.
        name: String,
    },
}

/// Why a region was not unregistered. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnregisterError {
    /// Chunks are live.
    #[error("{} first", match users {
        1 => "1 chunk is live in it; free it".to_string(),
        users => format!("{users} chunks are live in it; free them"),
    })]
    Busy {
        /// Their number.
        users: u32,
    },
    /// Its allocator doesn't return, so its live chunks are unknown.
    #[error(transparent)]
    Stuck(#[from] Stuck),
    /// It is unregistered already, or belongs to another framework.
    #[error("the region is not registered here")]
    NotRegistered,
}
