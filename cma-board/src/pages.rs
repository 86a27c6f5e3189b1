//! Sets of pages, as ranges in ascending order that neither overlap nor touch.

use cma_framework::PageRange;

/// The pages from number `first` up to number `end`, if there are any.
pub(crate) fn between(first: u128, end: u128) -> Option<PageRange> {
    let (first, end) = (u64::try_from(first).ok()?, u64::try_from(end).ok()?);
    let pages = end.checked_sub(first).filter(|pages| *pages > 0)?;
    Some(PageRange::from_pages(first, pages))
}

/// The set of all pages of `ranges`.
pub(crate) fn union(ranges: impl IntoIterator<Item = PageRange>) -> Vec<PageRange> {
    let mut ranges: Vec<_> = ranges.into_iter().collect();
    ranges.sort_by_key(|range| range.first_page());
    let mut union: Vec<PageRange> = Vec::new();
    for range in ranges {
        match union.last_mut() {
            Some(last) if range.first_page() <= last.end_page() => {
                let end = last.end_page().max(range.end_page());
                let first = last.first_page();
                *last = PageRange::from_pages(first, end - first);
            }
            _ => union.push(range),
        }
    }
    union
}

/// The pages of the set `from` that are not in the set `taken`.
pub(crate) fn difference(from: &[PageRange], taken: &[PageRange]) -> Vec<PageRange> {
    let mut left = Vec::new();
    for range in from {
        let mut first = range.first_page();
        let from = taken.partition_point(|taken| taken.end_page() <= first);
        for taken in taken[from..].iter().take_while(|taken| taken.overlaps(*range)) {
            left.extend(between(first.into(), taken.first_page().into()));
            first = taken.end_page();
        }
        left.extend(between(first.into(), range.end_page().into()));
    }
    left
}
