//! Requests for chunks that are shared with other processes: in whole pieces of the memory of the
//! region that serves them.

use super::request::type_of;
use super::source::Order;
use super::{Cma, PendingChunk, Source};
use crate::core::books::{Holder, Process};
use crate::host::events;
use crate::host::region::Chunk;
use crate::vocabulary::ChunkRequest;
use crate::vocabulary::errors::AllocError;

/// A request for a chunk that can be given to another process. Made by [`Cma::to_share`].
///
/// [`least_bytes`](Self::least_bytes) and [`alloc`](Self::alloc) use one snapshot of the
/// configuration, the one in force when the request was made. A front end can thus check its quota
/// and allocate by the same regions. A request that waits follows later changes.
#[derive(Clone, Debug)]
pub struct SharingRequest {
    order: Order,
    holder: Holder,
}

impl Cma {
    /// A request as for [`allocate`](Self::allocate), for a chunk that can be given to another
    /// process: for each region that is tried, size and alignment are rounded up to the granule of
    /// its memory ([`Backing`](crate::memory::Backing)). The device server allocates by this call
    /// alone.
    ///
    /// `process` is the requester, for the books ([`Cma::owners`]). The number of device names that
    /// the framework keeps for one user is bounded.
    ///
    /// ```
    /// # use cma_framework::{ChunkRequest, Cma, Process, Source};
    /// # fn charge(bytes: u64) {}
    /// # fn request(cma: &Cma) -> Result<(), Box<dyn std::error::Error>> {
    /// let process = Process { uid: 1000, pid: 4711, name: "ffmpeg".into() };
    /// let camera = Source::Device { name: "camera", kind: Some("frame") };
    /// let request = cma.to_share(process, camera, &ChunkRequest::parse("3060K/64K below=4G")?)?;
    /// // The smallest size it can have; `None` when no region is large enough.
    /// charge(request.least_bytes().unwrap_or(0));
    /// let chunk = request.alloc()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`AllocError::Invalid`], [`AllocError::Unregistered`].
    pub fn to_share(
        &self,
        process: Process,
        source: Source<'_>,
        request: &ChunkRequest,
    ) -> Result<SharingRequest, AllocError> {
        let order = self.order(source, request, Some(process.uid), true)?;
        let device = match source {
            Source::Device { name, kind } => Some((name.into(), type_of(kind).into())),
            Source::Regions(_) | Source::Region(_) => None,
        };
        let holder = Holder { process, device };
        Ok(SharingRequest { order, holder })
    }
}

impl SharingRequest {
    /// The request as it was made.
    pub fn wanted(&self) -> &ChunkRequest {
        &self.order.wanted
    }

    /// For whom the chunk is.
    pub fn holder(&self) -> &Holder {
        &self.holder
    }

    /// The smallest size in bytes that its chunk can have, over the regions that are large enough.
    /// `None` when no region is; then [`alloc`](Self::alloc) fails.
    pub fn least_bytes(&self) -> Option<u64> {
        let regions = self
            .order
            .route
            .candidates
            .iter()
            .flatten()
            .filter_map(|candidate| candidate.region.as_ref());
        let sizes = regions.filter_map(|region| {
            let pages = self.order.request_in(region).ok()?.pages();
            (pages <= region.range().pages()).then_some(pages.bytes())
        });
        sizes.min()
    }

    /// A chunk from the first of its regions that can serve it. Blocks as
    /// [`Cma::allocate`] does if the request has a wait.
    ///
    /// # Errors
    ///
    /// [`AllocError`], with the reason of each region that was tried.
    pub fn alloc(&self) -> Result<Chunk, AllocError> {
        let order = &self.order;
        if let Some(longest) = order.wanted.wait {
            return self.alloc_async().block(longest);
        }
        let asked =
            || order.source.borrowed().asked(order.wanted, Some(self.holder.process.clone()));
        let alloc = || order.cma.framework().reporting(asked, || order.place(None));
        let chunk = if events::requests_followed() {
            events::around(order.route.pair(), &order.request, alloc)
        } else {
            alloc()
        };
        let chunk = chunk.map_err(|error| order.source.borrowed().error(error));
        chunk.map(|mut chunk| {
            chunk.set_holder(self.holder.clone());
            chunk
        })
    }

    /// The same for a future, which waits until a region has room. While it waits it follows
    /// changes of the configuration.
    pub fn alloc_async(&self) -> PendingChunk {
        PendingChunk::new(self.order.clone(), Some(self.holder.clone()))
    }
}
