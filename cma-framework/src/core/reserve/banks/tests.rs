//! Placement in banks, checked by examples and against a model with one flag per page.

use super::*;
use crate::vocabulary::Window;
use cma_api::{Alignment, DmaAddr};
use proptest::prelude::*;

fn request(pages: u64, alignment: u64, start: Option<u64>) -> ReserveRequest {
    ReserveRequest {
        name: None,
        pages: Pages::new(pages),
        alignment: Alignment::new(alignment).unwrap(),
        place: start.map_or(Place::Anywhere, |start| Place::At(DmaAddr::new(start))),
    }
}

const TWO: &[Bank] = &[Bank::new(0x10000, 0x10000), Bank::new(0x40000, 0x40000)];

#[test]
fn a_region_without_a_start_goes_into_the_first_bank_with_room() {
    let mut up = Banks::new(TWO, Growth::Up);
    assert_eq!(up.place(&request(1, 0, None)).unwrap().start().get(), 0x10000);
    assert_eq!(up.place(&request(1, 0x4000, None)).unwrap().start().get(), 0x14000);
    assert_eq!(up.place(&request(1, 0, None)).unwrap().start().get(), 0x11000);
    assert_eq!(up.place(&request(0x20, 0, None)).unwrap().start().get(), 0x40000);
    let mut down = Banks::new(TWO, Growth::Down);
    assert_eq!(down.place(&request(1, 0, None)).unwrap().start().get(), 0x1f000);
    assert_eq!(down.place(&request(1, 0x4000, None)).unwrap().start().get(), 0x1c000);
    assert_eq!(down.place(&request(1, 0, None)).unwrap().start().get(), 0x1e000);
}

#[test]
fn a_fixed_start_is_used_or_refused_with_the_conflict() {
    let mut banks = Banks::new(TWO, Growth::Up);
    banks.place(&request(2, 0, Some(0x41000))).unwrap();
    let taken = PageRange::from_pages(0x41, 2);
    let wanted = PageRange::from_pages(0x40, 2);
    assert_eq!(
        banks.place(&request(2, 0, Some(0x40000))),
        Err(ReserveError::Taken { wanted, taken })
    );
    let wanted = PageRange::from_pages(0x1f, 2);
    assert_eq!(
        banks.place(&request(2, 0, Some(0x1f000))),
        Err(ReserveError::NoMemoryThere { wanted })
    );
    assert_eq!(banks.place(&request(1, 0, Some(0x40000))).unwrap().start().get(), 0x40000);
}

#[test]
fn the_error_names_the_largest_free_range() {
    let mut banks = Banks::new(TWO, Growth::Up);
    banks.place(&request(1, 0, Some(0x50000))).unwrap();
    let error = banks.place(&request(0x30, 0x10000, None)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no memory bank has 192K free in one piece aligned to 64K; the largest free piece is 188K"
    );
}

/// Window as its first page and the page after its last one.
fn within(pages: u64, alignment: u64, (first, end): (u64, u64)) -> ReserveRequest {
    let window = Window::new(first << 12, end << 12).unwrap();
    ReserveRequest { place: Place::Within(window), ..request(pages, alignment, None) }
}

#[test]
fn a_region_with_a_window_lies_within_it_or_is_refused() {
    for (growth, lowest, second) in [(Growth::Up, 0x18, 0x40), (Growth::Down, 0x1c, 0x41)] {
        let mut banks = Banks::new(TWO, growth);
        // Both banks reach into the window; the first with room is used.
        let place = banks.place(&within(4, 0, (0x18, 0x45))).unwrap();
        assert_eq!(place.first_page(), lowest);
        let place = banks.place(&within(4, 0x4000, (0x1d, 0x45))).unwrap();
        assert_eq!(place.first_page(), 0x40);
        banks.release(place);
        assert_eq!(banks.place(&within(4, 0, (0x1d, 0x45))).unwrap().first_page(), second);
    }
    let mut banks = Banks::new(TWO, Growth::Up);
    let error = banks.place(&within(1, 0, (0x20, 0x40))).unwrap_err().to_string();
    assert_eq!(error, "no memory bank has a page within the window 0x20000-0x40000");
    banks.place(&request(1, 0, Some(0x11000))).unwrap();
    let error = banks.place(&within(4, 0, (0x10, 0x14))).unwrap_err().to_string();
    assert_eq!(
        error,
        "no memory bank has 16K free in one piece within 0x10000-0x14000; the largest free piece \
         there is 8K"
    );
}

fn banks_of(banks: &[(u64, u64)]) -> Banks {
    let banks: Vec<_> =
        banks.iter().map(|(first, pages)| Bank(PageRange::from_pages(*first, *pages))).collect();
    Banks::new(&banks, Growth::Up)
}

fn ranges(ranges: &[(u64, u64)]) -> Vec<PageRange> {
    ranges.iter().map(|(first, pages)| PageRange::from_pages(*first, *pages)).collect()
}

