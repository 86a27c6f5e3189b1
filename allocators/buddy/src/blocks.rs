//! The free blocks of a region: splitting, merging, and the runs that they form.
//!
//! All page numbers are absolute. The invariants are those of the crate's documentation.

use cma_api::PageRange;
use cma_bits::{BitTree, TooLarge};

/// A block that is free or becomes free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    first: u64,
    order: u32,
}

impl Block {
    pub(crate) fn first(self) -> u64 {
        self.first
    }

    pub(crate) fn end(self) -> u64 {
        self.first + (1 << self.order)
    }

    pub(crate) fn range(self) -> PageRange {
        PageRange::from_pages(self.first, 1 << self.order)
    }

    /// The largest block up to `max_order` that starts at `page` and ends at or before `end`.
    fn between(page: u64, end: u64, max_order: u32) -> Self {
        Block { first: page, order: page.trailing_zeros().min((end - page).ilog2()).min(max_order) }
    }
}

/// The free blocks of one order.
#[derive(Debug)]
struct Order {
    /// The index of each among all blocks of this order, less `base`.
    blocks: BitTree,
    /// Even, and the set's limit is even, so that the buddy of every block in the region has an
    /// index in the set: the same except for the last bit.
    base: u64,
}

/// The free blocks of a region.
#[derive(Debug)]
pub(crate) struct Blocks {
    region: PageRange,
    orders: Vec<Order>,
    max_order: u32,
    /// Bit `k` is set iff there is a free block of order `k`.
    nonempty: u64,
}

impl Blocks {
    /// All of `region` as free blocks of at most order `max_order`. The region must not be empty.
    pub(crate) fn new(region: PageRange, max_order: u32) -> Result<Self, TooLarge> {
        let (first, end) = (region.first_page(), region.end_page());
        let max_order = region.pages().get().ilog2().min(max_order);
        let order = |k| {
            let (base, last) = ((first >> k) & !1, ((end - 1) >> k) | 1);
            Ok(Order { blocks: BitTree::new(last - base + 1)?, base })
        };
        let orders = (0..=max_order).map(order).collect::<Result<Vec<_>, _>>()?;
        let mut all = Blocks { region, orders, max_order, nonempty: 0 };
        // There may be many blocks of the largest order, if it was limited, and at most two of each
        // other order.
        let (from, to) = (first.next_multiple_of(1 << max_order), end >> max_order << max_order);
        all.insert_parts(first, from);
        all.insert_parts(to, end);
        if from < to {
            let Order { blocks, base } = &mut all.orders[max_order as usize];
            blocks.insert_range((from >> max_order) - *base, (to >> max_order) - *base);
            all.nonempty |= 1 << max_order;
        }
        Ok(all)
    }

    pub(crate) fn region(&self) -> PageRange {
        self.region
    }

    /// The order of the largest free block.
    pub(crate) fn largest_order(&self) -> Option<u32> {
        self.nonempty.checked_ilog2()
    }

    fn contains(&self, page: u64, order: u32) -> bool {
        let Order { blocks, base } = &self.orders[order as usize];
        blocks.contains((page >> order) - base)
    }

    fn insert(&mut self, block: Block) {
        let Order { blocks, base } = &mut self.orders[block.order as usize];
        if blocks.insert((block.first >> block.order) - *base) {
            self.nonempty |= 1 << block.order;
        }
    }

    #[inline]
    fn remove(&mut self, block: Block) {
        let Order { blocks, base } = &mut self.orders[block.order as usize];
        if blocks.remove((block.first >> block.order) - *base) {
            self.nonempty &= !(1 << block.order);
        }
    }

    /// Frees the pages from `first` to `end`, none of whose parts has a free buddy outside of them.
    pub(crate) fn insert_parts(&mut self, mut first: u64, end: u64) {
        while first < end {
            let block = Block::between(first, end, self.max_order);
            self.insert(block);
            first = block.end();
        }
    }

