//! A layout of all chunks of a trace, computed with the whole trace known.
//!
//! To place intervals of time on addresses so that the highest address is lowest is known as
//! dynamic storage allocation, and is NP-complete (Garey and Johnson, problem SR2). The heuristic
//! here is greedy, with repair:
//!
//! 1. The chunks are sorted by an [`Order`], those with a fixed address first, then those within a
//!    window, then all others. Each goes to the lowest place that is free during its whole life,
//!    within the limits of its request.
//! 2. The chunks that end above the peak of live memory are moved to the front of their kind, the
//!    order otherwise stays the same, and all are placed anew. This is repeated, and the best
//!    layout of all rounds is kept.
//!
//! No allocator that has to answer before it knows the next request can be expected to reach the
//! result. It is an upper bound of what is possible, and the peak is the lower bound.

mod overlaps;

use crate::demand::{Demand, Lifetime, Moment, space_from};
use cma_framework::{PageRange, Pages};
use overlaps::{Overlaps, Placed};
use rayon::prelude::*;
use std::cmp::Reverse;
use std::fmt;

/// A layout of all chunks of a trace: a place for each, so that no two overlap while both live.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The size of the smallest region that holds it.
    pub pages: Pages,
    /// The order in which the heuristic placed the chunks at first.
    pub order: Order,
    /// The moment that decides its size: in the life of the chunk that ends highest, the moment at
    /// which most memory is live.
    pub moment: Moment,
    /// In the order of the requests.
    places: Vec<PageRange>,
}

impl Layout {
    /// The place of each request, in the order of the requests. Those that the recorded system
    /// refused have places, too.
    pub fn places(&self) -> &[PageRange] {
        &self.places
    }
}

/// The order in which chunks are placed, the largest value first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By size, then by lifetime.
    Size,
    /// By the size times the square root of the lifetime.
    SizeFirst,
    /// By the lifetime times the square root of the size.
    LifeFirst,
}

impl Order {
    const ALL: [Order; 3] = [Order::Size, Order::SizeFirst, Order::LifeFirst];

    /// A number that sorts as the order does. Lifetimes are counted in operations.
    fn key(self, chunk: &Lifetime) -> (u128, u128) {
        // At most 2^52 pages and 2^22 operations.
        let (pages, life) = (u128::from(chunk.pages()), u128::from(chunk.operations()));
        match self {
            Order::Size => (pages, life),
            Order::SizeFirst => (pages * pages * life, 0),
            Order::LifeFirst => (life * life * pages, 0),
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Order::Size => "first fit by size",
            Order::SizeFirst => "first fit by size * sqrt(lifetime)",
            Order::LifeFirst => "first fit by lifetime * sqrt(size)",
        })
    }
}

/// The visits of chunks after which no further round begins: some seconds.
const VISITS: u64 = 1 << 29;

/// The most visits of one round. A trace that needs more has no layout.
const MOST_VISITS: u64 = 1 << 33;

/// The most rounds for one order.
const MOST_ROUNDS: u64 = 32;

impl Demand<'_> {
    /// The best layout that the heuristic finds, on all threads of the pool that this is called in.
    /// It is the same in each call. `None` for a trace of which too many chunks are live at a time
    /// (more than 2^32 pairs of chunks live at a common moment), and if the limits of the requests
    /// leave some chunk without a place.
    pub fn offline(&self) -> Option<Layout> {
        let chunks = self.chunks();
        let visits = 2 * self.pairs();
        if visits > MOST_VISITS {
            return None;
        }
        let rounds = VISITS / (visits * Order::ALL.len() as u64).max(1);
        let rounds = rounds.clamp(1, MOST_ROUNDS);
        let overlaps = Overlaps::new(chunks, self.pairs());
        let layouts = Order::ALL.into_par_iter().filter_map(|order| {
            let (pages, placed) = best_of(self, &overlaps, order, rounds)?;
            Some((pages, order, placed))
        });
        // The first of equal ones.
        let (pages, order, placed) =
            layouts.min_by_key(|(pages, order, _)| (*pages, *order as u8))?;
        let places: Vec<_> = placed.iter().map(Placed::range).collect();
        let moment = self.deciding_moment(&places)?;
        Some(Layout { pages: Pages::new(pages), order, moment, places })
    }

    /// In the life of the chunk that ends highest, the moment at which most is live.
    fn deciding_moment(&self, places: &[PageRange]) -> Option<Moment> {
        let (highest, _) = places
            .iter()
            .enumerate()
            .max_by_key(|(number, place)| (place.end_page(), Reverse(*number)))?;
        let Lifetime { birth, death, .. } = self.chunks()[highest];
        let live = (birth..death).zip(self.live_pages(birth));
        let (operation, _) = live.max_by_key(|(operation, live)| (*live, Reverse(*operation)))?;
        Some(self.moment(operation))
    }
}

