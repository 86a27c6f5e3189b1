//! What keeps a request out of a region, and which chunks are in its way.
//!
//! # The search for the least chunks, and the least owners
//!
//! A request is admitted when no live chunk overlaps some place that it accepts. The chunks that
//! overlap a place are neighbours in the order of addresses, so a least set of chunks is an
//! interval. The owners that have to leave for a place are those of such an interval.
//!
//! Only a few places have to be looked at. A place that is moved down, to the lowest accepted one
//! at or behind the nearest end of a chunk below it (or the start of the region), meets no chunk
//! that it did not overlap before. So the least set, by any measure that grows with the set, is
//! that of one of these lowest places: one for each chunk, and one for the start of the region. A
//! window of two indices slides over the chunks with them, and counts the chunks of each owner in
//! it. Time and memory are linear in chunks.

use super::books::unsatisfied;
use crate::vocabulary::RuledOut;
use crate::vocabulary::errors::Limit;
use cma_api::{PageRange, Pages, Request};
use std::iter;
use std::ops::Range;

/// A range of a region that is in use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InUse {
    pub(crate) range: PageRange,
    /// The number of its owner, from 0 on without gaps.
    pub(crate) owner: usize,
    /// Whether it can't be freed.
    pub(crate) fixed: bool,
}

/// Neighbouring chunks, and a place for a request if they leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Obstacle {
    /// Their indices.
    pub(crate) chunks: Range<usize>,
    pub(crate) pages: Pages,
    /// The number of their owners.
    pub(crate) owners: usize,
    /// The pages of all chunks of these owners.
    pub(crate) owners_pages: Pages,
    /// The lowest accepted place that overlaps no other chunk than these.
    pub(crate) place: PageRange,
}

/// The least that has to leave for a request; of equals, for the lowest place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeastObstacles {
    /// The fewest bytes; of equals, the fewest chunks.
    pub(crate) by_bytes: Obstacle,
    /// The fewest chunks; of equals, the fewest bytes.
    pub(crate) by_number: Obstacle,
    /// The owners with the fewest bytes, in all their chunks; of equals, the fewest owners.
    pub(crate) owners_by_bytes: Obstacle,
    /// The fewest owners; of equals, those with the fewest bytes.
    pub(crate) owners_by_number: Obstacle,
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
        let found = window.obstacle(place);
        match &mut least {
            Some(least) => least.compare(&found),
            None => least = Some(LeastObstacles::only(&found)),
        }
    }
    least
}

impl LeastObstacles {
    fn only(found: &Obstacle) -> Self {
        LeastObstacles {
            by_bytes: found.clone(),
            by_number: found.clone(),
            owners_by_bytes: found.clone(),
            owners_by_number: found.clone(),
        }
    }

    /// Replaces what `found`, whose place is higher, is less than.
    fn compare(&mut self, found: &Obstacle) {
        let replace = |least: &mut Obstacle, less: bool| {
            if less {
                least.clone_from(found);
            }
        };
        let less = found.by_bytes() < self.by_bytes.by_bytes();
        replace(&mut self.by_bytes, less);
        let less = found.by_number() < self.by_number.by_number();
        replace(&mut self.by_number, less);
        let less = found.owners_by_bytes() < self.owners_by_bytes.owners_by_bytes();
        replace(&mut self.owners_by_bytes, less);
        let less = found.owners_by_number() < self.owners_by_number.owners_by_number();
        replace(&mut self.owners_by_number, less);
    }
}

/// Weights.
impl Obstacle {
    fn by_bytes(&self) -> (Pages, usize) {
        (self.pages, self.chunks.len())
    }

    fn by_number(&self) -> (usize, Pages) {
        (self.chunks.len(), self.pages)
    }

    fn owners_by_bytes(&self) -> (Pages, usize) {
        (self.owners_pages, self.owners)
    }

    fn owners_by_number(&self) -> (usize, Pages) {
        (self.owners, self.owners_pages)
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
    /// For each owner the pages of all its chunks, and the number of those in the window.
    by_owner: Vec<(u64, usize)>,
    /// The owners with chunks in the window.
    owners: usize,
    /// The pages of all chunks of these.
    owners_pages: u64,
}

impl<'a> Window<'a> {
    fn new(in_use: &'a [InUse]) -> Self {
        let owners = in_use.iter().map(|chunk| chunk.owner + 1).max().unwrap_or(0);
        let mut by_owner = vec![(0, 0); owners];
        for chunk in in_use {
            by_owner[chunk.owner].0 += chunk.range.pages().get();
        }
        Window { in_use, chunks: 0..0, pages: 0, fixed: 0, by_owner, owners: 0, owners_pages: 0 }
    }

    fn slide_to(&mut self, place: PageRange) {
        while let Some(chunk) = self.in_use.get(self.chunks.end)
            && chunk.range.first_page() < place.end_page()
        {
            self.pages += chunk.range.pages().get();
            self.fixed += usize::from(chunk.fixed);
            self.chunks.end += 1;
            let (pages, inside) = &mut self.by_owner[chunk.owner];
            if *inside == 0 {
                self.owners += 1;
                self.owners_pages += *pages;
            }
            *inside += 1;
        }
        while let Some(chunk) = self.in_use[self.chunks.clone()].first()
            && chunk.range.end_page() <= place.first_page()
        {
            self.pages -= chunk.range.pages().get();
            self.fixed -= usize::from(chunk.fixed);
            self.chunks.start += 1;
            let (pages, inside) = &mut self.by_owner[chunk.owner];
            *inside -= 1;
            if *inside == 0 {
                self.owners -= 1;
                self.owners_pages -= *pages;
            }
        }
    }

    fn obstacle(&self, place: PageRange) -> Obstacle {
        Obstacle {
            chunks: self.chunks.clone(),
            pages: Pages::new(self.pages),
            owners: self.owners,
            owners_pages: Pages::new(self.owners_pages),
            place,
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
