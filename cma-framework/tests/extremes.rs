//! Books at the limits: regions of a whole address space, chunks that fit into no record.

mod common;

use cma_api::{
    Allocator, AllocatorInfo, CannotAdopt, InitError, NoRoom, NotMine, Placement, Request, Tag,
};
use cma_framework::config::Map;
use cma_framework::reserve::Reserved;
use cma_framework::{AllocatorChoice, Chunk, Cma, PAGE_SIZE, PageRange, Pages, Plugin, Region};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// First fit for a region of any size. Each instance frees only chunks with a tag of its own.
struct FirstFit {
    region: PageRange,
    /// By first page: end page and tag.
    live: BTreeMap<u64, (u64, u64)>,
    next_tag: u64,
}

impl FirstFit {
    fn note(&mut self, range: PageRange) -> Tag {
        self.next_tag += 1;
        self.live.insert(range.first_page(), (range.end_page(), self.next_tag));
        Tag(self.next_tag)
    }

    fn gaps(&self) -> Vec<PageRange> {
        let mut from = self.region.first_page();
        let live = self.live.iter().map(|(first, (end, _))| (*first, *end));
        let mut gaps = Vec::new();
        for (first, end) in live.chain([(self.region.end_page(), 0)]) {
            if from < first {
                gaps.push(PageRange::from_pages(from, first - from));
            }
            from = end;
        }
        gaps
    }
}

impl Allocator for FirstFit {
    const INFO: AllocatorInfo =
        AllocatorInfo { name: "any-size", version: "1", description: "first fit for any region" };

    fn new(region: PageRange, _: &str) -> Result<Self, InitError> {
        static INSTANCES: AtomicU64 = AtomicU64::new(1);
        let next_tag = INSTANCES.fetch_add(1, Ordering::Relaxed) << 32;
        Ok(FirstFit { region, live: BTreeMap::new(), next_tag })
    }

    fn allocate(&mut self, request: &Request) -> Result<Placement, NoRoom> {
        let range = self.gaps().iter().find_map(|gap| request.lowest_place(*gap)).ok_or(NoRoom)?;
        Ok(Placement { range, tag: self.note(range) })
    }

    fn fit(&mut self, request: &Request) -> Option<PageRange> {
        self.gaps().into_iter().find(|gap| request.lowest_place(*gap).is_some())
    }

    fn free(&mut self, chunk: Placement) -> Result<(), NotMine> {
        let known = self.live.get(&chunk.range.first_page());
        if known != Some(&(chunk.range.end_page(), chunk.tag.0)) {
            return Err(NotMine);
        }
        self.live.remove(&chunk.range.first_page());
        Ok(())
    }

    fn adopt(&mut self, range: PageRange) -> Result<Tag, CannotAdopt> {
        Ok(self.note(range))
    }

    fn holes(&self, visit: &mut dyn FnMut(PageRange)) {
        self.gaps().into_iter().for_each(visit);
    }

