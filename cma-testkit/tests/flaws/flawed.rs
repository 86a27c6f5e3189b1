//! An allocator that is correct except for the one flaw that its parameter names.
//!
//! Each flaw is a typical error of allocators: of the 2010 patch series, of bins and buddies, of
//! first drafts. A flaw is described where it is implemented.

use cma_api::{
    Allocator, AllocatorInfo, CannotAdopt, InitError, NoRoom, NotMine, PAGE_SHIFT, PageRange,
    Pages, Params, Placement, Request, Tag,
};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ThreadId;

/// The live chunks of dropped allocators with the flaw `leaves_chunks_behind`.
static LEFT_BEHIND: Mutex<BTreeMap<u64, Vec<PageRange>>> = Mutex::new(BTreeMap::new());

/// The number of chunks of all allocators with the flaw `shares_its_books`.
static SHARED: AtomicUsize = AtomicUsize::new(0);

/// First fit over a list of live chunks, or best fit for a flaw of best fit.
pub(crate) struct Flawed {
    region: PageRange,
    /// Ascending and disjoint.
    taken: Vec<PageRange>,
    /// The ends of freed chunks, at which an allocator that doesn't merge splits holes.
    borders: Vec<u64>,
    /// The answers of `fit`, which an allocator with a flaw uses again.
    remembered: Vec<(Request, PageRange)>,
    flaw: String,
    home: ThreadId,
}

impl Flawed {
    fn has(&self, flaw: &str) -> bool {
        self.flaw == flaw
    }

    fn taken(&self) -> &[PageRange] {
        let lost =
            self.has("keeps_its_books_in_the_thread") && self.home != std::thread::current().id();
        if lost { &[] } else { &self.taken }
    }

    /// The maximal holes.
    fn gaps(&self) -> Vec<PageRange> {
        let starts =
            [self.region.first_page()].into_iter().chain(self.taken().iter().map(|t| t.end_page()));
        let ends = self.taken().iter().map(|t| t.first_page()).chain([self.region.end_page()]);
        let gaps = starts.zip(ends).filter(|(start, end)| start < end);
        gaps.map(|(start, end)| PageRange::from_pages(start, end - start)).collect()
    }

    /// The holes, split at the ends of freed chunks.
    fn unmerged(&self) -> Vec<PageRange> {
        let mut pieces = Vec::new();
        for gap in self.gaps() {
            let inside = |border: &u64| gap.first_page() < *border && *border < gap.end_page();
            let mut from = gap.first_page();
            for to in self.borders.iter().copied().filter(inside).chain([gap.end_page()]) {
                pieces.push(PageRange::from_pages(from, to - from));
                from = to;
            }
        }
        pieces
    }

    /// The holes that this allocator searches.
    fn searched(&self) -> Vec<PageRange> {
        if self.has("never_merges_and_reports_merged_holes") {
            self.unmerged()
        } else {
            self.gaps()
        }
    }

    /// The part of a hole in which the request has its window.
    fn window_in(&self, hole: PageRange, request: &Request) -> Option<PageRange> {
        let window = request.window();
        match self.flaw.as_str() {
            "ignores_windows" => Some(hole),
            // The address after the window is 0, as if nothing lay below it.
            "wraps_at_the_end_of_a_window"
                if request.is_limited() && window.end_page() == PageRange::ADDRESS_SPACE_PAGES =>
            {
                None
            }
            "searches_from_the_next_word" if request.is_limited() => {
                let part = hole.common(window)?;
                let first = part.first_page().next_multiple_of(64);
                let pages = part.end_page().checked_sub(first)?;
                Some(PageRange::from_pages(first, pages))
            }
            _ => hole.common(window),
        }
    }

