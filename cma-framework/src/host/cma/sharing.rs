//! Requests for chunks that other processes are to have: in whole pieces of the memory of whichever
//! region serves them.

use super::Cma;
use super::serve::{region_list, type_of};
use crate::host::events;
use crate::host::region::{Chunk, Holder, Process, Region};
use crate::host::world::Route;
use crate::vocabulary::errors::{AllocError, InvalidRequest, Reason, Refusal, Refusals, normalise};
use cma_api::{Alignment, Asker, Pages, Request};
use std::sync::Arc;

/// A request for a chunk that can be given to another process. Made by [`Cma::to_share`].
///
/// It is looked at and served by one configuration, the one in force when it was made.
#[derive(Clone, Debug)]
pub struct SharingRequest {
    cma: Cma,
    route: Arc<Route>,
    request: Request,
    holder: Holder,
}

impl Cma {
    /// A request of `device` as for [`alloc`](Self::alloc), for a chunk that can be given to
    /// another process: each region that is tried rounds size and alignment up to the granule of
    /// its memory ([`Backing`](crate::host::memory::Backing)).
    ///
    /// `process` is who asks, for the books ([`Cma::owners`]). What one user can make the framework
    /// remember is bounded.
    ///
    /// ```
    /// # use cma_framework::{Cma, Process};
    /// # fn charge(bytes: u64) {}
    /// # fn ask(cma: &Cma) -> Result<(), cma_framework::AllocError> {
    /// let process = Process { uid: 1000, pid: 4711, name: "ffmpeg".into() };
    /// let request = cma.to_share(process, "camera", Some("frame"), 3_133_440, 64 << 10)?;
    /// // What it takes at least; nothing when no region is large enough.
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
        // Before the names are kept.
        normalise(size, alignment, Asker::NOBODY)?;
        let world = self.0.world.load();
        let known = world.known_route(device, kind).cloned();
        let user = Some(process.uid);
        let route = known
            .unwrap_or_else(|| world.new_route(device, kind, || self.intern(device, kind, user)));
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
        let route = Arc::new(self.0.world.load().route_of(region_list(regions)?));
        let holder = Holder { process, device: None };
        Ok(SharingRequest { cma: self.clone(), route, request, holder })
    }
}

impl SharingRequest {
    /// The smallest size in bytes that a chunk for it can have, over the regions that are large
    /// enough; `None` when no region is, so that [`alloc`](Self::alloc) will be refused.
    pub fn least_bytes(&self) -> Option<u64> {
        let regions = self.route.stops.iter().flatten().filter_map(|stop| stop.region.as_ref());
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
    /// [`AllocError`], which says why, for each region that was tried.
    pub fn alloc(&self) -> Result<Chunk, AllocError> {
        let chunk = if events::on() {
            events::around(self.route.pair(), &self.request, || self.place())
        } else {
            self.place()
        };
        chunk.inspect(|chunk| chunk.set_holder(self.holder.clone()))
    }

    fn place(&self) -> Result<Chunk, AllocError> {
        let Some(stops) = &self.route.stops else { return Err(self.route.no_rule()) };
        let mut refusals = Vec::new();
        for stop in stops {
            let place = |region: &Region| {
                region.allocate(&in_whole_pieces(&self.request, region), &*self.cma.0)
            };
            let reason = match stop.region.as_ref().map(place) {
                Some(Ok(chunk)) => return Ok(chunk),
                Some(Err(reason)) => *reason,
                None => Reason::UnknownRegion,
            };
            refusals.push(Refusal { region: stop.name.to_string(), reason });
        }
        Err(AllocError::NoRegion(Refusals(refusals.into())))
    }
}

/// The request in whole pieces of a region's memory, as a chunk has to be that is given to another
/// process. What is larger than any region stays so.
pub(super) fn in_whole_pieces(request: &Request, region: &Region) -> Request {
    region.backing().map_or(*request, |backing| rounded(request, backing.granule))
}

fn rounded(request: &Request, granule: Pages) -> Request {
    let pages = request.pages().get().checked_next_multiple_of(granule.get()).map(Pages::new);
    let alignment =
        Alignment::new(granule.bytes()).unwrap_or(Alignment::PAGE).max(request.alignment());
    pages.and_then(|pages| Request::new(pages, alignment, request.asker())).unwrap_or(*request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_rounded_to_whole_granules() {
        for (granule, asked, expected) in [
            (1, (1, 4096), (1, 4096)),
            (1, (1, 8192), (1, 8192)),
            (512, (2, 4096), (512, 2 << 20)),
            (512, (1280, 4 << 20), (1536, 4 << 20)),
            // More than any region has stays more.
            (512, ((1 << 52) - 2, 4096), ((1 << 52) - 2, 4096)),
        ] {
            let request = |(pages, alignment)| {
                Request::new(Pages::new(pages), Alignment::new(alignment).unwrap(), Asker::NOBODY)
                    .unwrap()
            };
            let found = rounded(&request(asked), Pages::new(granule));
            assert_eq!(
                (found.pages(), found.alignment()),
                (request(expected).pages(), request(expected).alignment())
            );
        }
    }
}
