//! Comparing two allocators on the same requests: that of a region, and a *shadow*, a candidate
//! that only imagines what it would have done.
//!
//! Pure bookkeeping. The real books are not touched: the comparison has books for either side, fed
//! by the region's events. The host calls the candidate (`host::shadow`).

use super::books::{Books, Explanation, LiveChunk, Slot};
use super::moment::Moment;
use crate::vocabulary::ChunkRequest;
use crate::vocabulary::errors::{Misplacement, Reason};
use cma_api::{Asker, PAGE_SIZE, PageRange, Placement, Request, Tag};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The number of differences that are kept of each kind.
const KEPT: usize = 8;

/// The books keep no ages here.
const NO_TIME: Moment = Moment::from_tenths(0);

/// What a shadow would have done since it began, next to what the region's own allocator did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ShadowReport {
    /// The shadow's name.
    pub allocator: String,
    /// The time since it was set.
    pub age: Duration,
    /// What it does now.
    pub state: ShadowState,
    /// The requests that it has followed: those that the region served, and those that it refused
    /// for want of a place.
    pub requests: u64,
    /// Changes of the region that it missed, because it was slower than they came. Then it began
    /// anew with the chunks that were live.
    pub missed: u64,
    /// How many requests the region served and the shadow refused.
    pub only_shadow_refused: u64,
    /// The last of these, with the shadow's reasons, oldest first.
    pub last_only_shadow_refused: Vec<Difference>,
    /// How many requests the region refused and the shadow would have served.
    pub only_region_refused: u64,
    /// The last of these, with the region's reasons, oldest first.
    pub last_only_region_refused: Vec<Difference>,
    /// How the region has its chunks.
    pub region: Packing,
    /// How the shadow has them. It has fewer if it refused some.
    pub shadow: Packing,
}

/// What a shadow does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShadowState {
    /// It is being started, or adopts the live chunks.
    Starting,
    /// It follows the region.
    Following,
    /// It has not returned from a call for this time. The region is not affected.
    Stuck(Duration),
    /// It is out of service for this reason. The figures are those of that moment.
    Ended(String),
}

/// A request that the region and the shadow answered differently.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// The request as the region got it.
    pub request: ChunkRequest,
    /// Device and type, if known.
    pub device: Option<(Arc<str>, Arc<str>)>,
    /// Why one side refused it.
    pub reason: Reason,
}

/// How chunks are placed in a region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Packing {
    /// Bytes of live chunks.
    pub live_bytes: u64,
    /// The highest end of a live chunk since the shadow began, in bytes from the region's start: a
    /// region of this size would have been enough for the same places.
    pub high_water_bytes: u64,
    /// The largest free range in bytes.
    pub largest_free_bytes: u64,
}

impl fmt::Display for ShadowState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ShadowState::Starting => f.write_str("starting"),
            ShadowState::Following => f.write_str("following"),
            ShadowState::Stuck(time) => write!(f, "stuck for {:.1} s", time.as_secs_f64()),
            ShadowState::Ended(reason) => write!(f, "out of service: {reason}"),
        }
    }
}

/// One side of a comparison.
#[derive(Debug)]
struct Side {
    books: Books,
    /// The end of the highest chunk ever, as a page of the address space.
    high_water: u64,
}

impl Side {
    fn new(region: PageRange) -> Self {
        Side { books: Books::new(region), high_water: region.first_page() }
    }

    fn note(&mut self, range: PageRange) {
        self.high_water = self.high_water.max(range.end_page());
    }

    fn packing(&self, region: PageRange) -> Packing {
        Packing {
            live_bytes: region.bytes() - self.books.free().bytes(),
            high_water_bytes: (self.high_water - region.first_page()) * PAGE_SIZE,
            largest_free_bytes: self.books.largest_hole().bytes(),
        }
    }
}

/// The books of a comparison.
#[derive(Debug)]
pub(crate) struct Comparison {
    region_range: PageRange,
    region: Side,
    shadow: Side,
    /// The chunks of the region by their first page, and those of the shadow for the same requests.
    chunks: HashMap<u64, (PageRange, Slot, Option<LiveChunk>)>,
    requests: u64,
    only_shadow_refused: Differences,
    only_region_refused: Differences,
}

#[derive(Debug, Default)]
struct Differences {
    count: u64,
    last: VecDeque<Difference>,
}

