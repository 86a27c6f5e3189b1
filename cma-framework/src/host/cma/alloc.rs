//! Allocating and freeing: the device interface of section 6 of the specification.

use super::request::{in_whole_pieces, type_of};
use super::{Cma, Framework};
use crate::core::routes::{Candidate, by_fit};
use crate::host::region::{Chunk, NotFreed, Region};
use crate::host::snapshot::{Choice, Route};
use crate::host::{asking, events};
use crate::vocabulary::errors::{AllocError, FreeError, InvalidRequest, Reason, Refusal, Refusals};
use crate::vocabulary::region_groups;
use crate::vocabulary::request::normalise;
use crate::vocabulary::{Asked, Bytes, ChunkRequest};
use cma_api::{Alignment, Asker, DmaAddr, Request};
use std::collections::VecDeque;
use std::sync::Arc;

impl Cma {
    /// A chunk of `size` bytes for `device`, in memory of type `kind` (`common` when it is `None`),
    /// at a multiple of `alignment` bytes (0 for a page). The size is rounded up to a page. The
    /// regions of the map's first matching rule are tried in order.
    ///
    /// A driver that allocates often holds a [`Device`](crate::Device), which finds its regions
    /// once.
    ///
    /// # Errors
    ///
    /// [`AllocError`], with the reason of each region that was tried.
    pub fn alloc(
        &self,
        device: &str,
        kind: Option<&str>,
        size: u64,
        alignment: u64,
    ) -> Result<Chunk, AllocError> {
        let kind = type_of(kind);
        if device.is_empty() {
            return Err(InvalidRequest::NoDevice.into());
        }
        let snapshot = self.0.snapshot.load();
        match snapshot.kept_route(device, kind) {
            Some(route) => self.0.alloc_by(route, route.first.as_ref(), size, alignment),
            None => {
                let route = snapshot.new_route(device, kind, || self.intern(device, kind, None));
                self.0.alloc_by(&route, route.first.as_ref(), size, alignment)
            }
        }
    }

    /// A chunk from the first region of `regions` that can serve it: a list as `a,b|c`
    /// ([`region_groups`]), whose groups are tried in order. In a group the region that fits best
    /// serves.
    ///
    /// # Errors
    ///
    /// [`AllocError`], with the reason of each region of the list.
    pub fn alloc_from(
        &self,
        regions: &str,
        size: u64,
        alignment: u64,
    ) -> Result<Chunk, AllocError> {
        let request = normalise(size, alignment, Asker::NOBODY)?;
        let snapshot = self.0.snapshot.load();
        let choices = region_groups(regions)?.flat_map(|group| {
            let names = group.regions();
            let rest = (0..names.clone().count()).rev();
            let choice = |(name, rest)| Choice { name, region: snapshot.region(name), rest };
            names.zip(rest).map(choice)
        });
        let asked = || Asked { regions: regions.into(), ..asking::plain(wanted(size, alignment)) };
        let alloc = || self.0.reporting(asked, || self.0.alloc_in(choices, &request));
        if events::requests_followed() {
            return events::around(("", ""), &request, alloc);
        }
        alloc()
    }

    /// A chunk from `region`; the only way to allocate from a private one.
    ///
    /// # Errors
    ///
    /// [`AllocError`]. A region that is not registered (any more) is [`AllocError::Unregistered`].
    pub fn alloc_from_region(
        &self,
        region: &Region,
        size: u64,
        alignment: u64,
    ) -> Result<Chunk, AllocError> {
        let request = normalise(size, alignment, Asker::NOBODY)?;
        if region.framework_id() != self.0.id {
            return Err(AllocError::Unregistered);
        }
        let alloc = || {
            asking::ask(true);
            region.allocate(&request, &*self.0).map_err(|reason| match *reason {
                Reason::Unregistered => AllocError::Unregistered,
                reason => AllocError::NoRegion(Refusals(Box::new([Refusal {
                    region: region.to_string(),
                    reason,
                    request,
                }]))),
            })
        };
        let asked = || asking::plain(wanted(size, alignment));
        let alloc = || self.0.reporting(asked, alloc);
        if events::requests_followed() {
            events::around(("", ""), &request, alloc)
        } else {
            alloc()
        }
    }

    /// Frees the chunk that starts at `address`, whose guard was turned into that address. In a
    /// stuck region ([`Reason::Stuck`]) the free is deferred until the allocator returns; only then
    /// it is reported if no chunk starts there.
    ///
    /// # Errors
    ///
    /// [`FreeError`]. It is also logged as a warning: the caller's bookkeeping is wrong.
    pub fn free(&self, address: DmaAddr) -> Result<(), FreeError> {
        let region = self.0.snapshot.load().region_of(address).cloned();
        let freed = match &region {
            Some(region) if address.is_aligned(Alignment::PAGE) => region.free_at(address.page()),
            _ => Err(NotFreed::NoChunk),
        };
        freed.map_err(|why| {
            let error = match why {
                NotFreed::NoChunk => FreeError::NoChunk { address },
                NotFreed::Held => FreeError::Held { address },
            };
            events::emit(|| tracing::warn!(%error, "free"));
            error
        })
    }

    /// The route of (`device`, `kind`). A pair that has no number yet is numbered for `user` of a
    /// front end, or for the host.
    pub(crate) fn route(&self, device: &str, kind: &str, user: Option<u32>) -> Arc<Route> {
        let snapshot = self.0.snapshot.load();
        let kept = snapshot.kept_route(device, kind).cloned();
        kept.unwrap_or_else(|| snapshot.new_route(device, kind, || self.intern(device, kind, user)))
    }
}

