//! The free ranges of a region while chunks come and go.

use cma_framework::PageRange;
use std::collections::BTreeMap;

/// The free ranges of a region. A change takes a number of steps that grows with the logarithm of
/// the number of ranges, where a look at all live chunks for each operation of a trace would take
/// minutes.
#[derive(Debug)]
pub(crate) struct FreeRanges {
    /// The end of each range by its first page. No two touch.
    end_of: BTreeMap<u64, u64>,
    /// How many ranges have a size in pages.
    sizes: BTreeMap<u64, usize>,
    pages: u64,
}

impl FreeRanges {
    /// All of `region`.
    pub(crate) fn of(region: PageRange) -> FreeRanges {
        let mut free = FreeRanges { end_of: BTreeMap::new(), sizes: BTreeMap::new(), pages: 0 };
        free.give(region);
        free
    }

    /// Takes `range`, which is free.
    pub(crate) fn take(&mut self, range: PageRange) {
        let (first, end) = (range.first_page(), range.end_page());
        let around = self.end_of.range(..=first).next_back().map(|(&from, &to)| (from, to));
        let Some((from, to)) = around.filter(|(_, to)| *to >= end) else {
            unreachable!("the framework checks that a placement is free")
        };
        self.remove(from, to);
        self.insert(from, first);
        self.insert(end, to);
    }

    /// Gives back `range`, none of which is free.
    pub(crate) fn give(&mut self, range: PageRange) {
        let (mut first, mut end) = (range.first_page(), range.end_page());
        let below = self.end_of.range(..first).next_back().map(|(&from, &to)| (from, to));
        if let Some((from, to)) = below.filter(|(_, to)| *to == first) {
            self.remove(from, to);
            first = from;
        }
        if let Some(&to) = self.end_of.get(&end) {
            self.remove(end, to);
            end = to;
        }
        self.insert(first, end);
    }

    /// The free pages.
    pub(crate) fn pages(&self) -> u64 {
        self.pages
    }

    /// The pages of the largest range.
    pub(crate) fn largest_pages(&self) -> u64 {
        self.sizes.last_key_value().map_or(0, |(&pages, _)| pages)
    }

    fn insert(&mut self, first: u64, end: u64) {
        if first < end {
            self.end_of.insert(first, end);
            *self.sizes.entry(end - first).or_default() += 1;
            self.pages += end - first;
        }
    }

    fn remove(&mut self, first: u64, end: u64) {
        self.end_of.remove(&first);
        self.pages -= end - first;
        if let Some(count) = self.sizes.get_mut(&(end - first)) {
            *count -= 1;
            if *count == 0 {
                self.sizes.remove(&(end - first));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_ranges_are_those_between_the_live_chunks(
            wishes in proptest::collection::vec((0_u64..60, 1_u64..9), 0..80),
        ) {
            const FIRST: u64 = 100;
            let mut free = FreeRanges::of(PageRange::from_pages(FIRST, 64));
            let mut is_live = [false; 64];
            let mut live: Vec<PageRange> = Vec::new();
            for (first, pages) in wishes {
                let range = PageRange::from_pages(FIRST + first, pages.min(64 - first));
                // A wish for live pages frees a chunk that has some.
                match live.iter().position(|it| it.overlaps(range)) {
                    Some(index) => free.give(live.swap_remove(index)),
                    None => {
                        free.take(range);
                        live.push(range);
                    }
                }
                is_live.fill(false);
                for range in &live {
                    let first = (range.first_page() - FIRST) as usize;
                    is_live[first..first + range.pages().get() as usize].fill(true);
                }
                let holes = is_live.split(|is_live| *is_live).map(<[bool]>::len);
                prop_assert_eq!(free.largest_pages(), holes.max().unwrap_or(0) as u64);
                prop_assert_eq!(free.pages(), is_live.iter().filter(|it| !**it).count() as u64);
            }
        }
    }
}
