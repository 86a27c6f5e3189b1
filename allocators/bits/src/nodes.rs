//! The region in address order: chunks and holes as nodes that link their neighbours.

/// A chunk or a hole. Pages are counted from the region's start.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// The first page.
    pub start: u32,
    /// 0 only in the sentinel and in vacant nodes.
    pub pages: u32,
    /// The node before, or [`SENTINEL`].
    pub prev: u32,
    /// The node after, or [`SENTINEL`]; in a vacant node, the next vacant one.
    pub next: u32,
}

/// The node that closes the list to a ring. It counts as a chunk, so that no hole merges past the
/// region's ends.
pub const SENTINEL: u32 = 0;

/// Appends to a flat array. A full array grows by a quarter instead of doubling: growing is rare,
/// and unused capacity wastes memory.
#[inline]
pub fn push<T>(array: &mut Vec<T>, value: T) {
    if array.len() == array.capacity() {
        array.reserve_exact(array.len() / 4 + 16);
    }
    array.push(value);
}

/// All nodes of a region, in one flat array that grows and never shrinks.
#[derive(Debug)]
pub struct Nodes {
    nodes: Vec<Node>,
    /// For each node: whether it is a chunk or the sentinel, not a hole or vacant. In a separate
    /// array, because a neighbour's kind is mostly all that is needed, and a cache holds sixteen
    /// times as many of these bytes as nodes. (It would hold eight times more bits, but each change
    /// of a bit would have to wait for the change before.)
    taken: Vec<bool>,
    /// The first of the vacant nodes, or [`SENTINEL`].
    vacant: u32,
}

impl Nodes {
    /// Nodes for a region with one hole of `pages` pages; returns the hole's node as well.
    pub fn new(pages: u32) -> (Self, u32) {
        let sentinel = Node { start: pages, pages: 0, prev: SENTINEL, next: SENTINEL };
        let mut nodes = Nodes { nodes: vec![sentinel], taken: vec![true], vacant: SENTINEL };
        let hole = nodes.insert_after(SENTINEL, 0, pages);
        (nodes, hole)
    }

    /// The nodes in use and vacant, with the sentinel.
    #[allow(clippy::len_without_is_empty, reason = "the sentinel is always there")]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Node `index`.
    #[inline]
    pub fn get(&self, index: u32) -> Node {
        self.nodes[index as usize]
    }

    /// Node `index`, if it is a hole.
    pub fn hole(&self, index: u32) -> Option<Node> {
        let node = self.nodes.get(index as usize)?;
        (node.pages > 0 && !self.is_taken(index)).then_some(*node)
    }

    /// The chunk of node `index`, if it is a chunk.
    #[inline]
    pub fn chunk(&self, index: u64) -> Option<(u32, Node)> {
        let index = u32::try_from(index).ok()?;
        let node = self.nodes.get(index as usize)?;
        (self.is_taken(index) && index != SENTINEL).then_some((index, *node))
    }

    /// Whether node `index` is a chunk or the sentinel.
    #[inline]
    pub fn is_taken(&self, index: u32) -> bool {
        self.taken[index as usize]
    }

    /// Makes node `index` a chunk.
    #[inline]
    pub fn set_taken(&mut self, index: u32) {
        self.taken[index as usize] = true;
    }

    /// Makes node `index` a hole.
    #[inline]
    pub fn clear_taken(&mut self, index: u32) {
        self.taken[index as usize] = false;
    }

    /// Sets the start and the pages of node `index`.
    #[inline]
    pub fn resize(&mut self, index: u32, start: u32, pages: u32) {
        let node = &mut self.nodes[index as usize];
        node.start = start;
        node.pages = pages;
    }

    /// Adds a hole node after `prev`.
    ///
    /// # Panics
    ///
    /// There are 2^32 nodes, which no region has the pages for.
    #[inline]
    pub fn insert_after(&mut self, prev: u32, start: u32, pages: u32) -> u32 {
        let next = self.get(prev).next;
        let node = Node { start, pages, prev, next };
        let index = self.vacant;
        let index = if index == SENTINEL {
            push(&mut self.nodes, node);
            push(&mut self.taken, false);
            u32::try_from(self.nodes.len() - 1).expect("a region has fewer than 2^32 pages")
        } else {
            self.vacant = self.get(index).next;
            self.nodes[index as usize] = node;
            index
        };
        self.nodes[prev as usize].next = index;
        self.nodes[next as usize].prev = index;
        index
    }

