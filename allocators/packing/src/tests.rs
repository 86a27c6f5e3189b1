//! The rule, against every hole, and the bounds of a search.

use super::*;
use cma_api::{Asker, Boundary};

const BASE: u64 = 1 << 20;

fn packing(pages: u64) -> Packing {
    Packing::new(PageRange::from_pages(BASE, pages), "").unwrap()
}

fn request(pages: u64, alignment: u64) -> Request {
    let alignment = Alignment::new(alignment << 12).unwrap();
    Request::new(Pages::new(pages), alignment, Asker::NOBODY).unwrap()
}

fn place(allocator: &mut Packing, request: &Request) -> (u64, Placement) {
    let placed = allocator.allocate(request).unwrap();
    (placed.range.first_page() - BASE, placed)
}

fn holes(allocator: &Packing) -> Vec<PageRange> {
    let mut holes = Vec::new();
    allocator.holes(&mut |hole| holes.push(hole));
    holes
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % limit
    }
}

/// The place that the rule selects, by looking at every hole.
fn by_the_rule(allocator: &Packing, request: &Request) -> Option<PageRange> {
    let region = allocator.region.pages().get() as f64;
    let pages = request.pages().get();
    let grade = |size: u32| {
        let same = (1..=size).rev().take_while(|&less| grade_of(less) == grade_of(size));
        f64::from(same.last().unwrap()).log2()
    };
    let smaller = (region / 8.0).log2() - grade(pages as u32);
    let slope = (0.7 * smaller).clamp(-5.0, 5.0);
    let mut best: Option<(f64, PageRange)> = None;
    for hole in holes(allocator) {
        let Some(place) = place_in(hole, request, slope < 0.0) else { continue };
        let at = if slope < 0.0 { hole.end_page() - pages } else { hole.first_page() } - BASE;
        let own = grade_of(hole.pages().get() as u32) == grade_of(pages as u32);
        let size = grade(hole.pages().get() as u32) - f64::from(u8::from(own));
        let cost = size + slope * at as f64 / region;
        if best.is_none_or(|(least, _)| cost < least - 1e-9) {
            best = Some((cost, place));
        }
    }
    best.map(|(_, place)| place)
}

#[test]
fn a_small_chunk_goes_to_the_start_and_a_large_one_to_the_end() {
    let mut allocator = packing(1000);
    assert_eq!(place(&mut allocator, &request(300, 1)).0, 700);
    assert_eq!(place(&mut allocator, &request(2, 1)).0, 0);
    assert_eq!(place(&mut allocator, &request(200, 1)).0, 500);
    assert_eq!(place(&mut allocator, &request(3, 1)).0, 2);
}

#[test]
fn a_hole_at_the_wrong_end_is_used_if_the_others_are_much_larger() {
    let mut allocator = packing(1024);
    // A hole of 4 pages at the end, and one of 500 at the start.
    let fixed = allocator.adopt(PageRange::from_pages(BASE + 500, 520)).unwrap();
    assert_eq!(place(&mut allocator, &request(4, 1)).0, 1020, "seven octaves outweigh three");
    let range = PageRange::from_pages(BASE + 500, 520);
    allocator.free(Placement { range, tag: fixed }).unwrap();
    // A hole of 6 pages at the start, and one of 4 at the end.
    allocator.adopt(PageRange::from_pages(BASE + 6, 1010)).unwrap();
    assert_eq!(place(&mut allocator, &request(4, 1)).0, 0, "half an octave does not");
}

#[test]
fn a_chunk_leaves_one_hole_instead_of_two_if_either_end_allows_it() {
    let mut allocator = packing(64);
    allocator.adopt(PageRange::from_pages(BASE, 1)).unwrap();
    // The aligned place at the end, 60, ends the hole; the lowest, 4, would leave three pages.
    assert_eq!(place(&mut allocator, &request(4, 4)).0, 60);
    assert_eq!(holes(&allocator).len(), 1);
}

#[test]
fn a_chunk_that_prefers_the_end_goes_to_the_start_if_only_that_leaves_one_hole() {
    let hole = PageRange::from_pages(64, 10);
    let place = |pages, alignment, prefers_end| {
        let place = place_in(hole, &request(pages, alignment), prefers_end).unwrap();
        place.first_page() - 64
    };
    assert_eq!(place(3, 4, true), 0, "4 is the highest place, and would leave two holes");
    assert_eq!((place(2, 4, true), place(2, 4, false)), (8, 0));
    assert_eq!((place(3, 1, true), place(3, 1, false)), (7, 0));
}

