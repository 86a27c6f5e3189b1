//! What the author of an allocator writes: the algorithm, and one line that tests it.
//!
//! The algorithm is first fit over a sorted list of holes, in its simplest form. `cargo run
//! --example author` runs the suite as a program; in a crate of one's own the line at the end makes
//! `cargo test` run each guarantee by name.

use cma_api::{
    Allocator, AllocatorInfo, CannotAdopt, InitError, NoRoom, NotMine, PageRange, Pages, Params,
    Placement, Request, Tag,
};
use cma_testkit::{Placing, Subject, guarantees};
use std::collections::BTreeMap;

/// Keeps the holes by their first page and takes the lowest place there is. Every operation but
/// freeing is linear in the number of holes.
struct FirstFit {
    region: PageRange,
    /// First page to end page, apart from each other: two that touch are one.
    holes: BTreeMap<u64, u64>,
}

impl FirstFit {
    /// Takes `range` out of the hole it lies in; `None` when it doesn't lie in one.
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

impl Allocator for FirstFit {
    const INFO: AllocatorInfo = AllocatorInfo {
        name: "first-fit",
        version: env!("CARGO_PKG_VERSION"),
        description: "the lowest place there is, from a sorted list of holes",
    };

    fn new(region: PageRange, params: &str) -> Result<Self, InitError> {
        Params::parse(params)?.finish()?;
        Ok(FirstFit { region, holes: BTreeMap::from([(region.first_page(), region.end_page())]) })
    }

    fn allocate(&mut self, request: &Request) -> Result<Placement, NoRoom> {
        let pages = request.pages().get();
        let place = self.holes.iter().find_map(|(&first, &end)| {
            let aligned = first.next_multiple_of(request.alignment().pages().get());
            (aligned + pages <= end).then_some(PageRange::from_pages(aligned, pages))
        });
        let range = place.ok_or(NoRoom)?;
        self.take(range).ok_or(NoRoom)?;
        Ok(Placement { range, tag: Tag(0) })
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

#[allow(clippy::print_stdout, reason = "an example shows what it does")]
fn main() -> Result<(), cma_testkit::Failure> {
    let module = cma_api::v1::module_of::<FirstFit>();
    let subject = Subject { module, params: "", placing: Placing::FirstFit };
    for (name, guarantee) in guarantees::ALL {
        guarantees::verdict(*guarantee, &subject)?;
        println!("{name}: kept");
    }
    Ok(())
}

cma_testkit::conformance!(FirstFit, FirstFit);