    /// Removes a node from the list; its pages must already belong to a neighbour.
    #[inline]
    pub fn remove(&mut self, index: u32) {
        let Node { prev, next, .. } = self.get(index);
        self.nodes[prev as usize].next = next;
        self.nodes[next as usize].prev = prev;
        self.nodes[index as usize] = Node { start: 0, pages: 0, prev: SENTINEL, next: self.vacant };
        self.clear_taken(index);
        self.vacant = index;
    }

    /// All nodes except the sentinel, in address order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, Node)> {
        let from = |index: u32| (index != SENTINEL).then(|| (index, self.get(index)));
        std::iter::successors(from(self.get(SENTINEL).next), move |(_, node)| from(node.next))
    }

    /// The node that contains page `page` of the region. Where the walk to it starts is drawn from
    /// the state `random`.
    ///
    /// There is no index by address, because only adopting needs one. The first nodes from `near`
    /// are tried first. Then follows jump and walk (Devroye, Mücke and Zhu, "A note on point
    /// location in Delaunay triangulations of random points", 1998): the walk starts at the nearest
    /// lower one of about √n random nodes, and then takes about √n steps on average, wherever the
    /// page is.
    ///
    /// # Panics
    ///
    /// The page is not in the region.
    pub fn holding(&self, page: u32, near: u32, random: &mut u64) -> u32 {
        const STEPS: usize = 8;
        let from =
            |begin: u32| std::iter::successors(Some(begin), |&index| Some(self.get(index).next));
        let holds = |index: &u32| {
            let node = self.get(*index);
            page.wrapping_sub(node.start) < node.pages
        };
        if let Some(found) = from(near).take(STEPS).find(holds) {
            return found;
        }
        let mut best = self.get(SENTINEL).next;
        for _ in 0..=self.nodes.len().isqrt() {
            // Knuth's linear congruential generator; its upper half selects a node.
            *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let drawn = (((*random >> 32) * self.nodes.len() as u64) >> 32) as u32;
            let node = self.get(drawn);
            // A vacant node starts at 0, so it is never nearer.
            if node.start <= page && node.start > self.get(best).start {
                best = drawn;
            }
        }
        from(best).find(holds).expect("the nodes cover the region")
    }

    /// Checks that the linked nodes cover `pages` pages in ascending order, that no two neighbours
    /// are holes, and that all other nodes are vacant.
    ///
    /// # Errors
    ///
    /// The first broken invariant, by its number in the allocators' documentation: 1, or for
    /// neighbouring holes 2.
    pub fn check(&self, pages: u32) -> Result<(), String> {
        let mut linked = 1;
        let (mut end, mut prev, mut prev_is_taken) = (0, SENTINEL, true);
        for (index, node) in self.iter() {
            let is_taken = self.is_taken(index);
            if node.start != end || node.pages == 0 || node.prev != prev || node.pages > pages - end
            {
                return Err(format!(
                    "invariant 1: node {index}, {node:?}, doesn't continue node {prev} at {end}"
                ));
            }
            if !is_taken && !prev_is_taken {
                return Err(format!(
                    "invariant 2: nodes {prev} and {index} are neighbouring holes"
                ));
            }
            (end, prev, prev_is_taken) = (end + node.pages, index, is_taken);
            linked += 1;
        }
        if end != pages || self.get(SENTINEL).prev != prev || !self.is_taken(SENTINEL) {
            return Err(format!(
                "invariant 1: the nodes end at {end} of {pages} pages, with node {prev}"
            ));
        }
        let mut vacant = self.vacant;
        while vacant != SENTINEL {
            if self.get(vacant).pages != 0 || self.is_taken(vacant) || linked >= self.nodes.len() {
                return Err(format!("invariant 1: node {vacant} is on the vacant list and in use"));
            }
            linked += 1;
            vacant = self.get(vacant).next;
        }
        if linked != self.nodes.len() {
            return Err(format!(
                "invariant 1: {linked} of {} nodes are in a list",
                self.nodes.len()
            ));
        }
        Ok(())
    }
}
