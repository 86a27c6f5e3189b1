//! Tests beyond the conformance suite: the places of chunks, the limit on chunks, the bounds on
//! operations, and errors that `check` finds.

mod bounds;

use super::{Class, DEFAULT_CHUNKS, LOOKS, Node, Tlsf};
use cma_api::{
    Alignment, Allocator, Asker, Boundary, NoRoom, NotMine, PageRange, Pages, Placement, Request,
    Tag,
};

fn tlsf(first: u64, pages: u64, params: &str) -> Tlsf {
    Tlsf::new(PageRange::from_pages(first, pages), params).unwrap()
}

fn request(pages: u64, alignment_in_pages: u64) -> Request {
    let alignment = Alignment::new(alignment_in_pages << 12).unwrap();
    Request::new(Pages::new(pages), alignment, Asker::NOBODY).unwrap()
}

/// Allocates, verifies the invariants, and returns the chunk's first page.
fn allocate(tlsf: &mut Tlsf, pages: u64, alignment_in_pages: u64) -> Option<u64> {
    let placement = tlsf.allocate(&request(pages, alignment_in_pages));
    tlsf.check().unwrap();
    placement.ok().map(|placement| placement.range.first_page())
}

/// A region whose pages are all in use except `holes`, which are freed in the given order: the last
/// one is the first of its class.
fn with_holes(region: (u64, u64), holes: &[(u64, u64)], params: &str) -> Tlsf {
    let mut tlsf = tlsf(region.0, region.1, params);
    let mut ranges: Vec<PageRange> =
        holes.iter().map(|&(first, n)| PageRange::from_pages(first, n)).collect();
    ranges.sort();
    let mut end = region.0;
    for hole in ranges.iter().copied().chain([PageRange::from_pages(region.0 + region.1, 0)]) {
        let rest = PageRange::from_pages(end, hole.first_page() - end);
        if rest.pages() > Pages::ZERO {
            tlsf.adopt(rest).unwrap();
        }
        end = hole.end_page();
    }
    let tags: Vec<Tag> = holes
        .iter()
        .map(|&(first, n)| tlsf.adopt(PageRange::from_pages(first, n)).unwrap())
        .collect();
    for (&(first, pages), tag) in holes.iter().zip(tags) {
        tlsf.free(Placement { range: PageRange::from_pages(first, pages), tag }).unwrap();
    }
    tlsf.check().unwrap();
    tlsf
}

fn holes(tlsf: &Tlsf) -> Vec<(u64, u64)> {
    let mut holes = Vec::new();
    tlsf.holes(&mut |hole| holes.push((hole.first_page(), hole.pages().get())));
    holes
}

#[test]
fn a_whole_region_is_an_exact_fit_at_any_size() {
    for (first, pages) in [(0, 1001), (3, 9217), (1 << 20, (1 << 31) - 1)] {
        let mut tlsf = tlsf(first, pages, "chunks=2");
        assert_eq!(tlsf.largest_request(), Pages::new(pages));
        assert_eq!(allocate(&mut tlsf, pages, 1), Some(first));
        assert_eq!(allocate(&mut tlsf, 1, 1), None);
    }
    let mut aligned = tlsf(0x4_0000, 9217, "");
    assert_eq!(allocate(&mut aligned, 9217, 32), Some(0x4_0000));
}

#[test]
fn the_smallest_class_that_holds_the_request_is_used() {
    let mut tlsf = with_holes((0, 1000), &[(10, 100), (200, 30), (300, 50)], "");
    assert_eq!(allocate(&mut tlsf, 30, 1), Some(200));
    assert_eq!(allocate(&mut tlsf, 30, 1), Some(300));
    assert_eq!(allocate(&mut tlsf, 30, 1), Some(10));
    assert_eq!(holes(&tlsf), [(40, 70), (330, 20)]);
}

#[test]
fn the_largest_request_is_the_first_hole_of_the_highest_class() {
    // 1024 to 1039 pages are one class.
    let region = (0, 4000);
    let mut first = with_holes(region, &[(1, 1030), (2000, 1035)], "");
    assert_eq!(first.largest_request(), Pages::new(1035));
    assert_eq!(allocate(&mut first, 1035, 1), Some(2000));
    let mut second = with_holes(region, &[(2000, 1035), (1, 1030)], "");
    assert_eq!(second.largest_request(), Pages::new(1030));
    assert_eq!(allocate(&mut second, 1031, 1), None);
    assert_eq!(allocate(&mut second, 1030, 1), Some(1));
}

#[test]
fn an_aligned_hole_of_the_exact_size_is_used() {
    let mut tlsf = with_holes((0, 4000), &[(1024, 765), (2001, 1000)], "");
    assert_eq!(allocate(&mut tlsf, 765, 1024), Some(1024));
}

