//! Why a request was refused, and what would admit it: values, with their texts.

mod json;
mod text;

use super::errors::Reason;
use super::{ChunkRequest, Owner};
use cma_api::PageRange;
use std::collections::HashMap;
use std::iter;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Why a request was refused: each region that refused it, with the chunks in its way.
///
/// Made by [`AllocError::explain`](crate::AllocError::explain) and
/// [`Cma::explain_refusals`](crate::Cma::explain_refusals). It describes the regions at the time of
/// that call, region by region, which is later than the refusal. As text (`Display`) it is for a
/// reader; [`to_json`](Self::to_json) is for a program.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// The request in whole pages; `None` if no region got one.
    pub request: Option<ChunkRequest>,
    /// Device and type of the request; `None` in the cases of [`Owner::device`].
    pub device: Option<(Arc<str>, Arc<str>)>,
    /// The time since the refusal, in tenths of a second, if it is known.
    pub age: Option<Duration>,
    /// Why no region was asked; `None` if one was.
    pub cause: Option<String>,
    /// The regions that refused it, in the order in which they were asked, if that is known.
    pub regions: Vec<RegionExplanation>,
}

/// Why one region refused a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegionExplanation {
    /// The region's name, or its range if it has none.
    pub region: String,
    /// The reason that it gave.
    pub reason: Reason,
    /// The request as the region got it. A chunk that is given to another process is rounded to
    /// whole pieces of the region's memory.
    pub request: ChunkRequest,
    /// Its chunks and free ranges; `None` if its books can't be read: it is not registered, or its
    /// allocator doesn't return.
    pub layout: Option<Layout>,
}

/// The chunks of a region, and what they mean for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Layout {
    /// The region's place.
    pub range: PageRange,
    /// The name of its allocator; `None` if none is at work.
    pub allocator: Option<String>,
    /// The live chunks, and memory that is set aside, in ascending order of address.
    pub chunks: Vec<Owner>,
    /// What keeps the request out of the free ranges.
    pub ruled_out: RuledOut,
    /// Whether the region has a place for the request when it is empty.
    pub fits_empty: bool,
    /// The least room for the request; `None` if no place in the region is accepted, or each has
    /// memory that is set aside.
    pub room: Option<LeastRoom>,
}

/// The least chunks, and the least owners, whose leaving makes room for a request. Each set but
/// `wider` is exact by the books: no other set of the region's chunks or owners is less. It is
/// empty if a free range holds the request already.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeastRoom {
    /// The chunks with the fewest bytes; of equals, the fewest chunks.
    pub by_bytes: Room,
    /// The fewest chunks; of equals, those with the fewest bytes.
    pub by_number: Room,
    /// The owners with the fewest bytes in the region; of equals, the fewest owners.
    pub owners_by_bytes: OwnersRoom,
    /// The fewest owners; of equals, those with the fewest bytes in the region.
    pub owners_by_number: OwnersRoom,
    /// If the allocator has no place for the request after either set of chunks leaves: more
    /// chunks, after whose leaving it has. They are the least in the way of a request of the next
    /// power of two, aligned to that, because allocators may need such a place. Fewer may do.
    pub wider: Option<Room>,
}

/// Chunks whose leaving makes room for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Room {
    /// Their indices in [`Layout::chunks`].
    pub chunks: Range<usize>,
    /// Their size together.
    pub bytes: u64,
    /// A place that is free after they leave, the lowest that the request accepts.
    pub free: PageRange,
    /// Where the request is placed then.
    pub after: AfterLeaving,
}

/// Owners, each a device and type, that make room for a request by freeing all of their chunks in
/// the region.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnersRoom {
    /// Their indices in [`Layout::owners`], ascending.
    pub owners: Vec<usize>,
    /// Their chunks.
    pub chunks: Share,
    /// A place that is free after they leave; there may be lower ones.
    pub free: PageRange,
    /// Where the request is placed then.
    pub after: AfterLeaving,
}

/// What an allocator does with a request after chunks have left. A new instance of the region's
/// allocator was asked, which adopted the chunks that stay. The instance at work may choose
/// otherwise, as far as its choice depends on the history of its chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AfterLeaving {
    /// It places it here.
    Placed(PageRange),
    /// It still finds no place.
    Declined,
    /// No allocator is at work in the region.
    NoAllocator,
    /// The new instance could not be asked, or did not keep its contract.
    Unknown {
        /// Why.
        reason: String,
    },
}

