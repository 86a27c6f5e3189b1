//! What keeps a request out of a region, and which chunks are in its way.
//!
//! # The search for the least chunks
//!
//! A request is admitted when no live chunk overlaps some place that it accepts. The chunks that
//! overlap a place are neighbours in the order of addresses, so a set of chunks is an interval.
//!
//! Only a few places have to be looked at. A place that is moved down, to the lowest accepted one
//! at or behind the nearest end of a chunk below it (or the start of the region), meets no chunk
//! that it did not overlap before. So the least set, by any measure that grows with the set, is
//! that of one of these lowest places: one for each chunk, and one for the start of the region. A
//! window of two indices slides over the chunks with them. Time and memory are linear in chunks.

use super::books::unsatisfied;
use crate::vocabulary::RuledOut;
use crate::vocabulary::errors::Limit;
use cma_api::{PageRange, Pages, Request};
use std::cmp::Ordering;
use std::iter;
use std::ops::Range;

/// A range of a region that is in use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InUse {
    pub(crate) range: PageRange,
    /// Whether it can't be freed.
    pub(crate) fixed: bool,
}

/// Neighbouring chunks, and a place for a request if they leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Obstacle {
    /// Their indices.
    pub(crate) chunks: Range<usize>,
    pub(crate) pages: Pages,
    /// The lowest accepted place that overlaps no other chunk than these.
    pub(crate) place: PageRange,
}

/// The least chunks that have to leave for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeastObstacles {
    /// The fewest bytes; of equals, the fewest chunks, and then the lowest place.
    pub(crate) by_bytes: Obstacle,
    /// The fewest chunks; of equals, the fewest bytes, and then the lowest place.
    pub(crate) by_number: Obstacle,
}

/// The least of `in_use`, which is in ascending order of address, that has to leave `region` so
/// that `request` has a place. `None` if no place is accepted, or each overlaps a fixed range.
pub(crate) fn least_obstacles(
    region: PageRange,
    request: &Request,
    in_use: &[InUse],
) -> Option<LeastObstacles> {
    let mut least: Option<LeastObstacles> = None;
    let starts = iter::once(region.first_page());
    let starts = starts.chain(in_use.iter().map(|chunk| chunk.range.end_page()));
    let mut window = Window::new(in_use);
    for start in starts {
        let above = PageRange::from_pages(start, region.end_page() - start);
        // The places ascend with the starts, so there is none behind the first start without one.
        let Some(place) = request.lowest_place(above) else { break };
        window.slide_to(place);
        if window.fixed > 0 {
            continue;
        }
        let pages = Pages::new(window.pages);
        let found = Obstacle { chunks: window.chunks.clone(), pages, place };
        match &mut least {
            None => least = Some(LeastObstacles { by_bytes: found.clone(), by_number: found }),
            Some(least) => {
                if found.compared_by_number(&least.by_number) == Ordering::Less {
                    least.by_number = found.clone();
                }
                if found.compared_by_bytes(&least.by_bytes) == Ordering::Less {
                    least.by_bytes = found;
                }
            }
        }
    }
    least
}

impl Obstacle {
    fn compared_by_bytes(&self, other: &Self) -> Ordering {
        self.pages.cmp(&other.pages).then(self.chunks.len().cmp(&other.chunks.len()))
    }

    fn compared_by_number(&self, other: &Self) -> Ordering {
        self.chunks.len().cmp(&other.chunks.len()).then(self.pages.cmp(&other.pages))
    }
}

/// The chunks that overlap a place, as the place moves up.
struct Window<'a> {
    in_use: &'a [InUse],
    chunks: Range<usize>,
    /// The pages of these chunks.
    pages: u64,
    /// The number of fixed ones.
    fixed: usize,
}

impl<'a> Window<'a> {
    fn new(in_use: &'a [InUse]) -> Self {
        Window { in_use, chunks: 0..0, pages: 0, fixed: 0 }
    }

    fn slide_to(&mut self, place: PageRange) {
        while let Some(chunk) = self.in_use.get(self.chunks.end)
            && chunk.range.first_page() < place.end_page()
        {
            self.pages += chunk.range.pages().get();
            self.fixed += usize::from(chunk.fixed);
            self.chunks.end += 1;
        }
        while let Some(chunk) = self.in_use[self.chunks.clone()].first()
            && chunk.range.end_page() <= place.first_page()
        {
            self.pages -= chunk.range.pages().get();
            self.fixed -= usize::from(chunk.fixed);
            self.chunks.start += 1;
        }
    }
}

/// What rules out each of `holes` for `request`: the first of size, alignment, window and boundary
/// without which it has no room.
pub(crate) fn ruled_out(request: &Request, holes: impl Iterator<Item = PageRange>) -> RuledOut {
    let mut ruled_out = RuledOut::default();
    for hole in holes {
        let limit = unsatisfied(request, |request| request.lowest_place(hole).is_some());
        let share = if hole.pages() < request.pages() {
            &mut ruled_out.size
        } else {
            match limit {
                Some(Limit::Alignment { .. }) => &mut ruled_out.alignment,
                Some(Limit::Window(_)) => &mut ruled_out.window,
                Some(Limit::Boundary { .. }) => &mut ruled_out.boundary,
                None => &mut ruled_out.nothing,
            }
        };
        share.add(hole);
    }
    ruled_out
}

#[cfg(test)]
mod tests;
