//! TLSF: two-level segregated fit, in which every request takes a bounded number of steps.
//!
//! The allocator of Masmano, Ripoll, Crespo and Real (*TLSF: a new dynamic memory allocator for
//! real-time systems*, ECRTS 2004), with its books outside the memory, and with alignment. It is
//! for systems that must bound the time of a request in advance: no operation that serves one
//! depends on the number of chunks or holes, except for a request at a fixed address, which is an
//! adoption; and after initialising none allocates or frees heap memory.
//!
//! # Terms
//!
//! Pages are counted from the region's start, so 32 bits are enough for regions of less than 8 TiB.
//!
//! A *node* is a chunk or a hole: its start, its pages, its neighbours in address order. A *class*
//! is a range of sizes that are treated alike: one size up to 127 pages, above that 1/64 of the
//! sizes of an octave. A class is *sure* for a request if every hole in it holds the request.
//!
//! # Structures
//!
//! - The nodes are stored in one flat array and a chunk's tag is the index of its node, so freeing
//!   needs no search. A ring through a sentinel links neighbours. A separate array has a bit for
//!   each node that is a chunk: most neighbours of a chunk are chunks, and this is known without
//!   fetching their nodes.
//! - Each class has a list of its holes, doubly linked through the nodes, with the most recently
//!   freed hole first.
//! - Two levels of bits record which classes have holes: a word for each power of two, and a word
//!   of those. Counting zeros twice finds the lowest or highest class with a hole.
//!
//! # Invariants
//!
//! [`check`](Allocator::check) verifies them, by these numbers.
//!
//! 1. The nodes linked from the sentinel cover the region in ascending order, without gap or
//!    overlap, and each links its neighbours.
//! 2. No two neighbours are holes.
//! 3. Every other node that was ever in use is on the vacant list, has no pages and is not taken.
//! 4. Each hole is in the list of its class, once, and nothing else is; each but the first of a
//!    list links the one before it.
//! 5. A class's bit is set iff its list is not empty, a word's bit iff the word is not 0.
//! 6. The number of taken nodes is that of the counted chunks, and at most [the
//!    limit](#parameters). So no more nodes are in use than were reserved: between `n` chunks there
//!    are at most `n + 1` holes.
//!
//! # How it works
//!
//! *Allocate* only looks at the first hole of a class. It first tries the class of the requested
//! size: so exact fits are found, also of a whole region. Then it uses the lowest sure class with a
//! hole, which always succeeds: good fit, as in the paper. The rest before and after the chunk
//! becomes holes.
//!
//! With an alignment, it first tries the first hole of the lowest class that may hold the chunk,
//! because chunks of one kind leave holes that are aligned for their kind. Then it tries the lowest
//! class that is sure for the size plus the alignment minus a page; if there is none, the highest
//! class. In the hole the chunk goes to the lowest aligned place. But if that leaves a gap before
//! the chunk, and the space after the chunk is a multiple of the alignment, it goes to the end, so
//! that one hole remains instead of two (section 4 of the specification).
//!
//! So a request without limits may be refused although another hole than the first of its class, or
//! one that is aligned by chance, would hold it. Looking at 4 or 16 holes of each class instead of
//! one made no significant difference to the number of refusals. For a page-aligned request both
//! steps imply that the largest request that is served is the first hole of the highest class,
//! which is what [`largest_request`](Allocator::largest_request) returns.
//!
//! With a window or a boundary it looks at holes from the class of the requested size up, and if
//! none of the first [`LOOKS`] serves, from the highest class down, again at [`LOOKS`]. In the hole
//! the chunk goes to the lowest place within the limits, or to the end on the same condition. So a
//! request with limits is refused although a hole would hold it only if more than [`LOOKS`] holes
//! are in the class of the requested size and above; and if it has only a boundary, only if also
//! the first hole of the highest class has less than twice its pages plus its alignment. In a
//! region of 1 GiB with random chunks of up to 256 pages, 70 % to 95 % full, at most 2 of 950
//! possible requests for an eighth of the region were refused, and 4 to 9 of 100 for a 64th.
//!
//! *Fit* is the search of allocate, without the rest of it.
//!
//! *Free* merges a chunk with the adjacent holes at once. *Adopt* works like allocate with a given
//! place; it walks to the hole from the chunk adopted last.
//!
//! # Cost
//!
//! In accesses to nodes, reads and writes; in addition there are a few words of bits for each hole
//! to look at. Only a request with limits loops, over these holes.
//!
//! | operation | at most |
//! | --- | --- |
//! | allocate, page-aligned | [`ALLOCATE`]: 2 holes to look at, 11 accesses in all |
//! | allocate, aligned | [`ALLOCATE_ALIGNED`]: 2 holes to look at, 19 accesses in all |
//! | allocate, with limits | [`ALLOCATE_LIMITED`]: 2 [`LOOKS`] holes to look at, 147 accesses in all |
//! | fit | the holes to look at |
//! | free | [`FREE`]: 20 accesses, when both neighbours are holes |
//! | largest request | 1 |
//! | adopt, in ascending order in an empty region | [`ADOPT`]: 19 accesses |
//! | adopt, otherwise | no bound: one more for each node between the chunk adopted last and this one |
//! | initialise | only the first node, but the lists are cleared and memory is requested from the system |
//! | holes, check | no bound: all nodes |
//!
//! Memory is 24 bytes and a bit for each node, and 7 KiB of lists and bits. There are twice as many
//! nodes as the most chunks, plus one, or one for each page of the region if that is fewer. All
//! memory is reserved when initialising; a refused adoption allocates the text of the reason. Nodes
//! are first written when they are needed, so that a generous number costs address space and not
//! memory. A process that can't afford these page faults locks its present and future memory before
//! initialising (`mlockall`), as such processes do anyway, and sets the number of chunks that it
//! needs.
//!
//! # Parameters
//!
//! `chunks=N`: at most N chunks are live at a time, adopted ones included. With N live chunks every
//! request is refused, and the largest request is 0. The default is one chunk for each page, up to
//! [`DEFAULT_CHUNKS`].
//!
//! # Omitted
//!
//! - Searching a list for a better hole: see above.
//! - An index by address. Only adopting could use one, and every request would pay for maintaining
//!   it.
//! - Use of the requester. Placing by the expected lifetime of a chunk is another algorithm.
#![forbid(unsafe_code)]

