//! Requests for chunks that are shared with other processes: in whole pieces of the memory of the
//! region that serves them.

use super::Cma;
use super::request::{in_whole_pieces, region_list, type_of};
use crate::core::books::{Holder, Process};
use crate::host::events;
use crate::host::region::{Chunk, Region};
use crate::host::snapshot::Route;
use crate::vocabulary::errors::{AllocError, InvalidRequest, Reason, Refusal, Refusals};
use crate::vocabulary::request::normalise;
use cma_api::{Asker, Request};
use std::sync::Arc;

/// A request for a chunk that can be given to another process. Made by [`Cma::to_share`].
///
/// [`least_bytes`](Self::least_bytes) and [`alloc`](Self::alloc) use one snapshot of the
/// configuration, the one in force when the request was made. A front end can thus check its quota
/// and allocate by the same regions.
#[derive(Clone, Debug)]
pub struct SharingRequest {
    cma: Cma,
    route: Arc<Route>,
    request: Request,
    holder: Holder,
}

impl Cma {
    /// A request of `device` as for [`alloc`](Self::alloc), for a chunk that can be given to
    /// another process: for each region that is tried, size and alignment are rounded up to the
    /// granule of its memory ([`Backing`](crate::memory::Backing)). The device server allocates by
    /// this call and by [`to_share_from`](Self::to_share_from) alone.
    ///
    /// `process` is the requester, for the books ([`Cma::owners`]). The number of device names that
    /// the framework keeps for one user is bounded.
    ///
    /// ```
    /// # use cma_framework::{Cma, Process};
    /// # fn charge(bytes: u64) {}
    /// # fn request(cma: &Cma) -> Result<(), cma_framework::AllocError> {
    /// let process = Process { uid: 1000, pid: 4711, name: "ffmpeg".into() };
    /// let request = cma.to_share(process, "camera", Some("frame"), 3_133_440, 64 << 10)?;
    /// // The smallest size it can have; `None` when no region is large enough.
    /// charge(request.least_bytes().unwrap_or(0));
    /// let chunk = request.alloc()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`AllocError::Invalid`].
    pub fn to_share(
        &self,
        process: Process,
        device: &str,
        kind: Option<&str>,
        size: u64,
        alignment: u64,
    ) -> Result<SharingRequest, AllocError> {
        let kind = type_of(kind);
        if device.is_empty() {
            return Err(InvalidRequest::NoDevice.into());
        }
        // An invalid request must not make the framework keep its names.
        normalise(size, alignment, Asker::NOBODY)?;
        let route = self.route(device, kind, Some(process.uid));
        let request = normalise(size, alignment, route.asker)?;
        let holder = Holder { process, device: Some((device.into(), kind.into())) };
        Ok(SharingRequest { cma: self.clone(), route, request, holder })
    }

    /// The same for a list of regions, as for [`alloc_from`](Self::alloc_from).
    ///
    /// # Errors
    ///
    /// [`AllocError::Invalid`].
    pub fn to_share_from(
        &self,
        process: Process,
        regions: &str,
        size: u64,
        alignment: u64,
    ) -> Result<SharingRequest, AllocError> {
        let request = normalise(size, alignment, Asker::NOBODY)?;
        let route = Arc::new(self.0.snapshot.load().route_of_regions(region_list(regions)?));
        let holder = Holder { process, device: None };
        Ok(SharingRequest { cma: self.clone(), route, request, holder })
    }
}

impl SharingRequest {
    /// The smallest size in bytes that its chunk can have, over the regions that are large enough.
    /// `None` when no region is; then [`alloc`](Self::alloc) fails.
    pub fn least_bytes(&self) -> Option<u64> {
        let regions = self
            .route
            .candidates
            .iter()
            .flatten()
            .filter_map(|candidate| candidate.region.as_ref());
        let sizes = regions.filter_map(|region| {
            let pages = in_whole_pieces(&self.request, region).pages();
            (pages <= region.range().pages()).then_some(pages.bytes())
        });
        sizes.min()
    }

    /// A chunk from the first of its regions that can serve it.
    ///
    /// # Errors
    ///
    /// [`AllocError`], with the reason of each region that was tried.
    pub fn alloc(&self) -> Result<Chunk, AllocError> {
        let chunk = if events::requests_followed() {
            events::around(self.route.pair(), &self.request, || self.place())
        } else {
            self.place()
        };
        chunk.inspect(|chunk| chunk.set_holder(self.holder.clone()))
    }

    fn place(&self) -> Result<Chunk, AllocError> {
        let Some(candidates) = &self.route.candidates else { return Err(self.route.no_rule()) };
        let mut refusals = Vec::new();
        for candidate in candidates {
            let place = |region: &Region| {
                region.allocate(&in_whole_pieces(&self.request, region), &*self.cma.0)
            };
            let reason = match candidate.region.as_ref().map(place) {
                Some(Ok(chunk)) => return Ok(chunk),
                Some(Err(reason)) => *reason,
                None => Reason::UnknownRegion,
            };
            refusals.push(Refusal { region: candidate.name.to_string(), reason });
        }
        Err(AllocError::NoRegion(Refusals(refusals.into())))
    }
}
