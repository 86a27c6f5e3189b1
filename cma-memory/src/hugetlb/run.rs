//! Which huge pages make up one run.

use std::ops::Range;

/// What is looked for among huge pages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// How many.
    pub(super) count: usize,
    /// What the first one's frame is a multiple of.
    pub(super) step: u64,
    /// The frame to start at, if it has to be that one.
    pub(super) start: Option<u64>,
}

/// The place of such a run in `frames`: the frames that huge pages of `size` frames start at,
/// ascending. It is taken from the shortest run that holds it, the lowest among equals.
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
    let fits = |first: &usize| match wanted.start {
        Some(start) => frames[*first] == start,
        None => frames[*first].is_multiple_of(wanted.step),
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

    const ANY: Wanted = Wanted { count: 2, step: 1, start: None };

    #[test]
    fn the_shortest_run_that_holds_it_is_taken_the_lowest_among_equals() {
        let frames = [512, 1024, 1536, 4096, 4608, 8192, 8704];
        assert_eq!(find(&frames, 512, ANY), Ok(3..5));
        assert_eq!(find(&frames, 512, Wanted { count: 3, ..ANY }), Ok(0..3));
    }

    #[test]
    fn what_is_not_found_says_how_long_the_longest_run_is() {
        assert_eq!(find(&[512, 1024, 4096], 512, Wanted { count: 3, ..ANY }), Err(2));
        assert_eq!(find(&[512, 2048], 512, ANY), Err(1));
        assert_eq!(find(&[], 512, ANY), Err(0));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Against every place tried one by one.
        #[test]
        fn what_is_found_is_a_run_as_wanted_and_what_is_not_is_nowhere(
            pages in proptest::collection::btree_set(0..40u64, 0..30),
            count in 1..8usize,
            log2 in 0..4u32,
            start in proptest::option::of(0..40u64),
        ) {
            let frames: Vec<u64> = pages.iter().map(|page| page * 512).collect();
            let wanted = Wanted { count, step: 512 << log2, start: start.map(|page| page * 512) };
            let there = |first: u64, pages: &BTreeSet<u64>| (first..first + count as u64).all(|page| pages.contains(&page))
                && start.map_or(first.is_multiple_of(1 << log2), |start| start == first);
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
