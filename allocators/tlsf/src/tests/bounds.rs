//! The documented bounds: no operation takes more accesses to nodes, for any number and arrangement
//! of chunks and holes, and each bound is reached.

use super::{request, tlsf, with_holes};
use crate::{ADOPT, ALLOCATE, ALLOCATE_ALIGNED, ALLOCATE_LIMITED, FREE, LOOKS, Tlsf};
use cma_api::{Allocator, Boundary, PageRange, Placement, Request};

/// The most accesses observed.
#[derive(Debug, Default, PartialEq, Eq)]
struct MaxAccesses {
    allocate: u64,
    allocate_aligned: u64,
    free: u64,
    largest_request: u64,
}

const STATED: MaxAccesses = MaxAccesses {
    allocate: ALLOCATE,
    allocate_aligned: ALLOCATE_ALIGNED,
    free: FREE,
    largest_request: 1,
};

/// Runs `operation` and raises `most` to the number of its accesses.
fn counted<T>(tlsf: &mut Tlsf, most: &mut u64, operation: impl FnOnce(&mut Tlsf) -> T) -> T {
    tlsf.nodes.accesses.set(0);
    let result = operation(tlsf);
    *most = tlsf.nodes.accesses.get().max(*most);
    result
}

impl MaxAccesses {
    fn allocate(&mut self, tlsf: &mut Tlsf, pages: u64, alignment: u64) -> Option<Placement> {
        let most = if alignment == 1 { &mut self.allocate } else { &mut self.allocate_aligned };
        counted(tlsf, most, |tlsf| tlsf.allocate(&request(pages, alignment))).ok()
    }

    fn free(&mut self, tlsf: &mut Tlsf, chunk: Placement) {
        counted(tlsf, &mut self.free, |tlsf| tlsf.free(chunk)).unwrap();
    }

    fn largest_request(&mut self, tlsf: &mut Tlsf) {
        counted(tlsf, &mut self.largest_request, |tlsf| tlsf.largest_request());
    }

    /// Requests of many sizes and alignments, each freed again.
    fn probe(&mut self, tlsf: &mut Tlsf) {
        for log2 in 0..16 {
            for pages in [1, 2, 3, (1 << log2) - 1, 1 << log2, (1 << log2) + 1, (1 << log2) * 3 / 2]
            {
                if pages > 0
                    && let Some(chunk) = self.allocate(tlsf, pages, 1 << log2)
                {
                    self.free(tlsf, chunk);
                }
                if pages > 0
                    && let Some(chunk) = self.allocate(tlsf, pages, 1)
                {
                    self.free(tlsf, chunk);
                }
            }
        }
        for limited in limited_requests(tlsf.region) {
            let mut accesses = 0;
            let chunk = counted(tlsf, &mut accesses, |tlsf| tlsf.allocate(&limited)).ok();
            assert!(accesses <= ALLOCATE_LIMITED, "{accesses} for {limited:?}");
            chunk.into_iter().for_each(|chunk| self.free(tlsf, chunk));
        }
        self.largest_request(tlsf);
        tlsf.check().unwrap();
    }

    fn is_within(&self, stated: &MaxAccesses) -> bool {
        self.allocate <= stated.allocate
            && self.allocate_aligned <= stated.allocate_aligned
            && self.free <= stated.free
            && self.largest_request <= stated.largest_request
    }
}

/// Reproducible pseudo-random numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for n in (1..items.len()).rev() {
            #[allow(clippy::cast_possible_truncation, reason = "an index")]
            items.swap(n, self.below(n as u64 + 1) as usize);
        }
    }
}

#[test]
fn a_long_random_run_reaches_the_stated_bounds_and_does_not_pass_them() {
    let (mut tlsf, mut random, mut most) =
        (tlsf(5, 1 << 15, ""), Random(1), MaxAccesses::default());
    let mut live = Vec::new();
    for step in 0..300_000 {
        // Waves, so that the region is sometimes nearly full and sometimes nearly empty.
        let filling = random.below(100) < if step / 3000 % 2 == 0 { 60 } else { 40 };
        if filling || live.is_empty() {
            let (size, alignment) = (random.below(9), random.below(20));
            let pages = 1 + random.below(1 << size);
            let alignment = if alignment < 10 { 1 << alignment } else { 1 };
            live.extend(most.allocate(&mut tlsf, pages, alignment));
        } else {
            #[allow(clippy::cast_possible_truncation, reason = "an index")]
            let chunk = live.swap_remove(random.below(live.len() as u64) as usize);
            most.free(&mut tlsf, chunk);
        }
        most.largest_request(&mut tlsf);
    }
    tlsf.check().unwrap();
    assert_eq!(most, STATED);
}