impl Framework {
    /// A chunk for the device and type of `request`, by the map in force and in the order of its
    /// groups, from another region than `besides`.
    pub(super) fn alloc_besides(&self, request: &Request, besides: &Region) -> Option<Chunk> {
        let (device, kind) = self.askers.names()(request.asker())?;
        let snapshot = self.snapshot.load();
        let candidates = snapshot.candidates(&device, &kind)?;
        let request_in = |region: &Region| {
            (region != besides).then(|| in_whole_pieces(request, region).ok()).flatten()
        };
        let fit = |region: &Region| region.fit(&request_in(region)?, None, self);
        let mut choices = by_fit(candidates.iter().map(Candidate::choice).collect(), fit);
        choices.find_map(|Choice { region, .. }| {
            let region = region?;
            region.allocate(&request_in(region)?, self).ok()
        })
    }

    /// A chunk by `route`, whose first region is asked through the handle `first`.
    #[inline(always)]
    pub(crate) fn alloc_by(
        &self,
        route: &Route,
        first: Option<&Region>,
        size: u64,
        alignment: u64,
    ) -> Result<Chunk, AllocError> {
        let request = normalise(size, alignment, route.asker)?;
        if events::requests_followed() {
            return self.alloc_followed(route, first, &request, wanted(size, alignment));
        }
        self.alloc_on(route, first, &request, move || wanted(size, alignment))
    }

    /// The same where someone follows requests.
    #[cold]
    #[inline(never)]
    fn alloc_followed(
        &self,
        route: &Route,
        first: Option<&Region>,
        request: &Request,
        wanted: ChunkRequest,
    ) -> Result<Chunk, AllocError> {
        events::around(route.pair(), request, || self.alloc_on(route, first, request, || wanted))
    }

    /// A chunk by `route` for a request that was made as `wanted`.
    #[inline(always)]
    pub(super) fn alloc_on(
        &self,
        route: &Route,
        first: Option<&Region>,
        request: &Request,
        wanted: impl FnOnce() -> ChunkRequest,
    ) -> Result<Chunk, AllocError> {
        match first {
            Some(region) => match region.allocate(request, self) {
                Ok(chunk) => Ok(chunk),
                Err(reason) => self.alloc_along(route, Some(*reason), request),
            },
            None => self.alloc_reporting(route, request, wanted()),
        }
    }

    /// The same where the first region is not alone in its group, or the framework is observed.
    #[cold]
    fn alloc_reporting(
        &self,
        route: &Route,
        request: &Request,
        wanted: ChunkRequest,
    ) -> Result<Chunk, AllocError> {
        let asked = || Asked { device: route.device(), ..asking::plain(wanted) };
        self.reporting(asked, || self.alloc_along(route, None, request))
    }

    /// The same after the first region of `route` has refused, if that was tried.
    #[cold]
    pub(super) fn alloc_along(
        &self,
        route: &Route,
        refused: Option<Reason>,
        request: &Request,
    ) -> Result<Chunk, AllocError> {
        let candidates = route.candidates.as_ref().ok_or_else(|| route.no_rule())?;
        self.alloc_further(refused, candidates.iter().map(Candidate::choice), request)
    }

    /// A chunk from the first of `choices` that can serve it.
    #[inline(always)]
    fn alloc_in<'a>(
        &self,
        choices: impl Iterator<Item = Choice<'a>> + Clone,
        request: &Request,
    ) -> Result<Chunk, AllocError> {
        let first = choices.clone().next().filter(|first| first.rest == 0);
        let region = first.and_then(|first| first.region);
        asking::ask(choices.clone().nth(1).is_none());
        let refused = match region.map(|region| region.allocate(request, self)) {
            Some(Ok(chunk)) => return Ok(chunk),
            Some(Err(reason)) => Some(*reason),
            None => None,
        };
        self.alloc_further(refused, choices, request)
    }

    /// The same after the first of `choices` has refused, if that was tried.
    #[cold]
    fn alloc_further<'a>(
        &self,
        refused: Option<Reason>,
        mut choices: impl Iterator<Item = Choice<'a>>,
        request: &Request,
    ) -> Result<Chunk, AllocError> {
        let refusal = |choice: &Choice<'_>, reason| Refusal {
            region: choice.name.into(),
            reason,
            request: *request,
        };
        let first = refused.and_then(|reason| Some(refusal(&choices.next()?, reason)));
        let mut refusals: Vec<_> = first.into_iter().collect();
        let choices: VecDeque<_> = choices.collect();
        let count = choices.len();
        let in_order = by_fit(choices, |region| region.fit(request, None, self));
        for (choice, asked) in in_order.zip(1..) {
            asking::ask(asked == count);
            let reason = match choice.region.map(|region| region.allocate(request, self)) {
                Some(Ok(chunk)) => return Ok(chunk),
                Some(Err(reason)) => *reason,
                None => Reason::UnknownRegion,
            };
            refusals.push(refusal(&choice, reason));
        }
        Err(AllocError::NoRegion(Refusals(refusals.into())))
    }
}

/// The request of a call that takes a size and an alignment.
fn wanted(size: u64, alignment: u64) -> ChunkRequest {
    ChunkRequest::new(Bytes(size)).aligned(Bytes(alignment))
}
