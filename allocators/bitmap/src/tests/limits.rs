//! Requests with a window and a boundary, compared with trying every page, and `fit`, compared with
//! the placing that follows.

use super::bitmap;
use crate::reaches::Grid;
use crate::{Bitmap, MOST_TREES};
use cma_api::{Alignment, Allocator, Asker, Boundary, PageRange, Pages, Placement, Request};

/// Limits in pages: the window's first page and end, and the boundary.
type Limits = (u64, u64, Option<u64>);

fn plain(pages: u64, alignment: u64) -> Request {
    let alignment = Alignment::new(alignment << 12).unwrap();
    Request::new(Pages::new(pages), alignment, Asker::NOBODY).unwrap()
}

fn limited(request: &Request, (first, end, boundary): Limits) -> Option<Request> {
    let window = PageRange::from_pages(first, end - first);
    let boundary = boundary.map_or(Boundary::NONE, |pages| Boundary::new(pages << 12).unwrap());
    request.limited(window, boundary)
}

fn holes(bitmap: &Bitmap) -> Vec<PageRange> {
    let mut holes = Vec::new();
    bitmap.holes(&mut |hole| holes.push(hole));
    holes
}

/// The lowest place and its hole, by trying every page.
fn expected(holes: &[PageRange], request: &Request) -> Option<(PageRange, PageRange)> {
    let (pages, alignment) = (request.pages().get(), request.alignment().pages().get());
    let (window, boundary) = (request.window(), request.boundary().pages().get());
    let serves = |first: u64| {
        first.is_multiple_of(alignment)
            && first >= window.first_page()
            && first + pages <= window.end_page()
            && first / boundary == (first + pages - 1) / boundary
    };
    holes.iter().find_map(|hole| {
        let last = hole.end_page().checked_sub(pages)?;
        let first = (hole.first_page()..=last).find(|&first| serves(first))?;
        Some((*hole, PageRange::from_pages(first, pages)))
    })
}

/// Compares `fit` and placing with first fit.
fn place(bitmap: &mut Bitmap, holes: &[PageRange], request: &Request) -> Option<Placement> {
    let expected = expected(holes, request);
    assert_eq!(bitmap.fit(request), expected.map(|(hole, _)| hole), "{request:?}");
    let chunk = bitmap.allocate(request).ok();
    let range = expected.map(|(_, place)| place);
    assert_eq!(chunk.map(|chunk| chunk.range), range, "{request:?} in {holes:?}");
    chunk
}

/// A region of `pages` pages from `base` on, with these holes (first page and number of pages).
fn with_holes(base: u64, pages: u64, holes: &[(u64, u64)]) -> Bitmap {
    let mut bitmap = bitmap(base, pages);
    let mut end = 0;
    for &(first, free) in holes.iter().chain([&(pages, 0)]) {
        if first > end {
            bitmap.adopt(PageRange::from_pages(base + end, first - end)).unwrap();
        }
        end = first + free;
    }
    bitmap
}

/// Builds the tree for the places of `request`.
fn build_tree(bitmap: &mut Bitmap, request: &Request) {
    let grid = Grid::of(request, bitmap.region);
    if bitmap.reaches.iter().all(|reach| reach.grid != grid) {
        bitmap.keep_reach(grid).unwrap();
    }
}

