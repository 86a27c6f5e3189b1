//! Why a region can't be made of huge pages, each reason with its remedy.

use super::holders::Holders;
use super::plan::Lack;
use cma_framework::config::{Bytes, Window};
use cma_framework::reserve::ReserveError;
use cma_framework::{Alignment, DmaAddr, MemoryError};

/// Why there is no region of huge pages.
#[derive(Debug, thiserror::Error)]
pub(super) enum HugetlbError {
    /// The machine has no huge pages, or none of that size.
    #[error("this machine has no huge pages{}{}", size.map(|size| format!(" of {}", Bytes(size))).unwrap_or_default(),
        among(sizes))]
    NoSuchPages {
        /// The requested size, in bytes.
        size: Option<u64>,
        /// The sizes it has, in bytes.
        sizes: Vec<u64>,
    },
    /// The region's size is not whole huge pages.
    #[error("{} is not whole huge pages of {}: make it {}", Bytes(*size), Bytes(*page), Bytes(rounded(*size, *page)))]
    Size {
        /// The region's size in bytes.
        size: u64,
        /// The size of a huge page in bytes.
        page: u64,
    },
    /// The requested start is inside a huge page.
    #[error("a region that starts at {start} is not whole huge pages of {}: align it to that", Bytes(*page))]
    Start {
        /// The requested start.
        start: DmaAddr,
        /// The size of a huge page in bytes.
        page: u64,
    },
    /// The window has no place for the region's huge pages.
    #[error("the window {window} has no {} in whole huge pages of {}: widen it", Bytes(*size), Bytes(*page))]
    Window {
        /// The window.
        window: Window,
        /// The region's size in bytes.
        size: u64,
        /// The size of a huge page in bytes.
        page: u64,
    },
    /// The pool has too few free pages.
    #[error("it takes {wanted} huge pages of {} and the pool has {free} free{holders}; {remedy}", Bytes(*page))]
    TooFew {
        /// The number of pages that it needs.
        wanted: usize,
        /// The number of free pages.
        free: usize,
        /// The size of one in bytes.
        page: u64,
        /// The processes that hold others.
        holders: Holders,
        /// The command that makes the pool large enough.
        remedy: String,
    },
    /// No run of physically consecutive pages is that long.
    #[error("of the {free} free huge pages of {} in the pool, at most {longest} are adjacent, and it takes {wanted}{}{holders}; \
        {remedy}", Bytes(*page), aligned(*alignment, *page))]
    NoRun {
        /// The number of pages that it needs.
        wanted: usize,
        /// The requested alignment of the first.
        alignment: Alignment,
        /// The number of free pages.
        free: usize,
        /// The longest run of them at any alignment.
        longest: usize,
        /// The size of one in bytes.
        page: u64,
        /// The processes that hold others.
        holders: Holders,
        /// Commands that may make some adjacent.
        remedy: String,
    },
    /// No pages of the pool are at the requested start.
    #[error(
        "no run of huge pages that is long enough starts at {start}: the kernel chooses physical addresses{holders}; leave \
        the start out, or use memfd, whose addresses are freely chosen"
    )]
    NotThere {
        /// The requested start.
        start: DmaAddr,
        /// The processes that hold pages of the pool.
        holders: Holders,
    },
    /// No run of the pool's pages in the window is long enough.
    #[error(
        "it takes {wanted} adjacent huge pages of {} within {window}, and the pool has at most {longest} there{}: the kernel \
        chooses physical addresses{holders}; widen the window, or use memfd, whose addresses are freely chosen",
        Bytes(*page), aligned(*alignment, *page)
    )]
    NotWithin {
        /// The number of pages that it needs.
        wanted: usize,
        /// The window.
        window: Window,
        /// The requested alignment of the first.
        alignment: Alignment,
        /// The longest run of free pages in the window at any alignment.
        longest: usize,
        /// The size of one in bytes.
        page: u64,
        /// The processes that hold pages of the pool.
        holders: Holders,
    },
    /// A page had moved when its address was verified.
    #[error(
        "the kernel moved huge page {index} of the region while it was being made: from {expected} to {found}"
    )]
    Moved {
        /// Its index in the region.
        index: usize,
        /// Its address before.
        expected: DmaAddr,
        /// Its address now.
        found: DmaAddr,
    },
    /// No bank has addresses for the pages, whose physical ones are hidden.
    #[error("{0}")]
    Addresses(#[from] ReserveError),
    /// A system call failed.
    #[error("{0}")]
    System(#[from] MemoryError),
}

impl HugetlbError {
    /// The shortage of the pool, if that is the reason.
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

/// The size to use instead of `size`: the next multiple of a page, or the last one in the address
/// space.
fn rounded(size: u64, page: u64) -> u64 {
    size.max(1).checked_next_multiple_of(page).unwrap_or(size / page * page)
}

fn among(sizes: &[u64]) -> String {
    let sizes: Vec<_> = sizes.iter().map(|size| Bytes(*size).to_string()).collect();
    if sizes.is_empty() {
        String::new()
    } else {
        format!("; it has some of {}", sizes.join(" and "))
    }
}

fn aligned(alignment: Alignment, page: u64) -> String {
    if alignment.bytes() > page {
        format!(" from a multiple of {} on", Bytes(alignment.bytes()))
    } else {
        String::new()
    }
}
