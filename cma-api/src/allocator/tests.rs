//! The limits of requests against their definitions, tried at every place.

use super::*;
use std::iter::successors;

const TOP: u64 = PageRange::ADDRESS_SPACE_PAGES;

/// The exhaustive tests do less under Miri, which is some hundred times slower.
const LARGEST: u64 = if cfg!(miri) { 4 } else { 9 };

fn alignment_of(pages: u64) -> Alignment {
    Alignment::new(pages << crate::PAGE_SHIFT).unwrap()
}

fn boundary_of(pages: u64) -> Boundary {
    if pages == TOP { Boundary::NONE } else { Boundary::new(pages << crate::PAGE_SHIFT).unwrap() }
}

fn request(pages: u64, alignment: u64) -> Request {
    Request::new(Pages::new(pages), alignment_of(alignment), Asker(7)).unwrap()
}

/// 1, 2, 4 up to `most`.
fn powers(most: u64) -> impl Iterator<Item = u64> + Clone {
    successors(Some(1), |power| Some(power * 2)).take_while(move |power| *power <= most)
}

/// All ranges that lie in the `pages` pages from `first` on, the empty ones too.
fn ranges(first: u64, pages: u64) -> impl Iterator<Item = PageRange> + Clone {
    (0..=pages).flat_map(move |offset| {
        (0..=pages - offset).map(move |size| PageRange::from_pages(first + offset, size))
    })
}

/// The definition: whether a chunk of `pages` pages from `first` on serves a request. Numbers are
/// so wide that nothing wraps.
fn serves(first: u64, pages: u64, alignment: u64, window: PageRange, boundary: u64) -> bool {
    let (first, end) = (u128::from(first), u128::from(first) + u128::from(pages));
    let window_end = u128::from(window.first_page()) + u128::from(window.pages().get());
    // The multiple of the boundary that follows the first page.
    let multiple = (first / u128::from(boundary) + 1) * u128::from(boundary);
    first.is_multiple_of(u128::from(alignment))
        && u128::from(window.first_page()) <= first
        && end <= window_end
        && end <= multiple
}

/// Compares a request of `pages`, `alignment`, `window` and `boundary` with the definition, on
/// every place that starts in the `around.pages()` pages of `around`.
fn compare(pages: u64, alignment: u64, window: PageRange, boundary: u64, around: PageRange) {
    let places: Vec<u64> = (around.first_page()..around.end_page())
        .filter(|first| serves(*first, pages, alignment, window, boundary))
        .collect();
    let limited = request(pages, alignment).limited(window, boundary_of(boundary));
    let Some(limited) = limited else {
        assert!(places.is_empty(), "{pages}/{alignment} in {window} of {boundary}: {places:?}");
        return;
    };
    assert!(!places.is_empty(), "{limited:?} has no place");
    assert!(limited.is_limited());
    for first in around.first_page()..around.end_page() {
        for size in pages - 1..=pages + 1 {
            let range = PageRange::from_pages(first, size);
            let serves = size == pages && places.contains(&first);
            assert_eq!(limited.accepts(range), serves, "{limited:?} in {range}");
        }
    }
    for hole in ranges(around.first_page(), around.pages().get()) {
        let within = |first: &u64| PageRange::from_pages(*first, pages).within(hole);
        let mut inside = places.iter().copied().filter(within);
        let lowest = inside.next();
        let highest = inside.next_back().or(lowest);
        let first = |place: PageRange| {
            assert_eq!(place.pages().get(), pages);
            place.first_page()
        };
        assert_eq!(limited.lowest_place(hole).map(first), lowest, "{limited:?} in {hole}");
        assert_eq!(limited.highest_place(hole).map(first), highest, "{limited:?} in {hole}");
    }
}

fn compare_all(first: u64) {
    let around = PageRange::from_pages(first, LARGEST);
    for window in ranges(first, LARGEST).filter(|window| window.pages() > Pages::ZERO) {
        for (pages, alignment) in (1..=LARGEST).flat_map(|p| powers(8).map(move |a| (p, a))) {
            for boundary in powers(LARGEST) {
                compare(pages, alignment, window, boundary, around);
            }
        }
    }
}

#[test]
fn places_are_the_lowest_and_highest_of_all_that_the_definition_allows() {
    for first in [0, 5] {
        compare_all(first);
    }
}

#[test]
fn places_at_the_top_of_the_address_space_are_those_of_the_definition() {
    compare_all(TOP - LARGEST);
}

