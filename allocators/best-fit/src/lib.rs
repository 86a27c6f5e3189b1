//! Best fit: the smallest hole that can hold a chunk with its alignment.
//!
//! # The rule
//!
//! Of all holes in which the chunk has a place the smallest is taken, and of equal ones the lowest. In the hole the chunk
//! goes to the lowest aligned place; but when that leaves a gap in front, and the space behind the chunk is
//! a multiple of the alignment, it goes to the end, so that one hole stays instead of two. Freeing merges a chunk
//! with the holes beside it. (Section 4 of the specification; lowest address on ties is ours, because it packs
//! better.) The rule is exact: a request is refused only if no hole can hold it.
//!
//! # Words and structures
//!
//! Pages are counted from the region's start, so 32 bits are enough for regions of less than 8 TiB.
//!
//! - A *node* is a chunk or a hole: start, pages, and its neighbours in address order. Nodes lie in one flat array and a
//!   chunk's tag is its node's number, so freeing searches nothing. A ring through a sentinel makes them a list. Whether a
//!   node is a chunk is one bit in an array of its own: chunks mostly have chunks beside them, and that is found out
//!   without fetching the neighbours.
//! - A *bin* has the holes of one size, from 128 pages on of a 64th of a power of two of sizes. Two levels of bits say which
//!   bins are not empty, so the first that matters is found with two counts of trailing zeros.
//! - A bin's holes are an ordered *tree* of *blocks*. Best fit leaves few holes (most requests find one of exactly their
//!   size, which then is a hole no more), so nearly all trees are one block of up to 15 holes, in
//!   descending order: taking the first hole is taking the last entry. A tree with more is a B+ tree.
//! - The *reach* of a hole for an alignment is the most pages a chunk so aligned can have in it. Trees of more than one block
//!   keep the largest reach of each block, so that a search goes only where it succeeds; but only for those
//!   alignments that a search in such a tree ever asked for, and nobody pays for the others.
//!
//! # Invariants
//!
//! [`check`](Allocator::check) asserts them, by these numbers.
//!
//! 1. The nodes linked from the sentinel cover the region in ascending order, without gap or overlap, and each knows its
//!    neighbours. All others are on the vacant list.
//! 2. No two neighbours are holes.
//! 3. Each hole is in the tree of its bin, once, with its node's number, and nothing else is. A bin's bit is set iff it has a
//!    tree, a word's bit iff the word is not 0.
//! 4. A block is in descending order and not empty; unused entries are none; every hole below an inner entry is at
//!    least its bound and below the bound before. (The last bound doesn't matter.)
//! 5. All leaves of a tree are at one depth, and each block is in one tree or on the vacant list.
//! 6. A kept reach is exactly the largest of the holes below.
//!
//! # Cost
//!
//! With n chunks and h holes, h at most n + 1 and about n / 10 in practice:
//!
//! | operation | time | touches |
//! | --- | --- | --- |
//! | allocate, page aligned | O(log h) | bits, a block; with an exact fit no node at all, otherwise two or three |
//! | allocate, aligned | O(log h) in a bin, and of the bins (at most 1728, mostly empty) those from the size up to the first that serves | the same |
//! | free | O(log h) | its node, its neighbours' bits, a block; each hole beside it adds a node and a block |
//! | adopt | a few steps when in ascending order; else O(√n) expected | √n nodes |
//! | largest hole | O(log h) | |
//! | holes, check | O(n), O(n log n) | |
//! | the first search with a new alignment in a tree of several blocks | O(h), once | all blocks |
//!
//! Memory is 16 bytes and a bit for each node and 192 bytes for each block of up to 15 holes, besides 7 KiB of bins: about 22 bytes
//! a chunk in practice. The arrays grow by doubling and don't shrink; no operation allocates otherwise.
//!
//! # What it leaves out
//!
//! - An index by address. Only adopting could use one, and every other operation would pay for keeping it.
//! - Reaches for single blocks and for bins. An aligned search looks at up to 15 holes of each bin it passes, which is
//!   bounded by the number of bins and was never seen to matter.
//! - Who asks. Placing by the expected lifetime of a chunk is another algorithm.

#![forbid(unsafe_code)]

mod bins;
mod block;
mod hole;
mod nodes;
mod trees;

use bins::Bins;
use cma_api::{
    Alignment, Allocator, CannotAdopt, Info, InitError, NoRoom, NotMine, PageRange, Pages, Params, Placement,
    Request, Tag,
};
use hole::{Grid, Hole};
use nodes::{Nodes, SENTINEL};

/// The best-fit allocator. See the [crate's text](crate) for how it works.
#[derive(Debug)]
pub struct BestFit {
    region: PageRange,
    nodes: Nodes,
    bins: Bins,
    /// The node adopted last: the next one is probably close behind.
    adopted: u32,
    /// The state of the generator that adopting draws from.
    chance: u64,
}

impl Allocator for BestFit {
    const INFO: Info = Info {
        name: "best-fit",
        version: env!("CARGO_PKG_VERSION"),
        description: "the smallest hole that holds the chunk with its alignment, the lowest of equal ones",
    };

    /// Takes no parameters. The region must have a page and less than 8 TiB.
    fn new(region: PageRange, params: &str) -> Result<Self, InitError> {
        Params::parse(params)?.finish()?;
        let pages = match u32::try_from(region.pages().get()) {
            Ok(pages) if pages > 0 && pages < 1 << 31 => pages,
            _ => {
                let reason =
                    format!("best-fit serves regions of a page or more and less than 8 TiB, not {region}");
                return Err(InitError::new(reason));
            }
        };
        let (nodes, hole) = Nodes::new(pages);
        let mut bins = Bins::new(pages);
        bins.insert(Hole::new(pages, 0), hole, &nodes);
        Ok(BestFit { region, nodes, bins, adopted: SENTINEL, chance: 0 })
    }

