//! Tests beyond the conformance suite: the exact places of splits and merges, and errors that
//! `check` finds.

use super::{Buddy, RUNS};
use cma_api::{
    Algorithm, Alignment, Allocator, Asker, Boundary, NotMine, PageRange, Pages, Placement,
    Request, Tag,
};
use cma_testkit::guarantees::every_limit_in_a_small_region_is_kept;
use cma_testkit::{Placing, Subject};

fn buddy(first: u64, pages: u64, params: &str) -> Buddy {
    Buddy::new(PageRange::from_pages(first, pages), params).unwrap()
}

fn request(pages: u64, alignment_in_pages: u64) -> Request {
    let alignment = Alignment::new(alignment_in_pages << 12).unwrap();
    Request::new(Pages::new(pages), alignment, Asker::NOBODY).unwrap()
}

/// A request for `pages` pages from page `from` to page `to`.
fn within(pages: u64, alignment_in_pages: u64, from: u64, to: u64) -> Request {
    let window = PageRange::from_pages(from, to - from);
    request(pages, alignment_in_pages).limited(window, Boundary::NONE).unwrap()
}

/// Allocates, verifies the invariants, and returns the chunk's first page.
fn allocate(buddy: &mut Buddy, pages: u64, alignment_in_pages: u64) -> Option<u64> {
    let placement = buddy.allocate(&request(pages, alignment_in_pages));
    buddy.check().unwrap();
    placement.ok().map(|placement| placement.range.first_page())
}

fn free(buddy: &mut Buddy, first: u64, pages: u64) -> Result<(), NotMine> {
    let answer =
        buddy.free(Placement { range: PageRange::from_pages(first, pages), tag: Tag::default() });
    buddy.check().unwrap();
    answer
}

fn holes(buddy: &Buddy) -> Vec<(u64, u64)> {
    let mut holes = Vec::new();
    buddy.holes(&mut |hole| holes.push((hole.first_page(), hole.pages().get())));
    holes
}

#[test]
fn a_chunk_of_five_pages_takes_five() {
    let mut buddy = buddy(0, 8, "");
    assert_eq!(allocate(&mut buddy, 5, 1), Some(0));
    assert_eq!(holes(&buddy), [(5, 3)]);
    assert_eq!(allocate(&mut buddy, 2, 1), Some(6));
    assert_eq!(allocate(&mut buddy, 1, 1), Some(5));
}

#[test]
fn one_chunk_can_fill_a_region_that_is_not_a_power_of_two() {
    for (first, pages) in [(0, 9216), (1, 8), (1, 1), (7, 6), (1023, 1026), (4095, 4098)] {
        let mut buddy = buddy(first, pages, "");
        assert_eq!(buddy.largest_request(), Pages::new(pages));
        assert_eq!(allocate(&mut buddy, pages, 1), Some(first));
        assert_eq!(holes(&buddy), []);
        assert_eq!(free(&mut buddy, first, pages), Ok(()));
        assert_eq!(holes(&buddy), [(first, pages)]);
    }
}

#[test]
fn a_chunk_goes_into_the_lowest_block_that_holds_it() {
    let mut buddy = buddy(0, 64, "");
    buddy.adopt(PageRange::from_pages(18, 2)).unwrap();
    // The free blocks are now one of 16, one of 2, one of 4 and one of 8 around the two pages, and
    // one of 32.
    assert_eq!(allocate(&mut buddy, 3, 1), Some(0));
    assert_eq!(allocate(&mut buddy, 1, 1), Some(3));
    assert_eq!(allocate(&mut buddy, 16, 16), Some(32));
    assert_eq!(allocate(&mut buddy, 8, 1), Some(8));
    assert_eq!(allocate(&mut buddy, 8, 1), Some(24));
    assert_eq!(allocate(&mut buddy, 4, 1), Some(4));
}

#[test]
fn a_run_of_several_blocks_serves_a_request_that_no_block_can() {
    let mut buddy = buddy(0, 64, "");
    buddy.adopt(PageRange::from_pages(0, 6)).unwrap();
    buddy.adopt(PageRange::from_pages(58, 6)).unwrap();
    // Adjacent blocks of 2, 8, 16, 16, 8 and 2 pages.
    assert_eq!(buddy.largest_request(), Pages::new(52));
    assert_eq!(allocate(&mut buddy, 40, 8), Some(8));
    assert_eq!(holes(&buddy), [(6, 2), (48, 10)]);
}

