//! Finding physically adjacent huge pages.

use cma_framework::PageRange;
use std::ops::Range;

/// The run that is searched for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// The number of pages.
    pub(super) count: usize,
    /// The first page's frame is a multiple of this.
    pub(super) step: u64,
    /// The frames in which the run must lie.
    pub(super) window: PageRange,
}

/// The place of the wanted run in `frames`, the ascending start frames of huge pages of `size`
/// frames. It is taken from the shortest run that contains one, the lowest of equally short ones.
///
/// # Errors
///
/// The length of the longest run.
pub(super) fn find(frames: &[u64], size: u64, wanted: Wanted) -> Result<Range<usize>, usize> {
    let mut at = 0;
    let runs = frames.chunk_by(|a, b| a + size == *b).map(|run| {
        let place = at..at + run.len();
        at = place.end;
        place
    });
    let fits = |first: &usize| {
        let range = PageRange::from_pages(frames[*first], wanted.count as u64 * size);
        frames[*first].is_multiple_of(wanted.step) && range.within(wanted.window)
    };
    let mut longest = 0;
    let mut best: Option<(usize, usize)> = None;
    for run in runs {
        longest = longest.max(run.len());
        let first = run.clone().take_while(|first| first + wanted.count <= run.end).find(fits);
        if let Some(first) = first
            && best.is_none_or(|(len, _)| run.len() < len)
        {
            best = Some((run.len(), first));
        }
    }
    best.map(|(_, first)| first..first + wanted.count).ok_or(longest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const ANY: Wanted = Wanted { count: 2, step: 1, window: PageRange::ADDRESS_SPACE };

    #[test]
    fn the_shortest_sufficient_run_is_taken_the_lowest_of_equally_short_ones() {
        let frames = [512, 1024, 1536, 4096, 4608, 8192, 8704];
        assert_eq!(find(&frames, 512, ANY), Ok(3..5));
        assert_eq!(find(&frames, 512, Wanted { count: 3, ..ANY }), Ok(0..3));
    }

    #[test]
    fn a_failed_search_returns_the_length_of_the_longest_run() {
        assert_eq!(find(&[512, 1024, 4096], 512, Wanted { count: 3, ..ANY }), Err(2));
        assert_eq!(find(&[512, 2048], 512, ANY), Err(1));
        assert_eq!(find(&[], 512, ANY), Err(0));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Compared with trying every place.
        #[test]
        fn a_found_run_is_as_wanted_and_a_failed_search_means_there_is_none(
            pages in proptest::collection::btree_set(0..40u64, 0..30),
            count in 1..8usize,
            log2 in 0..4u32,
            (start, end) in (0..40u64, 1..44u64).prop_map(|(start, pages)| (start, start + pages)),
        ) {
            let frames: Vec<u64> = pages.iter().map(|page| page * 512).collect();
            let window = PageRange::from_pages(start * 512, (end - start) * 512);
            let wanted = Wanted { count, step: 512 << log2, window };
            let there = |first: u64, pages: &BTreeSet<u64>| (first..first + count as u64).all(|page| pages.contains(&page))
                && first.is_multiple_of(1 << log2) && first >= start && first + count as u64 <= end;
            match find(&frames, 512, wanted) {
                Ok(place) => {
                    prop_assert_eq!(place.len(), count);
                    prop_assert!(there(frames[place.start] / 512, &pages));
                    prop_assert_eq!(frames[place.end - 1], frames[place.start] + 512 * (count as u64 - 1));
                }
                Err(longest) => {
                    prop_assert!(!(0..40).any(|first| there(first, &pages)));
                    let run = |first: u64| (first..).take_while(|page| pages.contains(page)).count();
                    prop_assert_eq!(longest, (0..40).map(run).max().unwrap_or(0));
                }
            }
        }
    }
}