    fn largest_request(&self) -> Pages {
        self.gaps().into_iter().map(PageRange::pages).max().unwrap_or_default()
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

fn framework(range: PageRange) -> (Cma, Region) {
    let cma = Cma::new();
    cma.allocator_register(Plugin::built_in::<FirstFit>()).unwrap();
    let reserved = Reserved::from(range);
    let region =
        cma.region_register_reserved(Some("r"), reserved, AllocatorChoice::Default).unwrap();
    cma.set_map(Map::parse("*=r").unwrap());
    (cma, region)
}

const TIB: u64 = 1 << 40;

#[test]
fn chunks_of_any_size_are_booked_adopted_and_freed() {
    for range in [
        PageRange::from_pages(0, PageRange::ADDRESS_SPACE_PAGES),
        PageRange::from_pages(PageRange::ADDRESS_SPACE_PAGES - (1 << 40), 1 << 40),
        PageRange::from_pages(0, (1 << 24) + 1),
        PageRange::from_pages(5, 1 << 33),
    ] {
        let (cma, region) = framework(range);
        let adopt =
            || cma.set_region_allocator(&region, AllocatorChoice::named("any-size")).unwrap();
        // Below, at and above the sizes that fit into a guard and a record, and offsets that don't.
        let sizes = [
            PAGE_SIZE,
            16 * TIB,
            16 * TIB - PAGE_SIZE,
            16 * TIB + PAGE_SIZE,
            1 << 50,
            8192,
            1 << 63,
        ];
        let served = sizes.map(|size| (size, cma.alloc("x", None, size, 0)));
        let chunks: Vec<(u64, Chunk)> =
            served.into_iter().filter_map(|(size, chunk)| Some((size, chunk.ok()?))).collect();
        assert!(chunks.len() >= 2);
        assert!(chunks.iter().all(|(size, chunk)| chunk.size() == *size));
        region.check().unwrap();
        adopt();
        adopt();
        region.check().unwrap();
        let mut addresses = Vec::new();
        for (n, (_, chunk)) in chunks.into_iter().enumerate() {
            if n % 2 == 0 { addresses.push(chunk.into_addr()) } else { drop(chunk) }
        }
        adopt();
        region.check().unwrap();
        for address in addresses {
            cma.free(address).unwrap();
            cma.free(address).unwrap_err();
        }
        region.check().unwrap();
        assert_eq!((region.status().users, region.free().unwrap()), (0, range.pages()));
        assert_eq!(region.status().allocator.to_string(), "any-size");
    }
}

#[test]
fn every_page_of_small_regions_at_both_ends_of_the_address_space_is_booked_once() {
    for pages in [1, 7, 8, 9, 57, 58, 63, 64, 65] {
        for first in [0, PageRange::ADDRESS_SPACE_PAGES - pages] {
            let (cma, region) = framework(PageRange::from_pages(first, pages));
            let whole = cma.alloc("x", None, pages * PAGE_SIZE, 0).unwrap();
            region.check().unwrap();
            cma.free(whole.into_addr()).unwrap();
            let all: Vec<_> =
                (0..pages).map(|_| cma.alloc("x", None, PAGE_SIZE, 0).unwrap()).collect();
            region.check().unwrap();
            drop(all);
            region.check().unwrap();
        }
    }
}

#[test]
fn a_reserved_range_above_the_address_space_is_refused() {
    let cma = Cma::new();
    for (first, pages) in [(PageRange::ADDRESS_SPACE_PAGES - 1, 2), (u64::MAX, 2), (0, 0)] {
        let reserved = Reserved::from(PageRange::from_pages(first, pages));
        cma.region_register_reserved(None, reserved, AllocatorChoice::Default).unwrap_err();
    }
}

#[test]
fn a_check_detects_wrong_holes() {
    struct Hides(cma_best_fit::BestFit);
    impl Allocator for Hides {
        const INFO: AllocatorInfo = AllocatorInfo {
            name: "hides",
            version: "1",
            description: "shows no hole but the largest",
        };
        fn new(region: PageRange, _: &str) -> Result<Self, InitError> {
            Ok(Hides(Allocator::new(region, "")?))
        }
        fn allocate(&mut self, request: &Request) -> Result<Placement, NoRoom> {
            self.0.allocate(request)
        }
        fn fit(&mut self, request: &Request) -> Option<PageRange> {
            self.0.fit(request)
        }
        fn free(&mut self, chunk: Placement) -> Result<(), NotMine> {
            self.0.free(chunk)
        }
        fn adopt(&mut self, range: PageRange) -> Result<Tag, CannotAdopt> {
            self.0.adopt(range)
        }
        fn holes(&self, visit: &mut dyn FnMut(PageRange)) {
            let largest = self.0.largest_request();
            self.0.holes(&mut |hole| {
                if hole.pages() == largest {
                    visit(hole);
                }
            });
        }
        fn largest_request(&self) -> Pages {
            self.0.largest_request()
        }
        fn check(&self) -> Result<(), String> {
            self.0.check()
        }
    }
    let cma = Cma::new();
    cma.allocator_register(Plugin::built_in::<Hides>()).unwrap();
    let region = common::region(&cma, "r", common::BASE, common::MIB, AllocatorChoice::Default);
    let first = cma.alloc_from("r", PAGE_SIZE, 0).unwrap();
    let _second = cma.alloc_from("r", PAGE_SIZE, 0).unwrap();
    region.check().unwrap();
    drop(first);
    assert!(region.check().unwrap_err().contains("reports the holes"));
}
