//! The regions of a request, and requests with limits.

use super::Cma;
use super::request::{in_whole_pieces, type_of};
use crate::core::routes::{Candidate, by_fit};
use crate::host::region::{Chunk, Region, Waiter};
use crate::host::snapshot::{Choice, Route};
use crate::host::{asking, events};
use crate::vocabulary::errors::{AllocError, InvalidRequest, Reason, Refusal, Refusals};
use crate::vocabulary::{Asked, ChunkRequest, Process, region_groups};
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
    /// In the regions of a list, `a,b|c` ([`region_groups`]): its
    /// groups are tried in order, and in a group the region that fits best serves.
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

/// The same, owned.
#[derive(Clone, Debug)]
pub(super) enum OwnedSource {
    Device { name: Box<str>, kind: Box<str> },
    Regions(Box<str>),
    Region(Region),
}

impl Source<'_> {
    /// The request `wanted` from here, as events tell it.
    pub(super) fn asked(self, wanted: ChunkRequest, process: Option<Process>) -> Asked {
        let plain = Asked { process, ..asking::plain(wanted) };
        match self {
            Source::Device { name, kind } => {
                Asked { device: Some((name.into(), type_of(kind).into())), ..plain }
            }
            Source::Regions(list) => Asked { regions: list.into(), ..plain },
            Source::Region(_) => plain,
        }
    }

    fn to_owned(self) -> OwnedSource {
        match self {
            Source::Device { name, kind } => {
                OwnedSource::Device { name: name.into(), kind: type_of(kind).into() }
            }
            Source::Regions(list) => OwnedSource::Regions(list.into()),
            Source::Region(region) => OwnedSource::Region(region.clone()),
        }
    }
}

impl OwnedSource {
    pub(super) fn borrowed(&self) -> Source<'_> {
        match self {
            OwnedSource::Device { name, kind } => Source::Device { name, kind: Some(kind) },
            OwnedSource::Regions(list) => Source::Regions(list),
            OwnedSource::Region(region) => Source::Region(region),
        }
    }
}

/// A request that outlives the call that made it, and its route by the configuration that was in
/// force when it was resolved.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) cma: Cma,
    pub(super) source: OwnedSource,
    pub(super) wanted: ChunkRequest,
    user: Option<u32>,
    /// Whether the chunk is to be given to another process.
    whole_pieces: bool,
    pub(super) route: Arc<Route>,
    pub(super) request: Request,
}

impl Order {
    /// Resolves the route anew if the configuration has changed.
    ///
    /// # Errors
    ///
    /// [`AllocError::Unregistered`].
    pub(super) fn follow_configuration(&mut self) -> Result<(), AllocError> {
        if self.route.generation != self.cma.0.generation() {
            (self.route, self.request) =
                self.cma.resolve(self.source.borrowed(), &self.wanted, self.user)?;
        }
        Ok(())
    }

    /// Whether `region` is one of its regions.
    pub(super) fn has(&self, region: &Region) -> bool {
        let mut candidates = self.route.candidates.iter().flatten();
        candidates.any(|candidate| candidate.region.as_ref() == Some(region))
    }

    /// The request as `region` gets it.
    ///
    /// # Errors
    ///
    /// [`Reason::Granule`].
    pub(super) fn request_in(&self, region: &Region) -> Result<Request, Reason> {
        if self.whole_pieces { in_whole_pieces(&self.request, region) } else { Ok(self.request) }
    }

    /// The regions in the order in which they are tried.
    pub(super) fn choices(
        &self,
        waiter: Option<&Arc<Waiter>>,
    ) -> Result<impl Iterator<Item = Choice<'_>>, AllocError> {
        let candidates = self.route.candidates.as_ref().ok_or_else(|| self.route.no_rule())?;
        let fit =
            move |region: &Region| region.fit(&self.request_in(region).ok()?, waiter, &*self.cma.0);
        Ok(by_fit(candidates.iter().map(Candidate::choice).collect(), fit))
    }

    /// A chunk from the first region that can serve it; in its turn, for a `waiter`.
    pub(super) fn place(&self, waiter: Option<&Arc<Waiter>>) -> Result<Chunk, AllocError> {
        let mut refusals = Vec::new();
        let framework = &*self.cma.0;
        let count = self.route.candidates.as_ref().map_or(0, Vec::len);
        for (choice, asked) in self.choices(waiter)?.zip(1..) {
            asking::ask(asked == count);
            let mut request = self.request;
            let place = |region: &Region| {
                request = self.request_in(region)?;
                match waiter {
                    Some(waiter) => region.allocate_last(&request, waiter, framework),
                    None => region.allocate(&request, framework),
                }
            };
            let reason = match choice.region.map(place) {
                Some(Ok(chunk)) => return Ok(chunk),
                Some(Err(reason)) => *reason,
                None => Reason::UnknownRegion,
            };
            refusals.push(Refusal { region: choice.name.to_string(), reason, request });
        }
        Err(AllocError::NoRegion(Refusals(refusals.into())))
    }
}

impl Cma {
    /// The [`Order`] of `request`. `whole_pieces` is for a chunk to be given to another process.
    pub(super) fn order(
        &self,
        source: Source<'_>,
        request: &ChunkRequest,
        user: Option<u32>,
        whole_pieces: bool,
    ) -> Result<Order, AllocError> {
        let wanted = *request;
        let (route, request) = self.resolve(source, request, user)?;
        let (cma, source) = (self.clone(), source.to_owned());
        Ok(Order { cma, source, wanted, user, whole_pieces, route, request })
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
                let route = self.0.snapshot.load().route_of_regions(region_groups(list)?);
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
    /// A chunk by `route`, whose first region is asked through the handle `first`, for the request
    /// `wanted` from `source`.
    pub(crate) fn allocate_by(
        &self,
        route: &Route,
        first: Option<&Region>,
        request: &Request,
        source: Source<'_>,
        wanted: &ChunkRequest,
    ) -> Result<Chunk, AllocError> {
        let alloc = || match self.watches.is_empty() {
            true => self.alloc_on(route, first, request, || *wanted),
            false => self.reporting(
                || source.asked(*wanted, None),
                || self.alloc_along(route, None, request),
            ),
        };
        if events::requests_followed() {
            return events::around(route.pair(), request, alloc);
        }
        alloc()
    }
}
