//! What a trace needs at each moment, whatever the allocator.

use cma_api::{Asker, Request};
use cma_framework::config::Bytes;
use cma_framework::{ChunkRequest, DmaAddr, PAGE_SIZE, PageRange, Pages};
use cma_trace::{Action, Limits, Trace};
use std::cmp::Reverse;

/// The chunks of a trace with their lifetimes, for a region that starts at a known address.
///
/// Sizes are in whole pages. A request that may wait is one like others: a region is large enough
/// if nothing has to wait. A request that the recorded system refused is one like others, too,
/// whose chunk lives for one operation.
#[derive(Debug)]
pub struct Demand<'t> {
    trace: &'t Trace,
    start: DmaAddr,
    /// In the order of their births.
    chunks: Vec<Lifetime>,
    peak: Moment,
    /// The fewest pages from the start on that have a place for each chunk by itself.
    reach: u64,
    /// The most pages that are live at a time if each chunk has as many more as its alignment can
    /// cost.
    padded: u64,
    /// How many pairs of chunks are live at a common moment.
    pairs: u64,
}

/// A chunk: its request, and the operations between which it lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetime {
    pub(crate) request: Request,
    /// The operation that allocates it.
    pub(crate) birth: u32,
    /// The operation that frees it; the number of operations if none does.
    pub(crate) death: u32,
    requester: u16,
}

impl Lifetime {
    pub(crate) fn pages(&self) -> u64 {
        self.request.pages().get()
    }

    /// The operations of its life.
    pub(crate) fn operations(&self) -> u64 {
        u64::from(self.death - self.birth)
    }
}

/// The live chunks after one operation of a trace. One that is refused counts as live after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The operation: an index into [`Trace::operations`].
    pub operation: usize,
    /// Its recorded time in microseconds.
    pub time_us: u64,
    /// The live chunks.
    pub chunks: u64,
    /// Their pages.
    pub pages: Pages,
    /// The same by requester, the one with most first.
    pub holdings: Vec<Holding>,
}

/// The live chunks of one requester.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The requester: an index into [`Trace::requesters`].
    pub requester: u16,
    /// Its chunks.
    pub chunks: u64,
    /// Their pages.
    pub pages: Pages,
}

/// Why no region can be sized for a trace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoDemand {
    /// The trace has no allocation.
    #[error("the trace requests nothing")]
    NoRequest,
    /// A request has no place in any region that starts there.
    #[error(
        "operation {}: no region that starts at {start} has a place for {request}",
        operation + 1
    )]
    NoPlace {
        /// The operation: an index into [`Trace::operations`].
        operation: usize,
        /// The request.
        request: Box<ChunkRequest>,
        /// The start of the region.
        start: DmaAddr,
    },
    /// More memory is live at a time than addresses follow the start.
    #[error("{} are live at a time, more than lie above {start}", Bytes(pages.bytes()))]
    NoSpace {
        /// The pages that are live.
        pages: Pages,
        /// The start of the region.
        start: DmaAddr,
    },
}

impl<'t> Demand<'t> {
    /// The demand of `trace` on a region that starts at `start`, a whole page; without one, at
    /// [`usual_start`].
    ///
    /// # Errors
    ///
    /// [`NoDemand`].
    pub fn of(trace: &'t Trace, start: Option<DmaAddr>) -> Result<Demand<'t>, NoDemand> {
        let start = start.unwrap_or_else(|| usual_start(trace.limits()));
        let space = space_from(start);
        let mut chunks: Vec<Lifetime> = Vec::new();
        // The index of each chunk that was allocated, by its number.
        let mut allocated: Vec<u32> = Vec::new();
        let (mut live, mut live_padded, mut live_chunks) = (0, 0, 0);
        let (mut peak, mut padded, mut reach, mut pairs) = ((0, 0), 0, 0, 0);
        #[allow(clippy::cast_possible_truncation, reason = "a trace has fewer operations")]
        let end = trace.operations().len() as u32;
        for (at, operation) in (0..end).zip(trace.operations()) {
            match operation.action {
                Action::Allocate { size, alignment, requester, limits }
                | Action::Refused { size, alignment, requester, limits } => {
                    let request = trace.limits()[usize::from(limits)].request(size, alignment);
                    let no_place = || NoDemand::NoPlace {
                        operation: at as usize,
                        request: Box::new(request),
                        start,
                    };
                    let request = request.normalised(Asker::NOBODY).ok().ok_or_else(no_place)?;
                    let lowest = request.lowest_place(space).ok_or_else(no_place)?;
                    reach = reach.max(lowest.end_page() - space.first_page());
                    let mut chunk = Lifetime { request, birth: at, death: end, requester };
                    let (pages, pages_padded) = (chunk.pages(), padded_pages(&request));
                    if live + pages > peak.0 {
                        peak = (live + pages, at);
                    }
                    padded = padded.max(live_padded + pages_padded);
                    pairs += live_chunks;
                    if let Action::Refused { .. } = operation.action {
                        chunk.death = at + 1;
                    } else {
                        #[allow(clippy::cast_possible_truncation, reason = "as for operations")]
                        allocated.push(chunks.len() as u32);
                        live += pages;
                        live_padded += pages_padded;
                        live_chunks += 1;
                    }
                    chunks.push(chunk);
                }
                Action::Free { chunk } => {
                    let chunk = &mut chunks[allocated[chunk as usize] as usize];
                    chunk.death = at;
                    live -= chunk.pages();
                    live_chunks -= 1;
                    live_padded -= padded_pages(&chunk.request);
                }
            }
        }
        if chunks.is_empty() {
            return Err(NoDemand::NoRequest);
        }
        if peak.0 > space.pages().get() {
            return Err(NoDemand::NoSpace { pages: Pages::new(peak.0), start });
        }
        let peak = moment(trace, &chunks, peak.1);
        Ok(Demand { trace, start, chunks, peak, reach, padded, pairs })
    }

    /// The trace.
    pub fn trace(&self) -> &'t Trace {
        self.trace
    }