impl Differences {
    fn add(&mut self, difference: Difference) {
        self.count += 1;
        self.last.push_back(difference);
        self.last.drain(..self.last.len().saturating_sub(KEPT));
    }

    fn last(&self) -> Vec<Difference> {
        self.last.iter().cloned().collect()
    }
}

impl Comparison {
    pub(crate) fn new(region: PageRange) -> Self {
        Comparison {
            region_range: region,
            region: Side::new(region),
            shadow: Side::new(region),
            chunks: HashMap::new(),
            requests: 0,
            only_shadow_refused: Differences::default(),
            only_region_refused: Differences::default(),
        }
    }

    /// Begins anew with no chunk. The figures stay.
    pub(crate) fn clear(&mut self) {
        self.region.books = Books::new(self.region_range);
        self.shadow.books = Books::new(self.region_range);
        self.chunks.clear();
    }

    /// Notes a chunk of the region. Returns false for one that contradicts another one.
    pub(crate) fn place(&mut self, range: PageRange) -> bool {
        let Ok(slot) = self.region.books.keep(range, Asker::NOBODY, NO_TIME) else { return false };
        self.region.note(range);
        self.chunks.insert(range.first_page(), (range, slot, None));
        true
    }

    /// Counts a request, whose outcome is noted already: whoever reads the number sees that, too.
    pub(crate) fn count_request(&mut self) {
        self.requests += 1;
    }

    /// Whether all of `range` is free in the shadow.
    pub(crate) fn is_free_in_shadow(&self, range: PageRange) -> bool {
        range.within(self.region_range) && self.shadow.books.lowest_in(range).is_none()
    }

    /// Accepts the shadow's `placement` for the request that the region serves at `real`.
    pub(crate) fn place_in_shadow(
        &mut self,
        real: PageRange,
        request: &Request,
        Placement { range, tag }: Placement,
    ) -> Result<(), Misplacement> {
        let (slot, _) = self.shadow.books.place(request, range, NO_TIME)?;
        self.pair(real, LiveChunk { range, tag, slot });
        Ok(())
    }

    /// Notes that the shadow has adopted the region's chunk at `range`.
    pub(crate) fn adopt_in_shadow(&mut self, range: PageRange, tag: Tag) {
        if let Ok(slot) = self.shadow.books.keep(range, Asker::NOBODY, NO_TIME) {
            self.pair(range, LiveChunk { range, tag, slot });
        }
    }

    fn pair(&mut self, real: PageRange, chunk: LiveChunk) {
        self.shadow.note(chunk.range);
        if let Some((.., paired)) = self.chunks.get_mut(&real.first_page()) {
            *paired = Some(chunk);
        }
    }

    /// Frees the region's chunk at `range`, and the shadow's for the same request, which the shadow
    /// must free too.
    pub(crate) fn release(&mut self, range: PageRange) -> Option<Placement> {
        let (range, slot, paired) = self.chunks.remove(&range.first_page())?;
        self.region.books.release(slot, range, Tag(0));
        let LiveChunk { range, tag, slot } = paired?;
        self.shadow.books.release(slot, range, tag);
        Some(Placement { range, tag })
    }

    /// Why the shadow found no place for `request`.
    pub(crate) fn explain(&self, request: &Request) -> Explanation {
        self.shadow.books.explain_refusal(request)
    }

    /// Notes that the shadow refused a request that the region served.
    pub(crate) fn shadow_refused(&mut self, difference: Difference) {
        self.only_shadow_refused.add(difference);
    }

    /// Notes that the region refused a request that the shadow would have served.
    pub(crate) fn region_refused(&mut self, difference: Difference) {
        self.only_region_refused.add(difference);
    }

    pub(crate) fn report(
        &self,
        allocator: String,
        age: Duration,
        state: ShadowState,
    ) -> ShadowReport {
        ShadowReport {
            allocator,
            age,
            state,
            requests: self.requests,
            // The host knows.
            missed: 0,
            only_shadow_refused: self.only_shadow_refused.count,
            last_only_shadow_refused: self.only_shadow_refused.last(),
            only_region_refused: self.only_region_refused.count,
            last_only_region_refused: self.only_region_refused.last(),
            region: self.region.packing(self.region_range),
            shadow: self.shadow.packing(self.region_range),
        }
    }
}
