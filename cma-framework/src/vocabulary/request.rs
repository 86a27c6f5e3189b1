//! A request for a chunk, in the form that allocators are promised.

use super::errors::InvalidRequest;
use cma_api::{Alignment, Asker, PAGE_SIZE, Pages, Request};

/// Checks and rounds a request to whole pages, once: everything below relies on it.
#[inline]
pub(crate) fn normalise(
    size: u64,
    alignment: u64,
    asker: Asker,
) -> Result<Request, InvalidRequest> {
    if size == 0 {
        return Err(InvalidRequest::NoSize);
    }
    let alignment =
        Alignment::new(alignment).ok_or(InvalidRequest::Alignment { bytes: alignment })?;
    if size > u64::MAX - (PAGE_SIZE - 1) {
        return Err(InvalidRequest::TooLarge { bytes: size });
    }
    Request::new(Pages::covering(size), alignment, asker)
        .ok_or(InvalidRequest::TooLarge { bytes: size })
}