    /// The lowest block of the lowest order from `order` up that has one.
    #[inline]
    pub(crate) fn smallest_block(&self, order: u32) -> Option<Block> {
        let enough = self.nonempty & (!0 << order);
        if enough == 0 {
            return None;
        }
        let order = enough.trailing_zeros();
        let Order { blocks, base } = &self.orders[order as usize];
        Some(Block { first: (blocks.first()? + *base) << order, order })
    }

    /// The block at the lowest address of all orders from `order` up.
    #[inline]
    pub(crate) fn lowest_block(&self, order: u32) -> Option<Block> {
        let first = |order: u32| {
            let Order { blocks, base } = &self.orders[order as usize];
            Some(Block { first: (blocks.first()? + *base) << order, order })
        };
        let lowest = orders_in(self.nonempty & (!0 << order)).filter_map(first);
        lowest.min_by_key(|block| block.first)
    }

    /// The two lowest blocks of each order from `order` up that end above page `page`, which is not
    /// below the region; first those of the lowest order. Only the first of two may start below
    /// `page`.
    pub(crate) fn blocks_above(&self, page: u64, order: u32) -> impl Iterator<Item = Block> {
        orders_in(self.nonempty & (!0 << order)).flat_map(move |order| {
            let lowest = self.next_block(page, order);
            lowest.into_iter().chain(lowest.and_then(|block| self.next_block(block.end(), order)))
        })
    }

    /// Removes `range`, which must be free, from its blocks.
    pub(crate) fn take(&mut self, range: PageRange) {
        let mut page = range.first_page();
        while page < range.end_page() {
            let Some(block) = self.block_at(page) else { return };
            let end = block.end().min(range.end_page());
            self.take_from(block, PageRange::from_pages(page, end - page));
            page = end;
        }
    }

    /// Removes `range` from the free block that contains it.
    #[inline]
    pub(crate) fn take_from(&mut self, block: Block, range: PageRange) {
        self.remove(block);
        if block.first < range.first_page() {
            self.insert_parts(block.first, range.first_page());
        }
        self.insert_parts(range.end_page(), block.end());
    }

    /// Frees `range`. Its parts merge with their buddies as long as those are free.
    pub(crate) fn release(&mut self, range: PageRange) {
        let mut page = range.first_page();
        while page < range.end_page() {
            let part = Block::between(page, range.end_page(), self.max_order);
            page = part.end();
            let Block { mut first, mut order } = part;
            while order < self.max_order && self.contains(first ^ (1 << order), order) {
                self.remove(Block { first: first ^ (1 << order), order });
                first &= !(1 << order);
                order += 1;
            }
            self.insert(Block { first, order });
        }
    }

    /// Whether the first part of `range` is one of the free blocks.
    pub(crate) fn has_part_of(&self, range: PageRange) -> bool {
        let Block { first, order } =
            Block::between(range.first_page(), range.end_page(), self.max_order);
        self.contains(first, order)
    }

    /// The free block that contains `page`.
    pub(crate) fn block_at(&self, page: u64) -> Option<Block> {
        let order = orders_in(self.nonempty).find(|order| self.contains(page, *order))?;
        Some(Block { first: page >> order << order, order })
    }

    /// The end of the free pages that start at `page`: `page` itself if that is not free.
    pub(crate) fn free_to(&self, page: u64) -> u64 {
        let mut end = self.block_at(page).map_or(page, Block::end);
        while end < self.region.end_page() {
            let mut orders = orders_in(self.nonempty & up_to(end.trailing_zeros()));
            let Some(order) = orders.find(|order| self.contains(end, *order)) else { break };
            let Order { blocks, base } = &self.orders[order as usize];
            end = (blocks.run_end((end >> order) - base, blocks.limit()) + base) << order;
        }
        end
    }

    /// The start of the free pages that end before `page`.
    fn free_from(&self, page: u64) -> u64 {
        let mut first = page;
        while first > self.region.first_page() {
            let mut orders = orders_in(self.nonempty & up_to(first.trailing_zeros()));
            let Some(order) = orders.find(|order| self.contains(first - 1, *order)) else { break };
            let Order { blocks, base } = &self.orders[order as usize];
            first = (blocks.run_start(0, (first >> order) - base) + base) << order;
        }
        first
    }

