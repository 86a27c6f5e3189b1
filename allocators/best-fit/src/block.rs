//! A block: a node of a tree of holes, with a few entries in order.

/// The most entries of a block, which with its header fill a cache line of 64 bytes.
pub(crate) const CAPACITY: usize = 7;

/// A rank and a number, ordered by rank.
///
/// In a leaf the number is a hole's node and the rank the hole's position in the order of the tree.
/// In an inner block the number is a child and the rank its bound: the child has the holes from
/// that rank to the next bound.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Entry(u64);

impl Entry {
    /// Fills unused places; below every entry.
    const UNUSED: Entry = Entry(0);

    #[inline]
    pub(crate) fn new(rank: u32, number: u32) -> Self {
        Entry(u64::from(rank) << 32 | u64::from(number))
    }

    #[inline]
    pub(crate) fn rank(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline]
    pub(crate) fn number(self) -> u32 {
        self.0 as u32
    }
}

/// Entries in descending order, so that the first hole of a tree is the last entry of a block, and
/// removing it moves nothing. Searching and inserting pass over all places, used or not: for so
/// few, this is faster than branching.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(crate) struct Block {
    /// [`Entry::UNUSED`] from `len` on.
    entries: [Entry; CAPACITY],
    len: u8,
    height: u8,
}

const _: () = assert!(size_of::<Block>() == 8 * (CAPACITY + 1));

impl Block {
    pub(crate) fn new(height: u8) -> Self {
        Block { entries: [Entry::UNUSED; CAPACITY], len: 0, height }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        usize::from(self.len)
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.len() == CAPACITY
    }

    /// The number of levels below: 0 in a leaf.
    pub(crate) fn height(&self) -> u8 {
        self.height
    }

    #[inline]
    pub(crate) fn is_leaf(&self) -> bool {
        self.height == 0
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries[..self.len()]
    }

    #[inline]
    pub(crate) fn entry(&self, at: usize) -> Entry {
        self.entries[at]
    }

    /// The index of the lowest entry for which `is_so` holds.
    #[inline]
    pub(crate) fn lowest_that(&self, is_so: impl Fn(Entry) -> bool) -> Option<usize> {
        self.entries().iter().rposition(|&entry| is_so(entry))
    }

    /// The number of entries above `limit`.
    #[inline]
    fn above(&self, limit: Entry) -> usize {
        self.entries.iter().map(|&entry| usize::from(entry > limit)).sum()
    }

    /// The index of the lowest entry of at least `rank`.
    #[inline]
    pub(crate) fn lowest_from(&self, rank: u32) -> Option<usize> {
        // No entry of a leaf has the number 0, so none equals the limit.
        self.above(Entry::new(rank, 0)).checked_sub(1)
    }

    /// The index of the highest entry of at most `rank`, which must exist: in an inner block, the
    /// child for that rank.
    #[inline]
    pub(crate) fn floor(&self, rank: u32) -> usize {
        self.above(Entry::new(rank, u32::MAX))
    }

    /// The children of an inner block from the one for `rank` up.
    pub(crate) fn children_from(&self, rank: u32) -> impl Iterator<Item = Entry> {
        self.entries[..=self.floor(rank)].iter().rev().copied()
    }

    /// The index of `entry`, or the one at which it would be inserted.
    #[inline]
    pub(crate) fn find(&self, entry: Entry) -> usize {
        self.above(entry)
    }

    /// Inserts an entry in order. The block must not be full.
    #[inline]
    pub(crate) fn insert(&mut self, entry: Entry) {
        for at in (1..CAPACITY).rev() {
            self.entries[at] = self.entries[at].max(self.entries[at - 1].min(entry));
        }
        self.entries[0] = self.entries[0].max(entry);
        self.len += 1;
    }

    #[inline]
    pub(crate) fn remove(&mut self, at: usize) {
        self.len -= 1;
        if at == self.len() {
            // The common case: the first hole of a tree.
            self.entries[at] = Entry::UNUSED;
            return;
        }
        for place in 0..CAPACITY - 1 {
            let next = self.entries[place + 1];
            self.entries[place] = if place < at { self.entries[place] } else { next };
        }
        self.entries[CAPACITY - 1] = Entry::UNUSED;
    }

    /// The last and lowest entry. The block must not be empty.
    #[inline]
    pub(crate) fn last(&self) -> Entry {
        self.entries[self.len() - 1]
    }

    pub(crate) fn replace(&mut self, at: usize, entry: Entry) {
        self.entries[at] = entry;
    }

    /// Moves the upper half to a new block, and returns it with its lowest rank.
    pub(crate) fn split_off_upper(&mut self) -> (u32, Block) {
        let middle = self.len().div_ceil(2);
        let (mut upper, mut lower) = (Block::new(self.height), Block::new(self.height));
        for (at, &entry) in self.entries().iter().enumerate() {
            let half = if at < middle { &mut upper } else { &mut lower };
            half.insert(entry);
        }
        *self = lower;
        (upper.entries[middle - 1].rank(), upper)
    }

    pub(crate) fn unused_are_unused(&self) -> bool {
        self.entries[self.len()..].iter().all(|&entry| entry == Entry::UNUSED)
    }

    /// Clears the block, and stores the next vacant one in it.
    pub(crate) fn vacate(&mut self, next: u32) {
        *self = Block::new(0);
        self.entries[0] = Entry::new(0, next);
    }

    /// Turns a vacant block into an empty leaf, and returns the next vacant one.
    pub(crate) fn occupy(&mut self) -> u32 {
        std::mem::replace(&mut self.entries[0], Entry::UNUSED).number()
    }

    pub(crate) fn next_vacant(&self) -> u32 {
        self.entries[0].number()
    }
}
