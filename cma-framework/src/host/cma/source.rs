//! The regions of a request, and requests with limits.

use super::Cma;
use super::request::{region_list, type_of};
use crate::host::events;
use crate::host::region::{Chunk, Region};
use crate::host::snapshot::Route;
use crate::vocabulary::ChunkRequest;
use crate::vocabulary::errors::{AllocError, InvalidRequest, Reason};
use cma_api::{Asker, Request};
use std::sync::Arc;

/// Where a request may be served.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// In the regions that the map has for a device and a type of memory.
    Device {
        /// The device.
        name: &'a str,
        /// The type; `None` for `common`.
        kind: Option<&'a str>,
    },
    /// In the named regions: names separated by commas, up to the end or a `;`.
    Regions(&'a str),
    /// In this region, which may be private.
    Region(&'a Region),
}

impl Source<'_> {
    /// The error of a request to this source.
    pub(super) fn error(&self, error: AllocError) -> AllocError {
        match (self, &error) {
            (Source::Region(_), AllocError::NoRegion(refusals))
                if refusals.iter().all(|refusal| refusal.reason == Reason::Unregistered) =>
            {
                AllocError::Unregistered
            }
            _ => error,
        }
    }
}

impl Cma {
    /// A chunk that meets `request`, from the first region of `source` that can serve it. See
    /// [`alloc`](Self::alloc), [`alloc_from`](Self::alloc_from) and
    /// [`alloc_from_region`](Self::alloc_from_region), which do the same for a size and an
    /// alignment.
    ///
    /// ```
    /// use cma_framework::{Chunk, ChunkRequest, Cma, Source};
    ///
    /// fn frame(cma: &Cma) -> Result<Chunk, Box<dyn std::error::Error>> {
    ///     let camera = Source::Device { name: "camera", kind: Some("frame") };
    ///     Ok(cma.allocate(camera, &ChunkRequest::parse("3M/64K below=4G")?)?)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`AllocError`], with the reason of each region that was tried.
    pub fn allocate(
        &self,
        source: Source<'_>,
        request: &ChunkRequest,
    ) -> Result<Chunk, AllocError> {
        let (route, request) = self.resolve(source, request, None)?;
        self.0.allocate_by(&route, &request).map_err(|error| source.error(error))
    }

    /// The route of `source`, and the request in whole pages. A pair that has no number yet is
    /// numbered for `user` of a front end, or for the host.
    pub(super) fn resolve(
        &self,
        source: Source<'_>,
        request: &ChunkRequest,
        user: Option<u32>,
    ) -> Result<(Arc<Route>, Request), AllocError> {
        // An invalid request must not make the framework keep its names.
        let plain = request.normalised(Asker::NOBODY)?;
        match source {
            Source::Device { name: "", .. } => Err(InvalidRequest::NoDevice.into()),
            Source::Device { name, kind } => {
                let route = self.route(name, type_of(kind), user);
                let request = request.normalised(route.asker)?;
                Ok((route, request))
            }
            Source::Regions(list) => {
                let route = self.0.snapshot.load().route_of_regions(region_list(list)?);
                Ok((Arc::new(route), plain))
            }
            Source::Region(region) if region.framework_id() != self.0.id => {
                Err(AllocError::Unregistered)
            }
            Source::Region(region) => {
                Ok((Arc::new(self.0.snapshot.load().route_of_region(region)), plain))
            }
        }
    }
}

impl super::Framework {
    /// A chunk by `route`.
    pub(crate) fn allocate_by(
        &self,
        route: &Route,
        request: &Request,
    ) -> Result<Chunk, AllocError> {
        if events::requests_followed() {
            return events::around(route.pair(), request, || self.alloc_on(route, request));
        }
        self.alloc_on(route, request)
    }
}