/// How much the limits of a request fix its place.
fn fixedness(chunk: &Lifetime) -> u8 {
    let window = chunk.request.window().pages().get();
    if window == chunk.pages() { 2 } else { u8::from(window < PageRange::ADDRESS_SPACE_PAGES) }
}

/// The best of up to `rounds` layouts in `order`: the pages that it needs, and the places. `None`
/// if the first one has no place for a chunk.
fn best_of(
    demand: &Demand<'_>,
    overlaps: &Overlaps,
    order: Order,
    rounds: u64,
) -> Option<(u64, Vec<Placed>)> {
    let chunks = demand.chunks();
    let fixed = |number: &u32| Reverse(fixedness(&chunks[*number as usize]));
    #[allow(clippy::cast_possible_truncation, reason = "a trace has fewer chunks")]
    let mut numbers: Vec<u32> = (0..chunks.len() as u32).collect();
    numbers.sort_by_cached_key(|number| Reverse(order.key(&chunks[*number as usize])));
    numbers.sort_by_key(fixed);
    let start = demand.start().page();
    let ceiling = start + demand.least();
    let mut best = place_all(demand, overlaps, &numbers)?;
    let mut last = best.clone();
    for _ in 1..rounds {
        if best.0 <= demand.least() {
            break;
        }
        let (mut high, low): (Vec<u32>, Vec<u32>) =
            numbers.iter().partition(|number| last.1[**number as usize].end > ceiling);
        high.extend(low);
        numbers = high;
        numbers.sort_by_key(fixed);
        let Some(next) = place_all(demand, overlaps, &numbers) else { break };
        last = next;
        if last.0 < best.0 {
            best.clone_from(&last);
        }
    }
    Some(best)
}

/// Places the chunks in the order of `numbers`, each at the lowest place that is free in its life.
/// Returns the pages that the layout needs, and the places; `None` if a chunk has no place within
/// its limits.
fn place_all(
    demand: &Demand<'_>,
    overlaps: &Overlaps,
    numbers: &[u32],
) -> Option<(u64, Vec<Placed>)> {
    let space = space_from(demand.start());
    let chunks = demand.chunks();
    let mut placed: Vec<_> = chunks.iter().map(Placed::nowhere).collect();
    let mut end = space.first_page();
    let mut taken = Vec::new();
    for &number in numbers {
        taken.clear();
        overlaps.visit(number, &placed, |other| {
            if other.is_placed() {
                taken.push((other.first, other.end));
            }
        });
        taken.sort_unstable();
        let request = &chunks[number as usize].request;
        let place = lowest_free(space, &taken, |hole| request.lowest_place(hole))?;
        placed[number as usize].put(place);
        end = end.max(place.end_page());
    }
    Some((end - space.first_page(), placed))
}

/// The lowest place that `fits` finds in a hole of `space` between the ranges `taken`, which are in
/// ascending order and may overlap.
fn lowest_free(
    space: PageRange,
    taken: &[(u64, u64)],
    fits: impl Fn(PageRange) -> Option<PageRange>,
) -> Option<PageRange> {
    let mut from = space.first_page();
    for &(first, end) in taken {
        if first > from
            && let Some(place) = fits(PageRange::from_pages(from, first - from))
        {
            return Some(place);
        }
        from = from.max(end);
    }
    fits(PageRange::from_pages(from, space.end_page() - from))
}

#[cfg(test)]
mod tests;
