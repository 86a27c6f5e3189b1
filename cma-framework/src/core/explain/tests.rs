//! The least chunks in the way of a request, against a search through all sets of chunks and all
//! places.

use super::*;
use cma_api::{Alignment, Asker, Boundary, PAGE_SIZE};
use proptest::prelude::*;

/// The most chunks: every set of them is tried.
const MOST_CHUNKS: usize = 8;

fn request(pages: u64, log2_alignment: u32, limits: Option<(PageRange, u64)>) -> Option<Request> {
    let alignment = Alignment::new(PAGE_SIZE << log2_alignment)?;
    let request = Request::new(Pages::new(pages), alignment, Asker(1))?;
    match limits {
        None => Some(request),
        Some((window, boundary)) => request.limited(window, Boundary::new(boundary * PAGE_SIZE)?),
    }
}

/// The number of owners.
const OWNERS: usize = 4;

/// Alternating gaps and chunks from `first` on: the length of each, the owner of each chunk, and
/// whether it is fixed.
fn layout(first: u64, parts: &[(u64, u64, usize, bool)], tail: u64) -> (PageRange, Vec<InUse>) {
    let (mut at, mut in_use) = (first, Vec::new());
    for (gap, pages, owner, fixed) in parts {
        at += gap;
        // As in a region, what is fixed has an owner of its own.
        let owner = if *fixed { OWNERS } else { *owner };
        in_use.push(InUse { range: PageRange::from_pages(at, *pages), owner, fixed: *fixed });
        at += pages;
    }
    (PageRange::from_pages(first, (at + tail - first).max(1)), in_use)
}

/// Whether some place is accepted that overlaps none of the chunks that stay.
fn admits(region: PageRange, request: &Request, in_use: &[InUse], leaving: u32) -> bool {
    let stays = |(n, _): &(usize, &InUse)| leaving >> n & 1 == 0;
    let staying: Vec<_> = in_use.iter().enumerate().filter(stays).map(|(_, c)| c.range).collect();
    let mut places = (region.first_page()..region.end_page())
        .map(|first| PageRange::from_pages(first, request.pages().get()))
        .filter(|place| place.within(region) && request.accepts(*place));
    places.any(|place| staying.iter().all(|range| !range.overlaps(place)))
}

/// The least sets as (pages, number) and (number, pages).
type Least = ((u64, usize), (usize, u64));

fn by_brute_force(region: PageRange, request: &Request, in_use: &[InUse]) -> Option<Least> {
    let sets = 0..1_u32 << in_use.len();
    let weighed = sets.filter_map(|set| {
        let leaving = || in_use.iter().enumerate().filter(|(n, _)| set >> n & 1 == 1);
        if leaving().any(|(_, chunk)| chunk.fixed) || !admits(region, request, in_use, set) {
            return None;
        }
        let pages: u64 = leaving().map(|(_, chunk)| chunk.range.pages().get()).sum();
        Some((pages, leaving().count()))
    });
    let weighed: Vec<_> = weighed.collect();
    let by_bytes = weighed.iter().copied().min()?;
    let by_number = weighed.iter().map(|(pages, number)| (*number, *pages)).min()?;
    Some((by_bytes, by_number))
}