/// Arrangements constructed to defeat a search: each has `holes` holes, of which none, or only the
/// last one tried, serves.
#[test]
fn no_arrangement_of_holes_makes_an_operation_take_longer() {
    for holes in [10, 100, 10_000] {
        let comb = |first: u64, pages: u64, step: u64| -> Vec<(u64, u64)> {
            (0..holes).map(|n| (first + n * step, pages)).collect()
        };
        let mut one_class = comb(1, 1024, 1050);
        one_class.iter_mut().zip(0..).for_each(|(hole, n)| hole.1 += n % 16);
        let mut shuffled = one_class.clone();
        Random(holes).shuffle(&mut shuffled);
        for state in [comb(1, 1, 2), comb(1, 127, 128), comb(3, 64, 96), one_class, shuffled] {
            let mut most = MaxAccesses::default();
            let mut tlsf = with_holes((0, holes * 1050 + 64), &state, "");
            most.probe(&mut tlsf);
            assert!(most.is_within(&STATED), "{most:?} with {holes} holes");
        }
    }
}

/// Requests of a few sizes for parts of `region`, with and without a boundary.
fn limited_requests(region: PageRange) -> Vec<Request> {
    let mut requests = Vec::new();
    for (pages, alignment) in [(1, 1), (60, 16), (127, 1), (1024, 1)] {
        for part in [1, 3, 64] {
            let pages_of_part = region.pages().get() / part;
            let first = region.first_page() + (part - 1) / 2 * pages_of_part;
            let window = PageRange::from_pages(first, pages_of_part);
            for boundary in [Boundary::NONE, Boundary::new(1024 << 12).unwrap()] {
                requests.extend(request(pages, alignment).limited(window, boundary));
            }
        }
    }
    requests
}

#[test]
fn a_request_with_limits_reaches_the_stated_bound() {
    // Enough small holes to end the search from the lowest class up, and large ones so that the
    // hole with the window, in the middle of its list, is the last of the search from the highest
    // class down. Its rests go to classes with holes.
    let looks = LOOKS as u64;
    let of = |count: u64, first: u64, pages: u64| (0..count).map(move |n| (first + n * 50, pages));
    let mut holes: Vec<(u64, u64)> = of(looks, 10, 8).collect();
    holes.extend(of(looks - 2, 10_000, 40));
    holes.extend([(20_000, 20), (20_050, 20), (20_100, 20), (20_150, 6)]);
    let mut tlsf = with_holes((0, 30_000), &holes, "");
    // Two vacant nodes, which take an access more than new ones.
    for _ in 0..2 {
        let chunks: Vec<_> = (0..3).map(|_| tlsf.allocate(&request(1, 1)).unwrap()).collect();
        chunks.into_iter().for_each(|chunk| tlsf.free(chunk).unwrap());
    }
    let window = PageRange::from_pages(20_056, 8);
    let limited = request(8, 1).limited(window, Boundary::NONE).unwrap();
    let mut most = 0;
    let fit = counted(&mut tlsf, &mut most, |tlsf| tlsf.fit(&limited));
    assert_eq!((fit, most), (Some(PageRange::from_pages(20_050, 20)), 2 * looks));
    let chunk = counted(&mut tlsf, &mut most, |tlsf| tlsf.allocate(&limited)).unwrap();
    assert_eq!((chunk.range, most), (window, ALLOCATE_LIMITED));
    tlsf.check().unwrap();
}

#[test]
fn chunks_are_adopted_in_ascending_order_in_constant_steps() {
    let mut most = 0;
    let mut tlsf = tlsf(0, 49_999, "");
    // The second time with reused nodes.
    for _ in 0..2 {
        let ranges = (0..10_000).map(|n| PageRange::from_pages(n * 5 + n % 3, 1 + n % 2));
        let adopt = |range| Placement {
            range,
            tag: counted(&mut tlsf, &mut most, |tlsf| tlsf.adopt(range)).unwrap(),
        };
        let chunks: Vec<Placement> = ranges.map(adopt).collect();
        tlsf.check().unwrap();
        chunks.into_iter().for_each(|chunk| tlsf.free(chunk).unwrap());
    }
    assert_eq!(most, ADOPT);
}
