//! A device's handle. Its route is looked up once, and again after a change of the configuration.

use crate::host::cma::{Cma, PendingChunk, Source, type_of};
use crate::host::region::{Chunk, Region};
use crate::host::snapshot::Route;
use crate::vocabulary::errors::{AllocError, InvalidRequest};
use crate::vocabulary::{Bytes, ChunkRequest};
use cma_api::{PAGE_SIZE, Pages};
use std::cell::RefCell;
use std::fmt;
use std::mem;
use std::sync::Arc;

/// A device that allocates memory of one type. Made by [`Cma::device`].
///
/// It does what [`Cma::alloc`] does, without looking the names up each time. One thread uses it at
/// a time, so reading the kept route takes no atomic operation; each thread clones its own.
pub struct Device {
    cma: Cma,
    name: Box<str>,
    kind: Box<str>,
    /// How much it keeps of what it has freed.
    most_kept: Pages,
    path: RefCell<Path>,
}

/// The way of the device's requests, in one configuration.
struct Path {
    route: Arc<Route>,
    /// The device's own handle to the route's first region.
    first: Option<Region>,
}

impl Path {
    fn new(route: Arc<Route>, most_kept: Pages) -> Self {
        let first = route.first.as_ref().map(|first| first.for_device(most_kept));
        Path { route, first }
    }

    /// The path by `route`. What is kept stays, if the region and the device's number do.
    fn following(&self, route: Arc<Route>, most_kept: Pages) -> Self {
        if self.route.asker == route.asker && self.first == route.first {
            Path { route, first: self.first.clone() }
        } else {
            Path::new(route, most_kept)
        }
    }
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
        let route = self.route(device, kind, None);
        Ok(Device::new(self.clone(), device, kind, route, Pages::ZERO))
    }
}

impl Clone for Device {
    /// A handle for another thread. It keeps as much, and nothing yet.
    fn clone(&self) -> Self {
        let route = self.path.borrow().route.clone();
        Device::new(self.cma.clone(), &self.name, &self.kind, route, self.most_kept)
    }
}

impl Device {
    fn new(cma: Cma, name: &str, kind: &str, route: Arc<Route>, most_kept: Pages) -> Self {
        let path = RefCell::new(Path::new(route, most_kept));
        Device { cma, name: name.into(), kind: kind.into(), most_kept, path }
    }

    /// Has this handle keep chunks that it has freed, of up to `most` bytes in total, for its next
    /// requests of the same size and alignment (0 for none, as at first). Such a request takes
    /// less than half of the instructions, and threads that use one region don't wait for each
    /// other. Where sizes hardly recur, requests take longer with it.
    ///
    /// For everybody else what is kept is free: before a request is refused, and whenever somebody
    /// reads figures, owners or holes, changes the region or waits for it, all that is kept is
    /// freed. Only the most memory ever in use
    /// ([`RegionStatistics::high_water_bytes`](crate::RegionStatistics::high_water_bytes)) counts
    /// it.
    ///
    /// Chunks of up to a quarter of `most` are kept, up to 64 of each size and alignment, of up to
    /// 256 sizes that recur; each takes 32 bytes, and the table of sizes 10 KiB. They come from the
    /// first region of the map's rule, if that is no group, and through [`alloc`](Self::alloc) or a
    /// request that neither has limits nor waits. A chunk that another thread drops returns here.
    /// While a request waits for the region, or it is observed, nothing is kept.
    pub fn keeping(mut self, most: Bytes) -> Self {
        self.most_kept = Pages::new(most.0 / PAGE_SIZE);
        let path = self.path.get_mut();
        *path = Path::new(path.route.clone(), self.most_kept);
        self
    }

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
        let path = self.path.borrow();
        if path.route.generation == self.cma.framework().generation() {
            let Path { route, first } = &*path;
            return self.cma.framework().alloc_by(route, first.as_ref(), size, alignment);
        }
        drop(path);
        self.on_new_path(move |route, first| {
            self.cma.framework().alloc_by(route, first, size, alignment)
        })
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
        let alloc = |route: &Route, first: Option<&Region>| {
            let pages = request.normalised(route.asker)?;
            // A chunk that may lie only within limits must not serve another request.
            let first = if pages.is_limited() { route.first.as_ref() } else { first };
            self.cma.framework().allocate_by(route, first, &pages, self.source(), request)
        };
        let path = self.path.borrow();
        if path.route.generation == self.cma.framework().generation() {
            return alloc(&path.route, path.first.as_ref());
        }
        drop(path);
        self.on_new_path(alloc)
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

    /// Follows a change of the configuration, and calls `alloc`.
    #[cold]
    fn on_new_path<T>(&self, alloc: impl FnOnce(&Route, Option<&Region>) -> T) -> T {
        let route = self.cma.route(&self.name, &self.kind, None);
        let following = self.path.borrow().following(route.clone(), self.most_kept);
        // It can't be replaced where an observer of a request of this device makes another one.
        let replaced =
            self.path.try_borrow_mut().map(|mut path| mem::replace(&mut *path, following));
        // Outside of the borrow: freeing what was kept may be observed, too.
        drop(replaced);
        let path = self.path.borrow();
        match &path.first {
            Some(first) if Arc::ptr_eq(&path.route, &route) => alloc(&route, Some(first)),
            _ => alloc(&route, route.first.as_ref()),
        }
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({}/{})", self.name, self.kind)
    }
}