/// The least sets of owners as (pages, number) and (number, pages).
fn owners_by_brute_force(region: PageRange, request: &Request, in_use: &[InUse]) -> Option<Least> {
    let weighed = (0..1_u32 << OWNERS).filter_map(|set| {
        let leaves = |chunk: &InUse| set >> chunk.owner & 1 == 1;
        let of_chunks = (0..).zip(in_use).map(|(n, chunk)| u32::from(leaves(chunk)) << n).sum();
        let has_chunk = |owner: &usize| in_use.iter().any(|chunk| chunk.owner == *owner);
        let number = (0..OWNERS).filter(|owner| set >> owner & 1 == 1 && has_chunk(owner)).count();
        let leaving = in_use.iter().filter(|chunk| leaves(chunk));
        let pages = leaving.map(|chunk| chunk.range.pages().get()).sum::<u64>();
        admits(region, request, in_use, of_chunks).then_some((pages, number))
    });
    let weighed: Vec<_> = weighed.collect();
    let by_bytes = weighed.iter().copied().min()?;
    let by_number = weighed.iter().map(|(pages, number)| (*number, *pages)).min()?;
    Some((by_bytes, by_number))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]
    #[test]
    fn no_set_of_chunks_or_owners_that_admits_the_request_is_less(
        first in 0_u64..20,
        parts in prop::collection::vec(
            (0_u64..4, 1_u64..5, 0..OWNERS, prop::bool::weighted(0.15)), 0..=MOST_CHUNKS
        ),
        tail in 0_u64..5,
        pages in 1_u64..9,
        log2_alignment in 0_u32..4,
        limits in prop::option::of((0_u64..30, 1_u64..40, 0_u32..6)),
    ) {
        let (region, in_use) = layout(first, &parts, tail);
        let limits = limits.map(|(from, pages, boundary)| {
            (PageRange::from_pages(from, pages), 1 << boundary)
        });
        let Some(request) = request(pages, log2_alignment, limits) else { return Ok(()) };
        let found = least_obstacles(region, &request, &in_use);
        let weights = found.as_ref().map(|least| {
            let (bytes, number) = (&least.by_bytes, &least.by_number);
            (
                (bytes.pages.get(), bytes.chunks.len()),
                (number.chunks.len(), number.pages.get()),
            )
        });
        prop_assert_eq!(weights, by_brute_force(region, &request, &in_use));
        let of_owners = found.as_ref().map(|least| {
            let (bytes, number) = (&least.owners_by_bytes, &least.owners_by_number);
            (
                (bytes.owners_pages.get(), bytes.owners),
                (number.owners, number.owners_pages.get()),
            )
        });
        prop_assert_eq!(of_owners, owners_by_brute_force(region, &request, &in_use));
        let all = found.iter().flat_map(|least| {
            [&least.by_bytes, &least.by_number, &least.owners_by_bytes, &least.owners_by_number]
        });
        for Obstacle { chunks, pages, owners, owners_pages, place } in all {
            let leave: Vec<usize> = in_use[chunks.clone()].iter().map(|chunk| chunk.owner).collect();
            let of_owners = in_use.iter().filter(|chunk| leave.contains(&chunk.owner));
            let all_pages = of_owners.map(|chunk| chunk.range.pages().get()).sum::<u64>();
            prop_assert_eq!(all_pages, owners_pages.get());
            prop_assert_eq!((0..=OWNERS).filter(|n| leave.contains(n)).count(), *owners);
            let leaving = &in_use[chunks.clone()];
            prop_assert_eq!(
                leaving.iter().map(|chunk| chunk.range.pages().get()).sum::<u64>(),
                pages.get()
            );
            prop_assert!(leaving.iter().all(|chunk| !chunk.fixed));
            prop_assert!(place.within(region) && request.accepts(*place));
            for (n, chunk) in in_use.iter().enumerate() {
                prop_assert_eq!(chunks.contains(&n), chunk.range.overlaps(*place));
            }
        }
    }

    #[test]
    fn each_hole_is_counted_once_under_what_rules_it_out(
        holes in prop::collection::vec((0_u64..40, 1_u64..12), 0..8),
        pages in 1_u64..9,
        log2_alignment in 0_u32..4,
        limits in (0_u64..30, 1_u64..40, 0_u32..6),
    ) {
        let window = PageRange::from_pages(limits.0, limits.1);
        let Some(request) = request(pages, log2_alignment, Some((window, 1 << limits.2))) else {
            return Ok(());
        };
        let holes: Vec<_> =
            holes.into_iter().map(|(first, pages)| PageRange::from_pages(first, pages)).collect();
        let found = ruled_out(&request, holes.iter().copied());
        let RuledOut { size, alignment, window: outside, boundary, nothing } = found;
        let all = [size, alignment, outside, boundary, nothing];
        prop_assert_eq!(all.iter().map(|share| share.ranges).sum::<u64>(), holes.len() as u64);
        prop_assert_eq!(
            all.iter().map(|share| share.bytes).sum::<u64>(),
            holes.iter().map(|hole| hole.bytes()).sum::<u64>()
        );
        // Each is what is left of the holes with room when one more demand is made.
        let room = |accepts: &dyn Fn(PageRange) -> bool| {
            let has_room = |hole: &&PageRange| {
                (hole.first_page()..hole.end_page())
                    .map(|first| PageRange::from_pages(first, pages))
                    .any(|place| place.within(**hole) && accepts(place))
            };
            holes.iter().filter(has_room).count() as u64
        };
        let aligned = |place: PageRange| place.first_page().is_multiple_of(1 << log2_alignment);
        let inside = |place: PageRange| aligned(place) && place.within(window);
        let counts = [
            holes.len() as u64,
            room(&|_| true),
            room(&aligned),
            room(&inside),
            room(&|place| request.accepts(place)),
            0,
        ];
        let steps: Vec<_> = counts.windows(2).map(|pair| pair[0] - pair[1]).collect();
        prop_assert_eq!(all.map(|share| share.ranges).to_vec(), steps);
    }
}

#[test]
fn a_hundred_thousand_chunks_at_the_top_of_the_address_space_take_one_pass() {
    let first = PageRange::ADDRESS_SPACE_PAGES - 300_000;
    let (region, in_use) = layout(first, &vec![(1, 2, 0, false); 100_000], 0);
    let request = request(64, 6, None).unwrap();
    let LeastObstacles { by_bytes, by_number, .. } =
        least_obstacles(region, &request, &in_use).unwrap();
    assert!(by_bytes.pages.get() <= 44 && by_number.chunks.len() <= 22, "{by_bytes:?}");
}