#[test]
fn every_chunk_is_placed_by_the_rule() {
    let mut random = Random(7);
    for region in [40, 1000, 5000] {
        let mut allocator = packing(region);
        let mut live: Vec<Placement> = Vec::new();
        let (mut placed, mut refused) = (0, 0);
        for step in 0..6000 {
            if step % 500 < 250 || live.is_empty() || random.below(3) > 0 {
                let log2 = random.below(u64::from(region.ilog2()));
                let pages = 1 + random.below(1 << log2);
                let mut request = request(pages, 1 << (random.below(12) / 8 * random.below(6)));
                if random.below(8) == 0 {
                    let first = BASE + random.below(region);
                    let window = PageRange::from_pages(first, pages + random.below(region));
                    let boundary = Boundary::new(pages.next_power_of_two() << 14).unwrap();
                    request = request.limited(window, boundary).unwrap_or(request);
                }
                let expected = by_the_rule(&allocator, &request);
                let fit = allocator.fit(&request);
                let found = allocator.allocate(&request).ok();
                assert_eq!(found.map(|placed| placed.range), expected, "{request:?}");
                assert_eq!(fit.is_some(), found.is_some());
                placed += usize::from(found.is_some());
                refused += usize::from(found.is_none());
                live.extend(found);
            } else {
                let chunk = live.swap_remove(random.below(live.len() as u64) as usize);
                allocator.free(chunk).unwrap();
            }
            if step % 50 == 0 {
                allocator.check().unwrap();
            }
        }
        assert!(placed > 1000 && refused > 100, "{placed} placed and {refused} refused");
    }
}

#[test]
fn a_place_that_many_holes_hide_is_found_all_the_same() {
    // Holes of 16 pages, more than a search looks at in a grade, and behind them one of 17 pages,
    // which has the same grade.
    let mut allocator = packing(2000);
    let count = 3 * LOOKS as u64;
    for hole in 0..count {
        allocator.adopt(PageRange::from_pages(BASE + 17 * hole + 16, 1)).unwrap();
    }
    let end = 17 * count + 17;
    allocator.adopt(PageRange::from_pages(BASE + end, 2000 - end)).unwrap();
    assert_eq!(place(&mut allocator, &request(17, 1)).0, 17 * count);
    assert!(allocator.allocate(&request(17, 1)).is_err());
}

#[test]
fn with_no_steepness_it_is_best_fit_and_with_a_larger_share_less_goes_to_the_end() {
    let start = |params, pages| {
        let mut allocator = Packing::new(PageRange::from_pages(BASE, 1000), params).unwrap();
        // A hole of 100 pages at each end, the one at the end smaller.
        allocator.adopt(PageRange::from_pages(BASE + 128, 764)).unwrap();
        place(&mut allocator, &request(pages, 1)).0
    };
    assert_eq!(start("", 30), 0);
    assert_eq!(start("steepness=0", 30), 892);
    assert_eq!(start("share=100", 30), 970);
    assert_eq!(start("steepest=0", 30), 892);
}

#[test]
fn sizes_and_parameters_that_it_does_not_serve_are_refused_with_the_reason() {
    let reason = |pages, params: &str| {
        let region = PageRange::from_pages(0, pages);
        Packing::new(region, params).unwrap_err().to_string()
    };
    assert!(reason(1 << 31, "").contains("less than 8 TiB"));
    assert!(reason(1, "depth=3").contains("depth"));
    assert!(reason(1, "steepness=33").contains("\"steepness\" takes a number from 0 to 32"));
    assert!(reason(1, "share=0.5").contains("\"share\" takes a number from 1 to 65536"));
    for not_plain in ["-1", "1e3", "inf", "NaN", "", ".", "1.2.3", "+1"] {
        let params = format!("own-grade={not_plain}");
        assert!(reason(1, &params).contains("\"own-grade\" takes a number"), "{not_plain}");
    }
    assert!(reason(1, "steepest").contains("found nothing"));
}