#[test]
fn a_boundary_of_the_requests_size_leaves_only_its_multiples() {
    let hole = PageRange::from_pages(1, TOP - 2);
    for pages in powers(TOP / 2).skip(1) {
        let limited = request(pages, 1).limited(PageRange::ADDRESS_SPACE, boundary_of(pages));
        let limited = limited.unwrap();
        assert!(limited.accepts(PageRange::from_pages(0, pages)));
        assert!(limited.accepts(PageRange::from_pages(TOP - pages, pages)));
        assert!(!limited.accepts(PageRange::from_pages(1, pages)));
        assert!(!limited.accepts(PageRange::from_pages(TOP - pages - 1, pages)));
        assert_eq!(request(pages + 1, 1).limited(limited.window(), limited.boundary()), None);
        let places = [limited.lowest_place(hole), limited.highest_place(hole)];
        let expected = [pages, TOP - 2 * pages].map(|first| PageRange::from_pages(first, pages));
        // Half an address space has two places, and neither lies in the hole.
        let expected = expected.map(|place| (pages < TOP / 2).then_some(place));
        assert_eq!(places, expected);
    }
}

#[test]
fn a_window_between_two_multiples_of_the_alignment_contradicts_the_request() {
    let window = PageRange::from_pages(65, 63);
    assert_eq!(request(1, 64).limited(window, Boundary::NONE), None);
    let wider = PageRange::from_pages(65, 64);
    let limited = request(1, 64).limited(wider, Boundary::NONE).unwrap();
    assert_eq!(limited.lowest_place(wider), Some(PageRange::from_pages(128, 1)));
    assert_eq!(limited.highest_place(wider), Some(PageRange::from_pages(128, 1)));
}

#[test]
fn no_extreme_request_or_range_wraps() {
    let extremes = [0, 1, 2, TOP / 2 - 1, TOP / 2, TOP / 2 + 1, TOP - 2, TOP - 1, TOP];
    let ranges: Vec<PageRange> = extremes
        .iter()
        .flat_map(|first| extremes.iter().map(|end| (*first, *end)))
        .filter(|(first, end)| first < end)
        .map(|(first, end)| PageRange::from_pages(first, end - first))
        .collect();
    let sizes = [1, 2, TOP / 2 - 1, TOP / 2, TOP / 2 + 1, TOP - 1];
    for (pages, alignment) in sizes.iter().flat_map(|p| [1, 2, TOP / 2].map(|a| (*p, a))) {
        for boundary in [1, 2, TOP / 2, TOP].into_iter().filter(|boundary| pages <= *boundary) {
            for window in &ranges {
                let limited = request(pages, alignment).limited(*window, boundary_of(boundary));
                let Some(limited) = limited else { continue };
                let serves = |place: PageRange| {
                    serves(place.first_page(), pages, alignment, *window, boundary)
                };
                for hole in &ranges {
                    let places = (limited.lowest_place(*hole), limited.highest_place(*hole));
                    let (Some(lowest), Some(highest)) = places else {
                        assert_eq!(places, (None, None), "{limited:?} in {hole}");
                        continue;
                    };
                    assert!(lowest.within(*hole) && highest.within(*hole) && lowest <= highest);
                    assert!(serves(lowest) && serves(highest), "{limited:?} in {hole}");
                    assert!(limited.accepts(lowest) && limited.accepts(highest));
                }
            }
        }
    }
}

#[test]
fn a_window_that_passes_the_address_space_ends_at_its_top() {
    let window = PageRange::from_pages(TOP - 4, u64::MAX);
    let limited = request(2, 1).limited(window, Boundary::NONE).unwrap();
    assert_eq!(limited.window(), PageRange::from_pages(TOP - 4, 4));
    assert_eq!(limited.highest_place(PageRange::ADDRESS_SPACE).map(PageRange::end_page), Some(TOP));
    for outside in [PageRange::from_pages(TOP, 4), PageRange::from_pages(u64::MAX, u64::MAX)] {
        assert_eq!(request(2, 1).limited(outside, Boundary::NONE), None);
    }
}

#[test]
fn a_window_of_everything_without_a_boundary_is_no_limit() {
    let plain = request(3, 2);
    assert!(!plain.is_limited());
    assert_eq!(plain.limited(PageRange::ADDRESS_SPACE, Boundary::NONE), Some(plain));
    let limited = plain.limited(PageRange::from_pages(0, 64), boundary_of(4)).unwrap();
    assert!(limited.is_limited());
    // Limits replace each other.
    assert_eq!(limited.limited(PageRange::ADDRESS_SPACE, Boundary::NONE), Some(plain));
}

#[test]
fn limits_keep_size_alignment_and_asker() {
    let window = PageRange::from_pages(8, 64);
    let limited = request(3, 2).limited(window, boundary_of(4)).unwrap();
    let (size, alignment) = (limited.pages().get(), limited.alignment());
    assert_eq!((size, alignment, limited.asker()), (3, alignment_of(2), Asker(7)));
    assert_eq!((limited.window(), limited.boundary()), (window, boundary_of(4)));
}
