//! Size and alignment of a chunk in one word.

use cma_api::{Alignment, Pages};

/// Size and alignment of a request: the number of pages, and above it log2 of the alignment in
/// pages. The default is the shape of no chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape(u32);

impl Shape {
    /// This many pages (256 GiB) or more.
    pub(crate) const HUGE: u32 = (1 << 26) - 1;

    #[inline]
    pub(crate) fn new(pages: Pages, alignment: Alignment) -> Self {
        let pages = pages.get().min(u64::from(Self::HUGE)) as u32;
        Shape(pages | (alignment.log2() - Alignment::PAGE.log2()) << Self::HUGE.count_ones())
    }

    /// The number of pages; [`HUGE`](Self::HUGE) for all larger ones.
    #[inline]
    pub(crate) fn pages(self) -> u32 {
        self.0 & Self::HUGE
    }

    pub(crate) fn alignment(self) -> Alignment {
        let log2 = (self.0 >> Self::HUGE.count_ones()) + Alignment::PAGE.log2();
        Alignment::new(1 << log2).unwrap_or(Alignment::PAGE)
    }

    /// A hash, whose upper bits are the best.
    #[inline]
    pub(crate) fn hash(self) -> u32 {
        // Fibonacci hashing.
        self.0.wrapping_mul(0x9e37_79b1)
    }
}

#[cfg(test)]
mod tests {
    use super::Shape;
    use cma_api::{Alignment, Pages};

    #[test]
    fn a_shape_keeps_sizes_up_to_its_limit_and_every_alignment() {
        let most = u64::from(Shape::HUGE);
        for log2 in 12..64 {
            let alignment = Alignment::new(1 << log2).unwrap();
            for (pages, kept) in
                [(1, 1), (most - 1, most - 1), (most, most), (most + 1, most), (1 << 51, most)]
            {
                let shape = Shape::new(Pages::new(pages), alignment);
                assert_eq!((u64::from(shape.pages()), shape.alignment()), (kept, alignment));
            }
        }
    }
}
