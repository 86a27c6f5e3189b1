//! What a running framework says of single requests: `tracing` events named after mainline's
//! tracepoints.
//!
//! `cma_alloc_start`, `cma_alloc_finish` and `cma_release` are on level `TRACE`, and a request
//! looks once whether anybody listens; `cma_attach`, `cma_detach` and `cma_refuse` are on `DEBUG`.
//! What goes wrong is said where it happens, on `WARN` and `ERROR`.

use crate::host::region::{Chunk, Region};
use crate::vocabulary::errors::{AllocError, Reason, Stuck};
use cma_api::{DmaAddr, PageRange, Request};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tracing::Level;

/// Runs `tell`, which hands an event to the host's subscriber. A panic in the subscriber ends here:
/// it must neither unwind through a change of the configuration nor end the process when a guard is
/// dropped during another panic. The panic hook has reported it.
pub(crate) fn quietly(tell: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(tell)) {
        // Dropping what a subscriber threw could panic again.
        mem::forget(payload);
    }
}

/// Something that a region has to tell, without its lock.
pub(crate) enum Event {
    /// An allocator serves the region from now on.
    Attached {
        allocator: String,
    },
    /// An allocator serves the region no more.
    Detached {
        allocator: String,
    },
    /// The region didn't serve a request; perhaps another one will.
    Refused {
        request: Request,
        reason: Reason,
    },
    /// An allocator lied or panicked.
    OutOfService {
        allocator: String,
        reason: String,
    },
    NotAttached {
        reason: Reason,
    },
    Released {
        range: PageRange,
    },
    /// No chunk starts at an address that was to be freed.
    NotFreed {
        address: DmaAddr,
    },
    Stuck(Stuck),
    /// A stuck region goes on; `left` frees were left for this moment.
    Resumed {
        left: usize,
    },
    /// Memory was set aside; `now` is where the chunk is that it was for.
    Aside {
        range: PageRange,
        now: Option<PageRange>,
    },
    /// Memory that was set aside is free again.
    Recovered {
        range: PageRange,
    },
}

impl Event {
    #[cold]
    pub(crate) fn tell(&self, region: &Region) {
        quietly(|| match self {
            Event::Attached { allocator } => {
                tracing::debug!(name: "cma_attach", %region, allocator, "cma_attach");
            }
            Event::Detached { allocator } => {
                tracing::debug!(name: "cma_detach", %region, allocator, "cma_detach");
            }
            Event::Refused { request, reason } => {
                let (count, align) = (request.pages().get(), request.alignment().pages().get());
                tracing::debug!(name: "cma_refuse", %region, count, align, %reason, "cma_refuse");
            }
            Event::OutOfService { allocator, reason } => {
                tracing::error!(%region, allocator, reason, "allocator taken out of service");
            }
            Event::NotAttached { reason } => {
                tracing::warn!(%region, %reason, "no allocator attached");
            }
            Event::Released { range } => {
                let (start, count) = (range.start(), range.pages().get());
                tracing::trace!(name: "cma_release", %region, %start, count, "cma_release");
            }
            Event::NotFreed { address } => {
                tracing::warn!(%region, "no chunk known by its address starts at {address}; nothing was freed");
            }
            Event::Stuck(stuck) => tracing::error!(%region, "{stuck}"),
            Event::Resumed { left } => {
                tracing::warn!(%region, left, "the allocator has returned; the region goes on");
            }
            Event::Aside { range, now: Some(now) } => {
                tracing::warn!(%region, %range, %now, "memory set aside, the chunk moved");
            }
            Event::Aside { range, now: None } => {
                tracing::warn!(%region, %range, "memory set aside");
            }
            Event::Recovered { range } => {
                tracing::info!(%region, %range, "memory that was set aside is free again");
            }
        });
    }
}

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
    quietly(
        || tracing::trace!(name: "cma_alloc_start", device, r#type = kind, count, align, "cma_alloc_start"),
    );
    let answer = call();
    quietly(|| match &answer {
        Ok(chunk) => {
            let (region, start) = (chunk.region(), chunk.start());
            tracing::trace!(name: "cma_alloc_finish", device, r#type = kind, %region, %start, count, align, errno = 0, "cma_alloc_finish");
        }
        Err(error) => {
            let errno = error.errno() as i32;
            tracing::trace!(name: "cma_alloc_finish", device, r#type = kind, count, align, errno, %error, "cma_alloc_finish");
        }
    });
    answer
}
