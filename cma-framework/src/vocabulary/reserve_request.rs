//! The request of an early region to a reserver (specification section 3).

use super::errors::EarlyError;
use super::names::is_region_name;
use super::place::Place;
use cma_api::{Alignment, Asker, Boundary, PageRange, Pages, Request};

/// The memory that an early region needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReserveRequest {
    /// The region's name; `None` for a private one.
    pub name: Option<String>,
    /// Its size.
    pub pages: Pages,
    /// The alignment of its start.
    pub alignment: Alignment,
    /// Where it must lie. A fixed start is aligned already.
    pub place: Place,
}

impl ReserveRequest {
    /// The request of a region of `size` bytes at a multiple of `alignment` bytes (0 for a page),
    /// at `place`. Rounds the size up to a page and a fixed start up to the alignment.
    pub(crate) fn new(
        name: Option<&str>,
        size: u64,
        alignment: u64,
        place: Place,
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
        let too_large = EarlyError::PastTheTop { start: place.start(), size };
        let place = match place {
            Place::At(start) => Place::At(start.align_up(multiple).ok_or(too_large.clone())?),
            Place::Anywhere | Place::Within(_) => place,
        };
        let name = name.map(String::from);
        let request = ReserveRequest { name, pages, alignment: multiple, place };
        match (request.in_its_window(), place) {
            (Some(_), _) => Ok(request),
            (None, Place::Within(window)) => {
                Err(EarlyError::Window { window, size, alignment: multiple })
            }
            (None, Place::Anywhere | Place::At(_)) => Err(too_large),
        }
    }

    /// The range in which the region must lie. With a fixed start, that is the region's own.
    pub fn window(&self) -> PageRange {
        match self.place {
            Place::Anywhere => PageRange::ADDRESS_SPACE,
            Place::At(start) => PageRange::from_pages(start.page(), self.pages.get()),
            Place::Within(window) => window.pages(),
        }
    }

    /// The same request in terms of allocators, which finds places in a free range. `None` if no
    /// range of the address space serves it.
    pub(crate) fn in_its_window(&self) -> Option<Request> {
        Request::new(self.pages, self.alignment, Asker::NOBODY)?
            .limited(self.window(), Boundary::NONE)
    }
}