    /// The lowest address of the region.
    pub fn start(&self) -> DmaAddr {
        self.start
    }

    /// The first moment at which most pages are live. No region with fewer pages serves the trace.
    pub fn peak(&self) -> &Moment {
        &self.peak
    }

    /// Whether the limits of a request name an address, so that the region's place matters.
    pub fn names_addresses(&self) -> bool {
        let whole = PageRange::ADDRESS_SPACE_PAGES;
        self.chunks.iter().any(|chunk| chunk.request.window().pages().get() != whole)
    }

    /// The largest alignment or boundary of all requests.
    pub(crate) fn grid(&self) -> Pages {
        let grid = |chunk: &Lifetime| {
            let boundary = chunk.request.boundary();
            let boundary = boundary.bytes().map_or(Pages::ZERO, |_| boundary.pages());
            chunk.request.alignment().pages().max(boundary)
        };
        self.chunks.iter().map(grid).max().unwrap_or_default()
    }

    /// The fewest pages that a region can have: those of the peak, or more if a request is for a
    /// place further up.
    pub(crate) fn least(&self) -> u64 {
        self.peak.pages.get().max(self.reach)
    }

    /// More pages than a reasonable allocator needs: eight times the least, or twice the peak with
    /// all that alignments can cost, whichever is more, as far as the address space goes.
    pub(crate) fn most(&self) -> u64 {
        let most = (8 * self.least()).max(2 * self.padded);
        most.min(space_from(self.start).pages().get())
    }

    pub(crate) fn chunks(&self) -> &[Lifetime] {
        &self.chunks
    }

    pub(crate) fn pairs(&self) -> u64 {
        self.pairs
    }

    /// The live pages after operation number `first`, and after each later one.
    pub(crate) fn live_pages(&self, first: u32) -> impl Iterator<Item = u64> {
        let operations = self.trace.operations().len();
        let mut change = vec![0_i64; operations + 1 - first as usize];
        for chunk in self.chunks.iter().filter(|chunk| chunk.death > first) {
            // A trace has fewer than 2^52 pages live.
            let pages = chunk.pages().cast_signed();
            change[(chunk.birth.max(first) - first) as usize] += pages;
            change[(chunk.death - first) as usize] -= pages;
        }
        change.pop();
        change.into_iter().scan(0, |live: &mut i64, change| {
            *live += change;
            Some(live.cast_unsigned())
        })
    }

    /// The moment after operation number `operation`.
    pub(crate) fn moment(&self, operation: u32) -> Moment {
        moment(self.trace, &self.chunks, operation)
    }
}

/// The start of a region for requests with `limits`: 4 GiB, where a replay has its region, if none
/// of them names an address. If some do, the lowest address at which or above which a request wants
/// to lie; and 0 if another one wants to lie below that, or none is for a place above anything.
pub fn usual_start(limits: &[Limits]) -> DmaAddr {
    let limits = limits.iter().map(|limits| limits.request(PAGE_SIZE, 1));
    let (mut low, mut below): (Option<DmaAddr>, Option<DmaAddr>) = (None, None);
    for limit in limits {
        let from = limit.at.or(limit.above);
        low = low.into_iter().chain(from).min();
        below = below.into_iter().chain(limit.below).min();
    }
    match (low, below) {
        (None, None) => DmaAddr::new(1 << 32),
        (Some(low), below) if below.is_none_or(|below| low < below) => {
            PageRange::from_pages(low.page(), 1).start()
        }
        _ => DmaAddr::new(0),
    }
}

/// The pages from `start` to the top of the address space.
pub(crate) fn space_from(start: DmaAddr) -> PageRange {
    PageRange::from_pages(start.page(), PageRange::ADDRESS_SPACE_PAGES - start.page())
}

/// The pages of a chunk and those that its alignment may leave unused.
fn padded_pages(request: &Request) -> u64 {
    // An alignment counts up to 2^40 pages, so that the sum for a trace's 2^22 chunks can't wrap.
    request.pages().get() + (request.alignment().pages().get() - 1).min(1 << 40)
}

fn moment(trace: &Trace, chunks: &[Lifetime], operation: u32) -> Moment {
    let mut holdings: Vec<Holding> = (0..)
        .zip(trace.requesters())
        .map(|(requester, _)| Holding { requester, chunks: 0, pages: Pages::ZERO })
        .collect();
    let alive = |chunk: &&Lifetime| chunk.birth <= operation && operation < chunk.death;
    for chunk in chunks.iter().filter(alive) {
        let holding = &mut holdings[usize::from(chunk.requester)];
        holding.chunks += 1;
        holding.pages = Pages::new(holding.pages.get() + chunk.pages());
    }
    holdings.retain(|holding| holding.chunks > 0);
    holdings.sort_by_key(|holding| Reverse(holding.pages));
    Moment {
        operation: operation as usize,
        time_us: trace.operations()[operation as usize].time_us,
        chunks: holdings.iter().map(|holding| holding.chunks).sum(),
        pages: Pages::new(holdings.iter().map(|holding| holding.pages.get()).sum()),
        holdings,
    }
}

#[cfg(test)]
mod tests;