/// Otherwise a region larger than either of two adjacent banks, or one that crosses from one into
/// the other, would be refused.
#[test]
fn adjacent_or_overlapping_banks_are_one_bank() {
    for (given, expected) in [
        (vec![(16, 16), (32, 32)], vec![(16, 48)]),
        (vec![(32, 32), (16, 16)], vec![(16, 48)]),
        (vec![(16, 16), (24, 8), (20, 30)], vec![(16, 34)]),
        // The last bank joins two others and takes the position of the first of them.
        (vec![(100, 4), (16, 16), (200, 4), (40, 8), (32, 8)], vec![(100, 4), (16, 32), (200, 4)]),
        (vec![(16, 16), (33, 1)], vec![(16, 16), (33, 1)]),
        // Empty banks join nothing.
        (vec![(5, 0), (16, 16), (32, 0), (33, 1), (32, 0)], vec![(16, 16), (33, 1)]),
        (vec![(0, 0)], vec![]),
        (vec![(u64::MAX - 1, u64::MAX), (7, u64::MAX)], vec![(7, u64::MAX - 7)]),
    ] {
        assert_eq!(banks_of(&given).banks, ranges(&expected), "{given:?}");
    }
    let mut banks = banks_of(&[(16, 16), (32, 32)]);
    assert_eq!(banks.place(&request(4, 0, Some(30 << 12))).unwrap(), PageRange::from_pages(30, 4));
    assert_eq!(banks.place(&request(30, 0, None)).unwrap(), PageRange::from_pages(34, 30));
    // A region that fits into one bank lies in the first such bank; a larger one crosses over.
    for growth in [Growth::Up, Growth::Down] {
        let two = Banks::new(&[Bank::new(0x10000, 0x10000), Bank::new(0x20000, 0x20000)], growth);
        let place = |pages| two.clone().place(&request(pages, 0, None)).unwrap();
        assert!(place(3).end_page() <= 32 && place(17).first_page() >= 32, "{growth:?}");
        assert!(place(33).first_page() < 32 && place(33).end_page() > 32, "{growth:?}");
    }
    let none = banks_of(&[]).place(&request(1, 0, None)).unwrap_err();
    assert!(none.to_string().ends_with("the largest free piece is 0"), "{none}");
}

#[test]
fn a_withheld_range_is_never_reserved_even_if_a_bank_holds_only_part_of_it() {
    let mut banks = banks_of(&[(16, 16)]);
    banks.withhold(PageRange::from_pages(8, 12)).unwrap();
    banks.withhold(PageRange::from_pages(30, 8)).unwrap();
    banks.withhold(PageRange::from_pages(100, 8)).unwrap();
    banks.withhold(PageRange::from_pages(22, 0)).unwrap();
    assert_eq!(banks.place(&request(10, 0, None)).unwrap(), PageRange::from_pages(20, 10));
    let full = banks.place(&request(1, 0, None)).unwrap_err();
    assert!(matches!(full, ReserveError::NoSpace { largest: Pages::ZERO, .. }));
    for overlapping in [(19, 2), (7, 2), (29, 1), (37, 1), (0, 200)] {
        let refused = banks.withhold(PageRange::from_pages(overlapping.0, overlapping.1));
        assert!(matches!(refused, Err(ReserveError::Taken { .. })), "{overlapping:?}");
    }
    banks.release(PageRange::from_pages(8, 11));
    banks.release(PageRange::from_pages(8, 12));
    banks.release(PageRange::from_pages(8, 12));
    assert_eq!(banks.place(&request(4, 0, None)).unwrap(), PageRange::from_pages(16, 4));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Against a model with one flag per page: a reserved range was free, is aligned and lies in
    /// one bank; a refused request fits nowhere; a released range is free again.
    #[test]
    fn placement_is_correct_and_complete(
        down: bool,
        requests in proptest::collection::vec(
            (
                1..40u64,
                0..7u32,
                prop_oneof![
                    Just(None),
                    (0..0x60u64).prop_map(|page| Some((page, None))),
                    (0..0x60u64, 1..0x60u64).prop_map(|(page, pages)| Some((page, Some(page + pages)))),
                ],
                proptest::option::of(any::<prop::sample::Index>()),
            ),
            1..60,
        ),
    ) {
        let mut banks = Banks::new(&[Bank::new(0x3000, 0x21000), Bank::new(0x30000, 0x10000)], if down { Growth::Down } else { Growth::Up });
        let in_bank = |page: u64| match page { 3..0x24 => 1, 0x30..0x40 => 2, _ => 0 };
        let mut free: Vec<bool> = (0..0x100).map(|page| in_bank(page) > 0).collect();
        let mut placed: Vec<PageRange> = Vec::new();
        for (pages, log2, place, release) in requests {
            if let Some(release) = release.filter(|_| !placed.is_empty()) {
                let range = placed.swap_remove(release.index(placed.len()));
                banks.release(range);
                (range.first_page()..range.end_page()).for_each(|p| free[p as usize] = in_bank(p) > 0);
            }
            let step = 1u64 << log2;
            let fits = |first: u64, free: &[bool]| first.is_multiple_of(step)
                && (first..first + pages).all(|p| free[p as usize] && in_bank(p) == in_bank(first));
            let (request, starts) = match place {
                None => (request(pages, step << 12, None), 0..0x60),
                Some((page, None)) => {
                    let page = page.next_multiple_of(step);
                    (request(pages, step << 12, Some(page << 12)), page..page + 1)
                }
                Some((page, Some(end))) => {
                    (within(pages, step << 12, (page, end)), page..(end + 1).saturating_sub(pages))
                }
            };
            match banks.place(&request) {
                Ok(range) => {
                    prop_assert_eq!(range.pages().get(), pages);
                    prop_assert!(starts.contains(&range.first_page()));
                    prop_assert!(fits(range.first_page(), &free));
                    (range.first_page()..range.end_page()).for_each(|p| free[p as usize] = false);
                    placed.push(range);
                }
                Err(_) => prop_assert!(!starts.into_iter().any(|page| fits(page, &free))),
            }
        }
    }
}
