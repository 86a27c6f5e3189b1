//! What is known of the pages of an area.

use std::collections::BTreeMap;
use std::ops::Range;

/// A value for each page of an area, and none for pages of which nothing is known. Ranges of pages
/// share a value.
#[derive(Debug)]
pub(super) struct PageMap<T> {
    /// By first page: one past the last, and the value. No two overlap.
    known: BTreeMap<u64, (u64, T)>,
}

/// A range of pages, with what was known of it.
pub(super) type Part<T> = (Range<u64>, Option<T>);

impl<T> Default for PageMap<T> {
    fn default() -> Self {
        PageMap { known: BTreeMap::new() }
    }
}

impl<T: Copy> PageMap<T> {
    /// Gives `pages` the value `value`, and returns what was known of them, in order: the parts are
    /// `pages` together.
    pub(super) fn set(&mut self, pages: Range<u64>, value: T) -> Vec<Part<T>> {
        let parts = self.clear(pages.clone());
        if !pages.is_empty() {
            self.known.insert(pages.start, (pages.end, value));
        }
        parts
    }

    /// Forgets what is known of `pages`, and returns it, in order.
    pub(super) fn clear(&mut self, pages: Range<u64>) -> Vec<Part<T>> {
        let parts = self.parts(pages.clone());
        let overlapping: Vec<u64> = self.overlapping(&pages).map(|(first, ..)| first).collect();
        for first in overlapping {
            let Some((end, value)) = self.known.remove(&first) else { continue };
            if first < pages.start {
                self.known.insert(first, (pages.start, value));
            }
            if end > pages.end {
                self.known.insert(pages.end, (end, value));
            }
        }
        parts
    }

    /// What is known of `pages`, in order.
    pub(super) fn parts(&self, pages: Range<u64>) -> Vec<Part<T>> {
        let mut parts = Vec::new();
        let mut from = pages.start;
        for (first, end, value) in self.overlapping(&pages) {
            let known = first.max(pages.start)..end.min(pages.end);
            if from < known.start {
                parts.push((from..known.start, None));
            }
            from = known.end;
            parts.push((known, Some(value)));
        }
        if from < pages.end {
            parts.push((from..pages.end, None));
        }
        parts
    }

    fn overlapping(&self, pages: &Range<u64>) -> impl Iterator<Item = (u64, u64, T)> + use<'_, T> {
        let begin = self.known.range(..=pages.start).next_back();
        let begin = begin.filter(|(_, (end, _))| *end > pages.start).map(|(first, _)| *first);
        let begin = begin.unwrap_or(pages.start);
        let end = if pages.is_empty() { begin } else { pages.end };
        self.known.range(begin..end).map(|(first, (end, value))| (*first, *end, *value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_knows_of_each_page_what_was_set_last(
            changes in prop::collection::vec((0..40_u64, 0..20_u64, prop::option::of(any::<u8>())), 0..40),
        ) {
            let mut map = PageMap::default();
            let mut plain = [None; 64];
            for (first, count, value) in changes {
                let pages = first..first + count;
                let parts = match value {
                    Some(value) => map.set(pages.clone(), value),
                    None => map.clear(pages.clone()),
                };
                let mut next = pages.start;
                for (part, known) in parts {
                    prop_assert!(part.start == next && !part.is_empty());
                    next = part.end;
                    prop_assert!(part.into_iter().all(|page| plain[page as usize] == known));
                }
                prop_assert_eq!(next, pages.end);
                plain[first as usize..(first + count) as usize].fill(value);
            }
        }
    }
}
