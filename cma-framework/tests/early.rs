//! From a board's description to regions with memory.

mod common;

use cma_framework::config::{Bank, Growth, Map, Place, RegionSpec};
use cma_framework::early::EarlyError;
use cma_framework::errors::RegisterError;
use cma_framework::reserve::{Banks, ReserveError, ReserveRequest, Reserved, Reserver};
use cma_framework::{Cma, DmaAddr, EarlyRegion, EarlyState, Errno, PageRange};
use common::{BASE, MIB, scripted};
use proptest::prelude::*;

const BANK: &[Bank] = &[Bank::new(BASE, 0x1000_0000)];

fn early(size: u64, alignment: u64, start: Option<u64>) -> EarlyRegion {
    EarlyRegion {
        size,
        alignment,
        place: start.map_or(Place::Anywhere, |start| Place::At(DmaAddr::new(start))),
        ..EarlyRegion::default()
    }
}

#[test]
fn a_failed_reservation_is_reported_and_the_others_proceed() {
    let cma = Cma::new();
    cma.command_line(Some("a=1M@0x40000000;b=1M@0x40080000;c=1G;d=1M"), Some("*=a,b,c,d")).unwrap();
    let states: Vec<_> = cma
        .early_regions_reserve(&mut Banks::new(BANK, Growth::Up))
        .iter()
        .map(|early| (early.description().name.clone().unwrap(), early.state()))
        .collect();
    assert!(matches!(states[0].1, EarlyState::Reserved(_)));
    assert!(matches!(states[1].1, EarlyState::NotReserved(ReserveError::Taken { .. })));
    assert!(matches!(states[2].1, EarlyState::NotReserved(ReserveError::NoSpace { .. })));
    assert!(matches!(states[3].1, EarlyState::Reserved(_)));
    let registered: Vec<_> =
        cma.initialise().iter().map(|early| early.registered().is_some()).collect();
    assert_eq!(registered, [true, false, false, true]);

    // A failed reservation may be repeated elsewhere. Reserved memory is kept.
    cma.early_regions_reserve(&mut Banks::new(&[Bank::new(0x8000_0000, 0x8000_0000)], Growth::Up));
    let c = cma.initialise()[2].registered().unwrap();
    assert_eq!(c.range().start(), DmaAddr::new(0x8000_0000));
}

#[test]
fn no_region_takes_the_place_that_another_one_was_promised() {
    let text = "any=1M;wide=1M@0x40000000-0x40200000;narrow=1M@0x40000000-0x40100000;\
                fixed=1M@0x40200000;late=1M";
    let cma = Cma::new();
    cma.command_line(Some(text), None).unwrap();
    let mut requested = Requested { order: Vec::new(), announced: Vec::new(), banks: bank() };
    let handles = cma.early_regions_reserve(&mut requested);
    assert_eq!(requested.order, ["fixed", "wide", "narrow", "any", "late"]);
    assert_eq!(requested.announced, requested.order);
    // The handles stay in the order of the text. `narrow` loses to `wide`, which comes first.
    let names: Vec<_> = handles.iter().map(|early| early.description().name.as_deref()).collect();
    assert_eq!(names, ["any", "wide", "narrow", "fixed", "late"].map(Some));
    let starts: Vec<_> =
        handles.iter().map(|early| early.reserved().map(|range| range.start().get())).collect();
    assert_eq!(starts, [Some(0x4010_0000), Some(BASE), None, Some(0x4020_0000), Some(0x4030_0000)]);
    assert!(matches!(handles[2].state(), EarlyState::NotReserved(ReserveError::NoSpace { .. })));
}

/// Records the order of requests.
struct Requested {
    order: Vec<String>,
    announced: Vec<String>,
    banks: Banks,
}

fn bank() -> Banks {
    Banks::new(&[Bank::new(BASE, 4 << 20)], Growth::Up)
}

impl Reserver for Requested {
    fn announce(&mut self, requests: &[ReserveRequest]) {
        self.announced.extend(requests.iter().filter_map(|request| request.name.clone()));
    }