    fn place_in(&self, hole: PageRange, request: &Request) -> Option<PageRange> {
        let hole = self.window_in(hole, request)?;
        let pages = request.pages().get();
        let alignment = request.alignment().pages().get();
        let (first, end) = (hole.first_page(), hole.end_page());
        let up = first.next_multiple_of(alignment);
        let aligned = match self.flaw.as_str() {
            "aligns_down" => first / alignment * alignment,
            "aligns_the_offset" => {
                self.region.first_page()
                    + (first - self.region.first_page()).next_multiple_of(alignment)
            }
            "ignores_alignments_over_a_mebibyte" if alignment > 256 => first,
            // Rounds the address up in 64 bits, which wraps to 0, and then finds enough room.
            "wraps_when_aligning" => {
                let mask = request.alignment().bytes() - 1;
                ((first << PAGE_SHIFT).wrapping_add(mask) & !mask) >> PAGE_SHIFT
            }
            "places_top_down" => (end.checked_sub(pages)? / alignment * alignment).max(up),
            _ => up,
        };
        let boundary = request.boundary().pages().get();
        let base = match self.flaw.as_str() {
            "counts_boundaries_from_its_start" => self.region.first_page(),
            _ => 0,
        };
        let crosses = (aligned - base) / boundary != (aligned - base + pages - 1) / boundary;
        let aligned = match self.flaw.as_str() {
            "ignores_boundaries" => aligned,
            "gives_up_at_a_boundary" if crosses => return None,
            _ if crosses => base + (aligned - base).next_multiple_of(boundary),
            _ => aligned,
        };
        let needed = match self.flaw.as_str() {
            "serves_bins_of_powers_of_two" => pages.next_power_of_two(),
            "needs_a_page_more" => pages + 1,
            "overruns_by_a_page" => pages - 1,
            "needs_room_for_the_alignment" => pages + alignment - 1,
            _ => pages,
        };
        let fits = match self.flaw.as_str() {
            "needs_room_for_the_alignment" => first + needed <= end,
            _ => aligned + needed <= end,
        };
        fits.then_some(PageRange::from_pages(aligned, pages))
    }

    fn best_fit(&self, request: &Request) -> Option<(PageRange, PageRange)> {
        let places =
            self.gaps().into_iter().filter_map(|hole| Some((hole, self.place_in(hole, request)?)));
        let (hole, place) = if self.has("best_fit_highest_of_equals") {
            places.min_by_key(|(hole, _)| (hole.pages(), u64::MAX - hole.first_page()))?
        } else if self.has("best_fit_stops_at_the_first_big_enough") {
            let hole = self
                .gaps()
                .into_iter()
                .filter(|h| h.pages() >= request.pages())
                .min_by_key(|h| h.pages())?;
            (hole, self.place_in(hole, request)?)
        } else {
            places.min_by_key(|(hole, _)| (hole.pages(), hole.first_page()))?
        };
        let after = hole.end_page() - place.end_page();
        let end = PageRange::from_pages(place.first_page() + after, place.pages().get());
        let gap_before =
            place.first_page() > hole.first_page() || self.has("best_fit_always_moves");
        let moves = match self.flaw.as_str() {
            "best_fit_never_moves" => false,
            "best_fit_moves_out_of_the_limits" => {
                gap_before && after.is_multiple_of(request.alignment().pages().get())
            }
            _ => gap_before && request.accepts(end),
        };
        Some((hole, if moves { end } else { place }))
    }

    /// The hole and the place for the request.
    fn find(&self, request: &Request) -> Option<(PageRange, PageRange)> {
        if self.flaw.starts_with("best_fit") {
            return self.best_fit(request);
        }
        self.searched().into_iter().find_map(|hole| Some((hole, self.place_in(hole, request)?)))
    }

    /// The remembered place for the request, if it is still free.
    fn remembered(&self, request: &Request) -> Option<(PageRange, PageRange)> {
        let (_, place) = self.remembered.iter().find(|(known, _)| known == request)?;
        let hole = self.gaps().into_iter().find(|hole| place.within(*hole))?;
        Some((hole, *place))
    }

    fn take(&mut self, range: PageRange) {
        let at = self.taken.partition_point(|t| *t < range);
        self.taken.insert(at, range);
    }

    fn is_free(&self, range: PageRange) -> bool {
        let taken = self.taken();
        let above = taken.partition_point(|chunk| chunk.end_page() <= range.first_page());
        range.within(self.region)
            && taken.get(above).is_none_or(|chunk| range.end_page() <= chunk.first_page())
    }
}

impl Allocator for Flawed {
    const INFO: AllocatorInfo = AllocatorInfo {
        name: "flawed",
        version: "0.0.0",
        description: "correct except for one flaw",
    };

