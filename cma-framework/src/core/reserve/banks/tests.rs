//! Placement in banks, checked by examples and against a model with one flag per page.

use super::*;
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
            (1..40u64, 0..7u32, proptest::option::of(0..0x60u64), proptest::option::of(any::<prop::sample::Index>())),
            1..60,
        ),
    ) {
        let mut banks = Banks::new(&[Bank::new(0x3000, 0x21000), Bank::new(0x30000, 0x10000)], if down { Growth::Down } else { Growth::Up });
        let in_bank = |page: u64| match page { 3..0x24 => 1, 0x30..0x40 => 2, _ => 0 };
        let mut free: Vec<bool> = (0..0x100).map(|page| in_bank(page) > 0).collect();
        let mut placed: Vec<PageRange> = Vec::new();
        for (pages, log2, start, release) in requests {
            if let Some(release) = release.filter(|_| !placed.is_empty()) {
                let range = placed.swap_remove(release.index(placed.len()));
                banks.release(range);
                (range.first_page()..range.end_page()).for_each(|p| free[p as usize] = in_bank(p) > 0);
            }
            let step = 1u64 << log2;
            let fits = |first: u64, free: &[bool]| first.is_multiple_of(step)
                && (first..first + pages).all(|p| free[p as usize] && in_bank(p) == in_bank(first));
            let start = start.map(|page| page.next_multiple_of(step));
            match banks.place(&request(pages, step << 12, start.map(|page| page << 12))) {
                Ok(range) => {
                    prop_assert_eq!(range.pages().get(), pages);
                    prop_assert!(start.is_none_or(|page| page == range.first_page()));
                    prop_assert!(fits(range.first_page(), &free));
                    (range.first_page()..range.end_page()).for_each(|p| free[p as usize] = false);
                    placed.push(range);
                }
                Err(_) => match start {
                    Some(page) => prop_assert!(!fits(page, &free)),
                    None => prop_assert!(!(0..0x60).any(|page| fits(page, &free))),
                },
            }
        }
    }
}
