//! Bitmap and tree, compared with a flag for each page.

use super::*;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Bitmap, tree and a flag for each page agree, in regions of one word and of thousands.
    #[test]
    fn a_range_is_marked_if_and_only_if_it_overlaps_no_marked_one(
        pages in prop_oneof![1..70u64, 4000..5000u64, 262_000..263_000u64],
        asked in proptest::collection::vec((any::<u64>(), prop_oneof![1..3u64, 50..70u64, 110..330u64, 1..6000u64], any::<bool>()), 1..200),
    ) {
        let mut bits = Occupancy::new(pages);
        let mut tree = Occupancy::Tree(BTreeMap::new());
        let mut flags = vec![false; pages as usize];
        let mut marked: Vec<(u64, u64)> = Vec::new();
        for (place, len, release) in asked {
            if release && !marked.is_empty() {
                let (at, len) = marked.swap_remove(place as usize % marked.len());
                flags[at as usize..(at + len) as usize].fill(false);
                bits.release(at, len);
                tree.release(at, len);
                continue;
            }
            let at = place % pages;
            let len = len.min(pages - at);
            let covered = &mut flags[at as usize..(at + len) as usize];
            let free = !covered.contains(&true);
            prop_assert_eq!(bits.take(at, len), free, "{} pages from {}", len, at);
            prop_assert_eq!(tree.take(at, len), free, "{} pages from {}", len, at);
            if free {
                covered.fill(true);
                marked.push((at, len));
            }
        }
        let mut at = 0;
        let mut expected = Vec::new();
        for run in flags.chunk_by(|one, next| one == next) {
            if !run[0] {
                expected.push((at, run.len() as u64));
            }
            at += run.len() as u64;
        }
        prop_assert_eq!(bits.holes(pages).collect::<Vec<_>>(), &expected[..]);
        prop_assert_eq!(tree.holes(pages).collect::<Vec<_>>(), &expected[..]);
    }
}

#[test]
fn a_region_too_large_for_a_bitmap_has_a_tree() {
    let mut occupancy = Occupancy::new(MAX_BITMAP_PAGES + 1);
    assert!(matches!(occupancy, Occupancy::Tree(_)));
    assert!(occupancy.take(0, MAX_BITMAP_PAGES + 1));
    assert!(!occupancy.take(7, 1));
}
