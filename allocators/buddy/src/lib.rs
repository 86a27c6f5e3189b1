//! Buddy: power-of-two blocks that split and merge.
//!
//! Knowlton's buddy system (*A fast storage allocator*, 1965), with its books outside the memory,
//! and without its waste: a chunk takes exactly its pages, for any number of pages.
//!
//! # Terms
//!
//! A *block* of order `k` is 2^k pages that start at a multiple of 2^k, in absolute page numbers,
//! so that a block's alignment is that of its address. Its *buddy* is the other half of the block
//! of order `k + 1` that contains it. A *run* is a maximal sequence of adjacent free blocks: a
//! hole. The *parts* of a range are the fewest blocks that make it up; any range of `n` pages has
//! at most two of each order.
//!
//! # Structures
//!
//! For each order one set of numbers, a tree of bits ([`BitTree`]): the free blocks of that order,
//! by their position in the region. One word has a bit for each order that has a free block. Live
//! chunks are not recorded.
//!
//! # Invariants
//!
//! [`check`](Allocator::check) verifies them, by these numbers.
//!
//! 1. The summaries of each set agree with its blocks.
//! 2. Bit `k` of the word is set iff there is a free block of order `k`.
//! 3. Every free block lies in the region.
//! 4. No two free blocks share a page.
//! 5. No two free blocks below the largest order are buddies: they would have merged. So every run
//!    consists of the fewest blocks possible, its parts.
//!
//! # How it works
//!
//! *Allocate* chooses, of all free blocks that hold request and alignment, the one at the lowest
//! address, and of that block the first pages; the parts of the rest become free. A smaller block
//! further up would be split less, but address order keeps the upper part of the region whole:
//! with the least split, recorded programs were refused requests in regions of twice their peak
//! (`docs/performance.md`). A chunk that is a block itself, 2^k pages that are aligned to no more,
//! goes into the smallest block, of these the lowest: that is one step, and what it splits off are
//! larger blocks. If there is no block that holds the request, the place must be in a run of
//! several. A run of `n` pages has a block of more than `n / 4` pages, so runs are found by their
//! blocks of the few possible orders, from the largest order down and the lowest address up. At
//! most [`RUNS`] runs are looked at, so a request may be refused although a further run would hold
//! it. [`largest_request`](Allocator::largest_request) looks at the same runs, so a request of the
//! size that it returns is served.
//!
//! With a window or a boundary it chooses the lowest order with a block that holds the request
//! within the limits, and of that order the lowest such block. Only the lowest two blocks of an
//! order with a page in the window need a look: the first page of a block serves every alignment
//! and boundary up to the block's size, so only the end of the window or, in a block that begins
//! below it, its start can be in the way. If there is no such block, the first [`RUNS`] runs with a
//! page in the window are looked at, in the same order. So a request with limits is refused
//! although a hole would hold it only if no single block that is large enough for size and
//! alignment does and the search of runs ends before the hole.
//!
//! *Fit* is the search of allocate; its answer is the whole run around the block.
//!
//! *Free* frees the parts of the chunk, each of which merges with its buddy as long as that is
//! free. *Adopt* removes any free range from its blocks.
//!
//! # Cost
//!
//! With `o` orders (`o` <= log2 of the region's pages, + 1) and the height `h` of a set (at most 6
//! words): allocate and free take O(o + h) steps if the request is a power of two, O(o h) otherwise
//! or with limits; looking at runs takes up to [`RUNS`] times O(o^2) more. The cost doesn't depend
//! on the number of chunks. Memory is about 2 bits per page, and only for parts that were accessed.
//!
//! # Parameters
//!
//! `max-order=N`, with N from 0 to 52 ([`MAX_ORDER`]): the largest blocks have 2^N pages. If all
//! chunks of a region have one size, 2^N pages, that saves every split and every merge. The price
//! is that larger requests and alignments are always searched for in runs, and that a run costs a
//! step for each 64 of its blocks.
//!
//! # Omitted
//!
//! Records of chunks: a double free is detected as long as the first part of the chunk has not
//! merged. A caller for whom double frees are possible keeps such records anyway.
//!
//! Packing: a chunk goes into the lowest block, not where a hole fits best, and adjacent free
//! blocks that aren't buddies stay separate. If packing matters, use best fit. There is no
//! lazy merging: with bits, a merge costs about as much as deciding against it.
#![forbid(unsafe_code)]

mod blocks;

use blocks::{Block, Blocks};
use cma_api::{
    Allocator, AllocatorInfo, CannotAdopt, InitError, NoRoom, NotMine, PageRange, Pages, Params,
    Placement, Request, Tag,
};
#[cfg(doc)]
use cma_bits::BitTree;

/// The most runs that one request looks at. In nearly full regions, four times as many save one
/// refusal in ten at best, and double the time of the average request.
pub const RUNS: usize = 16;

/// The largest value of `max-order`: no region has more than 2^52 pages.
pub const MAX_ORDER: u32 = PageRange::ADDRESS_SPACE_PAGES.ilog2();

/// The buddy allocator. The crate's documentation describes it.
#[derive(Debug)]
pub struct Buddy {
    free: Blocks,
}