#[test]
fn the_largest_request_excludes_runs_beyond_the_limit() {
    // Holes of one page, and after them one of two pages that aren't buddies.
    for (singles, found) in [(RUNS as u64 - 1, true), (RUNS as u64, false)] {
        let mut buddy = buddy(0, 4 * (singles + 1), "");
        for first in (0..4 * singles).step_by(4) {
            buddy.adopt(PageRange::from_pages(first, 1)).unwrap();
            buddy.adopt(PageRange::from_pages(first + 2, 2)).unwrap();
        }
        buddy.adopt(PageRange::from_pages(4 * singles, 1)).unwrap();
        buddy.adopt(PageRange::from_pages(4 * singles + 3, 1)).unwrap();
        assert_eq!(buddy.largest_request(), Pages::new(if found { 2 } else { 1 }));
        assert_eq!(allocate(&mut buddy, 2, 1), found.then_some(4 * singles + 1));
    }
}

#[test]
fn in_a_region_of_few_runs_no_hole_is_passed_over() {
    let exact =
        Subject { algorithm: Algorithm::of::<Buddy>(), params: "", placing: Placing::Exact };
    every_limit_in_a_small_region_is_kept(&exact).unwrap();
}

#[test]
fn the_hole_of_a_request_is_the_whole_run_around_its_block() {
    let mut buddy = buddy(0, 64, "");
    buddy.adopt(PageRange::from_pages(0, 6)).unwrap();
    buddy.adopt(PageRange::from_pages(58, 6)).unwrap();
    // Adjacent blocks of 2, 8, 16, 16, 8 and 2 pages; the last request is served by several.
    let hole = Some(PageRange::from_pages(6, 52));
    for pages in [1, 2, 16, 40] {
        assert_eq!(buddy.fit(&request(pages, 1)), hole);
    }
    assert_eq!(buddy.fit(&request(53, 1)), None);
    assert_eq!(buddy.fit(&within(4, 1, 40, 50)), hole);
    assert_eq!(holes(&buddy), [(6, 52)]);
    buddy.check().unwrap();
}

#[test]
fn with_a_window_the_smallest_block_in_it_is_split() {
    let mut buddy = buddy(0, 64, "");
    buddy.adopt(PageRange::from_pages(18, 2)).unwrap();
    buddy.adopt(PageRange::from_pages(42, 4)).unwrap();
    // Blocks of 16, 2, 4, 8 pages below page 32; above it of 8, 2, 2 and 16.
    for (limited, place) in [
        (within(2, 1, 32, 64), 40), // not the block of 2 pages at 16
        (within(2, 1, 41, 64), 46), // the block at 40 has one page in the window
        (within(3, 1, 18, 64), 20),
        (within(3, 1, 21, 64), 21), // within a block that starts below the window
        (within(3, 2, 21, 25), 22), // and across the end of that block, at 24
        (within(4, 1, 22, 26), 22),
        (within(4, 1, 25, 31), 25),
    ] {
        let fit = buddy.fit(&limited).unwrap();
        let chunk = buddy.allocate(&limited).unwrap();
        buddy.check().unwrap();
        assert!(chunk.range.within(fit));
        assert_eq!(chunk.range.first_page(), place, "{limited:?}");
        assert_eq!(buddy.free(chunk), Ok(()));
        buddy.check().unwrap();
    }
}

#[test]
fn with_a_window_only_its_runs_count_towards_the_limit() {
    // Below the window, and then in it: holes of one page; and after them one of two pages that
    // aren't buddies. Above the window: blocks of two pages, which are looked at first.
    for (below, inside, above, found) in [
        (100, RUNS as u64 - 1, 0, true),
        (100, RUNS as u64, 0, false),
        (0, RUNS as u64 - 1, 100, true),
    ] {
        let last = 4 * (below + inside);
        let mut buddy = buddy(0, last + 4 + 4 * above, "");
        for first in (0..last).step_by(4) {
            buddy.adopt(PageRange::from_pages(first, 1)).unwrap();
            buddy.adopt(PageRange::from_pages(first + 2, 2)).unwrap();
        }
        buddy.adopt(PageRange::from_pages(last, 1)).unwrap();
        buddy.adopt(PageRange::from_pages(last + 3, 1)).unwrap();
        for n in 1..=above {
            buddy.adopt(PageRange::from_pages(last + 4 * n, 2)).unwrap();
        }
        let limited = within(2, 1, 4 * below, last + 4);
        let fit = buddy.fit(&limited);
        assert_eq!(fit, found.then_some(PageRange::from_pages(last + 1, 2)));
        assert_eq!(buddy.allocate(&limited).ok().map(|chunk| chunk.range), fit);
    }
}

