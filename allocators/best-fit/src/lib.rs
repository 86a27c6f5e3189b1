//! Best fit: the smallest hole that can hold a chunk with its alignment.
//!
//! # The rule
//!
//! Of all holes in which the chunk has a place the smallest is used, and of equal ones the lowest.
//! In the hole the chunk goes to the lowest aligned place. But if that leaves a gap before the
//! chunk, and the space after the chunk is a multiple of the alignment, it goes to the end of the
//! hole, so that one hole remains instead of two. Freeing merges a chunk with the holes beside it.
//! (Section 4 of the specification; the tie-break by lowest address is ours, because it packs
//! better.) The rule is exact: a request is refused only if no hole can hold it.
//!
//! # Terms and structures
//!
//! Pages are counted from the region's start, so 31 bits are enough for regions of less than 8 TiB.
//!
//! - A *node* is a chunk or a hole: start, pages, and its neighbours in address order. Nodes are
//!   stored in one flat array, and a chunk's tag is the index of its node, so freeing needs no
//!   search. The nodes form a ring through a sentinel. A separate array stores whether a node is a
//!   chunk: most neighbours of a chunk are chunks, and this is known without fetching their nodes.
//! - An *octave* has the holes of the sizes from a power of two to the next. The remaining bits of
//!   size and start, concatenated, are a hole's *rank*, which is unique in the octave and sorts by
//!   the rule. The rank's upper bits select the *bin*: a bin of small holes, which are many, has
//!   those of one size in one part of the region; a bin of large holes has those of a few sizes.
//!   Holes of 1 MiB and more are few and have fewer bins. Two levels of bits record which bins are
//!   not empty; counting trailing zeros finds the first relevant one.
//! - Best fit leaves few holes, because most requests find a hole of exactly their size and use it
//!   up. There are so many bins that most holes are alone in theirs; such a bin stores only the
//!   hole's node (and the branch on this case is predictable). Other bins have a *tree* of one
//!   *block*: a cache line of up to seven ranks with their nodes, in descending order, so that
//!   removing the first hole removes the last entry. A tree of several blocks is a B+ tree.
//! - The *reach* of a hole for an alignment is the size in pages of the largest chunk with that
//!   alignment in it. Trees of several blocks store the largest reach of each block, so that a
//!   search descends only where it succeeds. They do so only for alignments with which a search in
//!   such a tree failed in its first leaf; other alignments cost nothing.
//! - An upper bound on the reach of each bin, under a tree of maxima
//!   ([`Maxima`](cma_bits::Maxima)), is kept for an alignment as soon as searches look into more
//!   than 128 bins without a place on average.
//!
//! # Invariants
//!
//! [`check`](Allocator::check) asserts them, by these numbers.
//!
//! 1. The nodes linked from the sentinel cover the region in ascending order, without gap or
//!    overlap, and each links its neighbours. All other nodes are on the vacant list.
//! 2. No two neighbours are holes.
//! 3. Each hole is in its bin, once, with its rank and its node's index, and nothing else is. A
//!    bin's bit is set iff the bin is not empty, a word's bit iff the word is not 0.
//! 4. A block is in descending order and not empty, and its unused entries are 0. The bounds of an
//!    inner block partition its range: a child has the ranks from its bound to the bound before,
//!    and the lowest bound is the block's own.
//! 5. All leaves of a tree are at one depth, and each block is in one tree or on the vacant list.
//! 6. A stored reach is exactly the largest of the holes below.
//! 7. A stored bound of a bin is not below the reach of any hole in it, and every number in the
//!    tree of maxima is the maximum of those below it.
//!
//! # Cost
//!
//! With n chunks, h holes (at most n + 1; n/20 to n/7 for mixed sizes), and b bins, of which a
//! region has at most 11136 (two for three pages in a small region):
//!
//! | operation | time | memory accessed |
//! | --- | --- | --- |
//! | allocate, page-aligned | O(log h) | bits, a bin, its block or its hole's node; unless the fit is exact, another bin and two or three nodes |
//! | allocate, aligned | O(log h) for each bin searched: over a long run at most 128 on average; with bounds of bins the right one and those with outdated bounds, at most as many as holes were created before | the same for each |
//! | free | O(log h) | its node, the kinds of its neighbours, a bin; for each adjacent hole one more node and bin |
//! | adopt | a few steps in ascending order; else O(√n) expected | √n nodes |
//! | largest request | O(log h) | |
//! | holes; check | O(n); O(n log n) | all |
//! | first search of an alignment that needs reaches | O(h), once | all blocks and holes |
//! | first search of an alignment that needs bounds of bins | O(b + h), once | the same and all bins |
//! | growing an array | O(1) amortised | all of it |
//!
//! After that, reaches cost O(log h) for every change in a tree of several blocks and for each
//! alignment with reaches; bounds of bins cost O(log16 b) for every new hole, mostly one step.
//!
//! Memory is 17 bytes per node, 64 per block, and 4 per bin. Bins take at most 44 KiB, and at most
//! about half a byte per page. With mixed sizes the total is 22 to 40 bytes per chunk. Reaches take
//! 4 bytes per block and alignment, bounds of bins 4.3 bytes per bin and alignment: at most 48 KiB.
//! Arrays grow by a quarter and don't shrink; nothing else is allocated.
//!
//! # Omitted
//!
//! - An index by address. Only adopting could use one, and every other operation would pay for
//!   maintaining it.
//! - Use of the requester. Placing by the expected lifetime of a chunk is another algorithm.

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

