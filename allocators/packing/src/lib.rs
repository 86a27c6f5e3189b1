//! Packing: best fit that keeps small and large chunks at opposite ends of the region.
//!
//! # The rule
//!
//! Best fit chooses a hole by its size alone, so small chunks come to lie wherever a hole of about
//! their size is. Between two large chunks such a chunk stays when both have been freed, and splits
//! what would be one hole: most of what a region must have beyond the live bytes is lost so. Here a
//! hole has a *cost* in octaves (doublings), and the hole of least cost is used:
//!
//! - log2 of the hole's size, as in best fit, rounded down to an eighth of an octave; in the
//!   chunk's own eighth, [`OWN_GRADE`] less,
//! - plus the *slope* of the request times the chunk's distance from the region's start, in
//!   regions.
//!
//! The slope grows with the logarithm of the region's size over the chunk's: [`STEEPNESS`] octaves
//! for each octave by which the chunk is smaller than 1 / [`SHARE`] of the region, at most
//! [`STEEPEST`]; for larger chunks it is negative. So small chunks gather at the start, the largest
//! at the end, and each size has its place between. A hole at the wrong end is used all the same if
//! those at the right end are much larger: there is no border that could be at the wrong place.
//!
//! A chunk goes to the end of its hole that the slope prefers, unless that leaves two holes and the
//! other end leaves one. Among holes of one grade (below) the one that the slope prefers is used.
//! The rule is exact: a request is refused only if no hole can hold it. [`fit`](Allocator::fit) is
//! the same search as that of [`allocate`](Allocator::allocate).
//!
//! To keep sizes apart is an old remedy for fragmentation (Wilson, Johnstone, Neely and Boles,
//! *Dynamic Storage Allocation: A Survey and Critical Review*, 1995). The trade against the size of
//! the hole is ours, and so are its numbers, which were searched on recorded traces.
//! `docs/performance.md` has the results, and what else was tried. To keep lifetimes apart, as Maas
//! and others do (*Learning-based Memory Allocation for C++ Server Workloads*, ASPLOS 2020), is
//! among that: added to this rule, lifetimes that were learned for each requester and size gained
//! nothing that a small change of the other numbers doesn't gain or lose as well. So nothing is
//! learned while the allocator works, and there is no state that grows with time.
//!
//! # Parameters
//!
//! `steepness=F`, `share=F`, `steepest=F` and `own-grade=F` replace [`STEEPNESS`], [`SHARE`],
//! [`STEEPEST`] and [`OWN_GRADE`]: decimal fractions from 0 to 32, `share` from 1 to 65536. With
//! `steepness=0` the rule is best fit by eighths of an octave. `cma size` tells what other numbers
//! need on a trace: `cma size --allocator 'packing(steepness=0.4,share=50)' TRACE`.
//!
//! `profile=FILE` reads numbers that suit a program from a file, which `cma size --learn FILE
//! TRACE...` writes; [`Profile`] has its form. A number beside it replaces that of the file. The
//! file is read when a region gets the allocator, and a relative path is relative to the working
//! directory of the process, so a service names the whole path. A path can't contain commas and
//! parentheses, nor begin or end with white space. If the file is missing or wrong the allocator
//! does not start, as with any wrong parameter.
//!
//! # A profile that does not fit
//!
//! Numbers that suit one program can cost another one more than those without a profile. So a
//! profile also says how the requested pages of its recordings are distributed over
//! [sizes](Sizes), after 16 requests, 32 and so on ([`Beginning`]). When as many have been served,
//! both distributions are compared: from then on the numbers of the profile are in use if at most a
//! fifth of the pages are of other sizes ([`LIKE`]), and else those that the allocator has without
//! a profile. After a whole recording that is done again after each half of one, and older requests
//! count less. A program whose requests never look like those of the recordings has every chunk
//! where it would be without a profile.
//!
//! The numbers can change while chunks are live, because a cost is a function of holes and position
//! alone: no structure depends on them.
//!
//! # Structures
//!
//! Pages are counted from the region's start, so 31 bits are enough for regions of less than 8 TiB.
//!
//! - Chunks and holes are [`Nodes`]; a chunk's tag is the index of its node.
//! - A *grade* has the holes of an eighth of an octave, as a set in the order of addresses. An
//!   array has the first and the last hole of each grade, a bit for each grade tells whether it has
//!   any. Within a grade only the position decides, so the first hole from the preferred end that
//!   can hold the chunk is the grade's best. A search goes through the grades upwards from that of
//!   the request, and ends at the first from which on no position can cost less than the best hole
//!   so far.
//! - The lowest holes of a grade are in an array of two cache lines, further ones in a B-tree.
//! - In a grade a search looks at no more than [`LOOKS`] holes. Only if no grade yields a hole does
//!   it look at all.
//!
//! # Invariants
//!
//! [`check`](Allocator::check) asserts them, by these numbers.
//!
//! 1. The nodes linked from the sentinel cover the region in ascending order, without gap or
//!    overlap, and each links its neighbours. All other nodes are vacant.
//! 2. No two neighbours are holes.
//! 3. Each hole is in its grade, once, in order, and nothing else is. The array has the ends of
//!    each grade, and the bits the grades that have a hole.
//!
//! # Cost
//!
//! With n chunks and h holes, of which there are at most n + 1:
//!
//! | operation | time |
//! | --- | --- |
//! | allocate or fit, page-aligned | O(log h) and a step for each grade that could be cheaper: eight for each octave of the steepest slope and of the own grade, 48 without parameters; up to [`LOOKS`] holes of the own grade |
//! | the same with alignment or limits | that, and up to [`LOOKS`] holes of each grade; O(h) if none of them has a place |
//! | free | O(log h) |
//! | adopt | a few steps in ascending order; else O(√n) expected |
//! | largest request | the holes of the highest grade |
//! | holes; check | O(n); O(n log n) |
//!
//! With a profile, an allocation adds to a counter, and compares 64 classes when it is time to.
//!
//! Memory is 17 bytes per node, about 12 for each hole that is in a B-tree, and 184 for each grade:
//! 24 KiB for a region of 1 GiB. A profile adds up to 64 distributions of 512 bytes.
//!
//! # Omitted
//!
//! Use of the requester, and lifetimes: see above.

