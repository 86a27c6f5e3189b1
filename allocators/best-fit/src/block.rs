//! A block: what the trees of holes are made of, a handful of entries side by side.

use crate::hole::Hole;

/// The most entries of a block. With this many it is three cache lines of 64 bytes, and its smallest and
/// largest entries are found without a loop over more than that.
pub(crate) const CAPACITY: usize = 15;

/// Entries in descending order, so that the first hole of the rule is at the end, where taking it moves nothing.
///
/// In a leaf an entry is a hole and its node. In an inner block it is a child and a bound: every hole in the child is at
/// least the bound, and below the bound of the entry before. The last bound is never looked at: whatever is below all
/// others belongs there.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(crate) struct Block {
    /// [`Hole::NONE`] from `len` on.
    holes: [Hole; CAPACITY],
    values: [u32; CAPACITY],
    len: u8,
    height: u8,
}

const _: () = assert!(size_of::<Block>() == 192);

impl Block {
    pub(crate) fn new(height: u8) -> Self {
        Block { holes: [Hole::NONE; CAPACITY], values: [0; CAPACITY], len: 0, height }
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

    #[inline]
    pub(crate) fn entry(&self, at: usize) -> (Hole, u32) {
        (self.holes[at], self.values[at])
    }

    /// The last entry. There must be one.
    #[inline]
    pub(crate) fn last(&self) -> (Hole, u32) {
        self.entry(self.len() - 1)
    }

    pub(crate) fn entries(&self) -> impl DoubleEndedIterator<Item = (Hole, u32)> {
        self.holes[..self.len()].iter().copied().zip(self.values[..self.len()].iter().copied())
    }

    /// The values alone: the children of an inner block.
    pub(crate) fn values(&self) -> &[u32] {
        &self.values[..self.len()]
    }

    /// How many entries are above `hole`: its place, whether it is there or not. Unused places count as below.
    #[inline]
    pub(crate) fn above(&self, hole: Hole) -> usize {
        self.holes.iter().map(|&other| usize::from(other > hole)).sum()
    }

    /// How many entries are not below `hole`, which must not be [`Hole::NONE`].
    pub(crate) fn above_or_equal(&self, hole: Hole) -> usize {
        self.holes.iter().map(|&other| usize::from(other >= hole)).sum()
    }

    /// Which child of an inner block `hole` belongs to.
    #[inline]
    pub(crate) fn child_for(&self, hole: Hole) -> usize {
        self.above(hole).min(self.len() - 1)
    }

    #[inline]
    pub(crate) fn insert(&mut self, at: usize, hole: Hole, value: u32) {
        let len = self.len();
        self.holes.copy_within(at..len, at + 1);
        self.values.copy_within(at..len, at + 1);
        self.holes[at] = hole;
        self.values[at] = value;
        self.len += 1;
    }

    #[inline]
    pub(crate) fn remove(&mut self, at: usize) -> u32 {
        let len = self.len();
        let value = self.values[at];
        self.holes.copy_within(at + 1..len, at);
        self.values.copy_within(at + 1..len, at);
        self.holes[len - 1] = Hole::NONE;
        self.len -= 1;
        value
    }

    /// Raises or lowers the bound of a child.
    pub(crate) fn set_bound(&mut self, at: usize, bound: Hole) {
        self.holes[at] = bound;
    }

    /// Moves the lower half to a new block.
    pub(crate) fn split_off_lower(&mut self) -> Block {
        let middle = self.len().div_ceil(2);
        let mut lower = Block::new(self.height);
        for at in middle..self.len() {
            lower.holes[at - middle] = std::mem::take(&mut self.holes[at]);
            lower.values[at - middle] = self.values[at];
            lower.len += 1;
        }
        self.len -= lower.len;
        lower
    }

    /// Adds the entries of the block that follows. There must be room for them. All are below `middle`, and what is here is
    /// not; so that is the bound of what is the last child no longer.
    pub(crate) fn append(&mut self, middle: Hole, lower: &Block) {
        if !self.is_leaf() {
            self.set_bound(self.len() - 1, middle);
        }
        for (hole, value) in lower.entries() {
            self.insert(self.len(), hole, value);
        }
    }

    pub(crate) fn unused_are_none(&self) -> bool {
        self.holes[self.len()..].iter().all(|&hole| hole == Hole::NONE)
    }

    /// For the list of vacant blocks.
    pub(crate) fn vacate(&mut self, next: u32) {
        *self = Block::new(0);
        self.values[0] = next;
    }

    /// The next vacant block, of a vacant one.
    pub(crate) fn next_vacant(&self) -> u32 {
        self.values[0]
    }
}