mod classes;
mod nodes;

use classes::{Class, Classes};
use cma_api::{
    Alignment, Allocator, AllocatorInfo, CannotAdopt, InitError, NoRoom, NotMine, PageRange, Pages,
    Params, Placement, Request, Tag,
};
use nodes::{Node, Nodes, SENTINEL};

/// The default of the parameter `chunks`, in regions of at least as many pages.
pub const DEFAULT_CHUNKS: u64 = 1 << 20;

/// The most accesses to nodes that a page-aligned request takes.
pub const ALLOCATE: u64 = 11;

/// The most accesses to nodes that a request with a larger alignment takes.
pub const ALLOCATE_ALIGNED: u64 = 19;

/// The most holes that a request with limits looks at from the lowest class up, and as many from
/// the highest class down.
pub const LOOKS: usize = 64;

/// The most accesses to nodes that a request with limits takes.
pub const ALLOCATE_LIMITED: u64 = 2 * LOOKS as u64 + 19;

/// The most accesses to nodes that freeing a chunk takes.
pub const FREE: u64 = 20;

/// The most accesses to nodes that adopting takes, when chunks are adopted in ascending order in an
/// empty region.
pub const ADOPT: u64 = 19;

/// The TLSF allocator. The [crate's documentation](crate) describes it.
#[derive(Debug)]
pub struct Tlsf {
    region: PageRange,
    nodes: Nodes,
    classes: Classes,
    /// The number of live chunks.
    live: u32,
    /// The most live chunks.
    most: u32,
    /// The node adopted last: the next one is probably close above it.
    adopted: u32,
}

impl Allocator for Tlsf {
    const INFO: AllocatorInfo = AllocatorInfo {
        name: "tlsf",
        version: env!("CARGO_PKG_VERSION"),
        description: "two-level segregated fit: every request in a bounded number of steps, no heap memory used after the start",
    };

    /// The region must have a page and less than 8 TiB. The parameter is `chunks`.
    fn new(region: PageRange, params: &str) -> Result<Self, InitError> {
        let mut params = Params::parse(params)?;
        let chunks = params.number("chunks")?;
        params.finish()?;
        let pages = match u32::try_from(region.pages().get()) {
            Ok(pages) if pages > 0 && pages < 1 << 31 => pages,
            _ => {
                let reason = format!(
                    "tlsf serves regions of a page or more and less than 8 TiB, not {region}"
                );
                return Err(InitError::new(reason));
            }
        };
        if chunks == Some(0) {
            return Err(InitError::new(
                "parameter \"chunks\" takes a number from 1 up, found \"0\"",
            ));
        }
        let most =
            u32::try_from(chunks.unwrap_or(DEFAULT_CHUNKS)).map_or(pages, |most| most.min(pages));
        let (mut nodes, hole) = Nodes::new(pages, Self::nodes_for(most, pages)).map_err(|_| {
            InitError::new(format!("there is not enough memory for the books of {most} chunks"))
        })?;
        let mut classes = Classes::new();
        classes.insert(hole, pages, &mut nodes);
        Ok(Tlsf { region, nodes, classes, live: 0, most, adopted: SENTINEL })
    }