#![forbid(unsafe_code)]

mod grades;
mod profile;
mod row;
mod rule;
mod sizes;
mod watch;

pub use profile::{Beginning, HEADER, Profile, ProfileError};
pub use rule::{OWN_GRADE, Rule, SHARE, STEEPEST, STEEPNESS};
pub use sizes::Sizes;
pub use watch::LIKE;

use cma_api::{
    Alignment, Allocator, AllocatorInfo, CannotAdopt, InitError, NoRoom, NotMine, PageRange, Pages,
    Params, Placement, Request, Tag,
};
use cma_bits::{Nodes, SENTINEL};
use grades::{Grades, PER_OCTAVE, grade_of};
use row::Entry;
use rule::{Slopes, Stated};
use std::path::Path;
use watch::Watch;

/// The most holes of a grade that a search looks at, unless it finds none in any grade.
pub const LOOKS: usize = 32;

/// The packing allocator. The [crate's documentation](crate) describes it.
#[derive(Debug)]
pub struct Packing {
    region: PageRange,
    nodes: Nodes,
    grades: Grades,
    /// The pages of the region.
    pages: u32,
    /// The numbers in use.
    slopes: Slopes,
    /// With a profile, whether its numbers are in use.
    watch: Option<Box<Watch>>,
    /// The node adopted last: the next one is probably close after it.
    adopted: u32,
    /// The state of the random generator for adopting.
    random: u64,
}

/// A hole, and the place in it.
#[derive(Clone, Copy, Debug)]
struct Found {
    node: u32,
    start: u32,
}

impl Allocator for Packing {
    const INFO: AllocatorInfo = AllocatorInfo {
        name: "packing",
        version: env!("CARGO_PKG_VERSION"),
        description: "best fit with small and large chunks at opposite ends of the region",
    };

    /// The parameters are those of the [crate's documentation](crate). The region must have a page
    /// and less than 8 TiB.
    fn new(region: PageRange, params: &str) -> Result<Self, InitError> {
        let mut params = Params::parse(params)?;
        let (profile, stated) = (params.text("profile")?, Stated::take(&mut params)?);
        params.finish()?;
        let profile = profile.map(|path| Profile::read(Path::new(path))).transpose();
        Packing::of(region, &stated, profile.map_err(InitError::new)?)
    }

    #[inline]
    fn allocate(&mut self, request: &Request) -> Result<Placement, NoRoom> {
        let Found { node, start } = self.find(request).ok_or(NoRoom)?;
        let pages = request.pages().get() as u32;
        let chunk = self.carve(node, start, pages);
        if let Some(watch) = &mut self.watch
            && watch.changes(pages)
        {
            std::mem::swap(&mut self.slopes, &mut watch.other);
        }
        Ok(Placement { range: self.absolute(start, pages), tag: Tag(u64::from(chunk)) })
    }

    fn fit(&mut self, request: &Request) -> Option<PageRange> {
        let hole = self.nodes.get(self.find(request)?.node);
        Some(self.absolute(hole.start, hole.pages))
    }