    fn new(region: PageRange, params: &str) -> Result<Self, InitError> {
        let (flaw, rest) = params.split_once(',').unwrap_or((params, ""));
        match flaw {
            "accepts_any_parameter" => {}
            "does_not_name_the_refused_parameter" if !rest.is_empty() => {
                return Err(InitError::new("parameters?"));
            }
            "refuses_odd_regions" if !region.first_page().is_multiple_of(2) => {
                return Err(InitError::new("even ones only"));
            }
            "panics_at_large_regions" if region.bytes() > 1 << 32 => panic!("too large"),
            "panics_at_parameters" if !rest.is_empty() => panic!("{rest}"),
            "refuses_large_regions_silently" if region.bytes() > 1 << 32 => {
                return Err(InitError::new(" "));
            }
            _ => Params::parse(rest)?.finish()?,
        }
        let taken = match flaw {
            "leaves_chunks_behind" => {
                let left =
                    LEFT_BEHIND.lock().ok().and_then(|all| all.get(&region.first_page()).cloned());
                left.unwrap_or_default()
            }
            _ => Vec::new(),
        };
        let home = std::thread::current().id();
        Ok(Flawed {
            region,
            taken,
            borders: Vec::new(),
            remembered: Vec::new(),
            flaw: flaw.to_string(),
            home,
        })
    }

    fn allocate(&mut self, request: &Request) -> Result<Placement, NoRoom> {
        let pages = request.pages().get();
        match self.flaw.as_str() {
            "panics_at_sizes_beyond_the_region" => {
                assert!(pages <= self.region.pages().get(), "too large");
            }
            "always_panics" => panic!("not yet written"),
            "indexes_by_asker" => assert!(request.asker().0 < 1 << 20, "no such asker"),
            "serves_few_askers" if request.asker().0 > 5 => return Err(NoRoom),
            "shares_its_books" if SHARED.fetch_add(1, Ordering::Relaxed) > 80 => {
                return Err(NoRoom);
            }
            "serves_nothing" | "serves_nothing_and_reports_it" => return Err(NoRoom),
            "refuses_beyond_fifty_chunks" if self.taken.len() * 2 > 100 => return Err(NoRoom),
            _ => {}
        }
        let found = match self.flaw.as_str() {
            "serves_powers_of_two" if !pages.is_power_of_two() => None,
            "refuses_limits" if request.is_limited() => None,
            "promises_three_pages" if pages == 3 => None,
            _ => self.remembered(request).or_else(|| self.find(request)),
        };
        let Some((_, range)) = found else {
            if self.has("loses_a_page_when_full")
                && self.is_free(PageRange::from_pages(self.region.first_page(), 1))
            {
                self.take(PageRange::from_pages(self.region.first_page(), 1));
            }
            return Err(NoRoom);
        };
        match self.flaw.as_str() {
            "forgets_chunks_of_three_pages" if pages == 3 => {}
            "rounds_up_to_even_sizes" => {
                let range = PageRange::from_pages(range.first_page(), pages.next_multiple_of(2));
                self.take(range);
                return Ok(Placement { range, tag: Tag(0) });
            }
            _ => self.take(range),
        }
        Ok(Placement { range, tag: Tag(0) })
    }

    fn fit(&mut self, request: &Request) -> Option<PageRange> {
        let found = self.remembered(request).or_else(|| self.find(request));
        match self.flaw.as_str() {
            "refuses_limits" if request.is_limited() => return None,
            "fits_half_as_much" if request.pages().get() * 2 > self.largest_request().get() => {
                return None;
            }
            "fits_in_the_largest_hole" => {
                return found.and(self.gaps().into_iter().max_by_key(|hole| hole.pages()));
            }
            "fits_within_no_limits" => {
                let (pages, alignment) = (request.pages(), request.alignment());
                let plain = Request::new(pages, alignment, request.asker())?;
                return self.find(&plain).map(|(hole, _)| hole);
            }
            "fits_in_the_place" => return found.map(|(_, place)| place),
            "fits_nothing_by_a_panic" => assert!(found.is_some(), "no hole"),
            _ => {}
        }
        let (hole, place) = found?;
        if self.has("remembers_what_fits") && self.remembered(request).is_none() {
            self.remembered.retain(|(known, _)| known != request);
            self.remembered.push((*request, place));
        }
        if self.has("takes_what_fits") {
            self.take(place);
        }
        Some(hole)
    }

