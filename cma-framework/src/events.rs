//! What a running framework says of single requests: `tracing` events named after mainline's tracepoints.
//!
//! They are on level `TRACE`, and a request looks once whether anybody listens. What goes wrong, and what changes, is said where it
//! happens, on `WARN`, `ERROR` and `DEBUG`.

use crate::allocate::AllocError;
use crate::region::{Chunk, Region};
use cma_api::{PageRange, Request};
use tracing::Level;

/// Whether anybody listens to events of single requests.
#[inline]
pub(crate) fn on() -> bool {
    tracing::level_enabled!(Level::TRACE)
}

/// `call`, between `cma_alloc_start` and `cma_alloc_finish`.
#[cold]
pub(crate) fn around(
    (device, kind): (&str, &str),
    request: &Request,
    call: impl FnOnce() -> Result<Chunk, AllocError>,
) -> Result<Chunk, AllocError> {
    let (count, align) = (request.pages().get(), request.alignment().pages().get());
    tracing::trace!(name: "cma_alloc_start", device, r#type = kind, count, align, "cma_alloc_start");
    let answer = call();
    match &answer {
        Ok(chunk) => {
            let (region, start) = (chunk.region(), chunk.start());
            tracing::trace!(name: "cma_alloc_finish", device, r#type = kind, %region, %start, count, align, errno = 0, "cma_alloc_finish");
        }
        Err(error) => {
            let errno = error.errno() as i32;
            tracing::trace!(name: "cma_alloc_finish", device, r#type = kind, count, align, errno, %error, "cma_alloc_finish");
        }
    }
    answer
}

/// `cma_release`.
#[cold]
pub(crate) fn released(region: &Region, range: PageRange) {
    let (start, count) = (range.start(), range.pages().get());
    tracing::trace!(name: "cma_release", %region, %start, count, "cma_release");
}