    #[inline]
    fn free(&mut self, chunk: Placement) -> Result<(), NotMine> {
        let (index, node) = self.nodes.chunk(chunk.tag.0).ok_or(NotMine)?;
        if self.absolute(node.start, node.pages) != chunk.range {
            return Err(NotMine);
        }
        // What the chunk becomes: the hole before it, with its pages; or a hole of its own.
        let before = (!self.nodes.is_taken(node.prev)).then(|| self.nodes.get(node.prev));
        let after = (!self.nodes.is_taken(node.next)).then(|| self.nodes.get(node.next));
        let (kept, start) = before.map_or((index, node.start), |before| (node.prev, before.start));
        let pages =
            before.map_or(0, |hole| hole.pages) + node.pages + after.map_or(0, |hole| hole.pages);
        let hole = Entry::new(start, kept);
        match (before, after) {
            (None, None) => self.grades.insert(pages, hole),
            (Some(before), after) => {
                if let Some(after) = after {
                    self.grades.remove(after.pages, Entry::new(after.start, node.next));
                }
                self.grades.change(before.pages, hole, pages, hole);
            }
            (None, Some(after)) => {
                let old = Entry::new(after.start, node.next);
                self.grades.change(after.pages, old, pages, hole);
            }
        }
        if after.is_some() {
            self.nodes.remove(node.next);
        }
        if before.is_some() {
            self.nodes.remove(index);
        } else {
            self.nodes.clear_taken(index);
        }
        self.nodes.resize(kept, start, pages);
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
        self.adopted = self.carve(found, start, pages);
        Ok(Tag(u64::from(self.adopted)))
    }

    fn holes(&self, visit: &mut dyn FnMut(PageRange)) {
        for (_, node) in self.nodes.iter().filter(|&(index, _)| !self.nodes.is_taken(index)) {
            visit(self.absolute(node.start, node.pages));
        }
    }

    fn largest_request(&self) -> Pages {
        Pages::new(u64::from(self.grades.largest(&self.nodes)))
    }

    fn check(&self) -> Result<(), String> {
        self.nodes.check(self.pages)?;
        self.grades.check(&self.nodes)
    }
}

impl Packing {
    /// An allocator for `region` with `profile`: what `profile=FILE` gives with such a file.
    ///
    /// # Errors
    ///
    /// The region has no page, or 8 TiB or more.
    pub fn with_profile(region: PageRange, profile: Profile) -> Result<Self, InitError> {
        Packing::of(region, &Stated::default(), Some(profile))
    }

    fn of(region: PageRange, stated: &Stated, profile: Option<Profile>) -> Result<Self, InitError> {
        let pages = match u32::try_from(region.pages().get()) {
            Ok(pages) if pages > 0 && pages < 1 << 31 => pages,
            _ => {
                let reason = format!(
                    "packing serves regions of a page or more and less than 8 TiB, not {region}"
                );
                return Err(InitError::new(reason));
            }
        };
        let (nodes, hole) = Nodes::new(pages);
        let mut grades = Grades::new(pages);
        grades.insert(pages, Entry::new(0, hole));
        let slopes = |rule| Slopes::new(&stated.over(rule), grades.all_octaves(), pages);
        let watch = |profile: Profile| {
            let learned = slopes(profile.rule);
            Box::new(Watch::new(profile, learned))
        };
        Ok(Packing {
            region,
            slopes: slopes(Rule::default()),
            watch: profile.map(watch),
            nodes,
            grades,
            pages,
            adopted: SENTINEL,
            random: 0,
        })
    }

    /// The hole that the rule selects, and the place in it.
    #[inline]
    fn find(&self, request: &Request) -> Option<Found> {
        if request.pages() > self.region.pages() {
            return None;
        }
        let pages = request.pages().get() as u32;
        if request.alignment() == Alignment::PAGE && !request.is_limited() {
            self.find_plain(pages, LOOKS).or_else(|| self.find_plain(pages, usize::MAX))
        } else {
            self.find_placing(request, LOOKS).or_else(|| self.find_placing(request, usize::MAX))
        }
    }

    /// The hole for `pages` pages at any page, with at most `looks` holes of their own grade.
    #[inline]
    fn find_plain(&self, pages: u32, looks: usize) -> Option<Found> {
        let own = grade_of(pages);
        let slope = self.slopes.of_grade[own];
        let size_of = |hole: Entry| self.nodes.get(hole.node()).pages;
        // In its own grade some holes are smaller than the chunk, unless it has one size.
        let fits = |hole: &Entry| pages < 2 * PER_OCTAVE || size_of(*hole) >= pages;
        if slope >= 0.0 {
            let of = |hole: Entry| (f64::from(hole.start()) * slope, hole);
            let first = self.grades.holes(own).first_that(looks, fits).map(of);
            let others = |grade| Some(of(self.grades.ends(grade)[0]));
            let hole = self.cheapest(own, 0.0, first, others)?;
            Some(Found { node: hole.node(), start: hole.start() })
        } else {
            let of = |hole: Entry| {
                let start = hole.start() + size_of(hole) - pages;
                (f64::from(start) * slope, Found { node: hole.node(), start })
            };
            let last = self.grades.holes(own).iter().rev().take(looks).find(fits).map(of);
            let others = |grade| Some(of(self.grades.ends(grade)[1]));
            self.cheapest(own, slope * f64::from(self.pages), last, others)
        }
    }

