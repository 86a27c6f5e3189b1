//! Whether a region can be made of huge pages at all, independently of the pool's state.

use super::error::HugetlbError;
use super::pool::Pool;
use cma_framework::config::Place;
use cma_framework::{PageRange, Pages};

/// The default size of this machine's huge pages, in bytes; `None` where it has none.
pub fn default_page_size() -> Option<u64> {
    Pool::of(None).ok().map(|pool| pool.size)
}

/// Why a region of `pages` at `place` can't be made of huge pages of `page` bytes, if so.
pub(crate) fn misfit(page: Option<u64>, pages: Pages, place: Place) -> Option<String> {
    let whole = match page {
        Some(page) => check_whole(page, pages, place),
        None => Err(HugetlbError::NoSuchPages { size: None, sizes: Vec::new() }),
    };
    whole.err().map(|error| error.to_string())
}

/// Checks that a region consists of whole huge pages of `page` bytes.
pub(super) fn check_whole(page: u64, pages: Pages, place: Place) -> Result<(), HugetlbError> {
    let size = pages.bytes();
    if pages == Pages::ZERO || !size.is_multiple_of(page) {
        return Err(HugetlbError::Size { size, page });
    }
    match place {
        Place::At(start) if !start.get().is_multiple_of(page) => {
            Err(HugetlbError::Start { start, page })
        }
        Place::Within(window) => {
            let (frames, step) = (window.pages(), Pages::covering(page).get());
            let first = frames.first_page().next_multiple_of(step);
            match PageRange::from_pages(first, pages.get()).within(frames) {
                true => Ok(()),
                false => Err(HugetlbError::Window { window, size, page }),
            }
        }
        Place::Anywhere | Place::At(_) => Ok(()),
    }
}
