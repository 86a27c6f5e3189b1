//! Requests with a window and a boundary, compared with trying every page of every hole, and `fit`,
//! compared with the placing that follows.

use super::{BestFit, Pair, Random, best_fit, holes, request};
use crate::trees::MOST_GRIDS;
use cma_api::{Allocator, Boundary, PageRange, Request};

/// Limits in pages: the window's first page and end, and the boundary.
type Limits = (u64, u64, Option<u64>);

fn limited(request: &Request, (first, end, boundary): Limits) -> Option<Request> {
    let window = PageRange::from_pages(first, end - first);
    let boundary = boundary.map_or(Boundary::NONE, |pages| Boundary::new(pages << 12).unwrap());
    request.limited(window, boundary)
}

/// The hole and the place of the rule, by trying every page.
fn expected(holes: &[PageRange], request: &Request) -> Option<(PageRange, PageRange)> {
    let (pages, alignment) = (request.pages().get(), request.alignment().pages().get());
    let (window, boundary) = (request.window(), request.boundary().pages().get());
    let serves = |first: u64| {
        first.is_multiple_of(alignment)
            && first >= window.first_page()
            && first + pages <= window.end_page()
            && first / boundary == (first + pages - 1) / boundary
    };
    let mut holes = holes.to_vec();
    holes.sort_by_key(|hole| (hole.pages(), hole.first_page()));
    holes.iter().find_map(|hole| {
        let last = hole.end_page().checked_sub(pages)?;
        let lowest = (hole.first_page()..=last).find(|&first| serves(first))?;
        let first = if lowest > hole.first_page() && serves(last) { last } else { lowest };
        Some((*hole, PageRange::from_pages(first, pages)))
    })
}

/// Compares `fit` and placing with the rule, and undoes the placing.
fn compare(allocator: &mut BestFit, holes_before: &[PageRange], request: &Request) {
    let expected = expected(holes_before, request);
    assert_eq!(allocator.fit(request), expected.map(|(hole, _)| hole), "{request:?}");
    assert_eq!(holes(allocator), holes_before, "fit changed the holes");
    let chunk = allocator.allocate(request).ok();
    let place = expected.map(|(_, place)| place);
    assert_eq!(chunk.map(|chunk| chunk.range), place, "{request:?}, {holes_before:?}");
    if let Some(chunk) = chunk {
        allocator.free(chunk).unwrap();
    }
}

#[test]
fn every_limit_at_every_page_is_honoured_exactly() {
    // Free pages of a region of 36 pages, from below a multiple of 16 to above one of 32.
    let patterns: [&[(u64, u64)]; 5] = [
        &[(0, 36)],
        &[(0, 5), (6, 3), (10, 7), (19, 8), (29, 7)],
        &[(1, 3), (5, 3), (9, 3), (13, 3), (17, 3), (21, 3), (25, 3), (29, 3), (33, 3)],
        &[(2, 14), (18, 14)],
        &[(3, 9), (14, 9), (25, 9), (35, 1)],
    ];
    for base in [16 * 5 - 7, 64 * 3 - 30] {
        for pattern in patterns {
            let mut pair = Pair::new(base, 36);
            let mut end = 0;
            for &(first, pages) in pattern.iter().chain([&(36, 0)]) {
                pair.adopt(base + end, first - end);
                end = first + pages;
            }
            let before = holes(&pair.allocator);
            for pages in 1..=9 {
                for alignment in [1, 2, 4, 8, 16] {
                    let plain = request(pages, alignment);
                    compare(&mut pair.allocator, &before, &plain);
                    for first in 0..36 {
                        for end in first + 1..=37 {
                            let window = (base + first - 1, base + end);
                            for boundary in [None, Some(4), Some(8), Some(16), Some(32)] {
                                let limits = (window.0, window.1, boundary);
                                if let Some(limited) = limited(&plain, limits) {
                                    compare(&mut pair.allocator, &before, &limited);
                                }
                            }
                        }
                    }
                }
            }
            assert_eq!(holes(&pair.allocator), before);
            pair.allocator.check().unwrap();
        }
    }
}

/// Limits as devices have them, and tight ones, for a request in a region of `pages` pages.
fn any_limits(random: &mut Random, base: u64, pages: u64, size: u64) -> Limits {
    let least = size.next_power_of_two().trailing_zeros() as usize;
    let boundary = (random.below(2) == 0).then(|| 1 << (least + random.below(8)));
    let (first, span) = match random.below(4) {
        0 => (0, 1 << 40),
        1 => (base, pages / 8 * (1 + random.below(8) as u64)),
        2 => (base + pages / 8 * random.below(8) as u64, 1 << 40),
        _ => (base + random.below(pages as usize) as u64, 2 * size + random.below(200) as u64),
    };
    (first, first + span, boundary)
}

