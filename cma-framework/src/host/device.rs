//! A device's own way in: its route is looked up once, and again when the configuration has
//! changed.

use crate::host::cma::Cma;
use crate::host::region::Chunk;
use crate::host::world::Route;
use crate::vocabulary::errors::AllocError;
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

/// A device that asks for memory of one type. Made by [`Cma::device`].
///
/// It does what [`Cma::alloc`] does, without looking the names up each time. It is for one thread
/// at a time, so that looking at what it knows takes no atomic operation; another thread has a
/// clone of its own.
#[derive(Clone)]
pub struct Device {
    cma: Cma,
    name: Box<str>,
    kind: Box<str>,
    route: RefCell<Arc<Route>>,
}

impl Device {
    pub(crate) fn new(cma: Cma, name: &str, kind: &str) -> Self {
        let route = RefCell::new(route(&cma, name, kind));
        Device { cma, name: name.into(), kind: kind.into(), route }
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type of memory it asks for.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// A chunk of `size` bytes at a multiple of `alignment` bytes (0 for a page). See
    /// [`Cma::alloc`].
    ///
    /// # Errors
    ///
    /// [`AllocError`], which says why, for each region that was tried.
    #[inline]
    pub fn alloc(&self, size: u64, alignment: u64) -> Result<Chunk, AllocError> {
        let known = self.route.borrow();
        if known.world == self.cma.shared().world_number() {
            return self.cma.shared().alloc_by(&known, size, alignment);
        }
        drop(known);
        self.alloc_anew(size, alignment)
    }

    /// The same, when the configuration has changed.
    #[cold]
    fn alloc_anew(&self, size: u64, alignment: u64) -> Result<Chunk, AllocError> {
        let route = route(&self.cma, &self.name, &self.kind);
        *self.route.borrow_mut() = route.clone();
        self.cma.shared().alloc_by(&route, size, alignment)
    }
}

fn route(cma: &Cma, device: &str, kind: &str) -> Arc<Route> {
    let world = cma.shared().world();
    let known = world.known_route(device, kind).cloned();
    known.unwrap_or_else(|| world.new_route(device, kind, || cma.intern(device, kind, None)))
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({}/{})", self.name, self.kind)
    }
}
