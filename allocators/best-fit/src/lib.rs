//! Best fit: the smallest hole that can hold a chunk with its alignment and its limits.
//!
//! # The rule
//!
//! Of all holes in which the chunk has a place the smallest is used, and of equal ones the lowest.
//! In the hole the chunk goes to the lowest place. But if that leaves a gap before the chunk, and
//! the very end of the hole is a place too, it goes there, so that one hole remains instead of two.
//! A place is aligned, lies in the request's window and crosses no multiple of its boundary.
//! Freeing merges a chunk with the holes beside it. (Section 4 of the specification; the tie-break
//! by lowest address is ours, because it packs better, and so is the rule within limits.) The rule
//! is exact: a request is refused only if no hole can hold it. [`fit`](Allocator::fit) is the same
//! search as that of [`allocate`](Allocator::allocate).
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
//! - A *grid* is the set of places that an alignment and a boundary allow. The *reach* of a hole on
//!   a grid is the size in pages of the largest chunk that has a place in it; smaller ones then
//!   have one as well. Trees of several blocks store the largest reach of each block, so that a
//!   search descends only where it succeeds. They do so only for grids on which a search in such a
//!   tree failed in its first leaf; other grids cost nothing.
//! - An upper bound on the reach of each bin, under a tree of maxima
//!   ([`Maxima`](cma_bits::Maxima)), is kept for a grid as soon as searches look into more than 128
//!   bins without a place on average. Either index is kept for at most 32 grids; a further one
//!   replaces the oldest.
//! - A *window* needs no index. A hole has enough pages in the window iff its start is in a range
//!   that follows from its size. The holes of one size are consecutive and ordered by start, so a
//!   search steps to the first such start of each size that exists, and from the last one to the
//!   next size. (Databases call this a skip scan of an index on two columns.)
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
//! | allocate or fit, page-aligned | O(log h) | bits, a bin, its block or its hole's node; unless the fit is exact, another bin and two or three nodes |
//! | the same on another grid | O(log h) for each bin searched: over a long run at most 128 on average; with bounds of bins the right one and those with outdated bounds, at most as many as holes were created before | the same for each |
//! | the same in a window | that for each step: at most three for each size of hole from the request's up, of which there are fewer than √(2p) in p pages, and two more | the same for each |
//! | free | O(log h) | its node, the kinds of its neighbours, a bin; for each adjacent hole one more node and bin |
//! | adopt | a few steps in ascending order; else O(√n) expected | √n nodes |
//! | largest request | O(log h) | |
//! | holes; check | O(n); O(n log n) | all |
//! | first search on a grid that needs reaches | O(h), once for 32 grids in use | all blocks and holes |
//! | first search on a grid that needs bounds of bins | O(b + h), once for 32 grids in use | the same and all bins |
//! | growing an array | O(1) amortised | all of it |
//!
//! After that, reaches cost O(log h) for every change in a tree of several blocks and for each grid
//! with reaches; bounds of bins cost O(log16 b) for every new hole, mostly one step. If more than
//! 32 grids are in use at a time, each search may have to build its index again.
//!
//! Memory is 17 bytes per node, 64 per block, and 4 per bin. Bins take at most 44 KiB, and at most
//! about half a byte per page. With mixed sizes the total is 22 to 40 bytes per chunk. Reaches take
//! 4 bytes per block and grid, bounds of bins 4.3 bytes per bin and grid: at most 48 KiB for each.
//! Arrays grow by a quarter and don't shrink; nothing else is allocated.
//!
//! # Omitted
//!
//! - An index by address. Adopting could use one, and a search in a window smaller than the number
//!   of sizes of holes; every other operation would pay for maintaining it.
//! - Use of the requester. Placing by the expected lifetime of a chunk is another algorithm.

#![forbid(unsafe_code)]

mod bins;
mod block;
mod hole;
mod trees;

