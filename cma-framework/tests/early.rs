//! From a board's description to regions with memory.

mod common;

use cma_framework::config::{Bank, Growth, Map, Place, RegionSpec};
use cma_framework::early::EarlyError;
use cma_framework::errors::RegisterError;
use cma_framework::reserve::{Banks, ReserveError, ReserveRequest, Reserved, Reserver};
use cma_framework::{Cma, DmaAddr, EarlyRegion, EarlyState, Errno, PageRange};
use common::{BASE, MIB, scripted};

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