    fn free(&mut self, chunk: Placement) -> Result<(), NotMine> {
        let at = self.taken.binary_search(&chunk.range).map_err(|_| NotMine)?;
        match self.flaw.as_str() {
            "never_frees_single_pages" if chunk.range.pages().get() == 1 => return Ok(()),
            // Its table of holes is full, and the error of adding to it is ignored.
            "loses_chunks_beyond_250_holes" if self.gaps().len() > 250 => return Ok(()),
            "loops_at_the_third_hole" if self.gaps().len() == 2 => loop {
                std::thread::park_timeout(std::time::Duration::from_secs(1));
            },
            "always_panics" => panic!("not yet written"),
            "refuses_the_second_of_three" if self.taken.len() == 3 && at == 1 => {
                return Err(NotMine);
            }
            "leaks_between_two_neighbours" if at > 0 && at + 1 < self.taken.len() => {
                let (below, above) = (self.taken[at - 1], self.taken[at + 1]);
                if below.end_page() == chunk.range.first_page()
                    && above.first_page() == chunk.range.end_page()
                {
                    return Ok(());
                }
            }
            _ => {}
        }
        self.taken.remove(at);
        if self.has("reports_unmerged_holes") || self.has("never_merges_and_reports_merged_holes") {
            self.borders.extend([chunk.range.first_page(), chunk.range.end_page()]);
            self.borders.sort_unstable();
            self.borders.dedup();
        }
        Ok(())
    }

    fn adopt(&mut self, range: PageRange) -> Result<Tag, CannotAdopt> {
        let (first, end) = (self.region.first_page(), self.region.end_page());
        match self.flaw.as_str() {
            "adopts_without_checking" => {}
            "adopts_outside" if !range.within(self.region) => return Ok(Tag(0)),
            "forgets_what_it_adopts" if self.is_free(range) => return Ok(Tag(0)),
            "adopts_a_part_and_refuses"
                if range.first_page() >= first && range.end_page() == end + 1 =>
            {
                let part = PageRange::from_pages(range.first_page(), range.pages().get() - 1);
                if self.is_free(part) {
                    self.take(part);
                }
                return Err(CannotAdopt::new("past the end"));
            }
            "adopts_ascending_only"
                if self.taken.last().is_some_and(|last| last.end_page() > range.first_page()) =>
            {
                return Err(CannotAdopt::new("not above all others"));
            }
            "adopts_powers_of_two_only" if !range.pages().get().is_power_of_two() => {
                return Err(CannotAdopt::new("no power of two"));
            }
            "refuses_adoption_silently" if !self.is_free(range) => {
                return Err(CannotAdopt::new(""));
            }
            _ if !self.is_free(range) => return Err(CannotAdopt::new("not free")),
            _ => {}
        }
        self.take(range);
        Ok(Tag(0))
    }

    fn holes(&self, visit: &mut dyn FnMut(PageRange)) {
        let mut holes =
            if self.has("reports_unmerged_holes") { self.unmerged() } else { self.gaps() };
        match self.flaw.as_str() {
            "reports_holes_descending" => holes.reverse(),
            "omits_the_last_hole" => drop(holes.pop()),
            // Treats the address after the top of the address space as invalid.
            "omits_the_hole_at_the_top" => {
                holes.retain(|hole| hole.end_page() < PageRange::ADDRESS_SPACE_PAGES);
            }
            _ => {}
        }
        holes.into_iter().for_each(visit);
    }

    fn largest_request(&self) -> Pages {
        let largest =
            self.searched().into_iter().map(PageRange::pages).max().unwrap_or(Pages::ZERO);
        match self.flaw.as_str() {
            "reports_the_free_pages_as_the_largest_request" => {
                Pages::new(self.gaps().iter().map(|hole| hole.pages().get()).sum())
            }
            "reports_a_page_less_as_the_largest_request" => {
                Pages::new(largest.get().saturating_sub(1))
            }
            "serves_nothing_and_reports_it" => Pages::ZERO,
            "reports_one_page_as_the_largest_request" => Pages::new(largest.get().min(1)),
            _ => largest,
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.has("loses_its_invariant_at_five_chunks") && self.taken.len() == 5 {
            return Err("five chunks".to_string());
        }
        Ok(())
    }
}

impl Drop for Flawed {
    fn drop(&mut self) {
        if self.has("leaves_chunks_behind")
            && let Ok(mut all) = LEFT_BEHIND.lock()
        {
            all.insert(self.region.first_page(), std::mem::take(&mut self.taken));
        }
        if self.has("panics_when_dropped_with_chunks") {
            assert!(self.taken.is_empty(), "chunks are left");
        }
    }
}