#[test]
fn limits_are_honoured_exactly_around_every_word_edge() {
    // Holes that begin and end beside the edges of words, and one of several words.
    let patterns: [&[(u64, u64)]; 5] = [
        &[(0, 330)],
        &[(0, 5), (60, 9), (120, 10), (190, 3), (254, 70)],
        &[(1, 62), (65, 62), (129, 62), (193, 62), (257, 62)],
        &[(62, 3), (66, 3), (124, 3), (128, 3), (190, 2), (193, 2), (250, 7), (260, 70)],
        &[(30, 200), (240, 20), (262, 60)],
    ];
    let near_edges = |base: u64| {
        let edges = [0, 60, 64, 128, 192, 256, 330];
        edges.into_iter().flat_map(move |edge| [base + edge - 2, base + edge, base + edge + 1])
    };
    for base in [1 << 10, (1 << 10) + 27] {
        for pattern in patterns {
            for trees in [false, true] {
                let mut bitmap = with_holes(base, 330, pattern);
                let before = holes(&bitmap);
                for (pages, alignment) in [1, 2, 3, 7, 20, 62, 64, 65]
                    .into_iter()
                    .flat_map(|pages| [1, 2, 8, 32, 64, 128].map(|alignment| (pages, alignment)))
                {
                    let plain = plain(pages, alignment);
                    let windows = near_edges(base)
                        .flat_map(|first| near_edges(base).map(move |end| (first, end)))
                        .filter(|(first, end)| first < end);
                    let boundaries = [None, Some(2), Some(8), Some(64), Some(128)];
                    let requests = windows
                        .flat_map(|(first, end)| boundaries.map(|boundary| (first, end, boundary)))
                        .filter_map(|limits| limited(&plain, limits));
                    for request in requests.chain([plain]) {
                        if trees {
                            build_tree(&mut bitmap, &request);
                        }
                        if let Some(chunk) = place(&mut bitmap, &before, &request) {
                            bitmap.free(chunk).unwrap();
                        }
                    }
                }
                assert_eq!(holes(&bitmap), before);
                bitmap.check().unwrap();
            }
        }
    }
}

#[test]
fn limits_are_honoured_exactly_in_any_sequence_of_operations() {
    let mut random = 1_u64;
    let mut below = |limit: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % limit
    };
    for (base, pages) in [(5, 700), ((1 << 20) - 100, 5_000)] {
        let mut bitmap = bitmap(base, pages);
        let mut live: Vec<Placement> = Vec::new();
        for step in 0..6_000 {
            if below(100) < 45 && !live.is_empty() {
                let index = below(live.len() as u64) as usize;
                bitmap.free(live.swap_remove(index)).unwrap();
            }
            let size = below(8);
            let (size, alignment) = (1 + below(1 << size), 1 << below(9));
            let plain = plain(size, alignment);
            let boundary = (below(2) == 0).then(|| size.next_power_of_two() << below(4));
            let first = base + below(pages);
            let limits = match below(4) {
                0 => (0, base + pages, boundary),
                1 => (0, first + 1, boundary),
                2 => (first, 1 << 40, boundary),
                _ => (first, first + 1 + below(200), boundary),
            };
            let request = limited(&plain, limits).unwrap_or(plain);
            if step % 100 == 50 {
                build_tree(&mut bitmap, &request);
            }
            let before = holes(&bitmap);
            live.extend(place(&mut bitmap, &before, &request));
            if step % 200 == 0 {
                bitmap.check().unwrap();
            }
        }
    }
}

#[test]
fn fit_names_the_hole_of_any_request_and_changes_no_page() {
    let mut bitmap = with_holes(7, 400, &[(0, 3), (10, 64), (80, 200), (300, 100)]);
    let before = holes(&bitmap);
    for (pages, hole) in [(1, 0), (3, 0), (4, 1), (64, 1), (65, 2), (200, 2)] {
        assert_eq!(bitmap.fit(&plain(pages, 1)), Some(before[hole]));
        assert_eq!(holes(&bitmap), before);
    }
    assert_eq!(bitmap.fit(&plain(201, 1)), None);
    bitmap.check().unwrap();
    let mut full = with_holes(7, 400, &[]);
    assert_eq!(full.fit(&plain(1, 1)), None);
}

#[test]
fn a_search_looks_only_into_words_of_its_window() {
    // A hole of three pages in every word, and a window of four words in the middle.
    let mut bitmap = bitmap(0, 64 * 10_000);
    for word in 0..10_000 {
        bitmap.adopt(PageRange::from_pages(word * 64 + 3, 61)).unwrap();
    }
    for pages in 1..4 {
        let window = (64 * 5_000, 64 * 5_004, None);
        let request = limited(&plain(pages, 1), window).unwrap();
        let before = bitmap.looks.get();
        let fit = bitmap.fit(&request);
        assert_eq!(fit, Some(PageRange::from_pages(64 * 5_000, 3)));
        assert_eq!(bitmap.looks.get() - before, 1);
    }
    for alignment in [2, 64] {
        let window = (64 * 5_000 + 1, 64 * 5_004, None);
        let request = limited(&plain(3, alignment), window).unwrap();
        let before = bitmap.looks.get();
        assert_eq!(bitmap.fit(&request), Some(PageRange::from_pages(64 * 5_001, 3)));
        assert!(bitmap.looks.get() - before <= 5, "{}", bitmap.looks.get() - before);
    }
    let none = limited(&plain(4, 1), (64 * 5_000, 64 * 5_004, None)).unwrap();
    let before = bitmap.looks.get();
    assert_eq!(bitmap.fit(&none), None);
    assert!(bitmap.looks.get() - before <= 5);
}

