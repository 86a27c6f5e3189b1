//! Where a region may lie.

use cma_framework::DmaAddr;
use std::fmt;

/// Where a region may lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// At any address.
    #[default]
    Anywhere,
    /// At this start.
    At(DmaAddr),
    /// Anywhere within a window.
    Within(Window),
}

/// The addresses from `start` to `end`, which is the first address after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first address.
    pub start: DmaAddr,
    /// The first address after the last one.
    pub end: DmaAddr,
}

impl fmt::Display for Place {
    /// As in `cma=`: nothing, `@start` or `@start-end`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Anywhere => Ok(()),
            Place::At(start) => write!(f, "@{start}"),
            Place::Within(Window { start, end }) => write!(f, "@{start}-{end}"),
        }
    }
}