impl Buddy {
    /// The place for `request`, and a free block of the hole in which it lies.
    #[inline]
    fn search(&self, request: &Request) -> Option<(Block, PageRange)> {
        let (pages, alignment) = (request.pages().get(), request.alignment().pages().get());
        let order = pages.next_power_of_two().max(alignment).trailing_zeros();
        if request.is_limited() {
            return self.search_limited(request, order);
        }
        let is_whole_block = pages == 1 << order;
        let block = match is_whole_block {
            true => self.free.smallest_block(order),
            false => self.free.lowest_block(order),
        };
        match block {
            Some(block) => Some((block, PageRange::from_pages(block.first(), pages))),
            None => self.search_runs(request, self.free.region()),
        }
    }

    /// As [`search`](Self::search), within the limits of `request`. Each block of `order` or above
    /// that starts in the window holds the request in its first pages, if these end in the window:
    /// a block crosses no multiple of a boundary that is larger, and starts at a multiple of one
    /// that isn't.
    fn search_limited(&self, request: &Request, order: u32) -> Option<(Block, PageRange)> {
        let window = request.window().common(self.free.region())?;
        let place_in = |block: Block| Some((block, request.lowest_place(block.range())?));
        let mut blocks = self.free.blocks_above(window.first_page(), order);
        blocks.find_map(place_in).or_else(|| self.search_runs(request, window))
    }

    /// The lowest place in the first run with a page in `window` that has one.
    fn search_runs(&self, request: &Request, window: PageRange) -> Option<(Block, PageRange)> {
        let lowest_order = request.pages().get().ilog2().saturating_sub(1);
        let mut runs = self.free.runs(lowest_order, window).take(RUNS);
        runs.find_map(|(block, run)| Some((block, request.lowest_place(run)?)))
    }
}

impl Allocator for Buddy {
    const INFO: AllocatorInfo = AllocatorInfo {
        name: "buddy",
        version: env!("CARGO_PKG_VERSION"),
        description: "power-of-two blocks that split and merge; fast, the same for any number of chunks",
    };

    fn new(region: PageRange, params: &str) -> Result<Self, InitError> {
        let mut params = Params::parse(params)?;
        let max_order = match params.number("max-order")? {
            None => MAX_ORDER,
            Some(order) => {
                u32::try_from(order).ok().filter(|order| *order <= MAX_ORDER).ok_or_else(|| {
                    let reason = format!(
                        "parameter \"max-order\" takes 0 to {MAX_ORDER}, found \"{order}\""
                    );
                    InitError::new(reason)
                })?
            }
        };
        params.finish()?;
        if region.pages() == Pages::ZERO || region.end_page() > PageRange::ADDRESS_SPACE_PAGES {
            return Err(InitError::new(format!(
                "the region {region} is not in the 64-bit address space"
            )));
        }
        let free = Blocks::new(region, max_order).map_err(|reason| {
            InitError::new(format!("the region {region} is too large: {reason}"))
        })?;
        Ok(Buddy { free })
    }

    #[inline]
    fn allocate(&mut self, request: &Request) -> Result<Placement, NoRoom> {
        let (block, range) = self.search(request).ok_or(NoRoom)?;
        if block.first() <= range.first_page() && range.end_page() <= block.end() {
            self.free.take_from(block, range);
        } else {
            self.free.take(range);
        }
        Ok(Placement { range, tag: Tag::default() })
    }

    fn fit(&mut self, request: &Request) -> Option<PageRange> {
        self.search(request).map(|(block, _)| self.free.run_of(block))
    }

    #[inline]
    fn free(&mut self, chunk: Placement) -> Result<(), NotMine> {
        let range = chunk.range;
        if range.pages() == Pages::ZERO
            || !range.within(self.free.region())
            || self.free.has_part_of(range)
        {
            return Err(NotMine);
        }
        self.free.release(range);
        Ok(())
    }

    fn adopt(&mut self, range: PageRange) -> Result<Tag, CannotAdopt> {
        if range.pages() == Pages::ZERO {
            return Err(CannotAdopt::new("the range has no page"));
        }
        if !range.within(self.free.region()) {
            return Err(CannotAdopt::new(format!(
                "{range} is not inside the region {}",
                self.free.region()
            )));
        }
        let free_to = self.free.free_to(range.first_page());
        if free_to < range.end_page() {
            return Err(CannotAdopt::new(format!("page {free_to:#x} of {range} is in use")));
        }
        self.free.take(range);
        Ok(Tag::default())
    }

    fn holes(&self, visit: &mut dyn FnMut(PageRange)) {
        self.free.holes(visit);
    }

    fn largest_request(&self) -> Pages {
        // The run with the largest block has at least that block's pages, and a run whose largest
        // block is two orders below has fewer.
        let Some(order) = self.free.largest_order() else { return Pages::ZERO };
        let runs = self.free.runs(order.saturating_sub(1), self.free.region()).take(RUNS);
        runs.map(|(_, run)| run.pages()).max().unwrap_or(Pages::ZERO)
    }

    fn check(&self) -> Result<(), String> {
        self.free.check()
    }
}

#[cfg(test)]
mod tests;
