//! The state of a server's regions as values.

use cma_framework::{ChunkRequest, PageRange, Process};
use std::fmt;
use std::time::Duration;

/// The regions of a server, in ascending order of address.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// The regions.
    pub regions: Vec<RegionState>,
}

/// A region.
#[derive(Clone, Debug, PartialEq)]
pub struct RegionState {
    /// Its name.
    pub name: Option<String>,
    /// Its addresses.
    pub range: PageRange,
    /// Its allocator.
    pub allocator: AllocatorStatus,
    /// Why it can't serve requests.
    pub problem: Option<String>,
    /// Its books; `None` while its allocator does not return from a call.
    pub books: Option<Books>,
}

/// The allocator of a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllocatorStatus {
    /// It serves the region.
    Serving {
        /// Its name; `None` for an allocator without one.
        name: Option<String>,
    },
    /// The region waits for an allocator.
    Waiting {
        /// Its name; `None` for the default one.
        wanted: Option<String>,
    },
    /// It broke its contract or panicked, and is not called any more.
    OutOfService {
        /// Its name.
        name: String,
    },
}

/// The books of a region.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Books {
    /// The free bytes.
    pub free_bytes: u64,
    /// The largest free range in bytes.
    pub largest_free_bytes: u64,
    /// The most bytes that were ever in use at once.
    pub high_water_bytes: u64,
    /// The requests that were served since the region was registered.
    pub chunks_placed: u64,
    /// The requests that were refused.
    pub requests_refused: u64,
    /// The chunks that were freed.
    pub chunks_freed: u64,
    /// The live chunks, in ascending order of address.
    pub chunks: Vec<ChunkState>,
    /// The requests that wait, in the order in which the region serves them.
    pub waiters: Vec<WaiterState>,
    /// The last requests that were refused, the oldest first.
    pub failures: Vec<FailureState>,
}

/// The device and the type of a request, `camera/frame`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requester {
    /// The device.
    pub device: String,
    /// The type.
    pub kind: String,
}

/// A live chunk.
#[derive(Clone, Debug, PartialEq)]
pub struct ChunkState {
    /// Its place.
    pub range: PageRange,
    /// Size and limits of its request, in whole pages.
    pub request: ChunkRequest,
    /// Device and type of its request; `None` when it named regions.
    pub requester: Option<Requester>,
    /// For how long it has been live, in tenths of a second; `None` when unknown.
    pub age: Option<Duration>,
    /// The process that has it, if it is not the server itself.
    pub process: Option<Process>,
}

/// A request that waits for room.
#[derive(Clone, Debug, PartialEq)]
pub struct WaiterState {
    /// The request.
    pub request: ChunkRequest,
    /// Device and type of the request; `None` when it named regions.
    pub requester: Option<Requester>,
    /// For how long it has waited, in tenths of a second.
    pub waited: Duration,
    /// The process that waits, if it is not the server itself.
    pub process: Option<Process>,
}

/// A request that a region refused.
#[derive(Clone, Debug, PartialEq)]
pub struct FailureState {
    /// The request, in whole pages.
    pub request: ChunkRequest,
    /// Device and type of the request; `None` when it named regions.
    pub requester: Option<Requester>,
    /// Why it was refused.
    pub reason: String,
    /// Its age, in tenths of a second.
    pub age: Duration,
}

impl State {
    /// The region of that name, or at that address as in `0x40000000`.
    pub fn region(&self, name: &str) -> Option<&RegionState> {
        let by_name = |region: &&RegionState| region.name.as_deref() == Some(name);
        let by_start = |region: &&RegionState| region.range.start().to_string() == name;
        self.regions.iter().find(by_name).or_else(|| self.regions.iter().find(by_start))
    }

    /// The requests that wait, with the region in whose queue each is. One that several regions
    /// could serve is in the queue of each.
    pub fn waiters(&self) -> impl Iterator<Item = (&RegionState, &WaiterState)> {
        self.of_books(|books| &books.waiters)
    }

    /// The last refused requests of each region, with the region.
    pub fn failures(&self) -> impl Iterator<Item = (&RegionState, &FailureState)> {
        self.of_books(|books| &books.failures)
    }

    fn of_books<'s, T: 's>(
        &'s self,
        list: impl Fn(&'s Books) -> &'s Vec<T> + Copy,
    ) -> impl Iterator<Item = (&'s RegionState, &'s T)> {
        self.regions.iter().flat_map(move |region| {
            let items = region.books.iter().flat_map(list);
            items.map(move |item| (region, item))
        })
    }
}

impl RegionState {
    /// The free ranges between its chunks, in ascending order of address; none without books.
    pub fn holes(&self) -> Vec<PageRange> {
        let Some(books) = &self.books else { return Vec::new() };
        let mut holes = Vec::new();
        let mut free_from = self.range.first_page();
        for chunk in &books.chunks {
            let first = chunk.range.first_page();
            if first > free_from {
                holes.push(PageRange::from_pages(free_from, first - free_from));
            }
            free_from = free_from.max(chunk.range.end_page());
        }
        let end = self.range.end_page();
        if end > free_from {
            holes.push(PageRange::from_pages(free_from, end - free_from));
        }
        holes
    }
}

impl fmt::Display for RegionState {
    /// Its name, or its start address if it has none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.pad(name),
            None => f.pad(&self.range.start().to_string()),
        }
    }
}

impl fmt::Display for AllocatorStatus {
    /// As the attribute `alloc` has it; `[default]` for a region that waits for the default one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AllocatorStatus::Serving { name } => f.pad(name.as_deref().unwrap_or("-")),
            AllocatorStatus::Waiting { wanted } => {
                f.pad(&format!("[{}]", wanted.as_deref().unwrap_or("default")))
            }
            AllocatorStatus::OutOfService { name } => f.pad(&format!("({name})")),
        }
    }
}

impl fmt::Display for Requester {
    /// `camera/frame`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.device, self.kind))
    }
}
