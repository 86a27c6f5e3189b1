//! Tests beyond the conformance suite: deep trees, and the defects of section 9.
//!
//! The suite's regions are small, so their trees are single blocks. Here a region has thousands of
//! holes of one size, and of sizes that share a bin, and is compared with the shadow model.

mod limits;

use super::*;
use crate::bins::WASTED_PER_SEARCH;
use cma_api::Asker;
use cma_testkit::Model;

fn alignment(pages: u64) -> Alignment {
    Alignment::new(pages << 12).unwrap()
}

fn request(pages: u64, align: u64) -> Request {
    Request::new(Pages::new(pages), alignment(align), Asker::NOBODY).unwrap()
}

fn best_fit(first_page: u64, pages: u64) -> BestFit {
    BestFit::new(PageRange::from_pages(first_page, pages), "").unwrap()
}

fn holes(allocator: &BestFit) -> Vec<PageRange> {
    let mut holes = Vec::new();
    allocator.holes(&mut |hole| holes.push(hole));
    holes
}

/// A reproducible sequence of numbers (Knuth's generator).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound
    }
}

/// An allocator with its shadow model.
struct Pair {
    allocator: BestFit,
    model: Model,
    live: Vec<Placement>,
}

impl Pair {
    fn new(first_page: u64, pages: u64) -> Self {
        let region = PageRange::from_pages(first_page, pages);
        Pair { allocator: best_fit(first_page, pages), model: Model::new(region), live: Vec::new() }
    }

    /// Fills the region with chunks of these sizes, cyclically.
    fn fill(&mut self, sizes: &[u64]) {
        for &pages in sizes.iter().cycle() {
            let request = request(pages, 1);
            let Ok(chunk) = self.allocator.allocate(&request) else { break };
            self.model.allocate(&request, chunk).unwrap();
            self.live.push(chunk);
        }
    }

    fn allocate(&mut self, request: &Request) -> bool {
        let expected = self.model.best_fit(request);
        let got = self.allocator.allocate(request).ok();
        assert_eq!(got.map(|chunk| chunk.range), expected, "{request:?}");
        if let Some(chunk) = got {
            self.model.allocate(request, chunk).unwrap();
            self.live.push(chunk);
        }
        got.is_some()
    }

    fn adopt(&mut self, first_page: u64, pages: u64) {
        let range = PageRange::from_pages(first_page, pages);
        if pages > 0 {
            let tag = self.allocator.adopt(range).unwrap();
            self.model.adopt(range, tag).unwrap();
        }
    }

    fn free(&mut self, at: usize) {
        let chunk = self.live.swap_remove(at);
        assert_eq!(self.allocator.free(chunk), Ok(()));
        assert_eq!(self.model.free(chunk.range.first_page()), Some(chunk));
    }

    fn check(&self) {
        self.allocator.check().unwrap();
        assert!(self.model.holes().eq(holes(&self.allocator)));
        assert_eq!(self.allocator.largest_request(), self.model.largest_hole());
    }
}

#[test]
fn trees_grow_and_shrink_through_all_heights() {
    let mut pair = Pair::new(5, 6_000);
    pair.fill(&[1]);
    let mut random = Random(1);
    // Every second page, in random order: thousands of holes of one size in one tree.
    pair.live.sort_unstable_by_key(|chunk| chunk.range.first_page() % 2);
    while pair.live.len() > 3_000 {
        let at = 3_000 + random.below(pair.live.len() - 3_000);
        pair.free(at);
        if pair.live.len().is_multiple_of(500) {
            pair.check();
        }
    }
    assert_eq!(holes(&pair.allocator).len(), 3_000);
    // The rest, in random order: each free merges two holes, so this tree shrinks and others grow.
    while !pair.live.is_empty() {
        pair.free(random.below(pair.live.len()));
        if pair.live.len().is_multiple_of(500) {
            pair.check();
        }
    }
    pair.check();
    assert_eq!(pair.allocator.largest_request().get(), 6_000);
}

#[test]
fn the_rule_holds_when_trees_are_deep() {
    // Sizes 1024 to 1027 share a bin, so the first hole that is large enough is in the middle of a
    // tree.
    for sizes in [&[1_024, 1_025, 1, 1_026, 1, 1_027][..], &[1, 1], &[3, 1], &[2, 3, 5, 1]] {
        let pages: u64 = sizes.iter().sum::<u64>() * 300;
        let mut pair = Pair::new(1, pages);
        pair.fill(sizes);
        let mut random = Random(pages);
        for _ in 0..pair.live.len() / 2 {
            pair.free(random.below(pair.live.len()));
        }
        pair.check();
        for step in 0..2_000 {
            if random.below(2) == 0 && !pair.live.is_empty() {
                pair.free(random.below(pair.live.len()));
            } else {
                let wanted = sizes[random.below(sizes.len())];
                let align = if random.below(2) == 0 { 1 } else { 1 << random.below(9) };
                pair.allocate(&request(wanted, align));
            }
            if step % 400 == 0 {
                pair.check();
            }
        }
        pair.check();
    }
}

