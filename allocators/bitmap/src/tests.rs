//! Tests beyond the conformance suite: bounds on searches, errors that `check` finds, and
//! unsupported regions.

mod limits;
mod looks;

use super::Bitmap;
use super::reaches::Grid;
use cma_api::{Alignment, Allocator, Asker, NotMine, PageRange, Pages, Placement, Request, Tag};

fn bitmap(first: u64, pages: u64) -> Bitmap {
    Bitmap::new(PageRange::from_pages(first, pages), "").unwrap()
}

/// Allocates, verifies the invariants, and returns the chunk's first page.
fn allocate(bitmap: &mut Bitmap, pages: u64, alignment_in_pages: u64) -> Option<u64> {
    let alignment = Alignment::new(alignment_in_pages << 12).unwrap();
    let placement =
        bitmap.allocate(&Request::new(Pages::new(pages), alignment, Asker::NOBODY).unwrap());
    bitmap.check().unwrap();
    placement.ok().map(|placement| placement.range.first_page())
}

fn free(bitmap: &mut Bitmap, first: u64, pages: u64) -> Result<(), NotMine> {
    let answer =
        bitmap.free(Placement { range: PageRange::from_pages(first, pages), tag: Tag::default() });
    bitmap.check().unwrap();
    answer
}

#[test]
fn a_hole_whose_first_word_is_used_up_page_by_page_starts_in_the_next() {
    let mut bitmap = bitmap(0, 200);
    for page in 0..64 {
        assert_eq!(allocate(&mut bitmap, 1, 1), Some(page));
    }
    assert_eq!(allocate(&mut bitmap, 136, 1), Some(64));
}

#[test]
fn a_search_corrects_an_outdated_bound() {
    let mut bitmap = bitmap(0, 256);
    for page in 0..65 {
        assert_eq!(allocate(&mut bitmap, 1, 1), Some(page));
    }
    assert_eq!(free(&mut bitmap, 3, 1), Ok(()));
    assert!(bitmap.longest.get(0) > 1, "placing in the first open word leaves its bound unchanged");
    assert_eq!(allocate(&mut bitmap, 2, 1), Some(65));
    assert_eq!(bitmap.longest.get(0), 1);
}

#[test]
fn holes_of_the_same_class_that_are_too_short_are_skipped() {
    // 9 pages have the class of 8, and only the last hole has 9 pages.
    let mut bitmap = bitmap(5, 10 * 8 + 10);
    for first in (5..85).step_by(10) {
        bitmap.adopt(PageRange::from_pages(first, 2)).unwrap();
    }
    bitmap.adopt(PageRange::from_pages(85, 1)).unwrap();
    assert_eq!(allocate(&mut bitmap, 9, 1), Some(86));
    assert_eq!(allocate(&mut bitmap, 9, 1), None);
    assert_eq!(bitmap.largest_request(), Pages::new(8));
    assert_eq!(allocate(&mut bitmap, 4, 4), Some(8));
}

#[test]
fn a_free_page_is_not_freed_again_although_its_word_has_stale_bits() {
    let mut bitmap = bitmap(0, 256);
    for page in 0..128 {
        assert_eq!(allocate(&mut bitmap, 1, 1), Some(page));
    }
    // Leaves the words' bits as they are.
    assert_eq!(free(&mut bitmap, 0, 128), Ok(()));
    for page in [0, 5, 63, 64, 127] {
        assert_eq!(free(&mut bitmap, page, 1), Err(NotMine));
    }
    assert_eq!(allocate(&mut bitmap, 1, 1), Some(0));
    assert_eq!(free(&mut bitmap, 5, 1), Err(NotMine));
}

#[test]
fn stale_bits_of_words_that_a_large_chunk_covered_are_ignored() {
    let mut bitmap = bitmap(0, 256);
    for page in 0..70 {
        assert_eq!(allocate(&mut bitmap, 1, 1), Some(page));
    }
    for page in 0..70 {
        assert_eq!(free(&mut bitmap, page, 1), Ok(()));
    }
    assert_eq!(allocate(&mut bitmap, 192, 64), Some(0));
    assert!(bitmap.adopt(PageRange::from_pages(5, 1)).is_err());
    assert_eq!(free(&mut bitmap, 0, 192), Ok(()));
    assert_eq!(bitmap.largest_request(), Pages::new(256));
    assert_eq!(allocate(&mut bitmap, 3, 1), Some(0));
}

