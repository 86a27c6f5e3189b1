//! A region as a row of cells, each for an equal part of its addresses.

use cma_framework::PageRange;
use cma_running::ChunkState;

/// A part of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    /// How much of it is in use.
    pub(crate) fill: Fill,
    /// The index of the chunk that has most of it.
    pub(crate) chunk: Option<usize>,
}

/// How much of a cell is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    Free,
    Partly,
    Full,
}

/// The first page of cell `n` of `count`, and the page after its last. A cell of a region with
/// fewer pages than cells is the page that it lies in.
pub(crate) fn cell_pages(region: PageRange, n: usize, count: usize) -> (u64, u64) {
    let at = |n: usize, up: u128| {
        let pages = u128::from(region.pages().get()) * n as u128;
        region.first_page() + ((pages + up * (count as u128 - 1)) / count as u128) as u64
    };
    if region.pages().get() >= count as u64 {
        (at(n, 0), at(n + 1, 0))
    } else {
        (at(n, 0), at(n + 1, 1))
    }
}

/// `region` in `count` cells. `chunks` are in ascending order of address.
pub(crate) fn cells(region: PageRange, chunks: &[ChunkState], count: usize) -> Vec<Cell> {
    let mut next = 0;
    let one = |n| {
        let (first, end) = cell_pages(region, n, count);
        while chunks.get(next).is_some_and(|chunk| chunk.range.end_page() <= first) {
            next += 1;
        }
        let (mut used, mut most, mut owner) = (0, 0, None);
        for (index, chunk) in chunks.iter().enumerate().skip(next) {
            if chunk.range.first_page() >= end {
                break;
            }
            let pages = chunk.range.end_page().min(end) - chunk.range.first_page().max(first);
            used += pages;
            if pages > most {
                (most, owner) = (pages, Some(index));
            }
        }
        let fill = match used {
            0 => Fill::Free,
            used if used >= end - first => Fill::Full,
            _ => Fill::Partly,
        };
        Cell { fill, chunk: owner }
    };
    (0..count).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cma_framework::ChunkRequest;
    use cma_framework::config::Bytes;
    use proptest::prelude::*;

    fn chunk(first: u64, pages: u64) -> ChunkState {
        let range = PageRange::from_pages(first, pages);
        let request = ChunkRequest::new(Bytes(range.bytes()));
        ChunkState { range, request, requester: None, age: None, process: None }
    }

    fn drawn(region: PageRange, chunks: &[ChunkState], count: usize) -> String {
        let glyph = |cell: Cell| match cell.fill {
            Fill::Free => '.',
            Fill::Partly => '+',
            Fill::Full => '#',
        };
        cells(region, chunks, count).into_iter().map(glyph).collect()
    }

    #[test]
    fn a_cell_is_full_partly_used_or_free() {
        let region = PageRange::from_pages(100, 16);
        let chunks = [chunk(100, 4), chunk(105, 1), chunk(112, 3), chunk(115, 1)];
        assert_eq!(drawn(region, &chunks, 4), "#+.#");
        assert_eq!(drawn(region, &chunks, 8), "##+...##");
        assert_eq!(drawn(region, &chunks, 16), "####.#......####");
        assert_eq!(drawn(region, &chunks, 1), "+");
        assert_eq!(drawn(region, &[], 3), "...");
        assert_eq!(cells(region, &chunks, 4)[3].chunk, Some(2));
    }

    #[test]
    fn a_region_of_fewer_pages_than_cells_shows_each_page_in_several() {
        let region = PageRange::from_pages(7, 2);
        assert_eq!(drawn(region, &[chunk(8, 1)], 6), "...###");
        assert_eq!(drawn(PageRange::from_pages(7, 1), &[chunk(7, 1)], 5), "#####");
    }

    proptest! {
        /// Against the definition, page by page.
        #[test]
        fn every_cell_agrees_with_its_pages(
            pages in prop::collection::vec(any::<bool>(), 1..60),
            count in 1..70_usize,
        ) {
            let region = PageRange::from_pages(1000, pages.len() as u64);
            let chunks: Vec<_> = pages
                .iter()
                .enumerate()
                .filter(|(_, used)| **used)
                .map(|(n, _)| chunk(1000 + n as u64, 1))
                .collect();
            for (n, cell) in cells(region, &chunks, count).into_iter().enumerate() {
                let (first, end) = cell_pages(region, n, count);
                prop_assert!(first < end && end <= region.end_page());
                let used: Vec<bool> =
                    (first..end).map(|page| pages[(page - 1000) as usize]).collect();
                let expected = if used.iter().all(|used| *used) {
                    Fill::Full
                } else if used.contains(&true) {
                    Fill::Partly
                } else {
                    Fill::Free
                };
                prop_assert_eq!(cell.fill, expected);
            }
        }
    }
}