    #[inline]
    fn allocate(&mut self, request: &Request) -> Result<Placement, NoRoom> {
        let pages = u32::try_from(request.pages().get()).map_err(|_| NoRoom)?;
        let (start, node) = if request.alignment() == Alignment::PAGE {
            let (hole, node) = self.bins.take(pages, &self.nodes).ok_or(NoRoom)?;
            (hole.start(), self.carve(hole, node, hole.start(), pages))
        } else {
            let grid = Grid::new(self.region.first_page(), request.alignment());
            let (hole, node) = self.bins.take_aligned(pages, grid, &self.nodes).ok_or(NoRoom)?;
            let start = grid.place(hole, pages);
            (start, self.carve(hole, node, start, pages))
        };
        Ok(Placement { range: self.absolute(start, pages), tag: Tag(u64::from(node)) })
    }

    #[inline]
    fn free(&mut self, chunk: Placement) -> Result<(), NotMine> {
        let (index, node) = self.nodes.chunk(chunk.tag.0).ok_or(NotMine)?;
        if self.absolute(node.start, node.pages) != chunk.range {
            return Err(NotMine);
        }
        let (mut kept, mut start, mut pages) = (index, node.start, node.pages);
        if !self.nodes.is_taken(node.prev) {
            let before = self.nodes.hole(node.prev);
            self.bins.remove(before, node.prev, &self.nodes);
            self.nodes.remove(index);
            kept = node.prev;
            start = before.start();
            pages += before.pages();
        } else {
            self.nodes.clear_taken(index);
        }
        if !self.nodes.is_taken(node.next) {
            let behind = self.nodes.hole(node.next);
            self.bins.remove(behind, node.next, &self.nodes);
            self.nodes.remove(node.next);
            pages += behind.pages();
        }
        if pages != node.pages {
            self.nodes.resize(kept, start, pages);
        }
        self.bins.insert(Hole::new(pages, start), kept, &self.nodes);
        Ok(())
    }

    fn adopt(&mut self, range: PageRange) -> Result<Tag, CannotAdopt> {
        if range.pages() == Pages::ZERO || !range.within(self.region) {
            return Err(CannotAdopt::new(format!("{range} is not in the region {}", self.region)));
        }
        let (start, pages) = self.relative(range);
        let found = self.nodes.holding(start, self.adopted, &mut self.chance);
        let node = self.nodes.get(found);
        if self.nodes.is_taken(found) || pages > node.pages - (start - node.start) {
            let taken = if self.nodes.is_taken(found) { node } else { self.nodes.get(node.next) };
            let taken = self.absolute(taken.start, taken.pages);
            return Err(CannotAdopt::new(format!("{range} is in use already, by {taken}")));
        }
        let hole = Hole::new(node.pages, node.start);
        self.bins.remove(hole, found, &self.nodes);
        self.adopted = self.carve(hole, found, start, pages);
        Ok(Tag(u64::from(self.adopted)))
    }

    fn holes(&self, visit: &mut dyn FnMut(PageRange)) {
        for (_, node) in self.nodes.iter().filter(|&(index, _)| !self.nodes.is_taken(index)) {
            visit(self.absolute(node.start, node.pages));
        }
    }

    fn largest_hole(&self) -> Pages {
        Pages::new(u64::from(self.bins.largest(&self.nodes)))
    }

    fn check(&self) -> Result<(), String> {
        let (_, pages) = self.relative(self.region);
        self.nodes.check(pages)?;
        let holes = self.nodes.iter().filter(|&(index, _)| !self.nodes.is_taken(index)).count();
        let mut binned = Vec::new();
        self.bins.check(&self.nodes, &mut |node| binned.push(node))?;
        binned.sort_unstable();
        binned.dedup();
        if binned.len() != holes {
            return Err(format!("invariant 3: {} of {holes} holes are in a bin", binned.len()));
        }
        Ok(())
    }
}

impl BestFit {
    /// Makes `pages` pages from `start` on a chunk, and holes of what `hole` has besides. The hole is in no bin any more.
    #[inline]
    fn carve(&mut self, hole: Hole, node: u32, start: u32, pages: u32) -> u32 {
        let gap = start - hole.start();
        let behind = hole.pages() - gap - pages;
        let chunk = if gap == 0 {
            node
        } else {
            self.nodes.resize(node, hole.start(), gap);
            self.bins.insert(Hole::new(gap, hole.start()), node, &self.nodes);
            self.nodes.insert_after(node, start, pages)
        };
        self.nodes.set_taken(chunk);
        if behind > 0 {
            self.nodes.resize(chunk, start, pages);
            let rest = self.nodes.insert_after(chunk, start + pages, behind);
            self.bins.insert(Hole::new(behind, start + pages), rest, &self.nodes);
        }
        chunk
    }

    #[inline]
    fn absolute(&self, start: u32, pages: u32) -> PageRange {
        PageRange::from_pages(self.region.first_page() + u64::from(start), u64::from(pages))
    }

    /// The start and size of a range that lies in the region.
    #[allow(clippy::cast_possible_truncation, reason = "a region has fewer than 2^32 pages")]
    fn relative(&self, range: PageRange) -> (u32, u32) {
        ((range.first_page() - self.region.first_page()) as u32, range.pages().get() as u32)
    }
}

#[cfg(test)]
mod tests;
