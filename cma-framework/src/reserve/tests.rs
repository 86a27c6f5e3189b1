//! Placement in banks, also against a flag for each page.

use super::*;
use proptest::prelude::*;

fn request(pages: u64, alignment: u64, start: Option<u64>) -> ReserveRequest {
    ReserveRequest {
        name: None,
        pages: Pages::new(pages),
        alignment: Alignment::new(alignment).unwrap(),
        start: start.map(DmaAddr::new),
    }
}

const TWO: &[Bank] = &[Bank::new(0x10000, 0x10000), Bank::new(0x40000, 0x40000)];

#[test]
fn without_a_wish_the_first_bank_that_holds_it() {
    let mut up = Banks::new(TWO, Growth::Up);
    assert_eq!(up.set_aside(&request(1, 0, None)).unwrap().start().get(), 0x10000);
    assert_eq!(up.set_aside(&request(1, 0x4000, None)).unwrap().start().get(), 0x14000);
    assert_eq!(up.set_aside(&request(1, 0, None)).unwrap().start().get(), 0x11000);
    assert_eq!(up.set_aside(&request(0x20, 0, None)).unwrap().start().get(), 0x40000);
    let mut down = Banks::new(TWO, Growth::Down);
    assert_eq!(down.set_aside(&request(1, 0, None)).unwrap().start().get(), 0x1f000);
    assert_eq!(down.set_aside(&request(1, 0x4000, None)).unwrap().start().get(), 0x1c000);
    assert_eq!(down.set_aside(&request(1, 0, None)).unwrap().start().get(), 0x1e000);
}

#[test]
fn a_wish_is_met_or_refused_with_what_is_in_its_way() {
    let mut banks = Banks::new(TWO, Growth::Up);
    banks.set_aside(&request(2, 0, Some(0x41000))).unwrap();
    let taken = PageRange::from_pages(0x41, 2);
    let wanted = PageRange::from_pages(0x40, 2);
    assert_eq!(banks.set_aside(&request(2, 0, Some(0x40000))), Err(ReserveError::Taken { wanted, taken }));
    let wanted = PageRange::from_pages(0x1f, 2);
    assert_eq!(banks.set_aside(&request(2, 0, Some(0x1f000))), Err(ReserveError::NoMemoryThere { wanted }));
    assert_eq!(banks.set_aside(&request(1, 0, Some(0x40000))).unwrap().start().get(), 0x40000);
}

#[test]
fn what_is_missing_is_said() {
    let mut banks = Banks::new(TWO, Growth::Up);
    banks.set_aside(&request(1, 0, Some(0x50000))).unwrap();
    let error = banks.set_aside(&request(0x30, 0x10000, None)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no memory bank has 192K free in one piece aligned to 64K; the largest free piece is 188K"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Against a bit for each page: what is placed is free, aligned and in one bank, and what is refused fits nowhere.
    #[test]
    fn placing_is_right_and_exhaustive(
        down: bool,
        asked in proptest::collection::vec((1..40u64, 0..7u32, proptest::option::of(0..0x60u64)), 1..30),
    ) {
        let mut banks = Banks::new(&[Bank::new(0x3000, 0x21000), Bank::new(0x30000, 0x10000)], if down { Growth::Down } else { Growth::Up });
        let in_bank = |page: u64| match page { 3..0x24 => 1, 0x30..0x40 => 2, _ => 0 };
        let mut free: Vec<bool> = (0..0x100).map(|page| in_bank(page) > 0).collect();
        for (pages, log2, wish) in asked {
            let step = 1u64 << log2;
            let fits = |first: u64, free: &[bool]| first.is_multiple_of(step)
                && (first..first + pages).all(|p| free[p as usize] && in_bank(p) == in_bank(first));
            let wish = wish.map(|page| page.next_multiple_of(step));
            match banks.set_aside(&request(pages, step << 12, wish.map(|page| page << 12))) {
                Ok(range) => {
                    prop_assert_eq!(range.pages().get(), pages);
                    prop_assert!(wish.is_none_or(|page| page == range.first_page()));
                    prop_assert!(fits(range.first_page(), &free));
                    (range.first_page()..range.end_page()).for_each(|p| free[p as usize] = false);
                }
                Err(_) => match wish {
                    Some(page) => prop_assert!(!fits(page, &free)),
                    None => prop_assert!(!(0..0x60).any(|page| fits(page, &free))),
                },
            }
        }
    }
}