#[test]
fn an_aligned_request_uses_the_first_hole_of_a_sure_class() {
    let mut tlsf = with_holes((0, 4000), &[(1, 16), (101, 23)], "");
    assert_eq!(allocate(&mut tlsf, 16, 8), Some(104));
}

#[test]
fn without_a_sure_class_the_first_hole_of_the_highest_class_is_tried() {
    // The hole of 16 pages is misaligned, no hole has 16 + 31 pages, and the hole of 40 pages holds
    // the chunk by chance.
    let mut tlsf = with_holes((0, 4000), &[(1, 16), (63, 40)], "");
    assert_eq!(allocate(&mut tlsf, 16, 32), Some(64));
}

#[test]
fn a_chunk_goes_to_the_lowest_aligned_place_or_to_the_end_if_that_saves_a_hole() {
    for (hole, pages, alignment, place) in [
        ((1, 10), 2, 4, 4),  // a gap of 3, the chunk, 5 after it
        ((4, 12), 2, 4, 4),  // no gap before it
        ((4, 12), 4, 4, 4),  // nor here, so the end saves no hole
        ((1, 13), 2, 4, 12), // 8 pages after the lowest place are two steps of 4
    ] {
        let mut tlsf = with_holes((0, 20), &[hole], "");
        assert_eq!(allocate(&mut tlsf, pages, alignment), Some(place), "{pages} pages in {hole:?}");
    }
    assert_eq!(allocate(&mut tlsf(3, 8, ""), 2, 4), Some(4), "alignment is of the address");
}

/// Every state of a region of 7 pages around a multiple of 8, with every request with limits.
#[test]
fn a_request_with_limits_is_served_if_any_of_a_few_holes_holds_it() {
    let boundaries = [1, 2, 4, 8].map(|pages| Boundary::new(pages << 12).unwrap());
    for taken in 0..1 << 7 {
        let mut tlsf = tlsf(5, 7, "");
        for page in (0..7).filter(|page| taken >> page & 1 != 0) {
            tlsf.adopt(PageRange::from_pages(5 + page, 1)).unwrap();
        }
        let holes = holes(&tlsf);
        for (pages, alignment) in (1..=7).flat_map(|n| [1, 2, 4, 8].map(|alignment| (n, alignment)))
        {
            let windows = (4..12).flat_map(|from| (from + 1..14).map(move |to| (from, to)));
            for (from, to) in windows {
                for boundary in boundaries.into_iter().chain([Boundary::NONE]) {
                    let window = PageRange::from_pages(from, to - from);
                    let Some(limited) = request(pages, alignment).limited(window, boundary) else {
                        continue;
                    };
                    let holds = |&(first, pages): &(u64, u64)| {
                        limited.lowest_place(PageRange::from_pages(first, pages)).is_some()
                    };
                    let fit = tlsf.fit(&limited);
                    assert_eq!(fit.is_some(), holes.iter().any(holds), "{limited:?} in {holes:?}");
                    let chunk = tlsf.allocate(&limited).ok();
                    assert_eq!(chunk.is_some(), fit.is_some(), "{limited:?} in {holes:?}");
                    if let (Some(hole), Some(chunk)) = (fit, chunk) {
                        assert!(holes.contains(&(hole.first_page(), hole.pages().get())));
                        assert!(chunk.range.within(hole) && limited.accepts(chunk.range));
                        tlsf.free(chunk).unwrap();
                    }
                }
            }
        }
        tlsf.check().unwrap();
    }
}

#[test]
fn the_holes_of_a_class_and_above_are_listed_in_both_directions() {
    let sizes = [1, 5, 63, 64, 100, 127, 128, 300, 1000, 9000];
    let holes: Vec<_> = sizes.iter().zip(0..).map(|(&pages, n)| (1 + 10_000 * n, pages)).collect();
    let tlsf = with_holes((0, 100_000), &holes, "");
    for (n, &lowest) in sizes.iter().enumerate() {
        let class = Class::of(u32::try_from(lowest).unwrap());
        let pages = |(_, hole): (u32, Node)| u64::from(hole.pages);
        let ascending = tlsf.classes.ascending(class, &tlsf.nodes).map(pages);
        assert!(ascending.eq(sizes[n..].iter().copied()), "from {lowest} pages");
        let descending = tlsf.classes.descending(class, &tlsf.nodes).map(pages);
        assert!(descending.eq(sizes[n..].iter().rev().copied()), "down to {lowest} pages");
    }
}

