//! The rule as pure functions: the order of holes, and the place of a chunk in a hole.

use cma_api::{Alignment, Boundary, PageRange, Request};
use cma_bits::Nodes;

/// A free range between two chunks or the region's ends. Pages are counted from the region's start.
///
/// Size and start are packed so that the order of the numbers is the order of the rule: smallest
/// first, lowest address first among equals. No hole is the number 0, because none is empty.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Hole(u64);

impl Hole {
    #[inline]
    pub(crate) fn new(pages: u32, start: u32) -> Self {
        Hole(u64::from(pages) << 32 | u64::from(start))
    }

    /// The hole of node `index`, which must be a hole.
    #[inline]
    pub(crate) fn of_node(nodes: &Nodes, index: u32) -> Self {
        let node = nodes.get(index);
        Hole::new(node.pages, node.start)
    }

    /// The lowest possible hole of at least `pages` pages.
    #[inline]
    pub(crate) fn least(pages: u32) -> Self {
        Hole::new(pages, 0)
    }

    #[inline]
    pub(crate) fn pages(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline]
    pub(crate) fn start(self) -> u32 {
        self.0 as u32
    }
}

impl std::fmt::Debug for Hole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}+{}", self.start(), self.pages())
    }
}

/// The places of a region that a search may use: those at a multiple of an alignment where a chunk
/// crosses no multiple of a boundary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Grid {
    /// The page number of the region's start.
    base: u64,
    /// The alignment in pages, less one.
    mask: u64,
    /// The boundary in pages, less one.
    boundary_mask: u64,
}

impl Grid {
    /// The grid of an alignment only.
    #[inline]
    pub(crate) fn aligned(region: PageRange, alignment: Alignment) -> Self {
        Grid {
            base: region.first_page(),
            mask: alignment.pages().get() - 1,
            boundary_mask: Boundary::NONE.pages().get() - 1,
        }
    }

    /// The grid of a request's alignment and boundary. Requests that have the same places have the
    /// same grid, so that indices are shared.
    pub(crate) fn of(request: &Request, region: PageRange) -> Self {
        let aligned = Grid::aligned(region, request.alignment());
        let boundary_mask = request.boundary().pages().get() - 1;
        let cuts_region = region.first_page() ^ (region.end_page() - 1) > boundary_mask;
        // An aligned chunk, which is never larger than the boundary, only crosses multiples of a
        // boundary that is larger than the alignment.
        if cuts_region && boundary_mask > aligned.mask {
            Grid { boundary_mask, ..aligned }
        } else {
            aligned
        }
    }

    /// Whether a chunk can be at every page.
    pub(crate) fn has_every_page(self) -> bool {
        self.mask == 0 && self.boundary_mask == Boundary::NONE.pages().get() - 1
    }

    /// The distance from `start` to the next page on the grid. No sum here can wrap: page numbers
    /// have 52 bits, and the distance is computed without the sum that could pass the top of the
    /// address space (defect 12 of section 9).
    #[inline]
    fn gap(self, start: u32) -> u64 {
        (self.base + u64::from(start)).wrapping_neg() & self.mask
    }

    /// The pages of the largest chunk on the grid in `hole`. Smaller chunks fit as well, at the
    /// same place.
    #[inline]
    pub(crate) fn reach(self, hole: Hole) -> u32 {
        let gap = self.gap(hole.start());
        let pages = u64::from(hole.pages()).saturating_sub(gap);
        // The pages from the lowest place on the grid to the next multiple of the boundary.
        let first = self.base + u64::from(hole.start()) + gap;
        let below = self.boundary_mask - (first & self.boundary_mask) + 1;
        if pages <= below {
            return pages as u32;
        }
        // From there on the first section between two multiples has the most.
        below.max((pages - below).min(self.boundary_mask + 1)) as u32
    }

    /// Whether a chunk of `pages` pages, not more than the boundary, has a place in `hole`.
    #[inline]
    pub(crate) fn fits(self, hole: Hole, pages: u32) -> bool {
        let gap = self.gap(hole.start());
        let (first, pages) = (self.base + u64::from(hole.start()) + gap, u64::from(pages));
        let space = u64::from(hole.pages()).saturating_sub(gap);
        if space < pages || first ^ (first + (pages - 1)) <= self.boundary_mask {
            return space >= pages;
        }
        // The lowest place on the grid crosses a multiple, which is the next place.
        space - (self.boundary_mask - (first & self.boundary_mask) + 1) >= pages
    }