    fn reserve(&mut self, request: &ReserveRequest) -> Result<Reserved, ReserveError> {
        self.order.extend(request.name.clone());
        self.banks.reserve(request)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Against trying every page: no two regions overlap, each lies where its description says,
    /// and one that has no memory had no place after those that are reserved before it.
    #[test]
    fn every_promise_of_a_place_is_kept_or_could_not_be_kept(
        regions in proptest::collection::vec(described(), 1..12),
        down: bool,
    ) {
        let text: Vec<String> = regions
            .iter()
            .enumerate()
            .map(|(n, Described { pages, alignment, place, .. })| {
                let place = match place {
                    None => String::new(),
                    Some((first, None)) => format!("@{:#x}", first << 12),
                    Some((first, Some(end))) => format!("@{:#x}-{:#x}", first << 12, end << 12),
                };
                format!("r{n}={}K{place}/{}K", pages * 4, alignment * 4)
            })
            .collect();
        let cma = Cma::new();
        cma.command_line(Some(&text.join(";")), None).unwrap();
        // Two banks that touch, and one apart.
        let banks = [(1, 16), (17, 15), (40, 24)];
        let memory = banks.map(|(first, pages)| Bank::new(first << 12, pages << 12));
        let growth = if down { Growth::Down } else { Growth::Up };
        let handles = cma.early_regions_reserve(&mut Banks::new(&memory, growth));

        let mut free: Vec<bool> =
            (0..128).map(|page| (1..32).contains(&page) || (40..64).contains(&page)).collect();
        let class = |region: &Described| match region.place {
            Some((_, None)) => 0,
            Some((_, Some(_))) => 1,
            None => 2,
        };
        for turn in 0..3 {
            let regions = regions.iter().zip(&handles).filter(|(region, _)| class(region) == turn);
            for (region, handle) in regions {
                let places: Vec<u64> = region
                    .starts()
                    .filter(|first| (*first..first + region.pages).all(|page| free[page as usize]))
                    .collect();
                match handle.reserved() {
                    Some(range) => {
                        prop_assert!(places.contains(&range.first_page()), "{region:?}: {range}");
                        prop_assert_eq!(range.pages().get(), region.pages);
                        (range.first_page()..range.end_page()).for_each(|p| free[p as usize] = false);
                    }
                    None => prop_assert!(places.is_empty(), "{:?}: {:?}", region, handle.state()),
                }
            }
        }
    }
}

/// A region in pages.
#[derive(Clone, Debug)]
struct Described {
    pages: u64,
    alignment: u64,
    /// The fixed start, or the window's first page and the page after its last.
    place: Option<(u64, Option<u64>)>,
}

impl Described {
    /// Every start that its description allows, in memory or not.
    fn starts(&self) -> impl Iterator<Item = u64> {
        let starts = match self.place {
            None => 0..64,
            Some((first, None)) => {
                let first = first.next_multiple_of(self.alignment);
                first..first + 1
            }
            Some((first, Some(end))) => first..(end + 1).saturating_sub(self.pages),
        };
        let alignment = self.alignment;
        starts.filter(move |first| first.is_multiple_of(alignment))
    }
}

/// Regions that the grammar accepts: a window has an aligned place of the region's size.
fn described() -> impl Strategy<Value = Described> {
    let place = prop_oneof![
        Just(None),
        (1..64u64).prop_map(|first| Some((first, None))),
        (0..64u64, 1..64u64).prop_map(|(first, pages)| Some((first, Some(first + pages)))),
    ];
    (1..20u64, 0..4u32, place)
        .prop_map(|(pages, log2, place)| Described { pages, alignment: 1 << log2, place })
        .prop_filter("the window has no place", |region| region.starts().next().is_some())
}

#[test]
fn a_failed_registration_keeps_its_memory_and_does_not_stop_the_others() {
    /// Reserves the same memory for every region.
    struct Same;
    impl Reserver for Same {
        fn reserve(&mut self, request: &ReserveRequest) -> Result<Reserved, ReserveError> {
            Ok(PageRange::from_pages(0x1000, request.pages.get()).into())
        }
    }
    let cma = Cma::new();
    let broken = EarlyRegion { allocator: scripted("no script"), ..early(4096, 0, None) };
    let broken = cma.early_region_register(broken).unwrap();
    let first = cma.early_region_register(early(4096, 0, None)).unwrap();
    let second = cma.early_region_register(early(4096, 0, None)).unwrap();
    assert_eq!(first.state(), EarlyState::Described);
    cma.early_regions_reserve(&mut Same);
    cma.initialise();
    assert!(matches!(
        broken.state(),
        EarlyState::NotRegistered(_, RegisterError::Allocator { .. })
    ));
    assert!(matches!(second.state(), EarlyState::NotRegistered(_, RegisterError::Overlaps { .. })));
    assert_eq!((first.registered().is_some(), second.reserved()), (true, first.reserved()));
    // Once the place is free, the next `initialise` registers it.
    cma.region_unregister(&first.registered().unwrap()).unwrap();
    cma.initialise();
    assert!(second.registered().is_some());
}

#[test]
fn sizes_and_alignments_are_rounded_as_the_specification_requires() {
    let cma = Cma::new();
    let rounded = cma.early_region_register(early(5000, 0x10000, Some(BASE + 1))).unwrap();
    let small = cma.early_region_register(early(1, 8, None)).unwrap();
    cma.early_regions_reserve(&mut Banks::new(BANK, Growth::Up));
    assert_eq!(rounded.reserved(), PageRange::from_bytes(DmaAddr::new(BASE + 0x10000), 8192));
    assert_eq!(small.reserved(), PageRange::from_bytes(DmaAddr::new(BASE), 4096));

    let refused = |region| cma.early_region_register(region).map(|_| ()).unwrap_err();
    assert_eq!(refused(early(0, 0, None)), EarlyError::NoSize);
    assert_eq!(refused(early(1, 3, None)), EarlyError::Alignment { bytes: 3 });
    for (size, alignment, start) in
        [(u64::MAX, 0, None), (8192, 0, Some(u64::MAX - 4095)), (1, 1 << 63, Some((1 << 63) + 1))]
    {
        let error = refused(early(size, alignment, start));
        assert!(matches!(error, EarlyError::PastTheTop { .. }), "{error}");
        assert_eq!(error.errno(), Errno::EINVAL);
    }
    let bad = EarlyRegion { name: Some("a,b".to_string()), ..early(1, 0, None) };
    assert!(matches!(refused(bad), EarlyError::BadName { .. }));
}

#[test]
fn the_command_line_comes_before_the_platform_in_either_order() {
    let platform = [RegionSpec::new("p", MIB)];
    for command_line_first in [true, false] {
        let cma = Cma::new();
        let say = || cma.command_line(Some("c=2M"), Some("*=c")).unwrap();
        if command_line_first {
            say();
        }
        cma.set_defaults(&platform, Map::parse("*=p").unwrap()).unwrap();
        if !command_line_first {
            say();
        }
        let names: Vec<_> =
            cma.early_regions().iter().map(|e| e.description().name.clone()).collect();
        assert_eq!(names, [Some("c".to_string())]);
        assert_eq!(cma.map().text(), "*=c");
        let again = cma.set_defaults(&platform, Map::default()).unwrap_err();
        assert_eq!((again.clone(), again.errno()), (EarlyError::DefaultsSet, Errno::EBUSY));
    }
    // Only the given half is replaced, and an error in one half replaces neither.
    let cma = Cma::new();
    cma.set_defaults(&platform, Map::parse("*=p").unwrap()).unwrap();
    assert!(cma.command_line(Some("c=2M"), Some("*==c")).is_err());
    assert_eq!(cma.early_regions()[0].description().name.as_deref(), Some("p"));
    cma.command_line(None, Some("x=p")).unwrap();
    assert_eq!((cma.early_regions().len(), cma.map().text()), (1, "x=p"));
}

#[test]
fn a_reservation_that_differs_from_the_request_becomes_no_region() {
    struct Answers(PageRange);
    impl Reserver for Answers {
        fn reserve(&mut self, _: &ReserveRequest) -> Result<Reserved, ReserveError> {
            Ok(self.0.into())
        }
    }
    for (first, pages) in [
        (u64::MAX, 5),
        (0x40000, 0),
        ((1 << 52) - 1, 2),
        (0x40000, 1 << 63),
        (3, 256),
        (0x40100, 256),
    ] {
        let cma = Cma::new();
        let early = cma.early_region_register(early(MIB, MIB, Some(0x4000_0000))).unwrap();
        cma.early_regions_reserve(&mut Answers(PageRange::from_pages(first, pages)));
        assert!(
            matches!(early.state(), EarlyState::NotReserved(ReserveError::Misplaced { .. })),
            "{first:#x}"
        );
        cma.initialise();
        assert!(cma.regions().is_empty());
    }
}

#[test]
fn a_reserver_may_use_the_framework() {
    struct Looks<'a>(&'a Cma);
    impl Reserver for Looks<'_> {
        fn reserve(&mut self, request: &ReserveRequest) -> Result<Reserved, ReserveError> {
            self.0.set_map(Map::parse("*=r").unwrap());
            Ok(PageRange::from_pages(
                self.0.early_regions().len() as u64 * 0x1000,
                request.pages.get(),
            )
            .into())
        }
    }
    let cma = Cma::new();
    let early = cma.early_region_register(early(MIB, 0, None)).unwrap();
    cma.early_regions_reserve(&mut Looks(&cma));
    assert_eq!(early.reserved().unwrap().first_page(), 0x1000);
}

