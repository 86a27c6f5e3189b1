use super::*;
use crate::requests::{alignment, request};
use cma_api::{Alignment, Boundary, PAGE_SHIFT};

const PAGE: Alignment = Alignment::PAGE;

/// A region of pages `first..first + pages` with live chunks at `live`, as first page and size.
fn model(first: u64, pages: u64, live: &[(u64, u64)]) -> Model {
    let mut model = Model::new(PageRange::from_pages(first, pages));
    for &(first, pages) in live {
        model.adopt(PageRange::from_pages(first, pages), Tag(first)).unwrap();
    }
    model
}

/// The range as `(first, end)` in pages.
fn ends(range: Option<PageRange>) -> Option<(u64, u64)> {
    range.map(|range| (range.first_page(), range.end_page()))
}

fn aligned_to_pages(pages: u64) -> Alignment {
    alignment(PAGE_SHIFT + pages.trailing_zeros())
}

#[test]
fn holes_are_maximal_ascending_and_cover_all_pages_outside_chunks() {
    let holes = |model: Model| model.holes().map(|h| ends(Some(h)).unwrap()).collect::<Vec<_>>();
    assert_eq!(holes(model(5, 10, &[])), [(5, 15)]);
    assert_eq!(holes(model(5, 10, &[(5, 10)])), []);
    assert_eq!(holes(model(5, 10, &[(5, 2)])), [(7, 15)]);
    assert_eq!(holes(model(5, 10, &[(13, 2)])), [(5, 13)]);
    assert_eq!(holes(model(5, 10, &[(12, 1), (6, 2), (8, 1)])), [(5, 6), (9, 12), (13, 15)]);
    assert_eq!(model(5, 10, &[(12, 1), (6, 2), (8, 1)]).largest_hole(), Pages::new(3));
    assert_eq!(model(5, 10, &[(5, 10)]).largest_hole(), Pages::ZERO);
}

#[test]
fn freeing_removes_exactly_the_chunk() {
    let mut model = model(0, 8, &[(2, 2), (5, 1)]);
    assert_eq!(model.free(3), None, "no chunk starts there");
    assert_eq!(model.free(2).unwrap().tag, Tag(2));
    assert_eq!(model.free(2), None);
    assert!(model.holes().eq([PageRange::from_pages(0, 5), PageRange::from_pages(6, 2)]));
}

#[test]
fn every_invalid_chunk_is_refused_with_evidence() {
    let mut model = model(4, 12, &[(8, 2)]);
    let before = model.clone();
    let region = model.region();
    let live = PageRange::from_pages(8, 2);
    let mut refusal = |first, pages, requested, alignment| {
        let range = PageRange::from_pages(first, pages);
        let refusal =
            model.allocate(&request(requested, alignment), Placement { range, tag: Tag(0) });
        (refusal.unwrap_err(), range)
    };
    let (violation, range) = refusal(4, 3, 2, PAGE);
    assert_eq!(violation, Violation::WrongSize { requested: Pages::new(2), range });
    for (first, pages) in [(3, 1), (15, 2), (16, 1), (0, 40), (u64::MAX, 1), (u64::MAX - 1, 3)] {
        let (violation, range) = refusal(first, pages, pages, PAGE);
        assert_eq!(violation, Violation::Outside { range, region });
    }
    for (first, pages) in [(8, 2), (9, 1), (7, 2), (9, 2), (7, 4)] {
        let (violation, range) = refusal(first, pages, pages, PAGE);
        assert_eq!(violation, Violation::Overlap { range, live });
    }
    let (violation, range) = refusal(6, 1, 1, aligned_to_pages(4));
    assert_eq!(violation, Violation::Misaligned { range, alignment: aligned_to_pages(4) });
    assert_eq!(model, before, "nothing was recorded");
    assert_eq!(model.judge(PageRange::from_pages(4, 4)), Ok(()));
    assert_eq!(model.judge(PageRange::from_pages(10, 6)), Ok(()));
}

#[test]
fn best_fit_takes_the_smallest_hole_that_can_hold_the_chunk_aligned() {
    // Holes: 1..4, 5..7, 8..16.
    let model = model(1, 15, &[(4, 1), (7, 1)]);
    assert_eq!(ends(model.best_fit(&request(1, PAGE))), Some((5, 6)));
    assert_eq!(ends(model.best_fit(&request(3, PAGE))), Some((1, 4)));
    assert_eq!(
        ends(model.best_fit(&request(2, aligned_to_pages(2)))),
        Some((2, 4)),
        "5..7 has no such place"
    );
    assert_eq!(ends(model.best_fit(&request(2, aligned_to_pages(4)))), Some((8, 10)));
    assert_eq!(model.best_fit(&request(9, PAGE)), None);
    assert!(!model.fits(&request(9, PAGE)));
}

#[test]
fn best_fit_takes_the_lowest_of_equal_holes() {
    let model = model(0, 12, &[(0, 1), (3, 3), (8, 4)]);
    assert_eq!(ends(model.best_fit(&request(2, PAGE))), Some((1, 3)));
}

#[test]
fn best_fit_moves_a_chunk_that_would_lie_in_the_middle_to_the_end_when_that_is_aligned() {
    let aligned = aligned_to_pages(4);
    // 1..10: the lowest place is 4..6, with 4 pages after it: moved to 8..10.
    assert_eq!(ends(model(1, 9, &[]).best_fit(&request(2, aligned))), Some((8, 10)));
    // 1..11: 5 pages remain after it, which is not a multiple of the alignment.
    assert_eq!(ends(model(1, 10, &[]).best_fit(&request(2, aligned))), Some((4, 6)));
    // 4..14: 8 pages remain after it, but there is no gap before it.
    assert_eq!(ends(model(4, 10, &[]).best_fit(&request(2, aligned))), Some((4, 6)));
    // 1..14: twice the alignment remains after it.
    assert_eq!(ends(model(1, 13, &[]).best_fit(&request(2, aligned))), Some((12, 14)));
}

