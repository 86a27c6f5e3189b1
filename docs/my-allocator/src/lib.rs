//! A complete allocator to copy and to change: first fit over a sorted list of holes, in its
//! simplest form. Every operation except freeing is linear in the number of holes.
//!
//! The chapter for authors of allocators, `docs/guide/allocator.md`, describes how to use it.

use cma_api::{
    Allocator, AllocatorInfo, CannotAdopt, InitError, NoRoom, NotMine, PageRange, Pages, Params,
    Placement, Request, Tag,
};
use std::collections::BTreeMap;

/// Places each chunk in the lowest hole that can hold it.
#[derive(Debug)]
pub struct Mine {
    region: PageRange,
    /// Maps a hole's first page to the page after its last. Adjacent holes are merged.
    holes: BTreeMap<u64, u64>,
}

impl Mine {
    /// The lowest hole that can hold the request within its limits, and the place in it.
    fn find(&self, request: &Request) -> Option<(PageRange, PageRange)> {
        self.holes.iter().find_map(|(&first, &end)| {
            let hole = PageRange::from_pages(first, end - first);
            Some((hole, request.lowest_place(hole)?))
        })
    }

    /// Removes `range` from the hole that contains it; `None` if no hole does.
    fn take(&mut self, range: PageRange) -> Option<()> {
        let (&first, &end) = self.holes.range(..=range.first_page()).next_back()?;
        if range.end_page() > end {
            return None;
        }
        self.holes.remove(&first);
        if first < range.first_page() {
            self.holes.insert(first, range.first_page());
        }
        if range.end_page() < end {
            self.holes.insert(range.end_page(), end);
        }
        Some(())
    }
}

impl Allocator for Mine {
    const INFO: AllocatorInfo = AllocatorInfo {
        name: "mine",
        version: env!("CARGO_PKG_VERSION"),
        description: "first fit over a sorted list of holes",
    };

    fn new(region: PageRange, params: &str) -> Result<Self, InitError> {
        Params::parse(params)?.finish()?;
        Ok(Mine { region, holes: BTreeMap::from([(region.first_page(), region.end_page())]) })
    }

    fn allocate(&mut self, request: &Request) -> Result<Placement, NoRoom> {
        let (_, range) = self.find(request).ok_or(NoRoom)?;
        self.take(range).ok_or(NoRoom)?;
        Ok(Placement { range, tag: Tag(0) })
    }

    fn fit(&mut self, request: &Request) -> Option<PageRange> {
        self.find(request).map(|(hole, _)| hole)
    }

    fn free(&mut self, chunk: Placement) -> Result<(), NotMine> {
        let (mut first, mut end) = (chunk.range.first_page(), chunk.range.end_page());
        if let Some((&below, &touches)) = self.holes.range(..first).next_back()
            && touches == first
        {
            first = below;
        }
        if let Some(above) = self.holes.remove(&end) {
            end = above;
        }
        self.holes.insert(first, end);
        Ok(())
    }

    fn adopt(&mut self, range: PageRange) -> Result<Tag, CannotAdopt> {
        self.take(range)
            .map(|()| Tag(0))
            .ok_or_else(|| CannotAdopt::new(format!("{range} is not free")))
    }

    fn holes(&self, visit: &mut dyn FnMut(PageRange)) {
        self.holes
            .iter()
            .for_each(|(&first, &end)| visit(PageRange::from_pages(first, end - first)));
    }

    fn largest_request(&self) -> Pages {
        Pages::new(self.holes.iter().map(|(first, end)| end - first).max().unwrap_or(0))
    }

    fn check(&self) -> Result<(), String> {
        let mut below = None;
        for (&first, &end) in &self.holes {
            if first >= end || below.is_some_and(|below| first <= below) {
                return Err(format!("the hole {first}..{end} is empty or touches the one below"));
            }
            if first < self.region.first_page() || end > self.region.end_page() {
                return Err(format!(
                    "the hole {first}..{end} is not inside the region {}",
                    self.region
                ));
            }
            below = Some(end);
        }
        Ok(())
    }
}