#[test]
fn a_later_command_line_loses_no_memory() {
    let cma = Cma::new();
    let mut banks = Banks::new(BANK, Growth::Up);
    cma.command_line(Some("a=1M"), None).unwrap();
    cma.early_regions_reserve(&mut banks);
    cma.command_line(Some("b=1M"), Some("*=a,b")).unwrap();
    cma.early_regions_reserve(&mut banks);
    assert!(cma.initialise().iter().all(|early| early.registered().is_some()));
    assert_eq!(cma.regions().len(), 2);
}

#[test]
fn an_early_region_that_is_replaced_while_it_is_reserved_keeps_its_memory() {
    struct Changes<'a>(&'a Cma, Banks);
    impl Reserver for Changes<'_> {
        fn reserve(&mut self, request: &ReserveRequest) -> Result<Reserved, ReserveError> {
            self.0.command_line(Some("c=1M"), None).unwrap();
            self.1.reserve(request)
        }
    }
    let cma = Cma::new();
    cma.command_line(Some("a=1M;b=1M"), None).unwrap();
    let handles = cma.early_regions_reserve(&mut Changes(&cma, Banks::new(BANK, Growth::Up)));
    cma.initialise();
    assert!(handles.iter().all(|early| early.registered().is_some()));
}

#[test]
fn an_unaligned_or_too_high_reservation_becomes_no_region() {
    struct Answers(PageRange);
    impl Reserver for Answers {
        fn reserve(&mut self, _: &ReserveRequest) -> Result<Reserved, ReserveError> {
            Ok(self.0.into())
        }
    }
    for (alignment, answer) in [
        (MIB, PageRange::from_pages(0x101, 256)),
        (0, PageRange::from_pages(PageRange::ADDRESS_SPACE_PAGES - 255, 256)),
    ] {
        let cma = Cma::new();
        let early = cma.early_region_register(early(MIB, alignment, None)).unwrap();
        cma.early_regions_reserve(&mut Answers(answer));
        assert!(
            matches!(early.state(), EarlyState::NotReserved(ReserveError::Misplaced { .. })),
            "{answer:?}"
        );
    }
}