#[test]
fn first_fit_takes_the_lowest_place() {
    let model = model(1, 15, &[(4, 1), (7, 1)]);
    assert_eq!(ends(model.first_fit(&request(1, PAGE))), Some((1, 2)));
    assert_eq!(ends(model.first_fit(&request(1, aligned_to_pages(4)))), Some((8, 9)));
    assert_eq!(ends(model.first_fit(&request(4, PAGE))), Some((8, 12)));
}

/// `request` in the window of pages `first..end`, with a boundary of `boundary` pages.
fn limited(request: Request, first: u64, end: u64, boundary: u64) -> Request {
    let window = PageRange::from_pages(first, end - first);
    request.limited(window, Boundary::new(boundary << PAGE_SHIFT).unwrap()).unwrap()
}

#[test]
fn a_place_out_of_its_limits_is_refused_with_the_limit() {
    let mut model = model(4, 12, &[]);
    let request = limited(request(2, PAGE), 5, 12, 4);
    let mut refusal = |first| {
        let chunk = Placement { range: PageRange::from_pages(first, 2), tag: Tag(0) };
        (model.allocate(&request, chunk), chunk.range)
    };
    let window = PageRange::from_pages(5, 7);
    for first in [4, 11, 12] {
        let (answer, range) = refusal(first);
        assert_eq!(answer, Err(Violation::OutsideWindow { range, window }));
    }
    let (answer, range) = refusal(7);
    assert_eq!(answer, Err(Violation::CrossesBoundary { range, boundary: request.boundary() }));
    assert_eq!(refusal(6).0, Ok(()));
}

#[test]
fn the_rules_choose_among_the_places_within_the_limits() {
    // Holes: 1..4, 5..7, 8..16.
    let model = model(1, 15, &[(4, 1), (7, 1)]);
    let first = |request| ends(model.first_fit(&request));
    let best = |request| ends(model.best_fit(&request));
    let two = request(2, PAGE);
    // The window cuts the lowest hole, and leaves the smallest one out.
    assert_eq!(first(limited(two, 3, 16, 32)), Some((5, 7)));
    assert_eq!(best(limited(two, 0, 5, 32)), Some((1, 3)));
    assert_eq!(best(limited(two, 6, 16, 32)), Some((8, 10)));
    // 1..3 and 5..7 cross a multiple of two pages.
    assert_eq!(first(limited(two, 0, 16, 2)), Some((2, 4)));
    assert_eq!(best(limited(two, 0, 16, 2)), Some((2, 4)));
    assert!(!model.fits(&limited(request(3, PAGE), 2, 8, 8)));
}

#[test]
fn best_fit_moves_a_chunk_to_the_end_of_its_hole_only_within_its_limits() {
    // 1..10: the lowest place in the window is 2..4.
    let best = |first, end, boundary| {
        ends(model(1, 9, &[]).best_fit(&limited(request(2, PAGE), first, end, boundary)))
    };
    assert_eq!(best(2, 10, 16), Some((8, 10)), "the window has the end of the hole");
    assert_eq!(best(2, 9, 16), Some((2, 4)), "the window ends before it");
    assert_eq!(best(1, 10, 16), Some((1, 3)), "no gap before it");
    // The lowest place beside the multiple is 2..4, and the end of 1..9 crosses none.
    let best =
        |end: u64| ends(model(1, end - 1, &[]).best_fit(&limited(request(2, PAGE), 0, 16, 2)));
    assert_eq!(best(10), Some((8, 10)));
    assert_eq!(best(9), Some((2, 4)), "7..9 crosses 8");
}

#[test]
fn no_alignment_wraps_at_the_top_of_the_address_space() {
    const TOP: u64 = PageRange::ADDRESS_SPACE_PAGES;
    let huge = alignment(63);
    assert_eq!(model(TOP - 5, 5, &[]).first_fit(&request(1, huge)), None);
    assert_eq!(model(TOP / 2 + 1, 5, &[]).first_fit(&request(1, huge)), None);
    assert_eq!(
        ends(model(TOP / 2 - 1, 5, &[]).first_fit(&request(1, huge))),
        Some((TOP / 2, TOP / 2 + 1))
    );
    assert_eq!(ends(model(TOP - 5, 5, &[]).best_fit(&request(5, PAGE))), Some((TOP - 5, TOP)));
    assert_eq!(model(TOP - 5, 5, &[]).first_fit(&request(TOP - 1, huge)), None);
}

#[test]
fn every_reported_hole_is_compared() {
    let model = model(0, 8, &[(2, 2)]);
    let (low, high) = (PageRange::from_pages(0, 2), PageRange::from_pages(4, 4));
    let difference = |reported: &[PageRange]| match model.compare_holes(reported) {
        Err(Violation::Holes { position, reported, actual }) => Some((position, reported, actual)),
        Err(other) => panic!("{other}"),
        Ok(()) => None,
    };
    assert_eq!(difference(&[low, high]), None);
    assert_eq!(difference(&[low]), Some((1, None, Some(high))));
    assert_eq!(difference(&[high, low]), Some((0, Some(high), Some(low))));
    assert_eq!(difference(&[low, high, high]), Some((2, Some(high), None)));
    let (a, b) = (PageRange::from_pages(4, 1), PageRange::from_pages(5, 3));
    assert_eq!(
        difference(&[low, a, b]),
        Some((1, Some(a), Some(high))),
        "adjacent holes are not maximal"
    );
}
