//! The events of a region that its books count.
//!
//! The counters (`Counters`) read them under the region's lock, so they
//! agree with the books. Others receive events later, as [`What`](crate::vocabulary::What).

use cma_api::PageRange;

/// An event of every request, so it is cheap to make and to drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChunkEvent {
    /// A request was served.
    Placed { range: PageRange },
    /// A chunk was freed.
    Released { range: PageRange },
}
