//! Why huge pages make no region, each with what to do about it.

use super::holders::Holders;
use super::plan::Lack;
use cma_framework::config::Bytes;
use cma_framework::reserve::ReserveError;
use cma_framework::{Alignment, DmaAddr, MemoryError};

/// Why there is no region of huge pages.
#[derive(Debug, thiserror::Error)]
pub(super) enum HugetlbError {
    /// The machine has no huge pages, or none of that size.
    #[error("this machine has no huge pages{}{}", size.map(|size| format!(" of {}", Bytes(size))).unwrap_or_default(),
        among(sizes))]
    NoSuchPages {
        /// The size that was asked for, in bytes.
        size: Option<u64>,
        /// The sizes it has, in bytes.
        sizes: Vec<u64>,
    },
    /// The region's size is not whole huge pages.
    #[error("{} is not whole huge pages of {}: make it {}", Bytes(*size), Bytes(*page), Bytes(whole(*size, *page)))]
    Size {
        /// The region's size in bytes.
        size: u64,
        /// The size of a huge page in bytes.
        page: u64,
    },
    /// The region is to start inside of a huge page.
    #[error("a region that starts at {start} is not whole huge pages of {}: align it to that", Bytes(*page))]
    Start {
        /// The wished start.
        start: DmaAddr,
        /// The size of a huge page in bytes.
        page: u64,
    },
    /// The pool has too few to give.
    #[error("it takes {wanted} huge pages of {} and the pool has {free} to give{holders}; {remedy}", Bytes(*page))]
    TooFew {
        /// How many it takes.
        wanted: usize,
        /// How many there were to be had.
        free: usize,
        /// The size of one in bytes.
        page: u64,
        /// Who has others.
        holders: Holders,
        /// The command that makes the pool large enough.
        remedy: String,
    },
    /// No run of physically consecutive pages is that long.
    #[error("of the {free} huge pages of {} that the pool has to give, {longest} at most lie side by side, and it takes {wanted}{}{holders}; \
        {remedy}", Bytes(*page), aligned(*alignment, *page))]
    NoRun {
        /// How many it takes.
        wanted: usize,
        /// What the first of them was to be aligned to.
        alignment: Alignment,
        /// How many there were to be had.
        free: usize,
        /// The longest run of them, however aligned.
        longest: usize,
        /// The size of one in bytes.
        page: u64,
        /// Who has others.
        holders: Holders,
        /// What may put some side by side.
        remedy: String,
    },
    /// The wished place is not in the pool.
    #[error(
        "no run of huge pages that is long enough can start at {start}: physical memory is where the kernel has put it{holders}; leave \
        the start out, or take memfd, whose addresses are chosen"
    )]
    NotThere {
        /// The wished start.
        start: DmaAddr,
        /// Who has pages of the pool.
        holders: Holders,
    },
    /// The pages were not where they had been once the region was made of them.
    #[error(
        "the kernel moved huge page {index} of the region while it was made: from {expected} to {found}"
    )]
    Moved {
        /// Which page.
        index: usize,
        /// Its address before.
        expected: DmaAddr,
        /// Its address now.
        found: DmaAddr,
    },
    /// There are no addresses for them, and their own are hidden.
    #[error("{0}")]
    Addresses(#[from] ReserveError),
    /// The system refused.
    #[error("{0}")]
    System(#[from] MemoryError),
}

impl HugetlbError {
    /// What the pool lacks, if that is the reason.
    pub(super) fn lack(&self) -> Option<Lack> {
        match self {
            HugetlbError::TooFew { .. } => Some(Lack::Pages),
            HugetlbError::NoRun { .. } => Some(Lack::Runs),
            _ => None,
        }
    }
}

impl From<HugetlbError> for ReserveError {
    fn from(error: HugetlbError) -> Self {
        match error {
            HugetlbError::Addresses(error) => error,
            error => ReserveError::Other(error.to_string()),
        }
    }
}

/// The size to take instead of `size`: the next whole number of pages, or the last one in the
/// address space.
fn whole(size: u64, page: u64) -> u64 {
    size.max(1).checked_next_multiple_of(page).unwrap_or(size / page * page)
}

fn among(sizes: &[u64]) -> String {
    let sizes: Vec<_> = sizes.iter().map(|size| Bytes(*size).to_string()).collect();
    if sizes.is_empty() {
        String::new()
    } else {
        format!("; there are some of {}", sizes.join(" and "))
    }
}

fn aligned(alignment: Alignment, page: u64) -> String {
    if alignment.bytes() > page {
        format!(" from a multiple of {} on", Bytes(alignment.bytes()))
    } else {
        String::new()
    }
}
