//! Best fit: the smallest hole that can hold a chunk with its alignment.
//!
//! # The rule
//!
//! Of all holes in which the chunk has a place the smallest is taken, and of equal ones the lowest.
//! In the hole the chunk goes to the lowest aligned place; but when that leaves a gap in front, and
//! the space behind the chunk is a multiple of the alignment, it goes to the end, so that one hole
//! stays instead of two. Freeing merges a chunk with the holes beside it. (Section 4 of the
//! specification; lowest address on ties is ours, because it packs better.) The rule is exact: a
//! request is refused only if no hole can hold it.
//!
//! # Words and structures
//!
//! Pages are counted from the region's start, so 31 bits are enough for regions of less than 8 TiB.
//!
//! - A *node* is a chunk or a hole: start, pages, and its neighbours in address order. Nodes lie in
//!   one flat array and a chunk's tag is its node's number, so freeing searches nothing. A ring
//!   through a sentinel makes them a list. Whether a node is a chunk stands in an array of its own:
//!   chunks mostly have chunks beside them, and that is found out without fetching the neighbours.
//! - An *octave* has the holes of the sizes from a power of two to the next. What is left of size
//!   and start, put together, is a hole's *rank*, which is unique in the octave and in the order of
//!   the rule. The rank's upper bits are the *bin*: so of small holes, which are many, a bin has
//!   those of one size in one part of the region, and of large ones those of a few sizes. Holes of
//!   a MiB and more are few and have fewer bins. Two levels of bits say which bins are not empty;
//!   the first that matters is found by counting trailing zeros.
//! - Best fit leaves few holes, because most requests find one of exactly their size, which then is
//!   a hole no more. Bins are so many that most holes are alone in theirs, which is all that a bin
//!   notes then (and which is foreseen where it is branched on). The others are a *tree* of one
//!   *block*: a cache line of up to seven ranks with their nodes, in descending order, so that
//!   taking the first hole is taking the last entry. A tree of more blocks is a B+ tree.
//! - The *reach* of a hole for an alignment is the most pages a chunk so aligned can have in it.
//!   Trees of more than one block keep the largest reach of each block, so that a search goes only
//!   where it succeeds; but only for those alignments that a search in such a tree ever asked for
//!   in vain at its first leaf, and nobody pays for the others.
//! - An upper bound on the reach of each bin, under a tree of maxima
//!   ([`Maxima`](cma_bits::Maxima)), is kept for an alignment as soon as searches pass more than
//!   128 bins in vain on average.
//!
//! # Invariants
//!
//! [`check`](Allocator::check) asserts them, by these numbers.
//!
//! 1. The nodes linked from the sentinel cover the region in ascending order, without gap or
//!    overlap, and each knows its neighbours. All others are on the vacant list.
//! 2. No two neighbours are holes.
//! 3. Each hole is in its bin, once, with its rank and its node's number, and nothing else is. A
//!    bin's bit is set iff it is not empty, a word's bit iff the word is not 0.
//! 4. A block is in descending order and not empty, and what is unused is 0. The bounds of an inner
//!    block divide what it covers: a child has the ranks from its bound to the bound before, and
//!    the lowest bound is the block's own.
//! 5. All leaves of a tree are at one depth, and each block is in one tree or on the vacant list.
//! 6. A kept reach is exactly the largest of the holes below.
//! 7. A kept bound of a bin is not below the reach of any hole in it, and every number above is the
//!    maximum of those below it.
//!
//! # Cost
//!
//! With n chunks, h holes (at most n + 1; a twentieth to a seventh of n where sizes are mixed), and
//! b bins, of which a region has at most 11136 (two for three pages in a small one):
//!
//! | operation | time | memory it touches |
//! | --- | --- | --- |
//! | allocate, page aligned | O(log h) | bits, a bin, its block or its hole's node; unless the fit is exact, another bin and two or three nodes |
//! | allocate, aligned | O(log h) for each bin that is looked into: over a long run at most 128 on average; with bounds of bins the right one and outdated ones, at most as many as holes came before | the same for each |
//! | free | O(log h) | its node, what its neighbours are, a bin; for each hole beside it a node and a bin more |
//! | adopt | a few steps when in ascending order; else O(√n) expected | √n nodes |
//! | largest hole | O(log h) | |
//! | holes; check | O(n); O(n log n) | all |
//! | an alignment's first search that needs reaches | O(h), once | all blocks and holes |
//! | an alignment's first search that needs bounds of bins | O(b + h), once | the same and all bins |
//! | growing an array | O(1) amortised | all of it |
//!
//! From then on reaches cost every change in a tree of more than one block O(log h) for each
//! alignment they are kept for, and bounds of bins cost every new hole O(log16 b), mostly one step.
//!
//! Memory is 17 bytes for each node, 64 for each block, and 4 for each bin, which is 44 KiB at most
//! and about half a byte for a page at most. Where sizes are mixed that is 22 to 40 bytes a chunk.
//! Reaches take 4 for each block and alignment, bounds of bins 4.3 for each bin and alignment: 48
//! KiB at most. Arrays grow by a quarter and don't shrink; nothing else is allocated.
//!
//! # What it leaves out
//!
//! - An index by address. Only adopting could use one, and every other operation would pay for
//!   keeping it.
//! - Who asks. Placing by the expected lifetime of a chunk is another algorithm.

#![forbid(unsafe_code)]

mod bins;
mod block;
mod hole;
mod nodes;
mod trees;

use bins::Bins;
use cma_api::{
    Alignment, Allocator, AllocatorInfo, CannotAdopt, InitError, NoRoom, NotMine, PageRange, Pages,
    Params, Placement, Request, Tag,
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
    const INFO: AllocatorInfo = AllocatorInfo {
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
                let reason = format!(
                    "best-fit serves regions of a page or more and less than 8 TiB, not {region}"
                );
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
        if request.pages() > self.region.pages() {
            return Err(NoRoom);
        }
        let pages = request.pages().get() as u32;
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

    fn largest_request(&self) -> Pages {
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
    /// Makes `pages` pages from `start` on a chunk, and holes of what `hole` has besides. The hole
    /// is in no bin any more.
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
    fn relative(&self, range: PageRange) -> (u32, u32) {
        ((range.first_page() - self.region.first_page()) as u32, range.pages().get() as u32)
    }
}

#[cfg(test)]
mod tests;
