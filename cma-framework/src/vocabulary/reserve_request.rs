//! The request of an early region to a reserver (specification section 3).

use super::errors::EarlyError;
use super::names::is_region_name;
use cma_api::{Alignment, DmaAddr, PageRange, Pages};

/// The memory that an early region needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReserveRequest {
    /// The region's name; `None` for a private one.
    pub name: Option<String>,
    /// Its size.
    pub pages: Pages,
    /// The alignment of its start.
    pub alignment: Alignment,
    /// The start that it must have, already aligned; `None` for any.
    pub start: Option<DmaAddr>,
}

impl ReserveRequest {
    /// The request of a region of `size` bytes at a multiple of `alignment` bytes (0 for a page),
    /// at `start` if that is given. Rounds the size up to a page and the start to the alignment.
    pub(crate) fn new(
        name: Option<&str>,
        size: u64,
        alignment: u64,
        start: Option<DmaAddr>,
    ) -> Result<Self, EarlyError> {
        if size == 0 {
            return Err(EarlyError::NoSize);
        }
        if let Some(name) = name.filter(|name| !is_region_name(name)) {
            return Err(EarlyError::BadName { name: name.to_string() });
        }
        let multiple =
            Alignment::new(alignment).ok_or(EarlyError::Alignment { bytes: alignment })?;
        let pages = Pages::covering(size);
        let too_large = EarlyError::PastTheTop { start, size };
        let start = match start {
            Some(start) => Some(start.align_up(multiple).ok_or(too_large.clone())?),
            None => None,
        };
        let end = start.map_or(0, DmaAddr::page) + pages.get();
        if end > PageRange::ADDRESS_SPACE_PAGES || pages.get() == PageRange::ADDRESS_SPACE_PAGES {
            return Err(too_large);
        }
        Ok(ReserveRequest { name: name.map(String::from), pages, alignment: multiple, start })
    }
}
