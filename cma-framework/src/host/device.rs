//! A device's handle. Its route is looked up once, and again after a change of the configuration.

use crate::host::cma::{Cma, PendingChunk, Source, type_of};
use crate::host::region::Chunk;
use crate::host::snapshot::Route;
use crate::vocabulary::ChunkRequest;
use crate::vocabulary::errors::{AllocError, InvalidRequest};
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

/// A device that allocates memory of one type. Made by [`Cma::device`].
///
/// It does what [`Cma::alloc`] does, without looking the names up each time. One thread uses it at
/// a time, so reading the kept route takes no atomic operation; each thread clones its own.
#[derive(Clone)]
pub struct Device {
    cma: Cma,
    name: Box<str>,
    kind: Box<str>,
    route: RefCell<Arc<Route>>,
}

impl Cma {
    /// A handle for a device that allocates memory of one type again and again.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::NoDevice`] for a device without a name. Whether the map has a rule for the
    /// device is checked at each allocation.
    pub fn device(&self, device: &str, kind: Option<&str>) -> Result<Device, InvalidRequest> {
        if device.is_empty() {
            return Err(InvalidRequest::NoDevice);
        }
        let kind = type_of(kind);
        let route = RefCell::new(self.route(device, kind, None));
        Ok(Device { cma: self.clone(), name: device.into(), kind: kind.into(), route })
    }
}

impl Device {
    /// The device's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type of memory it allocates.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// A chunk of `size` bytes at a multiple of `alignment` bytes (0 for a page). See
    /// [`Cma::alloc`].
    ///
    /// # Errors
    ///
    /// [`AllocError`], with the reason of each region that was tried.
    #[inline]
    pub fn alloc(&self, size: u64, alignment: u64) -> Result<Chunk, AllocError> {
        let route = self.route.borrow();
        if route.generation == self.cma.framework().generation() {
            return self.cma.framework().alloc_by(&route, size, alignment);
        }
        drop(route);
        self.alloc_rerouted(size, alignment)
    }

    /// The same after a change of the configuration.
    #[cold]
    fn alloc_rerouted(&self, size: u64, alignment: u64) -> Result<Chunk, AllocError> {
        self.cma.framework().alloc_by(&self.reroute(), size, alignment)
    }

    /// A chunk that meets `request`. See [`Cma::allocate`].
    ///
    /// # Errors
    ///
    /// [`AllocError`], with the reason of each region that was tried.
    pub fn allocate(&self, request: &ChunkRequest) -> Result<Chunk, AllocError> {
        if request.wait.is_some() {
            return self.cma.allocate(self.source(), request);
        }
        let route = self.current_route();
        let pages = request.normalised(route.asker)?;
        self.cma.framework().allocate_by(&route, &pages, self.source(), request)
    }

    /// The same for a future, which waits until a region has room. See [`Cma::allocate_async`].
    ///
    /// # Errors
    ///
    /// [`AllocError::Invalid`]. The future has the others.
    pub fn allocate_async(&self, request: &ChunkRequest) -> Result<PendingChunk, AllocError> {
        self.cma.allocate_async(self.source(), request)
    }

    fn source(&self) -> Source<'_> {
        Source::Device { name: &self.name, kind: Some(&self.kind) }
    }

    fn current_route(&self) -> Arc<Route> {
        let route = self.route.borrow().clone();
        if route.generation == self.cma.framework().generation() {
            return route;
        }
        self.reroute()
    }

    #[cold]
    fn reroute(&self) -> Arc<Route> {
        let route = self.cma.route(&self.name, &self.kind, None);
        *self.route.borrow_mut() = route.clone();
        route
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({}/{})", self.name, self.kind)
    }
}
