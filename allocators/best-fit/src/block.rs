//! A block: what the trees of holes are made of, a handful of entries in no order.

/// The most entries of a block, which with them fills whole cache lines of 64 bytes.
pub(crate) const CAPACITY: usize = 15;

/// A rank and a number, ordered by rank.
///
/// In a leaf the number is a hole's node and the rank its place in the order of the tree's holes. In an inner block the number is
/// a child and the rank its bound: the child has the holes from there to the next bound.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Entry(u64);

impl Entry {
    /// What stands in unused places: above every entry.
    const UNUSED: Entry = Entry(u64::MAX);

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

/// Entries in no order, so that adding one and taking one away moves at most one. What is sought is found by looking at
/// all places, used or not: so few are faster looked at than branched over.
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

    /// How many levels are below: 0 in a leaf.
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

    /// Where the lowest entry is. There must be one.
    #[inline]
    pub(crate) fn lowest(&self) -> usize {
        let (mut at, mut lowest) = (0, self.entries[0]);
        for (other, &entry) in self.entries.iter().enumerate().skip(1) {
            if entry < lowest {
                (at, lowest) = (other, entry);
            }
        }
        at
    }

    /// Where the lowest entry that `is_so` is.
    #[inline]
    pub(crate) fn lowest_that(&self, is_so: impl Fn(Entry) -> bool) -> Option<usize> {
        let those = self.entries().iter().enumerate().filter(|&(_, &entry)| is_so(entry));
        those.min_by_key(|&(_, &entry)| entry).map(|(at, _)| at)
    }

    /// Where the highest entry of at most `rank` is: in an inner block, the child in which that rank belongs. There must
    /// be one.
    #[inline]
    pub(crate) fn floor(&self, rank: u32) -> usize {
        let limit = Entry::new(rank, u32::MAX);
        let (mut at, mut highest) = (0, Entry(0));
        for (other, &entry) in self.entries.iter().enumerate() {
            if entry <= limit && entry >= highest {
                (at, highest) = (other, entry);
            }
        }
        at
    }

    /// Where `entry` is. It must be there.
    #[inline]
    pub(crate) fn find(&self, entry: Entry) -> usize {
        let mut at = 0;
        for (other, &this) in self.entries.iter().enumerate() {
            if this == entry {
                at = other;
            }
        }
        at
    }

    /// The number of the highest entry.
    pub(crate) fn highest(&self) -> u32 {
        self.entries().iter().max().map_or(0, |entry| entry.number())
    }

    /// Adds an entry. There must be room.
    #[inline]
    pub(crate) fn push(&mut self, entry: Entry) {
        self.entries[self.len()] = entry;
        self.len += 1;
    }

    #[inline]
    pub(crate) fn remove(&mut self, at: usize) {
        let last = self.len() - 1;
        self.entries[at] = self.entries[last];
        self.entries[last] = Entry::UNUSED;
        self.len -= 1;
    }

    pub(crate) fn replace(&mut self, at: usize, entry: Entry) {
        self.entries[at] = entry;
    }

    /// Moves the upper half to a new block, and returns it with its lowest rank.
    pub(crate) fn split_off_upper(&mut self) -> (u32, Block) {
        let len = self.len();
        self.entries[..len].sort_unstable();
        let mut upper = Block::new(self.height);
        for at in len / 2..len {
            upper.push(self.entries[at]);
            self.entries[at] = Entry::UNUSED;
        }
        self.len -= upper.len;
        (upper.entries[0].rank(), upper)
    }

    pub(crate) fn unused_are_unused(&self) -> bool {
        self.entries[self.len()..].iter().all(|&entry| entry == Entry::UNUSED)
    }

    /// Forgets all entries, and notes the next vacant block.
    pub(crate) fn vacate(&mut self, next: u32) {
        *self = Block::new(0);
        self.entries[0] = Entry::new(0, next);
    }

    /// Makes a vacant block an empty leaf, and returns the next vacant one.
    pub(crate) fn occupy(&mut self) -> u32 {
        std::mem::replace(&mut self.entries[0], Entry::UNUSED).number()
    }

    pub(crate) fn next_vacant(&self) -> u32 {
        self.entries[0].number()
    }
}
