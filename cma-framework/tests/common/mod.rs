//! What the framework's tests share: a framework with regions, and allocators that do as they are told.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use cma_api::{
    Allocator, CannotAdopt, Info, InitError, NoRoom, NotMine, PageRange, Pages, Placement, Request, Tag,
};
use cma_framework::{AllocatorChoice, Cma, DmaAddr, Plugin, Region};

pub const BASE: u64 = 0x4000_0000;
pub const MIB: u64 = 1 << 20;

/// A framework with best fit and, one behind the other from [`BASE`] on, regions of 16 MiB with these names.
pub fn with_regions(names: &[&str], map: &str) -> Cma {
    let cma = Cma::new();
    cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
    for (i, name) in names.iter().enumerate() {
        region(&cma, name, BASE + i as u64 * 16 * MIB, 16 * MIB, AllocatorChoice::Default);
    }
    cma.set_map(cma_framework::config::Map::parse(map).unwrap());
    cma
}

pub fn region(cma: &Cma, name: &str, start: u64, size: u64, choice: AllocatorChoice) -> Region {
    cma.region_register(Some(name), DmaAddr::new(start), size, choice).unwrap()
}

/// Answers requests with the places its parameters list, `page+pages` separated by blanks, relative to the region; then it
/// has no room. Panics when it is handed a chunk back twice, or one it never gave out.
pub struct Scripted {
    region: PageRange,
    script: Vec<PageRange>,
    live: Vec<PageRange>,
}

impl Allocator for Scripted {
    const INFO: Info = Info { name: "scripted", version: "1", description: "answers by a script" };

    fn new(region: PageRange, params: &str) -> Result<Self, InitError> {
        let place = |text: &str| {
            let (first, pages) = text.split_once('+')?;
            let first = region.first_page().wrapping_add_signed(first.parse().ok()?);
            Some(PageRange::from_pages(first, pages.parse().ok()?))
        };
        let script: Option<Vec<_>> = params.split_whitespace().rev().map(place).collect();
        let script = script.ok_or_else(|| InitError::new(format!("no script: {params}")))?;
        Ok(Scripted { region, script, live: Vec::new() })
    }

    fn allocate(&mut self, _: &Request) -> Result<Placement, NoRoom> {
        let range = self.script.pop().ok_or(NoRoom)?;
        self.live.push(range);
        Ok(Placement { range, tag: Tag(0) })
    }

    fn free(&mut self, chunk: Placement) -> Result<(), NotMine> {
        let at =
            self.live.iter().position(|range| *range == chunk.range).expect("a chunk of mine, freed once");
        self.live.remove(at);
        Ok(())
    }

    fn adopt(&mut self, _: PageRange) -> Result<Tag, CannotAdopt> {
        Err(CannotAdopt::new("the script has no adoption"))
    }

    fn holes(&self, _: &mut dyn FnMut(PageRange)) {}

    fn largest_hole(&self) -> Pages {
        self.region.pages()
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// [`Scripted`] with this script, for a region.
pub fn scripted(script: &str) -> AllocatorChoice {
    AllocatorChoice::Given { plugin: Plugin::built_in::<Scripted>(), params: script.to_string() }
}