use bins::{Bins, Found};
use cma_api::{
    Alignment, Allocator, AllocatorInfo, CannotAdopt, InitError, NoRoom, NotMine, PageRange, Pages,
    Params, Placement, Request, Tag,
};
use cma_bits::{Nodes, SENTINEL};
use hole::{Grid, Hole, Window, limited_place};
use trees::Wanted;

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
    /// The number of holes that searches within limits looked at.
    #[cfg(test)]
    candidates: u64,
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
        Ok(BestFit {
            region,
            nodes,
            bins,
            adopted: SENTINEL,
            random: 0,
            #[cfg(test)]
            candidates: 0,
        })
    }

    #[inline]
    fn allocate(&mut self, request: &Request) -> Result<Placement, NoRoom> {
        let (found, start) = self.find(request).ok_or(NoRoom)?;
        let pages = request.pages().get() as u32;
        self.bins.take(&found, &self.nodes);
        let node = self.carve(found.hole, found.node, start, pages);
        Ok(Placement { range: self.absolute(start, pages), tag: Tag(u64::from(node)) })
    }

    fn fit(&mut self, request: &Request) -> Option<PageRange> {
        let hole = self.find(request)?.0.hole;
        Some(self.absolute(hole.start(), hole.pages()))
    }

    #[inline]
    fn free(&mut self, chunk: Placement) -> Result<(), NotMine> {
        let (index, node) = self.nodes.chunk(chunk.tag.0).ok_or(NotMine)?;
        if self.absolute(node.start, node.pages) != chunk.range {
            return Err(NotMine);
        }
        let (mut kept, mut start, mut pages) = (index, node.start, node.pages);
        if !self.nodes.is_taken(node.prev) {
            let before = Hole::of_node(&self.nodes, node.prev);
            self.bins.remove(before, node.prev, &self.nodes);
            self.nodes.remove(index);
            kept = node.prev;
            start = before.start();
            pages += before.pages();
        } else {
            self.nodes.clear_taken(index);
        }
        if !self.nodes.is_taken(node.next) {
            let after = Hole::of_node(&self.nodes, node.next);
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
    /// The hole that the rule selects, and the place in it.
    #[inline]
    fn find(&mut self, request: &Request) -> Option<(Found, u32)> {
        if request.pages() > self.region.pages() {
            return None;
        }
        let pages = request.pages().get() as u32;
        if request.is_limited() {
            return self.find_limited(request, pages);
        }
        if request.alignment() == Alignment::PAGE {
            let found = self.bins.first_from(Hole::least(pages), &self.nodes)?;
            return Some((found, found.hole.start()));
        }
        let wanted = Wanted { pages, grid: Grid::aligned(self.region, request.alignment()) };
        let mut search = self.bins.search(wanted);
        let found = self.bins.first_placing(Hole::least(pages), &mut search, &self.nodes)?;
        Some((found, wanted.grid.place(found.hole, pages)))
    }

    /// The same within limits.
    ///
    /// The candidates are the holes with a place on the grid of alignment and boundary and with
    /// enough pages in the window. Those of one size are consecutive in the order of holes, so each
    /// size takes one or two steps. A candidate has a place unless the window's start or end is in
    /// it.
    #[inline(never)]
    fn find_limited(&mut self, request: &Request, pages: u32) -> Option<(Found, u32)> {
        let window = Window::of(request, self.region)?;
        let wanted = Wanted { pages, grid: Grid::of(request, self.region) };
        let mut search = self.bins.search(wanted);
        let mut least = window.first(pages);
        loop {
            let found = if wanted.grid.has_every_page() {
                self.bins.first_from(least, &self.nodes)?
            } else {
                self.bins.first_placing(least, &mut search, &self.nodes)?
            };
            #[cfg(test)]
            {
                self.candidates += 1;
            }
            let hole = self.absolute(found.hole.start(), found.hole.pages());
            if let Some(place) = limited_place(request, hole) {
                return Some((found, self.relative(place).0));
            }
            least = window.after(found.hole)?;
        }
    }

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

#[cfg(test)]
mod tests;