    /// The place in `hole` of a chunk of `pages` pages on a grid without boundary; the hole's reach
    /// must be at least that. It is the lowest place on the grid, or the highest if the lowest
    /// would leave two holes and the highest leaves one (section 4).
    #[inline]
    pub(crate) fn place(self, hole: Hole, pages: u32) -> u32 {
        let gap = self.gap(hole.start());
        let after = u64::from(hole.pages()) - gap - u64::from(pages);
        let place = u64::from(hole.start()) + gap;
        if gap > 0 && after & self.mask == 0 { (place + after) as u32 } else { place as u32 }
    }
}

/// The same rule within the limits of a request: its place in `hole`.
pub(crate) fn limited_place(request: &Request, hole: PageRange) -> Option<PageRange> {
    let lowest = request.lowest_place(hole)?;
    let pages = request.pages().get();
    let end = PageRange::from_pages(hole.end_page() - pages, pages);
    let leaves_two = lowest.first_page() > hole.first_page();
    Some(if leaves_two && request.accepts(end) { end } else { lowest })
}

/// The holes that have the pages of a request in its window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// No such hole ends before this page.
    least_end: u32,
    /// No such hole starts after this page.
    last_start: u32,
    /// The pages of the region.
    region: u32,
}

impl Window {
    /// `None` if the request is larger than the part of its window that is in the region.
    pub(crate) fn of(request: &Request, region: PageRange) -> Option<Self> {
        let common = request.window().common(region)?;
        let first = common.first_page() - region.first_page();
        let slack = common.pages().get().checked_sub(request.pages().get())?;
        Some(Window {
            least_end: (first + request.pages().get()) as u32,
            last_start: (first + slack) as u32,
            region: region.pages().get() as u32,
        })
    }

    /// The first possible hole of `pages` pages or more, which are not less than the request's.
    pub(crate) fn first(self, pages: u32) -> Hole {
        Hole::new(pages, self.least_end.saturating_sub(pages))
    }

