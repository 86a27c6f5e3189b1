//! The number of words that requests look into when many holes are long enough but have no place.

use super::{allocate, bitmap};
use crate::{Bitmap, FEW_CELLS, WASTED_LIMIT, WASTED_PER_SEARCH};
use cma_api::{Alignment, Allocator, Asker, PageRange, Pages, Placement, Request};

/// Allocates without verifying the invariants.
fn place(bitmap: &mut Bitmap, pages: u64, alignment: u64) -> Option<Placement> {
    let alignment = Alignment::new(alignment << 12).unwrap();
    bitmap.allocate(&Request::new(Pages::new(pages), alignment, Asker::NOBODY).unwrap()).ok()
}

/// The result of `operation`, and the number of words that it looks into.
fn looks<T>(bitmap: &mut Bitmap, operation: impl FnOnce(&mut Bitmap) -> T) -> (T, u64) {
    let before = bitmap.looks.get();
    let answer = operation(bitmap);
    (answer, bitmap.looks.get() - before)
}

/// 8 KiB buffers aligned to 256 KiB, thousands at a time, as in a graphics conformance test. The 62
/// pages between two of them are long enough for a buffer, so without a tree every request would
/// look into every word before its place.
#[test]
fn small_buffers_far_apart_are_placed_without_looking_into_the_holes_between() {
    for buffers in [1000, 16_000] {
        let mut bitmap = bitmap(0x4_0000, buffers * 64 + 64);
        let mut chunks = Vec::new();
        let mut total = 0;
        for n in 0..buffers {
            let (chunk, looked) = looks(&mut bitmap, |bitmap| place(bitmap, 2, 64).unwrap());
            assert_eq!(chunk.range.first_page(), 0x4_0000 + n * 64);
            assert!(looked <= WASTED_LIMIT + 3, "buffer {n} of {buffers}: {looked} words");
            total += looked;
            chunks.push(chunk);
        }
        // Some searches waste looks before the tree is built, and hardly any later. A look for each
        // buffer before it would be half a million for the smaller number.
        assert!(total <= 1024 + 4 * buffers, "{total} words for {buffers} buffers");
        bitmap.check().unwrap();
        while let Some(chunk) = chunks.pop() {
            bitmap.free(chunk).unwrap();
        }
        bitmap.check().unwrap();
        assert_eq!(allocate(&mut bitmap, buffers * 64 + 64, 1), Some(0x4_0000));
    }
}

/// A region of chunks of `taken` pages with holes of `free` pages between them, and one large hole
/// at the end. The first hole starts `offset` pages after a multiple of 2^18.
fn comb(offset: u64, (taken, free): (u64, u64), holes: u64) -> Bitmap {
    let first = (1 << 18) + offset - taken;
    let mut bitmap = bitmap(first, holes * (taken + free) + (1 << 12));
    for n in 0..holes {
        bitmap.adopt(PageRange::from_pages(first + n * (taken + free), taken)).unwrap();
    }
    bitmap
}

#[test]
fn holes_without_a_place_are_looked_into_once() {
    // (offset, taken and free pages), then (pages, alignment) for which every hole but the last has
    // no place.
    let cases = [
        ((1, (5, 3)), vec![(2, 4), (3, 4), (1, 8), (2, 8), (9, 4)]),
        ((3, (3, 61)), vec![(61, 64), (1, 64), (62, 1)]),
        ((0, (2, 8)), vec![(9, 1), (9, 2), (9, 16), (20, 64)]),
        ((1, (65, 127)), vec![(128, 1), (127, 128), (70, 64), (64, 128)]),
        ((1, (1, 1)), vec![(1, 2), (2, 1), (2, 2), (1, 32)]),
    ];
    for ((offset, comb_of), requests) in cases {
        for holes in [5000, 20_000] {
            let mut bitmap = comb(offset, comb_of, holes);
            for &(pages, alignment) in &requests {
                let model = lowest(&bitmap, pages, alignment);
                let (chunk, _) = looks(&mut bitmap, |bitmap| place(bitmap, pages, alignment));
                assert_eq!(chunk.map(|chunk| chunk.range.first_page()), model);
                bitmap.free(chunk.unwrap()).unwrap();
                bitmap.check().unwrap();
            }
            let (mut most, mut total) = (0, 0);
            for _ in 0..50 {
                for &(pages, alignment) in &requests {
                    let (chunk, looked) =
                        looks(&mut bitmap, |bitmap| place(bitmap, pages, alignment));
                    bitmap.free(chunk.unwrap()).unwrap();
                    (most, total) = (most.max(looked), total + looked);
                }
            }
            let operations = 100 * requests.len() as u64;
            let case =
                format!("{comb_of:?} at {offset}, {holes} holes: {most} words at most, {total}");
            assert!(most <= WASTED_LIMIT + 3, "{case}");
            assert!(total <= operations * 4, "{case} in {operations} operations");
        }
    }
}

