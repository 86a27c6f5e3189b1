//! What a running framework says of single requests: `tracing` events named after mainline's tracepoints.
//!
//! `cma_alloc_start`, `cma_alloc_finish` and `cma_release` are on level `TRACE`, and a request looks once whether anybody listens;
//! `cma_attach`, `cma_detach` and `cma_refuse` are on `DEBUG`. What goes wrong is said where it happens, on `WARN` and `ERROR`.

use crate::allocate::{AllocError, Reason};
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

/// `cma_attach`: an allocator serves a region from now on.
pub(crate) fn attached(region: &Region, allocator: &str) {
    tracing::debug!(name: "cma_attach", %region, allocator, "cma_attach");
}

/// `cma_detach`: an allocator serves a region no more.
pub(crate) fn detached(region: &Region, allocator: &str) {
    tracing::debug!(name: "cma_detach", %region, allocator, "cma_detach");
}

/// `cma_refuse`: a region didn't serve a request, perhaps another one will.
pub(crate) fn refused(region: &Region, request: &Request, reason: &Reason) {
    let (count, align) = (request.pages().get(), request.alignment().pages().get());
    tracing::debug!(name: "cma_refuse", %region, count, align, %reason, "cma_refuse");
}
