//! Bits and tree against a flag for each page.

use super::*;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Bits, tree and a flag for each page agree, over regions of one word and of thousands.
    #[test]
    fn a_range_is_taken_exactly_when_no_marked_one_overlaps_it(
        pages in prop_oneof![1..70u64, 4000..5000u64, 262_000..263_000u64],
        asked in proptest::collection::vec((any::<u64>(), prop_oneof![1..3u64, 50..70u64, 110..135u64, 1..6000u64], any::<bool>()), 1..200),
    ) {
        let region = PageRange::from_pages(0x12345, pages);
        let mut bits = Occupancy::new(region);
        let mut tree = Occupancy { region, taken: Taken::Tree(BTreeMap::new()) };
        let mut flags = vec![false; pages as usize];
        let mut marked: Vec<PageRange> = Vec::new();
        for (place, len, release) in asked {
            if release && !marked.is_empty() {
                let range = marked.swap_remove(place as usize % marked.len());
                let at = (range.first_page() - region.first_page()) as usize;
                flags[at..at + range.pages().get() as usize].fill(false);
                bits.release(range);
                tree.release(range);
                continue;
            }
            let at = place % pages;
            let len = len.min(pages - at);
            let range = PageRange::from_pages(region.first_page() + at, len);
            let covered = &mut flags[at as usize..(at + len) as usize];
            let free = !covered.contains(&true);
            prop_assert_eq!(bits.take(range), free, "{:?}", range);
            prop_assert_eq!(tree.take(range), free, "{:?}", range);
            if free {
                covered.fill(true);
                marked.push(range);
            }
        }
    }
}

#[test]
fn a_region_too_large_for_bits_is_kept_in_a_tree() {
    let region = PageRange::from_pages(0, MAX_BITMAP_PAGES + 1);
    let mut occupancy = Occupancy::new(region);
    assert!(matches!(occupancy.taken, Taken::Tree(_)));
    assert!(occupancy.take(region));
    assert!(!occupancy.take(PageRange::from_pages(7, 1)));
}