#[test]
fn a_hole_of_many_words_is_found_from_both_ends() {
    let mut bitmap = bitmap(3, 1 << 20);
    bitmap.adopt(PageRange::from_pages(3 + 500_000, 7)).unwrap();
    assert_eq!(free(&mut bitmap, 3 + 500_000, 7), Ok(()));
    assert_eq!(bitmap.largest_request(), Pages::new(1 << 20));
    assert_eq!(allocate(&mut bitmap, 1 << 20, 1), Some(3));
}

#[test]
fn a_region_too_large_or_outside_the_address_space_is_refused() {
    let whole = PageRange::from_pages(0, PageRange::ADDRESS_SPACE_PAGES);
    assert!(Bitmap::new(whole, "").unwrap_err().to_string().contains("too large"));
    for region in
        [PageRange::from_pages(5, 0), PageRange::from_pages(PageRange::ADDRESS_SPACE_PAGES, 1)]
    {
        assert!(
            Bitmap::new(region, "")
                .unwrap_err()
                .to_string()
                .contains("not in the 64-bit address space")
        );
    }
}

#[test]
fn freeing_free_or_outside_pages_returns_not_mine() {
    let mut bitmap = bitmap(100, 100);
    let first = allocate(&mut bitmap, 3, 1).unwrap();
    assert_eq!(free(&mut bitmap, first, 3), Ok(()));
    for (first, pages) in [(100, 3), (99, 1), (u64::MAX, 3), (100, 0), (200, 1)] {
        assert_eq!(free(&mut bitmap, first, pages), Err(NotMine));
    }
    assert_eq!(bitmap.largest_request(), Pages::new(100));
}

/// Defect 12 of the posted series: rounding a hole's start up to a huge alignment wrapped to an
/// address outside.
#[test]
fn defect_12_rounding_up_to_a_huge_alignment_never_wraps() {
    let top = PageRange::ADDRESS_SPACE_PAGES;
    for (first, pages) in [(top - 7, 7), (top - 8, 8), (1, 8), (top / 2 + 1, 8)] {
        let mut bitmap = bitmap(first, pages);
        for log2 in [26, 50, 51] {
            assert_eq!(
                allocate(&mut bitmap, 1, 1 << log2),
                None,
                "{first:#x}, alignment 2^{log2} pages"
            );
        }
    }
    assert_eq!(allocate(&mut bitmap(top / 2, 8), 1, 1 << 51), Some(top / 2));
    assert_eq!(allocate(&mut bitmap(top / 2 - 3, 8), 5, 1 << 51), Some(top / 2));
}

/// Defect 14 of the posted series: cleaning up an allocator whose region was full crashed.
#[test]
fn defect_14_a_full_allocator_can_be_dropped() {
    let mut bitmap = bitmap(1, 130);
    while allocate(&mut bitmap, 1, 1).is_some() {}
    assert_eq!(bitmap.largest_request(), Pages::ZERO);
    drop(bitmap);
}

#[test]
fn check_finds_broken_invariants() {
    let broken = |corrupt: fn(&mut Bitmap)| {
        let mut bitmap = bitmap(0, 1000);
        corrupt(&mut bitmap);
        bitmap.check().unwrap_err()
    };
    assert!(
        broken(|bitmap| assert!(bitmap.pages.release(1000, 1001).is_some()))
            .starts_with("invariant 3")
    );
    assert!(broken(|bitmap| assert!(bitmap.longest.lower(0, 1))).starts_with("invariant 4"));
    let error = broken(|bitmap| {
        bitmap.keep_reach(Grid::new(0, 4)).unwrap();
        bitmap.reaches[0].lower(0, 7);
    });
    assert!(error.starts_with("invariant 6"), "{error}");
}