/// What rules out the free ranges of a region for a request. Each range counts once, under the
/// first of these demands, in this order, that leaves it without room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RuledOut {
    /// Smaller than the request.
    pub size: Share,
    /// Large enough, but not at an aligned place.
    pub alignment: Share,
    /// Without such a place in the window.
    pub window: Share,
    /// Each such place crosses a multiple of the boundary.
    pub boundary: Share,
    /// With room for the request.
    pub nothing: Share,
}

/// A number of ranges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Share {
    /// How many.
    pub ranges: u64,
    /// Their size together.
    pub bytes: u64,
}

/// The chunks of one device and type in a region.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnerShare {
    /// Device and type; `None` in the cases of [`Owner::device`], and for memory that is set aside.
    pub device: Option<(Arc<str>, Arc<str>)>,
    /// Whether this is the memory that is set aside.
    pub set_aside: bool,
    /// The chunks.
    pub chunks: Share,
    /// The age of the oldest one, and of the newest one, of those whose age is known.
    pub ages: Option<(Duration, Duration)>,
}

impl Share {
    pub(crate) fn add(&mut self, range: PageRange) {
        self.ranges += 1;
        self.bytes += range.bytes();
    }
}

impl std::iter::Sum for Share {
    fn sum<I: Iterator<Item = Share>>(shares: I) -> Share {
        shares.fold(Share::default(), |sum, share| Share {
            ranges: sum.ranges + share.ranges,
            bytes: sum.bytes + share.bytes,
        })
    }
}

impl Layout {
    /// The free ranges in ascending order of address.
    pub fn holes(&self) -> impl Iterator<Item = PageRange> {
        let ends = self.chunks.iter().map(|chunk| chunk.range.end_page());
        let firsts = self.chunks.iter().map(|chunk| chunk.range.first_page());
        let gaps = iter::once(self.range.first_page())
            .chain(ends)
            .zip(firsts.chain([self.range.end_page()]));
        gaps.filter(|(from, to)| from < to).map(|(from, to)| PageRange::from_pages(from, to - from))
    }

    /// The free ranges, counted.
    pub fn free(&self) -> Share {
        let mut free = Share::default();
        self.holes().for_each(|hole| free.add(hole));
        free
    }

    /// The largest free range, the lowest of equals; `None` if nothing is free.
    pub fn largest_hole(&self) -> Option<PageRange> {
        self.holes().max_by_key(|hole| (hole.pages(), std::cmp::Reverse(hole.first_page())))
    }

    /// The chunks by device and type, those with most bytes first.
    pub fn owners(&self) -> Vec<OwnerShare> {
        by_owner(&self.chunks).0
    }

    /// The chunks of `room`.
    pub fn leaving(&self, room: &Room) -> &[Owner] {
        &self.chunks[room.chunks.clone()]
    }
}

/// `chunks` by device and type, those with most bytes first, and the index of each chunk's owner.
pub(crate) fn by_owner(chunks: &[Owner]) -> (Vec<OwnerShare>, Vec<usize>) {
    let mut shares: Vec<OwnerShare> = Vec::new();
    let mut known = HashMap::new();
    let mut of_chunks = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        let at = *known.entry((&chunk.device, chunk.set_aside)).or_insert(shares.len());
        if at == shares.len() {
            shares.push(OwnerShare {
                device: chunk.device.clone(),
                set_aside: chunk.set_aside,
                chunks: Share::default(),
                ages: None,
            });
        }
        let share = &mut shares[at];
        share.chunks.add(chunk.range);
        if let Some(age) = chunk.age {
            let (oldest, newest) = share.ages.unwrap_or((age, age));
            share.ages = Some((oldest.max(age), newest.min(age)));
        }
        of_chunks.push(at);
    }
    // By address of the first chunk, if the sizes are equal.
    let mut sorted: Vec<(usize, OwnerShare)> = shares.into_iter().enumerate().collect();
    sorted.sort_by_key(|(_, share)| std::cmp::Reverse(share.chunks.bytes));
    let mut indices = vec![0; sorted.len()];
    for (index, (at, _)) in sorted.iter().enumerate() {
        indices[*at] = index;
    }
    let of_chunks = of_chunks.into_iter().map(|at| indices[at]).collect();
    (sorted.into_iter().map(|(_, share)| share).collect(), of_chunks)
}