    /// The lowest free block of `order` that ends above `page`, which is not below the region.
    fn next_block(&self, page: u64, order: u32) -> Option<Block> {
        let Order { blocks, base } = &self.orders[order as usize];
        let number = blocks.next((page >> order) - base)?;
        Some(Block { first: (number + base) << order, order })
    }

    /// The run that contains the free block `block`.
    pub(crate) fn run_of(&self, block: Block) -> PageRange {
        let first = self.free_from(block.first);
        PageRange::from_pages(first, self.free_to(block.end() - 1) - first)
    }

    /// The runs that have a block of order `lowest_order` or above with a page in `window`, a part
    /// of the region, each with such a block; first those with blocks of the largest order, from
    /// the lowest address up. A run with several such blocks may be returned several times.
    pub(crate) fn runs(
        &self,
        lowest_order: u32,
        window: PageRange,
    ) -> impl Iterator<Item = (Block, PageRange)> {
        let orders = (lowest_order.min(self.max_order)..=self.max_order).rev();
        let nonempty = orders.filter(|order| self.nonempty >> order & 1 != 0);
        nonempty.flat_map(move |order| {
            let mut page = window.first_page();
            std::iter::from_fn(move || {
                let block = self.next_block(page, order)?;
                if block.first >= window.end_page() {
                    return None;
                }
                let run = self.run_of(block);
                page = run.end_page();
                Some((block, run))
            })
        })
    }

    /// Visits all runs in ascending order of address.
    pub(crate) fn holes(&self, visit: &mut dyn FnMut(PageRange)) {
        let first_page = self.region.first_page();
        let mut upcoming: Vec<_> =
            (0..=self.max_order).map(|k| self.next_block(first_page, k)).collect();
        while let Some(block) = upcoming.iter().flatten().min_by_key(|block| block.first) {
            let (first, end) = (block.first, self.free_to(block.first));
            visit(PageRange::from_pages(first, end - first));
            for (order, upcoming) in (0..).zip(&mut upcoming) {
                if upcoming.is_some_and(|block| block.first < end) {
                    *upcoming = self.next_block(end, order);
                }
            }
        }
    }

    /// Verifies the invariants.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut spans = Vec::new();
        for (order, Order { blocks, base }) in (0..).zip(&self.orders) {
            blocks.check().map_err(|broken| format!("invariant 1: order {order}: {broken}"))?;
            if (self.nonempty >> order & 1 != 0) == blocks.is_empty() {
                return Err(format!(
                    "invariant 2: the word is {:#b}, order {order} disagrees",
                    self.nonempty
                ));
            }
            let mut next = blocks.first();
            while let Some(first) = next {
                let end = blocks.run_end(first, blocks.limit());
                let span = PageRange::from_pages((first + base) << order, (end - first) << order);
                if !span.within(self.region) {
                    return Err(format!(
                        "invariant 3: {span}, order {order}, is not in {}",
                        self.region
                    ));
                }
                if order < self.max_order && end - first > 1 + first % 2 {
                    return Err(format!(
                        "invariant 5: in {span}, order {order}, are buddies that are both free"
                    ));
                }
                spans.push(span);
                next = blocks.next(end);
            }
        }
        spans.sort_unstable();
        match spans.windows(2).find(|pair| pair[0].overlaps(pair[1])) {
            Some(pair) => Err(format!("invariant 4: {} and {} share a page", pair[0], pair[1])),
            None => Ok(()),
        }
    }
}

/// All orders up to `order`, as a mask.
const fn up_to(order: u32) -> u64 {
    if order >= 63 { !0 } else { (2 << order) - 1 }
}

/// The orders in `mask`, ascending.
fn orders_in(mut mask: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let order = if mask == 0 { None } else { Some(mask.trailing_zeros()) };
        mask &= mask.wrapping_sub(1);
        order
    })
}