#[test]
fn the_largest_order_bounds_blocks_and_not_chunks() {
    let mut buddy = buddy(0, 64, "max-order=2");
    assert_eq!(buddy.free.largest_order(), Some(2));
    assert_eq!(allocate(&mut buddy, 33, 16), Some(0));
    assert_eq!(allocate(&mut buddy, 16, 16), Some(48));
    assert_eq!(free(&mut buddy, 0, 33), Ok(()));
    assert_eq!(buddy.free.largest_order(), Some(2));
    assert_eq!(buddy.largest_request(), Pages::new(48));
}

#[test]
fn invalid_parameters_are_refused() {
    let refusal = |params| Buddy::new(PageRange::from_pages(0, 8), params).unwrap_err().to_string();
    assert!(refusal("max-order=x").contains("takes a number"));
    assert!(refusal("min-order=1").contains("max-order"));
    for order in ["53", "99", "4294967296", "18446744073709551615"] {
        let (params, found) = (format!("max-order={order}"), format!("found \"{order}\""));
        let refused = Buddy::new(PageRange::from_pages(0, 8), &params).unwrap_err().to_string();
        assert_eq!(refused, format!("parameter \"max-order\" takes 0 to 52, {found}"));
    }
    let most = buddy(0, 8, "max-order=52");
    assert_eq!(most.free.largest_order(), Some(3));
}

#[test]
fn a_region_too_large_or_outside_the_address_space_is_refused() {
    let whole = PageRange::from_pages(0, PageRange::ADDRESS_SPACE_PAGES);
    assert!(Buddy::new(whole, "").unwrap_err().to_string().contains("too large"));
    for region in
        [PageRange::from_pages(5, 0), PageRange::from_pages(PageRange::ADDRESS_SPACE_PAGES, 1)]
    {
        assert!(
            Buddy::new(region, "")
                .unwrap_err()
                .to_string()
                .contains("not in the 64-bit address space")
        );
    }
}

#[test]
fn freeing_free_or_outside_pages_returns_not_mine() {
    let mut buddy = buddy(16, 16, "");
    assert_eq!(allocate(&mut buddy, 3, 1), Some(16));
    assert_eq!(allocate(&mut buddy, 1, 1), Some(19));
    assert_eq!(free(&mut buddy, 16, 3), Ok(()));
    assert_eq!(free(&mut buddy, 16, 3), Err(NotMine));
    assert_eq!(free(&mut buddy, 15, 1), Err(NotMine));
    assert_eq!(free(&mut buddy, u64::MAX, 3), Err(NotMine));
    assert_eq!(free(&mut buddy, 16, 0), Err(NotMine));
    assert_eq!(holes(&buddy), [(16, 3), (20, 12)]);
}

/// Defect 12 of the posted series: rounding a hole's start up to a huge alignment wrapped to an
/// address outside.
#[test]
fn defect_12_rounding_up_to_a_huge_alignment_never_wraps() {
    let top = PageRange::ADDRESS_SPACE_PAGES;
    for (first, pages) in [(top - 7, 7), (top - 8, 8), (1, 8), (top / 2 + 1, 8)] {
        let mut buddy = buddy(first, pages, "");
        for log2 in [26, 50, 51] {
            assert_eq!(
                allocate(&mut buddy, 1, 1 << log2),
                None,
                "{first:#x}, alignment 2^{log2} pages"
            );
        }
    }
    assert_eq!(allocate(&mut buddy(top / 2, 8, ""), 1, 1 << 51), Some(top / 2));
    assert_eq!(allocate(&mut buddy(top / 2 - 3, 8, ""), 5, 1 << 51), Some(top / 2));
}

/// Defect 14 of the posted series: cleaning up an allocator whose region was full crashed.
#[test]
fn defect_14_a_full_allocator_can_be_dropped() {
    let mut buddy = buddy(1, 8, "");
    while allocate(&mut buddy, 1, 1).is_some() {}
    assert_eq!(buddy.largest_request(), Pages::ZERO);
    drop(buddy);
}

#[test]
fn check_finds_a_page_that_was_freed_twice() {
    let mut buddy = buddy(0, 8, "");
    allocate(&mut buddy, 4, 1);
    buddy.free.release(PageRange::from_pages(6, 1));
    assert!(buddy.check().unwrap_err().starts_with("invariant 4"));
}