    /// The same for any request, with at most `looks` holes of each grade.
    #[inline(never)]
    fn find_placing(&self, request: &Request, looks: usize) -> Option<Found> {
        let window = request.window().common(self.region)?;
        let (first, window_pages) = self.relative(window);
        let pages = request.pages().get() as u32;
        let own = grade_of(pages);
        let slope = self.slopes.of_grade[own];
        let prefers_end = slope < 0.0;
        let place = |hole: Entry| {
            let pages = self.nodes.get(hole.node()).pages;
            let place = place_in(self.absolute(hole.start(), pages), request, prefers_end)?;
            Some((hole, self.relative(place).0))
        };
        let least = if prefers_end { slope * f64::from(self.pages) } else { 0.0 };
        let best_of = |grade| {
            // A hole with pages in the window starts below the window's end, and above its start
            // less the size of the largest hole of the grade.
            let from = u64::from(first).saturating_sub(Grades::most(grade)) as u32;
            let mut holes = self.grades.holes(grade).range(from, first + window_pages);
            let (hole, start) = if prefers_end {
                holes.rev().take(looks).find_map(place)?
            } else {
                holes.by_ref().take(looks).find_map(place)?
            };
            let size = self.nodes.get(hole.node()).pages;
            let at = if prefers_end { hole.start() + size - pages } else { hole.start() };
            Some((f64::from(at) * slope, Found { node: hole.node(), start }))
        };
        self.cheapest(own, least, best_of(own), best_of)
    }

    /// What costs least of the `first`, which is of the grade `own`, and what `best_of` returns for
    /// each grade above it, each with the cost of its position. No position costs less than
    /// `least`.
    #[inline]
    fn cheapest<T: Copy>(
        &self,
        own: usize,
        least: f64,
        first: Option<(f64, T)>,
        best_of: impl Fn(usize) -> Option<(f64, T)>,
    ) -> Option<T> {
        let size = self.grades.octaves(own) - self.slopes.own_grade;
        let mut cheapest = first.map_or(f64::INFINITY, |(position, _)| size + position);
        let mut best = first.map(|(_, found)| found);
        for grade in self.grades.from(own + 1) {
            let size = self.grades.octaves(grade);
            if size + least >= cheapest {
                break;
            }
            if let Some((position, found)) = best_of(grade)
                && size + position < cheapest
            {
                cheapest = size + position;
                best = Some(found);
            }
        }
        best
    }

    /// Turns `pages` pages at `start` in the hole `node` into a chunk, and the rest into holes.
    /// Returns the chunk's node.
    #[inline]
    fn carve(&mut self, node: u32, start: u32, pages: u32) -> u32 {
        let hole = self.nodes.get(node);
        let old = Entry::new(hole.start, node);
        let gap = start - hole.start;
        let after = hole.pages - gap - pages;
        let chunk = if gap == 0 {
            node
        } else {
            self.nodes.resize(node, hole.start, gap);
            self.nodes.insert_after(node, start, pages)
        };
        self.nodes.set_taken(chunk);
        let mut rest = old;
        if after > 0 {
            self.nodes.resize(chunk, start, pages);
            let node = self.nodes.insert_after(chunk, start + pages, after);
            rest = Entry::new(start + pages, node);
        }
        match (gap, after) {
            (0, 0) => self.grades.remove(hole.pages, old),
            (0, _) => self.grades.change(hole.pages, old, after, rest),
            (_, 0) => self.grades.change(hole.pages, old, gap, old),
            _ => {
                self.grades.change(hole.pages, old, gap, old);
                self.grades.insert(after, rest);
            }
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

/// The place in `hole` at the preferred end, unless that leaves two holes and the other end one.
fn place_in(hole: PageRange, request: &Request, prefers_end: bool) -> Option<PageRange> {
    let (lowest, highest) = (request.lowest_place(hole)?, request.highest_place(hole)?);
    let starts = lowest.first_page() == hole.first_page();
    let ends = highest.end_page() == hole.end_page();
    let at_end = if prefers_end { ends || !starts } else { ends && !starts };
    Some(if at_end { highest } else { lowest })
}

#[cfg(test)]
mod tests;