#[test]
fn an_aligned_search_skips_thousands_of_holes_that_fail_the_alignment() {
    let mut pair = Pair::new(0, 8_000);
    pair.fill(&[1]);
    // Holes of 3 pages at 1 mod 4, where an alignment of 4 leaves none, and one at 2 mod 4, where
    // it leaves one.
    pair.live.sort_unstable_by_key(|chunk| chunk.range.first_page());
    let is_freed =
        |page: u64| if page / 4 == 1_777 { page % 4 != 1 } else { !page.is_multiple_of(4) };
    for at in (0..pair.live.len()).rev() {
        if is_freed(pair.live[at].range.first_page()) {
            pair.free(at);
        }
    }
    pair.check();
    assert!(pair.allocate(&request(1, 4)));
    assert_eq!(pair.live.last().unwrap().range.first_page(), 4 * 1_777);
    assert!(!pair.allocate(&request(1, 4)));
    // The reaches of the alignment are updated by every change.
    let mut random = Random(3);
    for _ in 0..500 {
        pair.free(random.below(pair.live.len()));
        pair.allocate(&request(1 + random.below(3) as u64, 2 << random.below(3)));
    }
    pair.check();
}

/// Pages and alignments in pages.
type Requests = &'static [(u64, u64)];

/// Thousands of holes, of many sizes and in many bins, are large enough but have no aligned place.
/// Without bounds of bins each request would look into all of these bins.
#[test]
fn an_aligned_search_looks_into_few_bins_however_many_have_no_place() {
    let cases: [(&[u64], Requests); 4] = [
        (&[3], &[(2, 4), (3, 4), (1, 4), (2, 8)]),
        (&[1], &[(1, 2), (1, 512)]),
        (&[1, 2, 3, 7, 15, 31], &[(1, 32), (5, 32), (20, 64)]),
        (&[62, 60, 33], &[(2, 64), (33, 64), (1, 128)]),
    ];
    for (holes, requests) in cases {
        let grid = requests.iter().map(|(_, alignment)| *alignment).min().unwrap();
        let mut pair = Pair::new(0x4_0000, (1 << 16) + 2048);
        for (first, hole) in (0x4_0000..0x5_0000).step_by(grid as usize).zip(holes.iter().cycle()) {
            // The page on the grid and the pages from the hole's end to the next page on the grid
            // are in use.
            pair.adopt(first, 1);
            pair.adopt(first + 1 + hole, grid - 1 - hole);
        }
        pair.check();
        let mut total = 0;
        for round in 0..40 {
            for &(pages, alignment) in requests {
                let before = pair.allocator.bins.looks;
                assert!(pair.allocate(&request(pages, alignment)));
                // The first rounds make the allocator keep bounds of bins.
                if round >= 20 {
                    total += pair.allocator.bins.looks - before;
                }
                pair.free(pair.live.len() - 1);
            }
        }
        pair.check();
        let average = total / (20 * requests.len() as u64);
        assert!(
            average <= u64::from(WASTED_PER_SEARCH),
            "holes of {holes:?}: {average} bins for each request"
        );
    }
}

#[test]
fn adopting_finds_the_hole_anywhere_in_the_region() {
    let mut pair = Pair::new(9, 10_000);
    let mut order: Vec<u64> = (0..2_000).collect();
    let mut random = Random(4);
    for at in (1..order.len()).rev() {
        order.swap(at, random.below(at + 1));
    }
    for n in order {
        let range = PageRange::from_pages(9 + 5 * n, 1 + n % 5);
        let tag = pair.allocator.adopt(range).unwrap();
        pair.model.adopt(range, tag).unwrap();
        pair.live.push(Placement { range, tag });
        assert!(pair.allocator.adopt(range).is_err());
    }
    pair.check();
    while !pair.live.is_empty() {
        pair.free(random.below(pair.live.len()));
    }
    pair.check();
}