/// The best-fit allocator. The [crate's documentation](crate) describes it.
#[derive(Debug)]
pub struct BestFit {
    region: PageRange,
    nodes: Nodes,
    bins: Bins,
    /// The node adopted last: the next one is probably close after it.
    adopted: u32,
    /// The state of the random generator for adopting.
    random: u64,
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
        Ok(BestFit { region, nodes, bins, adopted: SENTINEL, random: 0 })
    }

    #[inline]
    fn allocate(&mut self, request: &Request) -> Result<Placement, NoRoom> {
        if request.is_limited() {
            let place = self.limited_place(request).ok_or(NoRoom)?.1;
            let tag = self.adopt(place).map_err(|_| NoRoom)?;
            return Ok(Placement { range: place, tag });
        }
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

    fn fit(&mut self, request: &Request) -> Option<PageRange> {
        self.limited_place(request).map(|(hole, _)| hole)
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
            let after = self.nodes.hole(node.next);
            self.bins.remove(after, node.next, &self.nodes);
            self.nodes.remove(node.next);
            pages += after.pages();
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
        let found = self.nodes.holding(start, self.adopted, &mut self.random);
        let node = self.nodes.get(found);
        if self.nodes.is_taken(found) || pages > node.pages - (start - node.start) {
            let taken = if self.nodes.is_taken(found) { node } else { self.nodes.get(node.next) };
            let taken = self.absolute(taken.start, taken.pages);
            return Err(CannotAdopt::new(format!("{range} is in use, by {taken}")));
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
    /// Turns `pages` pages at `start` into a chunk, and the rest of `hole` into holes. The hole
    /// must have been removed from its bin.
    #[inline]
    fn carve(&mut self, hole: Hole, node: u32, start: u32, pages: u32) -> u32 {
        let gap = start - hole.start();
        let after = hole.pages() - gap - pages;
        let chunk = if gap == 0 {
            node
        } else {
            self.nodes.resize(node, hole.start(), gap);
            self.bins.insert(Hole::new(gap, hole.start()), node, &self.nodes);
            self.nodes.insert_after(node, start, pages)
        };
        self.nodes.set_taken(chunk);
        if after > 0 {
            self.nodes.resize(chunk, start, pages);
            let rest = self.nodes.insert_after(chunk, start + pages, after);
            self.bins.insert(Hole::new(after, start + pages), rest, &self.nodes);
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

impl BestFit {
    /// The smallest hole that can hold the request within its limits, and the place in it.
    fn limited_place(&self, request: &Request) -> Option<(PageRange, PageRange)> {
        let mut found: Option<(PageRange, PageRange)> = None;
        self.holes(&mut |hole| {
            if let Some(lowest) = request.lowest_place(hole)
                && found.is_none_or(|(smallest, _)| hole.pages() < smallest.pages())
            {
                let last = PageRange::from_pages(
                    hole.end_page() - request.pages().get(),
                    request.pages().get(),
                );
                let ends = lowest.first_page() > hole.first_page() && request.accepts(last);
                found = Some((hole, if ends { last } else { lowest }));
            }
        });
        found
    }
}

#[cfg(test)]
mod tests;