#[test]
fn limits_are_honoured_exactly_among_thousands_of_holes_and_indices_stay_true() {
    for sizes in [&[1][..], &[3, 1], &[2, 3, 5, 1], &[1_024, 1_025, 1, 1_026, 1, 1_027]] {
        let pages = sizes.iter().sum::<u64>() * if sizes[0] > 100 { 30 } else { 700 };
        let base = 0x4_0000 - 77;
        let mut pair = Pair::new(base, pages);
        pair.fill(sizes);
        let mut random = Random(pages);
        for _ in 0..pair.live.len() / 2 {
            pair.free(random.below(pair.live.len()));
        }
        for step in 0..1_500 {
            if random.below(2) == 0 && !pair.live.is_empty() {
                pair.free(random.below(pair.live.len()));
            }
            let size = sizes[random.below(sizes.len())];
            let align = if random.below(2) == 0 { 1 } else { 1 << random.below(9) };
            let plain = request(size, align);
            let limits = any_limits(&mut random, base, pages, size);
            let request = limited(&plain, limits).unwrap_or(plain);
            let before = holes(&pair.allocator);
            let expected = expected(&before, &request);
            assert_eq!(pair.allocator.fit(&request), expected.map(|(hole, _)| hole));
            let chunk = pair.allocator.allocate(&request).ok();
            assert_eq!(chunk.map(|chunk| chunk.range), expected.map(|(_, place)| place));
            if let Some(chunk) = chunk {
                pair.model.allocate(&request, chunk).unwrap();
                pair.live.push(chunk);
            }
            if step % 100 == 0 {
                pair.check();
            }
        }
        pair.check();
    }
}

/// A region of `count` holes of each of these sizes, with one page between, from page `base` on.
fn comb(base: u64, sizes: &[u64], count: u64) -> Pair {
    let step = sizes.iter().map(|size| size + 1).sum::<u64>();
    let mut pair = Pair::new(base, step * count);
    let mut first = base;
    for size in sizes.iter().cycle().take(sizes.len() * count as usize) {
        pair.adopt(first + size, 1);
        first += size + 1;
    }
    pair
}

#[test]
fn a_search_in_a_window_looks_at_few_holes_of_each_size_outside_it() {
    let sizes = [2, 3, 7, 40, 41];
    let mut pair = comb(0x1000, &sizes, 2_000);
    let end = 0x1000 + pair.allocator.region.pages().get();
    for boundary in [None, Some(64)] {
        for (first, end) in [(0, 0x1000 + 99), (end - 99, end), (0x1_fff0, 0x1_fff0 + 150)] {
            for pages in [1, 2, 3, 5, 8, 40] {
                let limited = limited(&request(pages, 1), (first, end, boundary)).unwrap();
                let before = pair.allocator.candidates;
                let fit = pair.allocator.fit(&limited);
                assert_eq!(fit, expected(&holes(&pair.allocator), &limited).map(|(hole, _)| hole));
                let looked = pair.allocator.candidates - before;
                assert!(looked <= 3 * sizes.len() as u64 + 2, "{looked} holes for {limited:?}");
            }
        }
    }
}

#[test]
fn a_search_with_a_boundary_looks_into_few_bins_however_many_holes_cross_a_multiple() {
    // Every hole of 5 to 7 pages has a multiple of 8 pages in its middle.
    let base = 0x4_0000;
    let mut pair = Pair::new(base, (1 << 16) + 1024);
    for n in 0..1 << 13 {
        let (below, above) = (2 + n % 2, 3 + n / 2 % 2);
        pair.adopt(base + 8 * n + above, 8 - below - above);
    }
    let limited = limited(&request(5, 1), (0, 1 << 40, Some(8))).unwrap();
    let mut total = 0;
    for round in 0..40 {
        let before = pair.allocator.bins.looks;
        let chunk = pair.allocator.allocate(&limited).unwrap();
        assert!(chunk.range.first_page() >= base + (1 << 16) - 8);
        if round >= 20 {
            total += pair.allocator.bins.looks - before;
        }
        pair.allocator.free(chunk).unwrap();
    }
    assert!(total <= 20 * 128, "{total} bins for 20 requests");
    pair.allocator.check().unwrap();
}

#[test]
fn indices_are_kept_for_a_limited_number_of_grids() {
    // No hole of 3 pages has a multiple of 4 before its last page; the large one has all multiples.
    let (holes, large) = (30_000, PageRange::from_pages(4 * 30_000 + 1, 1 << 14));
    let mut pair = Pair::new(1, 4 * holes + (1 << 14));
    for n in 1..=holes {
        pair.adopt(4 * n, 1);
    }
    let mut grids = 0;
    for alignment in (2..14).map(|log2| 1 << log2) {
        for boundary in (2..14).map(|log2| 1 << log2).filter(|&boundary| boundary > alignment) {
            grids += 1;
            let limits = (0, 1 << 40, Some(boundary));
            let limited = limited(&request(2, alignment), limits).unwrap();
            for _ in 0..6 {
                assert_eq!(pair.allocator.fit(&limited), Some(large));
            }
        }
    }
    let (bins, blocks) = pair.allocator.bins.grids();
    assert!(grids > MOST_GRIDS && bins == MOST_GRIDS && blocks == MOST_GRIDS, "{bins}, {blocks}");
    pair.allocator.check().unwrap();
}

#[test]
fn a_window_outside_the_region_has_no_place_and_one_around_it_has_every_place() {
    let mut allocator = best_fit(100, 50);
    let plain = request(50, 1);
    for (first, end) in [(0, 100), (0, 149), (150, 1 << 40), (101, 200)] {
        let limited = limited(&plain, (first, end, None));
        let limited = limited.unwrap_or_else(|| panic!("{first} to {end}"));
        assert_eq!(allocator.fit(&limited), None);
        assert!(allocator.allocate(&limited).is_err());
    }
    let limited = limited(&plain, (0, 150, None)).unwrap();
    assert_eq!(allocator.fit(&limited), Some(PageRange::from_pages(100, 50)));
    allocator.check().unwrap();
}