    #[inline]
    fn allocate(&mut self, request: &Request) -> Result<Placement, NoRoom> {
        let (index, hole, start) = self.search(request).ok_or(NoRoom)?;
        #[allow(clippy::cast_possible_truncation, reason = "a region has fewer than 2^31 pages")]
        let pages = request.pages().get() as u32;
        let node = self.carve(index, hole, start, pages);
        self.live += 1;
        Ok(Placement { range: self.absolute(start, pages), tag: Tag(u64::from(node)) })
    }

    fn fit(&mut self, request: &Request) -> Option<PageRange> {
        self.search(request).map(|(_, hole, _)| self.absolute(hole.start, hole.pages))
    }

    #[inline]
    fn free(&mut self, chunk: Placement) -> Result<(), NotMine> {
        let (index, node) = self.nodes.chunk(chunk.tag.0).ok_or(NotMine)?;
        if self.absolute(node.start, node.pages) != chunk.range {
            return Err(NotMine);
        }
        let (mut kept, mut start, mut pages) = (index, node.start, node.pages);
        if self.nodes.is_taken(node.below) {
            self.nodes.clear_taken(index);
        } else {
            let below = self.nodes.get(node.below);
            self.classes.remove(node.below, below.pages, &mut self.nodes);
            self.nodes.remove(index);
            kept = node.below;
            start = below.start;
            pages += below.pages;
        }
        if !self.nodes.is_taken(node.above) {
            let above = self.nodes.get(node.above).pages;
            self.classes.remove(node.above, above, &mut self.nodes);
            self.nodes.remove(node.above);
            pages += above;
        }
        if pages != node.pages {
            self.nodes.resize(kept, start, pages);
        }
        self.classes.insert(kept, pages, &mut self.nodes);
        self.live -= 1;
        Ok(())
    }

    fn adopt(&mut self, range: PageRange) -> Result<Tag, CannotAdopt> {
        if range.pages() == Pages::ZERO || !range.within(self.region) {
            return Err(CannotAdopt::new(format!("{range} is not in the region {}", self.region)));
        }
        if self.live == self.most {
            return Err(CannotAdopt::new(format!(
                "there are {} chunks, which is the most allowed",
                self.most
            )));
        }
        let (start, pages) = self.relative(range);
        let (index, node) = self.nodes.holding(start, self.adopted);
        if self.nodes.is_taken(index) || pages > node.end() - start {
            let taken = if self.nodes.is_taken(index) { node } else { self.nodes.get(node.above) };
            let taken = self.absolute(taken.start, taken.pages);
            return Err(CannotAdopt::new(format!("{range} is in use, by {taken}")));
        }
        self.adopted = self.carve(index, node, start, pages);
        self.live += 1;
        Ok(Tag(u64::from(self.adopted)))
    }

    fn holes(&self, visit: &mut dyn FnMut(PageRange)) {
        for (_, node) in self.nodes.iter().filter(|&(index, _)| !self.nodes.is_taken(index)) {
            visit(self.absolute(node.start, node.pages));
        }
    }

    fn largest_request(&self) -> Pages {
        if self.live == self.most {
            return Pages::ZERO;
        }
        let highest =
            self.classes.highest().and_then(|class| self.classes.first(class, &self.nodes));
        Pages::new(highest.map_or(0, |(_, hole)| u64::from(hole.pages)))
    }

    fn check(&self) -> Result<(), String> {
        let (_, pages) = self.relative(self.region);
        self.nodes.check(pages)?;
        let (chunks, holes): (Vec<_>, Vec<_>) =
            self.nodes.iter().partition(|&(index, _)| self.nodes.is_taken(index));
        self.classes.check(&self.nodes, holes.len())?;
        let reserved = Self::nodes_for(self.most, pages) as usize;
        if chunks.len() != self.live as usize
            || self.live > self.most
            || self.nodes.used() > reserved
        {
            return Err(format!(
                "invariant 6: {} chunks, {} counted, {} allowed; {} nodes, {reserved} reserved",
                chunks.len(),
                self.live,
                self.most,
                self.nodes.used()
            ));
        }
        Ok(())
    }
}

impl Tlsf {
    /// The most nodes that `chunks` chunks and the holes between them need, in a region of `pages`
    /// pages.
    fn nodes_for(chunks: u32, pages: u32) -> u32 {
        (2 * chunks + 1).min(pages)
    }

    /// A hole with a place for `request`, and the place.
    #[inline]
    fn search(&self, request: &Request) -> Option<(u32, Node, u32)> {
        if self.live == self.most || request.pages() > self.region.pages() {
            return None;
        }
        #[allow(clippy::cast_possible_truncation, reason = "a region has fewer than 2^31 pages")]
        let pages = request.pages().get() as u32;
        if request.is_limited() {
            self.find_limited(pages, request)
        } else if request.alignment() == Alignment::PAGE {
            let (index, hole) = self.find(pages)?;
            Some((index, hole, hole.start))
        } else {
            self.find_aligned(pages, request.alignment())
        }
    }

