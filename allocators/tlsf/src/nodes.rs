//! The region in address order: chunks and holes as nodes that link their neighbours.
//!
//! The invariants are those of the crate's documentation.

use std::collections::TryReserveError;

/// A chunk or a hole. Pages are counted from the region's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    pub(crate) start: u32,
    /// 0 only in the sentinel and in vacant nodes.
    pub(crate) pages: u32,
    /// The neighbour at lower addresses.
    pub(crate) below: u32,
    /// The neighbour at higher addresses. In a vacant node: the next vacant one, or [`SENTINEL`].
    pub(crate) above: u32,
    /// In a hole that is not the first of its class: the one before it.
    pub(crate) prev: u32,
    /// In a hole: the next of its class, or [`SENTINEL`].
    pub(crate) next: u32,
}

impl Node {
    pub(crate) fn end(self) -> u32 {
        self.start + self.pages
    }
}

/// The node that closes the neighbours to a ring. It counts as a chunk, so that no hole merges past
/// the region's ends. As a link in the list of a class it means none.
pub(crate) const SENTINEL: u32 = 0;

/// All nodes of a region, in one flat array whose memory is reserved at the start.
#[derive(Debug)]
pub(crate) struct Nodes {
    /// All nodes that were ever in use. By invariant 6 this and `taken` stay within their capacity.
    nodes: Vec<Node>,
    /// One bit for each node: set for chunks and the sentinel, clear for holes and vacant nodes. In
    /// a separate array, because a neighbour's bit is mostly in the nearest cache when the
    /// neighbour itself is not.
    taken: Vec<u64>,
    /// The first of the vacant nodes, or [`SENTINEL`].
    vacant: u32,
    /// The number of accesses to nodes.
    #[cfg(test)]
    pub(crate) accesses: std::cell::Cell<u64>,
}

impl Nodes {
    /// Nodes for a region with one hole of `pages` pages, and memory for `most` nodes besides the
    /// sentinel. Returns the hole's node as well.
    pub(crate) fn new(pages: u32, most: u32) -> Result<(Self, u32), TryReserveError> {
        let count = most as usize + 1;
        let (mut nodes, mut taken) = (Vec::new(), Vec::new());
        nodes.try_reserve_exact(count)?;
        taken.try_reserve_exact(count.div_ceil(64))?;
        nodes.push(Node {
            start: pages,
            pages: 0,
            below: SENTINEL,
            above: SENTINEL,
            prev: 0,
            next: 0,
        });
        taken.push(1);
        let mut nodes = Nodes {
            nodes,
            taken,
            vacant: SENTINEL,
            #[cfg(test)]
            accesses: std::cell::Cell::default(),
        };
        let hole = nodes.insert_above(SENTINEL, 0, pages);
        Ok((nodes, hole))
    }

    /// The most nodes that were ever in use at a time, besides the sentinel.
    pub(crate) fn used(&self) -> usize {
        self.nodes.len() - 1
    }

    #[inline]
    pub(crate) fn get(&self, index: u32) -> Node {
        self.count();
        self.nodes[index as usize]
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: u32) -> &mut Node {
        self.count();
        &mut self.nodes[index as usize]
    }

    /// Called for every access to a node, so that tests can count them.
    #[inline]
    fn count(&self) {
        #[cfg(test)]
        self.accesses.set(self.accesses.get() + 1);
    }

    /// The chunk of node `number`, if it is a chunk.
    #[inline]
    pub(crate) fn chunk(&self, number: u64) -> Option<(u32, Node)> {
        let index = u32::try_from(number).ok()?;
        let is_chunk =
            index != SENTINEL && (index as usize) < self.nodes.len() && self.is_taken(index);
        is_chunk.then(|| (index, self.get(index)))
    }

    #[inline]
    pub(crate) fn is_taken(&self, index: u32) -> bool {
        self.taken[index as usize / 64] >> (index % 64) & 1 != 0
    }

    #[inline]
    pub(crate) fn set_taken(&mut self, index: u32) {
        self.taken[index as usize / 64] |= 1 << (index % 64);
    }