#[test]
fn only_live_chunks_are_freed() {
    let mut allocator = best_fit(16, 64);
    let chunk = allocator.allocate(&request(4, 1)).unwrap();
    let other = allocator.allocate(&request(4, 1)).unwrap();
    let before = holes(&allocator);
    let [shorter, moved] =
        [(16, 3), (17, 4)].map(|(first, pages)| PageRange::from_pages(first, pages));
    for wrong in [
        Placement { tag: other.tag, ..chunk },
        Placement { tag: Tag(u64::MAX), ..chunk },
        Placement { tag: Tag(1 << 32 | chunk.tag.0), ..chunk },
        Placement { range: shorter, ..chunk },
        Placement { range: moved, ..chunk },
        Placement { range: PageRange::from_pages(16 + 64, 0), tag: Tag(0) },
    ] {
        assert_eq!(allocator.free(wrong), Err(NotMine), "{wrong:?}");
    }
    assert_eq!(holes(&allocator), before);
    assert_eq!(allocator.free(chunk), Ok(()));
    assert_eq!(allocator.free(chunk), Err(NotMine));
    assert_eq!(allocator.free(other), Ok(()));
    assert_eq!(allocator.free(other), Err(NotMine));
    allocator.check().unwrap();
}

#[test]
fn a_region_of_31_bits_of_pages_is_served_and_a_larger_one_refused() {
    let mut allocator = best_fit(3, u64::from(u32::MAX >> 1));
    let low = allocator.allocate(&request(1 << 30, 1)).unwrap();
    let high = allocator.allocate(&request((1 << 30) - 1, 1)).unwrap();
    assert_eq!(allocator.allocate(&request(1, 1)), Err(NoRoom));
    assert_eq!(high.range.end_page(), 3 + u64::from(u32::MAX >> 1));
    assert_eq!((allocator.free(low), allocator.free(high)), (Ok(()), Ok(())));
    allocator.check().unwrap();
    for pages in [0, 1 << 31, 1 << 32] {
        let reason = BestFit::new(PageRange::from_pages(0, pages), "").unwrap_err().to_string();
        assert!(reason.contains("8 TiB"), "{reason}");
    }
}

#[test]
fn repeated_use_does_not_grow_the_books() {
    let mut allocator = best_fit(0, 4_096);
    let sizes = |allocator: &BestFit| (allocator.nodes.len(), allocator.bins.blocks());
    let mut peak = None;
    for _ in 0..3 {
        let chunks: Vec<_> =
            (0..4_096).map(|_| allocator.allocate(&request(1, 1)).unwrap()).collect();
        for parity in [0, 1] {
            for chunk in chunks.iter().filter(|chunk| chunk.range.first_page() % 2 == parity) {
                allocator.free(*chunk).unwrap();
            }
        }
        assert_eq!(
            *peak.get_or_insert(sizes(&allocator)),
            sizes(&allocator),
            "nodes or blocks are lost"
        );
    }
}

#[test]
fn defect_3_the_first_big_enough_hole_may_fail_the_alignment() {
    let mut allocator = best_fit(0, 64);
    let chunks: Vec<_> =
        [1, 4, 3, 8, 48].map(|pages| allocator.allocate(&request(pages, 1)).unwrap()).to_vec();
    allocator.free(chunks[1]).unwrap();
    allocator.free(chunks[3]).unwrap();
    // 4 pages at page 1 and 8 at page 8: only the second hole has 4 pages at a multiple of 4.
    assert_eq!(allocator.allocate(&request(4, 4)).unwrap().range, PageRange::from_pages(8, 4));
    assert_eq!(allocator.allocate(&request(4, 8)), Err(NoRoom));
    allocator.check().unwrap();
}

#[test]
fn defect_12_rounding_up_to_a_huge_alignment_never_wraps() {
    let top = PageRange::ADDRESS_SPACE_PAGES;
    for first_page in [top - 64, top - 65, top / 2 + 1, 1] {
        let mut allocator = best_fit(first_page, 64);
        assert_eq!(
            allocator.allocate(&request(1, 1 << 51)),
            Err(NoRoom),
            "from page {first_page:#x}"
        );
    }
    let mut allocator = best_fit(top / 2 - 1, 64);
    assert_eq!(
        allocator.allocate(&request(1, 1 << 51)).unwrap().range,
        PageRange::from_pages(top / 2, 1)
    );
}

#[test]
fn defect_14_a_full_allocator_can_be_dropped() {
    let mut allocator = best_fit(0, 1_000);
    while allocator.allocate(&request(1, 1)).is_ok() {}
    assert_eq!(allocator.largest_request(), Pages::ZERO);
    allocator.check().unwrap();
    drop(allocator);
}