    /// A hole for `pages` pages.
    #[inline]
    fn find(&self, pages: u32) -> Option<(u32, Node)> {
        let (plain, sure) = (Class::of(pages), Class::of_at_least(pages));
        if plain != sure
            && let Some((index, hole)) = self.classes.first(plain, &self.nodes)
            && hole.pages >= pages
        {
            return Some((index, hole));
        }
        self.classes.first(self.classes.next(sure)?, &self.nodes)
    }

    /// A hole with an aligned place for `pages` pages, and the place.
    #[inline]
    fn find_aligned(&self, pages: u32, alignment: Alignment) -> Option<(u32, Node, u32)> {
        let first_of = |class| {
            let (index, hole) = self.classes.first(class, &self.nodes)?;
            Some((index, hole, self.place(hole, pages, alignment)?))
        };
        first_of(self.classes.next(Class::of(pages))?).or_else(|| {
            // No hole is larger than the region: if only a larger one were sure, the highest class
            // is tried.
            let padded = u64::from(pages) + alignment.pages().get() - 1;
            #[allow(
                clippy::cast_possible_truncation,
                reason = "a region has fewer than 2^31 pages"
            )]
            let padded = padded.min(self.region.pages().get()) as u32;
            first_of(
                self.classes.next(Class::of_at_least(padded)).or_else(|| self.classes.highest())?,
            )
        })
    }

    /// A hole with a place for `request`, which has limits and `pages` pages, and the place.
    fn find_limited(&self, pages: u32, request: &Request) -> Option<(u32, Node, u32)> {
        let lowest = Class::of(pages);
        let ascending = self.classes.ascending(lowest, &self.nodes).take(LOOKS);
        let descending = self.classes.descending(lowest, &self.nodes).take(LOOKS);
        ascending.chain(descending).find_map(|(index, hole)| {
            let place = limited_place(self.absolute(hole.start, hole.pages), request)?;
            Some((index, hole, self.relative(place).0))
        })
    }

    /// The place in `hole` of an aligned chunk of `pages` pages.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "the place lies in the hole")]
    fn place(&self, hole: Node, pages: u32, alignment: Alignment) -> Option<u32> {
        let mask = alignment.pages().get() - 1;
        let first = self.region.first_page() + u64::from(hole.start);
        let gap = first.wrapping_neg() & mask;
        // The gap is less than 2^51 pages, so nothing wraps.
        let after = u64::from(hole.pages).checked_sub(gap + u64::from(pages))?;
        let ends_the_hole = gap > 0 && after & mask == 0;
        Some(hole.start + (if ends_the_hole { gap + after } else { gap }) as u32)
    }

    /// Turns `pages` pages at `start` into a chunk, and the rest of `hole` into holes.
    #[inline]
    fn carve(&mut self, index: u32, hole: Node, start: u32, pages: u32) -> u32 {
        let gap = start - hole.start;
        let after = hole.pages - gap - pages;
        self.classes.remove(index, hole.pages, &mut self.nodes);
        let chunk = if gap == 0 {
            index
        } else {
            self.nodes.resize(index, hole.start, gap);
            self.classes.insert(index, gap, &mut self.nodes);
            self.nodes.insert_above(index, start, pages)
        };
        self.nodes.set_taken(chunk);
        if after > 0 {
            self.nodes.resize(chunk, start, pages);
            let rest = self.nodes.insert_above(chunk, start + pages, after);
            self.classes.insert(rest, after, &mut self.nodes);
        }
        chunk
    }

    #[inline]
    fn absolute(&self, start: u32, pages: u32) -> PageRange {
        PageRange::from_pages(self.region.first_page() + u64::from(start), u64::from(pages))
    }

    /// The start and size of a range that lies in the region.
    #[allow(clippy::cast_possible_truncation, reason = "a region has fewer than 2^31 pages")]
    fn relative(&self, range: PageRange) -> (u32, u32) {
        ((range.first_page() - self.region.first_page()) as u32, range.pages().get() as u32)
    }
}

/// The lowest place in `hole` within the limits of `request`. But if that leaves a gap before the
/// chunk, and the highest place ends the hole, it is that one, so that one hole remains instead of
/// two.
fn limited_place(hole: PageRange, request: &Request) -> Option<PageRange> {
    let lowest = request.lowest_place(hole)?;
    if lowest.first_page() == hole.first_page() {
        return Some(lowest);
    }
    let highest = request.highest_place(hole);
    highest.filter(|place| place.end_page() == hole.end_page()).or(Some(lowest))
}

#[cfg(test)]
mod tests;