    /// The first possible one after `hole`.
    pub(crate) fn after(self, hole: Hole) -> Option<Hole> {
        let (pages, end) = (hole.pages(), hole.start() + hole.pages());
        let next = self.first(pages).max(Hole::new(pages, end));
        if next.start() <= self.last_start {
            Some(next)
        } else {
            (pages < self.region).then(|| self.first(pages + 1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cma_api::{Asker, Pages};

    fn grid(base: u64, alignment: u64) -> Grid {
        Grid::aligned(PageRange::from_pages(base, 64), Alignment::new(alignment << 12).unwrap())
    }

    #[test]
    fn holes_are_ordered_by_size_then_address() {
        assert!(Hole::new(1, u32::MAX) < Hole::new(2, 0));
        assert!(Hole::new(2, 0) < Hole::new(2, 1));
        assert!(Hole::least(3) <= Hole::new(3, 0));
    }

    #[test]
    fn a_chunk_goes_to_the_lowest_aligned_place() {
        assert_eq!(grid(0, 4).place(Hole::new(10, 1), 2), 4, "a gap of 3, the chunk, 5 after it");
        assert_eq!(grid(0, 4).place(Hole::new(12, 4), 2), 4, "no gap before it");
        assert_eq!(grid(0, 1).place(Hole::new(12, 3), 2), 3);
    }

    #[test]
    fn a_chunk_goes_to_the_end_when_that_leaves_one_hole_instead_of_two() {
        assert_eq!(
            grid(0, 4).place(Hole::new(13, 1), 2),
            12,
            "8 pages after it are two steps of the grid"
        );
        assert_eq!(grid(0, 4).place(Hole::new(12, 4), 4), 4, "but not without a gap before it");
    }

    #[test]
    fn alignment_is_of_the_address_not_of_the_offset() {
        assert_eq!(grid(3, 4).place(Hole::new(8, 0), 2), 1);
        assert_eq!(grid(3, 4).reach(Hole::new(8, 0)), 7);
        assert_eq!(grid(3, 4).reach(Hole::new(1, 0)), 0);
    }

    #[test]
    fn reach_and_place_agree_with_trying_every_page() {
        for (base, alignment) in [(0, 1), (0, 4), (5, 8), ((1 << 52) - 64, 16), (7, 1 << 51)] {
            let grid = grid(base, alignment);
            for start in 0..20 {
                for pages in 1..40 {
                    let hole = Hole::new(pages, start);
                    for size in 1..=40 {
                        let places = places((base, alignment, 1 << 52), hole, size);
                        assert_eq!(grid.reach(hole) >= size, !places.is_empty());
                        assert_eq!(grid.fits(hole, size), !places.is_empty());
                        let (Some(&lowest), Some(&highest)) = (places.first(), places.last())
                        else {
                            continue;
                        };
                        let highest_is_the_end = lowest > start && highest + size == start + pages;
                        let expected = if highest_is_the_end { highest } else { lowest };
                        assert_eq!(
                            grid.place(hole, size),
                            expected,
                            "{size} pages in {hole:?} on {grid:?}"
                        );
                    }
                }
            }
        }
    }

    /// The starts in `hole` of chunks of `size` pages, by trying every page.
    fn places((base, alignment, boundary): (u64, u64, u64), hole: Hole, size: u32) -> Vec<u32> {
        let end = hole.start() + hole.pages();
        let serves = |&at: &u32| {
            let (first, last) = (base + u64::from(at), base + u64::from(at + size - 1));
            first.is_multiple_of(alignment)
                && first / boundary == last / boundary
                && at + size <= end
        };
        (hole.start()..end).filter(serves).collect()
    }

    #[test]
    fn a_chunk_on_a_grid_crosses_no_multiple_of_the_boundary() {
        for (base, alignment) in [(0, 1), (3, 1), (0, 2), (61, 4), ((1 << 52) - 64, 1)] {
            for boundary in [1, 2, 4, 8, 32, 64] {
                let region = PageRange::from_pages(base, 60);
                let bytes = Boundary::new(boundary << 12).unwrap();
                let alignment_bytes = Alignment::new(alignment << 12).unwrap();
                let request = Request::new(Pages::new(1), alignment_bytes, Asker::NOBODY).unwrap();
                let request = request.limited(PageRange::ADDRESS_SPACE, bytes).unwrap();
                let grid = Grid::of(&request, region);
                for (start, pages) in (0..20).flat_map(|start| (1..40).map(move |n| (start, n))) {
                    let hole = Hole::new(pages, start);
                    for size in 1..=40.min(boundary as u32) {
                        let has_place = !places((base, alignment, boundary), hole, size).is_empty();
                        let case = format!("{size} pages in {hole:?} on {grid:?}");
                        assert_eq!(grid.reach(hole) >= size, has_place, "{case}");
                        assert_eq!(grid.fits(hole, size), has_place, "{case}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_window_skips_no_hole_with_enough_pages_in_it() {
        let region = PageRange::from_pages(100, 12);
        let holes =
            || (1..=12).flat_map(|pages| (0..=12 - pages).map(move |n| Hole::new(pages, n)));
        for (first, end) in (0..17).flat_map(|first| (first + 1..17).map(move |end| (first, end))) {
            for wanted in 1..=6.min(end - first) {
                let request = Request::new(Pages::new(wanted), Alignment::PAGE, Asker::NOBODY);
                let bounds = PageRange::from_pages(98 + first, end - first);
                let request = request.unwrap().limited(bounds, Boundary::NONE).unwrap();
                let absolute = |hole: Hole| {
                    PageRange::from_pages(100 + u64::from(hole.start()), hole.pages().into())
                };
                let serves = |&hole: &Hole| request.lowest_place(absolute(hole)).is_some();
                let Some(window) = Window::of(&request, region) else {
                    assert!(!holes().any(|hole| serves(&hole)));
                    continue;
                };
                let least = window.first(wanted as u32);
                assert!(holes().filter(serves).all(|hole| hole >= least));
                // Holes don't touch, so the next one of the same size starts after the end.
                for before in holes().filter(|&hole| hole >= least) {
                    let end = before.start() + before.pages();
                    let mut others = holes().filter(|hole| {
                        serves(hole)
                            && *hole > before
                            && (hole.pages() > before.pages() || hole.start() > end)
                    });
                    match window.after(before) {
                        Some(next) => assert!(next > before && others.all(|hole| hole >= next)),
                        None => assert_eq!(others.next(), None),
                    }
                }
            }
        }
    }
}