#[test]
fn with_limits_holes_of_the_lowest_class_come_first_and_then_those_of_the_highest() {
    let region = (0, 100_000);
    let small = |count: usize| (0..count as u64).map(|n| (10 + 20 * n, 9));
    let in_window = [(50_000, 9), (60_000, 90), (70_000, 500)];
    let window = PageRange::from_pages(50_000, 50_000);
    let limited = request(9, 1).limited(window, Boundary::NONE).unwrap();
    // The holes freed last are the first of their class.
    for (others, first_page) in [(LOOKS - 1, 50_000), (LOOKS, 70_000)] {
        let holes: Vec<_> = in_window.into_iter().chain(small(others)).collect();
        let mut tlsf = with_holes(region, &holes, "");
        assert_eq!(tlsf.allocate(&limited).unwrap().range.first_page(), first_page);
    }
}

#[test]
fn with_limits_a_hole_is_passed_over_only_if_more_holes_may_hold_the_request_than_are_looked_at() {
    let window = PageRange::from_pages(50_000, 9);
    let limited = request(9, 1).limited(window, Boundary::NONE).unwrap();
    // One class: both searches begin with its hole freed last, and the one in the window is the
    // last of its list.
    for (others, served) in [(LOOKS - 1, true), (LOOKS, false)] {
        let others = (0..others as u64).map(|n| (10 + 20 * n, 9));
        let holes: Vec<_> = [(50_000, 9)].into_iter().chain(others).collect();
        let mut tlsf = with_holes((0, 100_000), &holes, "");
        assert_eq!(tlsf.fit(&limited), served.then_some(window));
        assert_eq!(tlsf.allocate(&limited).is_ok(), served);
    }
}

#[test]
fn with_limits_a_chunk_goes_to_the_lowest_place_or_to_the_end_if_that_saves_a_hole() {
    let none = Boundary::NONE;
    let four = Boundary::new(4 << 12).unwrap();
    for (window, boundary, pages, place) in [
        ((0, 19), four, 3, 12),   // the lowest place from page 10 crosses page 12
        ((0, 17), none, 2, 10),   // no gap
        ((13, 100), none, 2, 18), // a gap before page 13, and 18 to 20 ends the hole
        ((13, 19), none, 2, 13),  // the end of the hole is outside
        ((13, 100), four, 3, 17), // pages 17 to 20 cross no multiple of 4
    ] {
        let mut tlsf = with_holes((0, 40), &[(10, 10)], "");
        let window = PageRange::from_pages(window.0, window.1 - window.0);
        let limited = request(pages, 1).limited(window, boundary).unwrap();
        let chunk = tlsf.allocate(&limited).unwrap();
        assert_eq!(chunk.range.first_page(), place, "{limited:?}");
        tlsf.check().unwrap();
    }
}

#[test]
fn the_parameter_limits_the_live_chunks() {
    let mut tlsf = tlsf(0, 100, "chunks=3");
    let chunks: Vec<Placement> = (0..3).map(|_| tlsf.allocate(&request(2, 1)).unwrap()).collect();
    assert_eq!(tlsf.largest_request(), Pages::ZERO);
    assert_eq!(tlsf.allocate(&request(1, 1)), Err(NoRoom));
    assert_eq!(tlsf.fit(&request(1, 1)), None);
    let refused = tlsf.adopt(PageRange::from_pages(50, 1)).unwrap_err().to_string();
    assert!(refused.contains('3'), "{refused}");
    assert_eq!(holes(&tlsf), [(6, 94)]);
    tlsf.free(chunks[1]).unwrap();
    assert_eq!(tlsf.largest_request(), Pages::new(94));
    assert_eq!(allocate(&mut tlsf, 94, 1), Some(6));
}

#[test]
fn the_limit_is_reached_with_any_arrangement_of_chunks() {
    const CHUNKS: u64 = 500;
    // A hole before each, and one after the last: the most nodes possible.
    let mut tlsf = tlsf(7, 3 * CHUNKS, &format!("chunks={CHUNKS}"));
    for n in 0..CHUNKS {
        tlsf.adopt(PageRange::from_pages(8 + 2 * n, 1)).unwrap();
    }
    tlsf.check().unwrap();
    assert_eq!(tlsf.nodes.used() as u64, 2 * CHUNKS + 1);
}

#[test]
fn without_the_parameter_every_page_may_be_a_chunk_up_to_the_default() {
    let mut small = tlsf(0, 77, "");
    for page in 0..77 {
        assert_eq!(allocate(&mut small, 1, 1), Some(page));
    }
    let large = tlsf(0, 4 * DEFAULT_CHUNKS, "");
    assert_eq!(u64::from(large.most), DEFAULT_CHUNKS);
}

#[test]
fn invalid_parameters_are_refused() {
    let refusal = |params| Tlsf::new(PageRange::from_pages(0, 8), params).unwrap_err().to_string();
    assert!(refusal("chunks").contains("takes a number"));
    assert!(refusal("chunks=0").contains("from 1 up"));
    assert!(refusal("chunk=1").contains("chunks"));
    assert_eq!(tlsf(0, 8, "chunks=18446744073709551615").most, 8);
}