/// Without a tree every request would look into all of the thousands of holes that are long enough
/// and have no place: either no aligned one, or only one that crosses a multiple.
#[test]
fn a_search_within_limits_builds_and_uses_the_tree_of_its_grid() {
    let holes = 5_000;
    let cases = [
        // 63 pages from page 1 of each word on.
        (1, 63, plain(2, 64), None),
        // 63 pages around each multiple of 64, of which 44 are below it.
        (20, 63, plain(45, 1), Some(64)),
        // 7 pages around each multiple of 64.
        (60, 7, plain(5, 1), Some(64)),
        (60, 7, plain(5, 2), Some(64)),
    ];
    for (first, free, plain, boundary) in cases {
        let mut bitmap = bitmap(1 << 10, holes * 64 + 256);
        let mut used = 0;
        for n in 0..holes {
            let range = PageRange::from_pages((1 << 10) + used, n * 64 + first - used);
            bitmap.adopt(range).unwrap();
            used = n * 64 + first + free;
        }
        bitmap.adopt(PageRange::from_pages((1 << 10) + used, 1)).unwrap();
        let request = limited(&plain, (1 << 10, 1 << 40, boundary)).unwrap();
        let hole = expected(&self::holes(&bitmap), &request).map(|(hole, _)| hole);
        for round in 0..8 {
            let before = bitmap.looks.get();
            assert_eq!(bitmap.fit(&request), hole);
            let looks = bitmap.looks.get() - before;
            assert!(round < 2 || looks <= 4, "{looks} words in round {round} for {request:?}");
        }
        let has_no_place = hole.is_none_or(|hole| hole.first_page() > (1 << 10) + holes * 64 - 64);
        assert_eq!((bitmap.reaches.len(), has_no_place), (1, true), "{request:?}");
        bitmap.check().unwrap();
    }
}

#[test]
fn a_search_of_few_cells_starts_with_the_first_cell_of_its_window() {
    // 63 pages from page 1 of each word on, but the fourth multiple of 2^16 is free as well.
    let (words, place) = (5 << 10, 3 << 16);
    let mut bitmap = bitmap(0, words * 64);
    for page in (0..words * 64).step_by(64).filter(|&page| page != place) {
        bitmap.adopt(PageRange::from_pages(page, 1)).unwrap();
    }
    for (first, hole) in [((2 << 16) + 1, Some((place - 63, 127))), (place + 1, None)] {
        let request = limited(&plain(2, 1 << 16), (first, 1 << 40, None)).unwrap();
        for _ in 0..3 {
            let hole = hole.map(|(first, pages)| PageRange::from_pages(first, pages));
            assert_eq!(bitmap.fit(&request), hole);
        }
    }
    assert!(bitmap.reaches.is_empty());
}

#[test]
fn trees_are_kept_for_a_limited_number_of_grids() {
    let mut bitmap = bitmap(0, 1 << 14);
    for page in (0..1 << 14).step_by(7) {
        bitmap.adopt(PageRange::from_pages(page, 1)).unwrap();
    }
    let before = holes(&bitmap);
    let mut grids = 0;
    for alignment in (0..8).map(|log2| 1 << log2) {
        for boundary in (2..14).map(|log2| 1 << log2).filter(|&boundary| boundary > alignment) {
            let request = limited(&plain(3, alignment), (0, 1 << 40, Some(boundary))).unwrap();
            build_tree(&mut bitmap, &request);
            assert_eq!(bitmap.fit(&request), expected(&before, &request).map(|(hole, _)| hole));
            grids += 1;
        }
    }
    assert!(grids > MOST_TREES && bitmap.reaches.len() == MOST_TREES, "{grids}");
    bitmap.check().unwrap();
}
