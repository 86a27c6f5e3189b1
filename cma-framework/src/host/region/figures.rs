//! The reports of a region from its books.

use super::choice::AllocatorState;
use super::{Region, RegionState};
use crate::core::books::{
    BookedChunk, Books, Failure, Holder, Owner, RefusedRequest, RegionStatistics, Slot,
};
use crate::core::moment::Moment;
use crate::host::clock;
use crate::vocabulary::errors::Stuck;
use crate::vocabulary::{Bytes, ChunkRequest};
use cma_api::{Alignment, Asker, PageRange, Pages};
use std::sync::Arc;

/// A region's figures at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegionStatus {
    /// Free space in bytes.
    pub free_bytes: u64,
    /// Live chunks.
    pub users: u32,
    /// The largest free range by the books. An allocator may refuse a request that would fit there.
    pub largest_hole: Pages,
    /// The same in bytes.
    pub largest_hole_bytes: u64,
    /// The number of requests that wait for it ([`Cma::waiters`](crate::Cma::waiters)).
    pub waiters: usize,
    /// Its allocator, or what it waits for.
    pub allocator: AllocatorState,
    /// Why the figures are not known. Then they are 0.
    pub stuck: Option<Stuck>,
}

/// Device and type of a requester.
pub(crate) type DeviceAndType = (Arc<str>, Arc<str>);

impl Region {
    /// Whether its allocator doesn't return from a call. If no thread has waited for it yet, this
    /// waits for some seconds; once the region is known to be stuck, it returns at once.
    pub fn stuck(&self) -> Option<Stuck> {
        self.enter().err()
    }

    /// Its free space.
    ///
    /// # Errors
    ///
    /// [`Stuck`]: the books can't be read while the allocator doesn't return.
    pub fn free(&self) -> Result<Pages, Stuck> {
        Ok(self.enter()?.books.free())
    }

    /// The number of live chunks.
    ///
    /// # Errors
    ///
    /// [`Stuck`].
    pub fn users(&self) -> Result<u32, Stuck> {
        Ok(self.enter()?.books.live())
    }

    /// The largest free range by the books.
    pub(crate) fn largest_hole(&self) -> Result<Pages, Stuck> {
        Ok(self.enter()?.books.largest_hole())
    }

    /// The totals of requests that it has served and refused since it was registered.
    ///
    /// # Errors
    ///
    /// [`Stuck`].
    pub fn statistics(&self) -> Result<RegionStatistics, Stuck> {
        Ok(self.enter()?.books.statistics())
    }

    /// Its figures, all of one moment. The allocator is not called.
    pub fn status(&self) -> RegionStatus {
        match self.enter() {
            Ok(state) => {
                let largest_hole = state.books.largest_hole();
                RegionStatus {
                    free_bytes: state.books.free().bytes(),
                    users: state.books.live(),
                    largest_hole,
                    largest_hole_bytes: largest_hole.bytes(),
                    waiters: state.queue.len(),
                    allocator: self.allocator(),
                    stuck: None,
                }
            }
            Err(stuck) => RegionStatus {
                free_bytes: 0,
                users: 0,
                largest_hole: Pages::ZERO,
                largest_hole_bytes: 0,
                waiters: 0,
                allocator: self.allocator(),
                stuck: Some(stuck),
            },
        }
    }

    /// The live chunks in ascending order of address. `name` resolves requesters.
    pub(crate) fn owners(
        &self,
        mut name: impl FnMut(Asker) -> Option<DeviceAndType>,
    ) -> Result<Vec<Owner>, Stuck> {
        let live = noted_chunks(&self.enter()?.books);
        let now = clock::precise_now();
        Ok(live.into_iter().map(|chunk| chunk.owner(&mut name, now)).collect())
    }

    /// The requesters that its books refer to.
    pub(crate) fn askers(&self) -> Result<Vec<Asker>, Stuck> {
        let state = self.enter()?;
        let waiting = state.queue.iter().map(|(_, request)| request.asker());
        Ok(state.books.askers().chain(waiting).collect())
    }

    /// The last refusals, oldest first. `name` resolves requesters.
    pub(crate) fn failures(
        &self,
        mut name: impl FnMut(Asker) -> Option<DeviceAndType>,
    ) -> Result<Vec<Failure>, Stuck> {
        let refused: Vec<_> = self.enter()?.books.refusals().cloned().collect();
        let now = clock::precise_now();
        let failure = |RefusedRequest { request, reason, when }| Failure {
            request: ChunkRequest::of(&request),
            device: name(request.asker()),
            reason,
            age: when.age(now).unwrap_or_default(),
        };
        Ok(refused.into_iter().map(failure).collect())
    }
}

impl RegionState {
    /// The live chunks in ascending order of address.
    pub(super) fn live_owners(&mut self, region: &Region) -> Vec<Owner> {
        let framework = region.framework();
        let mut name = |asker| framework.as_ref().and_then(|framework| framework.names_of(asker));
        let (live, now) = (noted_chunks(&self.books), clock::precise_now());
        let live = live.into_iter().map(|chunk| chunk.owner(&mut name, now)).collect();
        // It may be the last handle.
        self.drop_later(framework);
        live
    }

    /// The owner of the lowest live chunk in `place`, which lies in the region.
    pub(super) fn owner_in(&mut self, region: &Region, place: PageRange) -> Option<Owner> {
        let chunk = self.books.lowest_in(place)?;
        Some(self.owner_of(region, chunk))
    }

    /// The owner of a live chunk.
    pub(super) fn owner_of(&mut self, region: &Region, chunk: (Slot, BookedChunk)) -> Owner {
        let chunk = NotedChunk::of(&self.books, chunk);
        let framework = region.framework();
        let name = |asker| framework.as_ref().and_then(|framework| framework.names_of(asker));
        let owner = chunk.owner(name, clock::precise_now());
        // It may be the last handle.
        self.drop_later(framework);
        owner
    }
}

/// What the books have of a live chunk: its names are looked up without the region's lock.
pub(super) struct NotedChunk {
    request: ChunkRequest,
    booked: BookedChunk,
    holder: Option<Arc<Holder>>,
    set_aside: bool,
}

/// The live chunks in ascending order of address.
pub(super) fn noted_chunks(books: &Books) -> Vec<NotedChunk> {
    books.ascending().into_iter().map(|chunk| NotedChunk::of(books, chunk)).collect()
}

impl NotedChunk {
    fn of(books: &Books, (slot, booked): (Slot, BookedChunk)) -> Self {
        // As far as the books have its request.
        let request = books.request(slot, booked.range.pages(), Alignment::PAGE);
        let request = request.map_or(ChunkRequest::new(Bytes(booked.range.bytes())), |request| {
            ChunkRequest::of(&request)
        });
        let set_aside = books.is_set_aside(slot);
        NotedChunk { request, booked, holder: books.holder(slot).cloned(), set_aside }
    }

    /// Its owner. `name` resolves its requester.
    pub(super) fn owner(
        self,
        mut name: impl FnMut(Asker) -> Option<DeviceAndType>,
        now: Moment,
    ) -> Owner {
        let NotedChunk { request, booked, holder, set_aside } = self;
        let noted = holder.as_ref().and_then(|holder| holder.device.clone());
        Owner {
            range: booked.range,
            request,
            device: noted.or_else(|| name(booked.asker)),
            process: holder.map(|holder| holder.process.clone()),
            age: booked.since.age(now),
            set_aside,
        }
    }
}
