//! TLSF draft.
#![forbid(unsafe_code)]

mod classes;
mod nodes;

use classes::{Class, Classes};
use cma_api::{
    Alignment, Allocator, CannotAdopt, Info, InitError, NoRoom, NotMine, PageRange, Pages, Params, Placement,
    Request, Tag,
};
use nodes::{Node, Nodes, SENTINEL};

/// Probes.
pub const PROBES: usize = 4;
/// Default.
pub const MOST_CHUNKS: u64 = 1 << 20;

/// The TLSF allocator. See the [crate's text](crate) for how it works.
#[derive(Debug)]
pub struct Tlsf {
    region: PageRange,
    nodes: Nodes,
    classes: Classes,
    live: u32,
    chunks: u32,
    /// The node adopted last: the next one is probably close above.
    adopted: u32,
}

impl Allocator for Tlsf {
    const INFO: Info = Info {
        name: "tlsf",
        version: env!("CARGO_PKG_VERSION"),
        description: "two-level segregated fit: every request in a bounded number of steps, no memory taken after the start",
    };

    fn new(region: PageRange, params: &str) -> Result<Self, InitError> {
        let mut params = Params::parse(params)?;
        let chunks = params.number("chunks")?;
        params.finish()?;
        let pages = match u32::try_from(region.pages().get()) {
            Ok(pages) if pages > 0 && pages < 1 << 31 => pages,
            _ => {
                let reason = format!("tlsf serves regions of a page or more and less than 8 TiB, not {region}");
                return Err(InitError::new(reason));
            }
        };
        if chunks == Some(0) {
            return Err(InitError::new("parameter \"chunks\" must be 1 or more"));
        }
        let chunks = chunks.unwrap_or(MOST_CHUNKS).min(u64::from(pages)) as u32;
        let most = (2 * chunks + 1).min(pages);
        let (mut nodes, hole) = Nodes::new(pages, most).map_err(|_| {
            InitError::new(format!("there is no memory for the nodes of {chunks} chunks"))
        })?;
        let mut classes = Classes::new();
        classes.insert(hole, pages, &mut nodes);
        Ok(Tlsf { region, nodes, classes, live: 0, chunks, adopted: SENTINEL })
    }

    #[inline]
    fn allocate(&mut self, request: &Request) -> Result<Placement, NoRoom> {
        if self.live == self.chunks || request.pages() > self.region.pages() {
            return Err(NoRoom);
        }
        let pages = request.pages().get() as u32;
        let (start, node) = if request.alignment() == Alignment::PAGE {
            let (index, hole) = self.find(pages).ok_or(NoRoom)?;
            (hole.start, self.carve(index, hole, hole.start, pages))
        } else {
            let (index, hole, start) = self.find_aligned(pages, request.alignment()).ok_or(NoRoom)?;
            (start, self.carve(index, hole, start, pages))
        };
        self.live += 1;
        Ok(Placement { range: self.absolute(start, pages), tag: Tag(u64::from(node)) })
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
        if self.live == self.chunks {
            return Err(CannotAdopt::new(format!("all of {} chunks are in use", self.chunks)));
        }
        let (start, pages) = self.relative(range);
        let (index, node) = self.nodes.holding(start, self.adopted);
        if self.nodes.is_taken(index) || pages > node.end() - start {
            let taken = if self.nodes.is_taken(index) { node } else { self.nodes.get(node.above) };
            let taken = self.absolute(taken.start, taken.pages);
            return Err(CannotAdopt::new(format!("{range} is in use already, by {taken}")));
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

    fn largest_hole(&self) -> Pages {
        if self.live == self.chunks {
            return Pages::ZERO;
        }
        let Some(highest) = self.classes.highest() else { return Pages::ZERO };
        let holes = self.classes.holes(highest, &self.nodes).take(PROBES);
        Pages::new(holes.map(|(_, hole)| u64::from(hole.pages)).max().unwrap_or(0))
    }

    fn check(&self) -> Result<(), String> {
        let (_, pages) = self.relative(self.region);
        self.nodes.check(pages)
    }
}

impl Tlsf {
    #[inline]
    fn find(&self, pages: u32) -> Option<(u32, Node)> {
        let (class, roomy) = (Class::of(pages), Class::of_at_least(pages));
        if class != roomy {
            let mut probed = self.classes.holes(class, &self.nodes).take(PROBES);
            if let Some(found) = probed.find(|(_, hole)| hole.pages >= pages) {
                return Some(found);
            }
        }
        let index = self.classes.first(self.classes.next(roomy)?);
        Some((index, self.nodes.get(index)))
    }

    fn find_aligned(&self, pages: u32, alignment: Alignment) -> Option<(u32, Node, u32)> {
        let probe = |class: Class| {
            self.classes.holes(class, &self.nodes).take(PROBES).find_map(|(index, hole)| {
                Some((index, hole, self.place(hole, pages, alignment)?))
            })
        };
        if let Some(found) = probe(self.classes.next(Class::of(pages))?) {
            return Some(found);
        }
        let most = alignment.pages().get() - 1 + u64::from(pages);
        if most <= self.region.pages().get()
            && let Some(class) = self.classes.next(Class::of_at_least(most as u32))
        {
            return probe(class);
        }
        probe(self.classes.highest()?)
    }

    /// Where in `hole` a chunk goes.
    #[inline]
    fn place(&self, hole: Node, pages: u32, alignment: Alignment) -> Option<u32> {
        let mask = alignment.pages().get() - 1;
        let base = self.region.first_page();
        let first = base + u64::from(hole.start);
        let gap = first.wrapping_neg() & mask;
        let behind = u64::from(hole.pages).checked_sub(gap + u64::from(pages))?;
        let gap = if gap > 0 && behind & mask == 0 { gap + behind } else { gap };
        Some(hole.start + gap as u32)
    }

    /// Makes `pages` pages from `start` on a chunk, and holes of what `hole` has besides.
    #[inline]
    fn carve(&mut self, index: u32, hole: Node, start: u32, pages: u32) -> u32 {
        let gap = start - hole.start;
        let behind = hole.pages - gap - pages;
        self.classes.remove(index, hole.pages, &mut self.nodes);
        let chunk = if gap == 0 {
            index
        } else {
            self.nodes.resize(index, hole.start, gap);
            self.classes.insert(index, gap, &mut self.nodes);
            self.nodes.insert_above(index, start, pages)
        };
        self.nodes.set_taken(chunk);
        if behind > 0 {
            self.nodes.resize(chunk, start, pages);
            let rest = self.nodes.insert_above(chunk, start + pages, behind);
            self.classes.insert(rest, behind, &mut self.nodes);
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
