//! Whether a region can be made of huge pages at all, independently of the pool's state.

use super::error::HugetlbError;
use super::pool::Pool;
use cma_framework::{DmaAddr, Pages};

/// The default size of this machine's huge pages, in bytes; `None` where it has none.
pub fn default_page_size() -> Option<u64> {
    Pool::of(None).ok().map(|pool| pool.size)
}

/// Why a region of `pages` at `start` can't be made of huge pages of `page` bytes, if so.
pub(crate) fn misfit(page: Option<u64>, pages: Pages, start: Option<DmaAddr>) -> Option<String> {
    let whole = match page {
        Some(page) => check_whole(page, pages, start),
        None => Err(HugetlbError::NoSuchPages { size: None, sizes: Vec::new() }),
    };
    whole.err().map(|error| error.to_string())
}

/// Checks that a region consists of whole huge pages of `page` bytes.
pub(super) fn check_whole(
    page: u64,
    pages: Pages,
    start: Option<DmaAddr>,
) -> Result<(), HugetlbError> {
    let size = pages.bytes();
    if pages == Pages::ZERO || !size.is_multiple_of(page) {
        return Err(HugetlbError::Size { size, page });
    }
    match start.filter(|start| !start.get().is_multiple_of(page)) {
        Some(start) => Err(HugetlbError::Start { start, page }),
        None => Ok(()),
    }
}