#[test]
fn a_region_of_2_to_the_31_pages_or_more_or_none_is_refused() {
    for pages in [0, 1 << 31, 1 << 32, (1 << 32) + 1, PageRange::ADDRESS_SPACE_PAGES] {
        let refused = Tlsf::new(PageRange::from_pages(0, pages), "").unwrap_err().to_string();
        assert!(refused.contains("8 TiB"), "{refused}");
    }
}

#[test]
fn only_live_chunks_are_freed() {
    let mut tlsf = tlsf(16, 16, "");
    let chunk = tlsf.allocate(&request(3, 1)).unwrap();
    let kept = tlsf.allocate(&request(1, 1)).unwrap();
    let with_tag = |tag| Placement { tag: Tag(tag), ..chunk };
    for tag in [0, kept.tag.0, 3, 100, 1 << 32 | chunk.tag.0, u64::MAX] {
        assert_eq!(tlsf.free(with_tag(tag)), Err(NotMine), "tag {tag}");
    }
    let shorter = Placement { range: PageRange::from_pages(16, 2), ..chunk };
    assert_eq!(tlsf.free(shorter), Err(NotMine));
    assert_eq!(tlsf.free(chunk), Ok(()));
    assert_eq!(tlsf.free(chunk), Err(NotMine));
    tlsf.check().unwrap();
    assert_eq!(holes(&tlsf), [(16, 3), (20, 12)]);
}

#[test]
fn adopting_finds_its_hole_after_the_chunk_adopted_last_was_freed() {
    let mut tlsf = tlsf(0, 100, "");
    let adopt = |tlsf: &mut Tlsf, first| {
        let range = PageRange::from_pages(first, 10);
        Placement { range, tag: tlsf.adopt(range).unwrap() }
    };
    adopt(&mut tlsf, 80);
    let middle = adopt(&mut tlsf, 40);
    tlsf.free(middle).unwrap();
    for first in [10, 60, 0, 90] {
        adopt(&mut tlsf, first);
        tlsf.check().unwrap();
    }
    assert_eq!(holes(&tlsf), [(20, 40), (70, 10)]);
}

/// Defect 12 of the posted series: rounding a hole's start up to a huge alignment wrapped to an
/// address outside.
#[test]
fn defect_12_rounding_up_to_a_huge_alignment_never_wraps() {
    let top = PageRange::ADDRESS_SPACE_PAGES;
    for (first, pages) in [(top - 7, 7), (top - 8, 8), (1, 8), (top / 2 + 1, 8)] {
        for log2 in [26, 50, 51] {
            assert_eq!(
                allocate(&mut tlsf(first, pages, ""), 1, 1 << log2),
                None,
                "2^{log2} from {first:#x}"
            );
        }
    }
    assert_eq!(allocate(&mut tlsf(top / 2 - 3, 8, ""), 5, 1 << 51), Some(top / 2));
}

#[test]
fn check_names_the_broken_invariant() {
    let broken = |corrupt: fn(&mut Tlsf)| {
        let mut tlsf = with_holes((0, 100), &[(1, 4), (10, 4), (20, 4)], "");
        // Leaves a vacant node.
        let chunk = tlsf.allocate(&request(1, 1)).unwrap();
        tlsf.free(chunk).unwrap();
        corrupt(&mut tlsf);
        tlsf.check().unwrap_err()[.."invariant 1".len()].to_string()
    };
    // The node of the hole at page 10 and that of the chunk above it.
    fn at_page_10(tlsf: &Tlsf) -> (u32, u32) {
        let (index, node) = tlsf.nodes.iter().find(|(_, node)| node.start == 10).unwrap();
        (index, node.above)
    }
    assert_eq!(broken(|t| t.nodes.get_mut(at_page_10(t).0).pages += 1), "invariant 1");
    assert_eq!(broken(|t| t.nodes.get_mut(at_page_10(t).0).below = 0), "invariant 1");
    assert_eq!(broken(|t| t.nodes.clear_taken(at_page_10(t).1)), "invariant 2");
    assert_eq!(broken(|t| t.nodes.remove(u32::try_from(t.nodes.used()).unwrap())), "invariant 1");
    assert_eq!(broken(|t| t.nodes.lose_vacant()), "invariant 3");
    assert_eq!(broken(|t| t.nodes.get_mut(at_page_10(t).0).prev = 0), "invariant 4");
    assert_eq!(broken(|t| t.classes.remove(at_page_10(t).0, 4, &mut t.nodes)), "invariant 4");
    assert_eq!(broken(|t| t.classes.set_bit_of(50)), "invariant 5");
    assert_eq!(broken(|t| t.live -= 1), "invariant 6");
    assert_eq!(broken(|t| t.most = 2), "invariant 6");
}