    #[inline]
    pub(crate) fn clear_taken(&mut self, index: u32) {
        self.taken[index as usize / 64] &= !(1 << (index % 64));
    }

    #[inline]
    pub(crate) fn resize(&mut self, index: u32, start: u32, pages: u32) {
        let node = self.get_mut(index);
        node.start = start;
        node.pages = pages;
    }

    /// Adds a hole above `below`, which is not yet in the list of a class.
    #[inline]
    pub(crate) fn insert_above(&mut self, below: u32, start: u32, pages: u32) -> u32 {
        let above = self.get(below).above;
        let node = Node { start, pages, below, above, prev: SENTINEL, next: SENTINEL };
        let index = self.vacant;
        let index = if index == SENTINEL {
            let index = self.nodes.len();
            self.nodes.push(node);
            if self.taken.len() * 64 <= index {
                self.taken.push(0);
            }
            u32::try_from(index).expect("at most 2^31 nodes were reserved")
        } else {
            self.vacant = self.get(index).above;
            *self.get_mut(index) = node;
            index
        };
        self.get_mut(below).above = index;
        self.get_mut(above).below = index;
        index
    }

    /// Removes a node whose pages already belong to a neighbour.
    #[inline]
    pub(crate) fn remove(&mut self, index: u32) {
        let Node { below, above, .. } = self.get(index);
        self.get_mut(below).above = above;
        self.get_mut(above).below = below;
        let vacant = self.vacant;
        let node = self.get_mut(index);
        (node.pages, node.above) = (0, vacant);
        self.clear_taken(index);
        self.vacant = index;
    }

    /// All nodes except the sentinel, in address order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, Node)> {
        let from = |index: u32| (index != SENTINEL).then(|| (index, self.get(index)));
        std::iter::successors(from(self.get(SENTINEL).above), move |(_, node)| from(node.above))
    }

    /// The node that contains page `page` of the region. Walks up or down from node `near`, or up
    /// from the lowest node if `near` has become vacant.
    pub(crate) fn holding(&self, page: u32, near: u32) -> (u32, Node) {
        let (mut index, mut node) = (near, self.get(near));
        if node.pages == 0 {
            index = self.get(SENTINEL).above;
            node = self.get(index);
        }
        while page < node.start || page >= node.end() {
            index = if page < node.start { node.below } else { node.above };
            node = self.get(index);
        }
        (index, node)
    }

    /// Checks invariants 1 to 3.
    pub(crate) fn check(&self, pages: u32) -> Result<(), String> {
        let mut linked = 1;
        let (mut end, mut below, mut below_is_taken) = (0, SENTINEL, true);
        for (index, node) in self.iter() {
            let is_taken = self.is_taken(index);
            if node.start != end
                || node.pages == 0
                || node.below != below
                || node.pages > pages - end
            {
                return Err(format!(
                    "invariant 1: node {index}, {node:?}, is not above node {below} at {end}"
                ));
            }
            if !is_taken && !below_is_taken {
                return Err(format!(
                    "invariant 2: nodes {below} and {index} are neighbouring holes"
                ));
            }
            (end, below, below_is_taken) = (node.end(), index, is_taken);
            linked += 1;
        }
        if end != pages || self.get(SENTINEL).below != below || !self.is_taken(SENTINEL) {
            return Err(format!(
                "invariant 1: the nodes end at {end} of {pages} pages, with node {below}"
            ));
        }
        let mut vacant = self.vacant;
        while vacant != SENTINEL {
            let Node { pages, above, .. } = self.get(vacant);
            if pages != 0 || self.is_taken(vacant) || linked >= self.nodes.len() {
                return Err(format!("invariant 3: node {vacant} is vacant and in use"));
            }
            linked += 1;
            vacant = above;
        }
        if linked != self.nodes.len() {
            return Err(format!(
                "invariant 3: {linked} of {} nodes are linked or vacant",
                self.nodes.len()
            ));
        }
        Ok(())
    }

    /// Drops the list of vacant nodes, for a test of [`check`](Self::check).
    #[cfg(test)]
    pub(crate) fn lose_vacant(&mut self) {
        self.vacant = SENTINEL;
    }
}
