//! Short constructors of requests and alignments, for tests.

use cma_api::{Alignment, Asker, Pages, Request};

/// A request of no particular requester.
///
/// # Panics
///
/// `pages` is 0, or not less than the pages of the address space.
pub fn request(pages: u64, alignment: Alignment) -> Request {
    request_of(Asker::NOBODY, pages, alignment)
}

/// A request of `asker`.
///
/// # Panics
///
/// `pages` is 0, or not less than the pages of the address space.
pub fn request_of(asker: Asker, pages: u64, alignment: Alignment) -> Request {
    Request::new(Pages::new(pages), alignment, asker).expect("a test requests a valid size")
}

/// The alignment 2^`log2`.
///
/// # Panics
///
/// `log2` is over 63.
pub fn alignment(log2: u32) -> Alignment {
    Alignment::new(1 << log2).expect("a power of two")
}
