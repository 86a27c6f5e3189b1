//! The rule as pure functions: the order of holes, and the place of a chunk in a hole.

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

/// The pages of the region whose address is a multiple of an alignment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Grid {
    /// The page number of the region's start.
    base: u64,
    /// The alignment in pages, less one.
    mask: u64,
}

impl Grid {
    pub(crate) fn new(base: u64, alignment: cma_api::Alignment) -> Self {
        Grid { base, mask: alignment.pages().get() - 1 }
    }

    /// The distance from `start` to the next page on the grid. No sum here can wrap: page numbers
    /// have 52 bits, and the distance is computed without the sum that could pass the top of the
    /// address space (defect 12 of section 9).
    #[inline]
    fn gap(self, start: u32) -> u64 {
        (self.base + u64::from(start)).wrapping_neg() & self.mask
    }

    /// The pages of the largest chunk on the grid in `hole`.
    #[inline]
    pub(crate) fn reach(self, hole: Hole) -> u32 {
        u64::from(hole.pages()).saturating_sub(self.gap(hole.start())) as u32
    }

    /// The place in `hole` of a chunk of `pages` pages; the hole's reach must be at least that. It
    /// is the lowest place on the grid, or the highest if the lowest would leave two holes and the
    /// highest leaves one (section 4).
    #[inline]
    pub(crate) fn place(self, hole: Hole, pages: u32) -> u32 {
        let gap = self.gap(hole.start());
        let after = u64::from(hole.pages()) - gap - u64::from(pages);
        let place = u64::from(hole.start()) + gap;
        if gap > 0 && after & self.mask == 0 { (place + after) as u32 } else { place as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cma_api::Alignment;

    fn grid(base: u64, alignment: u64) -> Grid {
        Grid::new(base, Alignment::new(alignment << 12).unwrap())
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
                    let fits = |first: u32, size: u32| {
                        (base + u64::from(first)).is_multiple_of(alignment)
                            && first + size <= start + pages
                    };
                    for size in 1..=40 {
                        let places: Vec<u32> =
                            (start..start + pages).filter(|&at| fits(at, size)).collect();
                        assert_eq!(grid.reach(hole) >= size, !places.is_empty());
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
}