/// The place of first fit, found by looking at all holes.
fn lowest(bitmap: &Bitmap, pages: u64, alignment: u64) -> Option<u64> {
    let mut lowest = None;
    bitmap.holes(&mut |hole| {
        let first = hole.first_page().next_multiple_of(alignment);
        if first + pages <= hole.end_page() {
            lowest = lowest.or(Some(first));
        }
    });
    lowest
}

/// The outdated bounds that requests correct are never more than the operations before.
#[test]
fn operations_of_any_size_and_alignment_look_into_few_words_on_average() {
    let mut random = 1_u64;
    let mut below = |limit: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % limit
    };
    let mut totals = Vec::new();
    for pages in [1 << 15, 1 << 18] {
        let mut bitmap = bitmap(5, pages);
        let mut live: Vec<Placement> = Vec::new();
        let operations = 60_000;
        for n in 0..operations {
            if below(100) < 55 || live.is_empty() {
                let (size, alignment) = (below(9), 1 << below(12));
                let size = 1 + below(1 << size);
                let expected = (n % 1000 == 0).then(|| lowest(&bitmap, size, alignment));
                let chunk = place(&mut bitmap, size, alignment);
                if let Some(expected) = expected {
                    assert_eq!(chunk.map(|chunk| chunk.range.first_page()), expected);
                    bitmap.check().unwrap();
                }
                live.extend(chunk);
            } else {
                let index = usize::try_from(below(live.len() as u64)).unwrap();
                bitmap.free(live.swap_remove(index)).unwrap();
            }
        }
        bitmap.check().unwrap();
        totals.push(bitmap.looks.get() / operations);
    }
    assert!(
        totals.iter().all(|looks| *looks < 24),
        "words per operation, by size of the region: {totals:?}"
    );
}

#[test]
fn alignments_with_few_cells_get_no_tree() {
    let mut bitmap = comb(1, (5, 3), 5000);
    // The first search corrects the bounds that adopting the comb left outdated.
    let chunk = place(&mut bitmap, 2, 1 << 10).unwrap();
    bitmap.free(chunk).unwrap();
    for log2 in 10..52 {
        let expected = lowest(&bitmap, 2, 1 << log2);
        let (place, looked) = looks(&mut bitmap, |bitmap| place(bitmap, 2, 1 << log2));
        assert!(looked <= WASTED_LIMIT + FEW_CELLS + 1, "{looked} words");
        assert_eq!(place.map(|chunk| chunk.range.first_page()), expected);
    }
    assert!(bitmap.reaches.is_empty());
}

/// If there are few aligned places, a search looks at these instead of the many holes.
#[test]
fn searches_with_few_cells_look_into_few_words() {
    let mut bitmap = comb(1, (5, 3), 5000);
    let mut most = 0;
    for n in 0..50 {
        let (chunk, looked) = looks(&mut bitmap, |bitmap| place(bitmap, 2, 1 << 12));
        bitmap.free(chunk.unwrap()).unwrap();
        if n > 1 {
            most = most.max(looked);
        }
    }
    assert!(most <= WASTED_PER_SEARCH + FEW_CELLS + 2, "{most} words");
}

/// Chunks of 1 to 256 pages in a region that is seven tenths full, where random chunks are freed
/// and others placed: searches look into few words, and maintaining a tree would cost more.
#[test]
fn ordinary_loads_build_no_tree() {
    let mut random = 1_u64;
    let mut below = |limit: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % limit
    };
    let (pages, operations) = (1 << 18, 60_000);
    let (mut bitmap, mut live, mut used) = (bitmap(0x4_0000, pages), Vec::new(), 0);
    for _ in 0..operations {
        while used > pages * 7 / 10 {
            let index = usize::try_from(below(live.len() as u64)).unwrap();
            let chunk: Placement = live.swap_remove(index);
            used -= chunk.range.pages().get();
            bitmap.free(chunk).unwrap();
        }
        let most = 1 << below(9);
        let chunk = place(&mut bitmap, 1 + below(most), 1).unwrap();
        used += chunk.range.pages().get();
        live.push(chunk);
        assert!(bitmap.reaches.is_empty());
    }
    assert!(bitmap.looks.get() < operations * 4, "{} words", bitmap.looks.get());
}

#[test]
fn a_tree_that_is_no_longer_needed_is_dropped() {
    let mut bitmap = comb(1, (5, 3), 5000);
    while bitmap.reaches.is_empty() {
        let chunk = place(&mut bitmap, 2, 4).unwrap();
        bitmap.free(chunk).unwrap();
    }
    for _ in 0..bitmap.region.pages().get() {
        let chunk = place(&mut bitmap, 2, 1).unwrap();
        bitmap.free(chunk).unwrap();
    }
    assert!(bitmap.reaches.is_empty());
    bitmap.check().unwrap();
    let expected = lowest(&bitmap, 2, 4);
    assert_eq!(place(&mut bitmap, 2, 4).map(|chunk| chunk.range.first_page()), expected);
}
