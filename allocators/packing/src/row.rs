//! The holes of one grade in the order of addresses.

use std::collections::BTreeSet;

/// A hole: its first page, counted from the region's start, and its node. Packed so that the order
/// of the numbers is that of the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Entry(u64);

impl Entry {
    #[inline]
    pub(crate) fn new(start: u32, node: u32) -> Self {
        Entry(u64::from(start) << 32 | u64::from(node))
    }

    #[inline]
    pub(crate) fn start(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline]
    pub(crate) fn node(self) -> u32 {
        self.0 as u32
    }
}

/// The most entries of the array, which with its length fills two cache lines.
const CAPACITY: usize = 15;

/// Fills unused places; above every entry.
const UNUSED: Entry = Entry(u64::MAX);

/// A sorted set whose lowest entries are in an array: most rows are so short that these are all.
/// Searching, inserting and removing pass over the whole array, used or not, which for so few is
/// faster than branching.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// In ascending order; [`UNUSED`] from `len` on.
    lowest: [Entry; CAPACITY],
    len: usize,
    /// The entries above those. Empty if the array is.
    others: BTreeSet<Entry>,
}

impl Row {
    pub(crate) fn new() -> Self {
        Row { lowest: [UNUSED; CAPACITY], len: 0, others: BTreeSet::new() }
    }

    /// Whether `entry` belongs to the array.
    #[inline]
    fn is_low(&self, entry: Entry) -> bool {
        self.others.is_empty() || entry <= self.lowest[self.len - 1]
    }

    #[inline]
    pub(crate) fn insert(&mut self, entry: Entry) {
        if !self.is_low(entry) {
            self.others.insert(entry);
            return;
        }
        if self.len == CAPACITY {
            let last = self.lowest[CAPACITY - 1];
            if entry > last {
                self.others.insert(entry);
                return;
            }
            self.others.insert(last);
        } else {
            self.len += 1;
        }
        for at in (1..CAPACITY).rev() {
            self.lowest[at] = self.lowest[at].min(self.lowest[at - 1].max(entry));
        }
        self.lowest[0] = self.lowest[0].min(entry);
    }

    /// Removes `entry`, which must be there.
    #[inline]
    pub(crate) fn remove(&mut self, entry: Entry) {
        if !self.is_low(entry) {
            self.others.remove(&entry);
            return;
        }
        for at in 0..CAPACITY - 1 {
            let next = self.lowest[at + 1];
            self.lowest[at] = if self.lowest[at] < entry { self.lowest[at] } else { next };
        }
        self.lowest[CAPACITY - 1] = UNUSED;
        self.len -= 1;
        if self.len == 0 {
            self.refill();
        }
    }

    /// Moves the lowest of the others to the empty array. Half of it, so that the next insertion
    /// moves none back.
    fn refill(&mut self) {
        while self.len <= CAPACITY / 2
            && let Some(entry) = self.others.pop_first()
        {
            self.lowest[self.len] = entry;
            self.len += 1;
        }
    }

    /// Puts `new` in the place of `old`, which must be there and have the same neighbours.
    #[inline]
    pub(crate) fn replace(&mut self, old: Entry, new: Entry) {
        if self.is_low(old) {
            for entry in &mut self.lowest {
                *entry = if *entry == old { new } else { *entry };
            }
        } else {
            self.others.remove(&old);
            self.others.insert(new);
        }
    }

    #[inline]
    pub(crate) fn first(&self) -> Option<Entry> {
        (self.len > 0).then_some(self.lowest[0])
    }

    #[inline]
    pub(crate) fn last(&self) -> Option<Entry> {
        match self.others.last() {
            Some(&last) => Some(last),
            None => self.len.checked_sub(1).map(|at| self.lowest[at]),
        }
    }

    /// The entries that start from page `from` on and before page `end`.
    pub(crate) fn range(&self, from: u32, end: u32) -> impl DoubleEndedIterator<Item = Entry> {
        let (from, end) = (Entry::new(from, 0), Entry::new(end, 0).max(Entry::new(from, 0)));
        let low = self.lowest[..self.len].iter().copied();
        let low = low.filter(move |entry| (from..end).contains(entry));
        low.chain(self.others.range(from..end).copied())
    }

    /// The first entry for which `is_so` holds, of at most `looks`.
    #[inline]
    pub(crate) fn first_that(&self, looks: usize, is_so: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let found = self.lowest[..self.len].iter().find(|&entry| is_so(entry));
        let others =
            || self.others.iter().take(looks.saturating_sub(self.len)).find(|&entry| is_so(entry));
        found.or_else(others).copied()
    }

    #[inline]
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = Entry> {
        self.lowest[..self.len].iter().copied().chain(self.others.iter().copied())
    }

    /// Whether the entries are in order and the unused places unused.
    pub(crate) fn is_sound(&self) -> bool {
        self.iter().is_sorted_by(|a, b| a < b)
            && self.lowest[self.len..].iter().all(|&entry| entry == UNUSED)
            && (self.len > 0 || self.others.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_a_sorted_set() {
        let (mut row, mut set) = (Row::new(), BTreeSet::new());
        let mut random: u64 = 1;
        for step in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let start = (random >> 40) as u32 % 2000;
            let entry = Entry::new(start, start + 1);
            // It grows, and shrinks to nothing.
            if set.remove(&entry) {
                row.remove(entry);
            } else if step < 10_000 {
                row.insert(entry);
                set.insert(entry);
            }
            assert_eq!((row.first(), row.last()), (set.first().copied(), set.last().copied()));
            if step % 100 == 0 {
                assert!(row.is_sound());
                assert!(row.iter().eq(set.iter().copied()));
                let (from, end) = (start / 2, start);
                let expected = set.range(Entry::new(from, 0)..Entry::new(end, 0));
                assert!(row.range(from, end).eq(expected.copied()));
            }
        }
        assert!(set.len() < 20, "it got small again: {}", set.len());
    }
}
