//! Memory for regions: the port [`Reserver`], and [`Banks`], which simulates a board's memory.

mod banks;

pub use crate::vocabulary::ReserveRequest;
pub use banks::Banks;

use crate::core::memory::Memory;
use crate::vocabulary::{Bytes, Window};
use cma_api::{Alignment, PageRange, Pages};

impl ReserveRequest {
    /// `reserved`, if it is what was requested. A reserver is the host's code, and the framework
    /// relies on the range that it returns.
    pub(crate) fn accept(&self, reserved: Reserved) -> Result<Reserved, ReserveError> {
        let range = reserved.range;
        let fits = self.in_its_window().is_some_and(|request| request.accepts(range));
        if fits { Ok(reserved) } else { Err(ReserveError::Misplaced { range }) }
    }
}

/// The memory that a reserver has reserved for one region.
#[derive(Debug)]
pub struct Reserved {
    /// The addresses.
    pub range: PageRange,
    /// The memory behind them; `None` for addresses alone.
    pub memory: Option<Box<dyn Memory>>,
}

impl From<PageRange> for Reserved {
    /// Addresses alone.
    fn from(range: PageRange) -> Self {
        Reserved { range, memory: None }
    }
}

/// Gives memory to early regions.
///
/// The framework calls it for one region after the other. A reserver may inspect and change the
/// framework that calls it, except through
/// [`early_regions_reserve`](crate::Cma::early_regions_reserve) and
/// [`initialise`](crate::Cma::initialise), which would wait for the reserver.
pub trait Reserver {
    /// Receives all requests of one pass, in order, before the first call of
    /// [`reserve`](Self::reserve). A reserver whose memory is limited can report here what all of
    /// them need together. Does nothing by default.
    fn announce(&mut self, _requests: &[ReserveRequest]) {}

    /// Reserves `request.pages` pages at a multiple of `request.alignment`, at `request.place`: all
    /// of them within [`request.window`](ReserveRequest::window).
    ///
    /// # Errors
    ///
    /// [`ReserveError`]; then nothing is reserved.
    fn reserve(&mut self, request: &ReserveRequest) -> Result<Reserved, ReserveError>;
}

/// Why there is no memory for an early region.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReserveError {
    /// The requested range overlaps a reserved one.
    #[error("{wanted} overlaps {taken}, which is reserved already")]
    Taken {
        /// The requested range.
        wanted: PageRange,
        /// The reserved range that it overlaps.
        taken: PageRange,
    },
    /// The requested range is not memory.
    #[error("{wanted} does not lie within one memory bank")]
    NoMemoryThere {
        /// The requested range.
        wanted: PageRange,
    },
    /// The window is not memory.
    #[error("no memory bank has a page within the window {window}")]
    NoMemoryWithin {
        /// The window.
        window: Window,
    },
    /// No bank has a free range of that size and alignment, in the window if there is one.
    #[error("no memory bank has {} free in one piece{}{}; the largest free piece {}is {}",
        Bytes(wanted.bytes()),
        if *alignment > Alignment::PAGE { format!(" aligned to {}", Bytes(alignment.bytes())) } else { String::new() },
        window.map_or(String::new(), |window| format!(" within {window}")),
        if window.is_some() { "there " } else { "" },
        Bytes(largest.bytes()))]
    NoSpace {
        /// The requested size.
        wanted: Pages,
        /// The requested alignment.
        alignment: Alignment,
        /// The window, if there is one.
        window: Option<Window>,
        /// The largest free range of any bank, within the window.
        largest: Pages,
    },
    /// The reserver returned a range of another size, start or alignment than requested.
    #[error("the reserver returned {range}, which is not what was requested")]
    Misplaced {
        /// The range it returned.
        range: PageRange,
    },
    /// The reserver's own reason.
    #[error("{0}")]
    Other(String),
}
