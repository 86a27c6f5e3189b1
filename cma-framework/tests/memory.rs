//! Memory that a reserver gives goes with its region. What ports do with it is tested with them.

mod common;

use cma_framework::config::Map;
use cma_framework::memory::{Backing, Claim, Contiguity, Memory, Piece, Store};
use cma_framework::reserve::{ReserveError, ReserveRequest, Reserved, Reserver};
use cma_framework::{
    AllocatorChoice, AllocatorState, Cma, DmaAddr, EarlyRegion, EarlyState, MemoryError, PageRange, Pages,
    Plugin,
};
use common::{BASE, MIB};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Memory that gives nothing, and counts how often it ends.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

// SAFETY: there is no store.
unsafe impl Memory for Counted {
    fn backing(&self) -> Backing {
        Backing { kind: "counted", contiguity: Contiguity::No, granule: Pages::new(4) }
    }

    fn store(&self, claim: Claim) -> Result<Box<dyn Store>, MemoryError> {
        Err(MemoryError::Held { range: claim.range() })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Gives every region the same place, and memory.
struct Gives(Arc<AtomicUsize>);

impl Reserver for Gives {
    fn reserve(&mut self, request: &ReserveRequest) -> Result<Reserved, ReserveError> {
        let range = PageRange::from_pages(BASE >> 12, request.pages.get());
        Ok(Reserved { range, memory: Some(Box::new(Counted(self.0.clone()))) })
    }
}

fn early(name: &str) -> EarlyRegion {
    EarlyRegion { name: Some(name.to_string()), size: MIB, ..EarlyRegion::default() }
}

#[test]
fn memory_ends_with_the_registration_of_its_region() {
    let cma = Cma::new();
    let handle = cma.early_region_register(early("r")).unwrap();
    let ended = Arc::new(AtomicUsize::new(0));
    cma.early_regions_reserve(&mut Gives(ended.clone()));
    cma.initialise();
    cma.set_map(Map::parse("*=r").unwrap());
    let region = cma.region("r").unwrap();
    assert_eq!(
        (region.backing().unwrap().kind, cma.info("x", None).unwrap().granule_bytes),
        ("counted", 16384)
    );
    // Handles and devices that outlive it keep none of it.
    let _device = cma.device("camera", None).unwrap();
    cma.region_unregister(&region).unwrap();
    assert_eq!((ended.load(Ordering::SeqCst), region.backing()), (1, None));
    assert!(cma.early_regions().is_empty(), "{handle:?} is kept for ever");
}

#[test]
fn a_region_that_could_not_be_registered_keeps_its_memory_for_the_next_time() {
    let cma = Cma::new();
    let ended = Arc::new(AtomicUsize::new(0));
    let first = cma.early_region_register(early("first")).unwrap();
    let second = cma.early_region_register(early("second")).unwrap();
    cma.early_regions_reserve(&mut Gives(ended.clone()));
    cma.initialise();
    assert!(matches!(second.state(), EarlyState::NotRegistered(..)));
    assert_eq!(ended.load(Ordering::SeqCst), 0);
    cma.region_unregister(&first.registered().unwrap()).unwrap();
    cma.initialise();
    assert_eq!(second.registered().unwrap().backing().unwrap().kind, "counted");
    assert_eq!(ended.load(Ordering::SeqCst), 1);
}

#[test]
fn memory_of_a_region_that_is_refused_is_released() {
    let cma = Cma::new();
    let ended = Arc::new(AtomicUsize::new(0));
    let reserved =
        Reserved { range: PageRange::from_pages(1, 0), memory: Some(Box::new(Counted(ended.clone()))) };
    cma.region_register_reserved(None, reserved, AllocatorChoice::Default).unwrap_err();
    assert_eq!(ended.load(Ordering::SeqCst), 1);
}

#[test]
fn a_chunk_that_does_not_become_memory_is_live_as_before() {
    let cma = Cma::new();
    cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
    let range = PageRange::from_pages(BASE >> 12, 256);
    let reserved = Reserved { range, memory: Some(Box::new(Counted(Arc::default()))) };
    let backed = cma.region_register_reserved(None, reserved, AllocatorChoice::Default).unwrap();
    let addresses = common::region(&cma, "addresses", BASE + MIB, MIB, AllocatorChoice::Default);
    for (region, said) in [(backed, "still held"), (addresses, "region addresses is addresses alone")] {
        let chunk = cma.alloc_from_region(&region, 4096, 0).unwrap();
        let refused = chunk.map().unwrap_err();
        assert!(refused.to_string().contains(said), "{refused}");
        let refused = refused.chunk.share().unwrap_err();
        assert_eq!(region.status().users, 1);
        drop(refused);
        assert_eq!(region.status().users, 0);
    }
}

/// Memory of which somebody else holds the pages from number 16 to 19, as long as they want.
#[derive(Clone, Debug, Default)]
struct PartlyHeld(Arc<AtomicUsize>);

const HELD: PageRange = PageRange::from_pages((BASE >> 12) + 16, 4);

// SAFETY: a store has no bytes.
unsafe impl Memory for PartlyHeld {
    fn backing(&self) -> Backing {
        Backing { kind: "held", contiguity: Contiguity::No, granule: Pages::new(1) }
    }

    fn store(&self, claim: Claim) -> Result<Box<dyn Store>, MemoryError> {
        match self.0.load(Ordering::SeqCst) {
            0 if claim.range().overlaps(HELD) => Err(MemoryError::Held { range: HELD }),
            _ => Ok(Box::new(Nothing)),
        }
    }
}

/// A store without bytes.
#[derive(Debug)]
struct Nothing;

impl Store for Nothing {
    fn map(&mut self) -> Result<(), MemoryError> {
        Ok(())
    }

    fn bytes(&self) -> &[u8] {
        &[]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut []
    }

    fn pieces(&self) -> Result<usize, MemoryError> {
        Ok(0)
    }

    fn piece(&self, index: usize) -> Result<Piece<'_>, MemoryError> {
        unreachable!("there is no piece {index}")
    }

    fn held(&self) -> bool {
        false
    }
}

impl Reserver for PartlyHeld {
    fn reserve(&mut self, request: &ReserveRequest) -> Result<Reserved, ReserveError> {
        let range = PageRange::from_pages(BASE >> 12, request.pages.get());
        Ok(Reserved { range, memory: Some(Box::new(self.clone())) })
    }
}

/// Memory of pieces of one page, which counts those that were opened.
#[derive(Clone, Debug, Default)]
struct Pieced(Arc<AtomicUsize>);

// SAFETY: a store has no bytes.
unsafe impl Memory for Pieced {
    fn backing(&self) -> Backing {
        Backing { kind: "pieces", contiguity: Contiguity::No, granule: Pages::new(1) }
    }

    fn store(&self, claim: Claim) -> Result<Box<dyn Store>, MemoryError> {
        Ok(Box::new(Counting { pieces: claim.range().pages().get() as usize, opened: self.0.clone() }))
    }
}

#[derive(Debug)]
struct Counting {
    pieces: usize,
    opened: Arc<AtomicUsize>,
}

impl Store for Counting {
    fn map(&mut self) -> Result<(), MemoryError> {
        Ok(())
    }

    fn bytes(&self) -> &[u8] {
        &[]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut []
    }

    fn pieces(&self) -> Result<usize, MemoryError> {
        Ok(self.pieces)
    }

    fn piece(&self, index: usize) -> Result<Piece<'_>, MemoryError> {
        assert!(index < self.pieces);
        self.opened.fetch_add(1, Ordering::SeqCst);
        Ok(Piece::new(std::fs::File::open("/dev/null").unwrap().into(), index as u64, 4096))
    }

    fn held(&self) -> bool {
        false
    }
}

#[test]
fn only_the_pieces_that_are_asked_for_are_opened() {
    let cma = Cma::new();
    cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
    let range = PageRange::from_pages(BASE >> 12, 512);
    let memory = Pieced::default();
    let opened = memory.0.clone();
    let reserved = Reserved { range, memory: Some(Box::new(memory)) };
    let region = cma.region_register_reserved(None, reserved, AllocatorChoice::Default).unwrap();
    let shared = cma.alloc_from_region(&region, 500 << 12, 0).unwrap().share().unwrap();
    let offsets = |first, most| {
        let pieces = shared.pieces().unwrap().skip(first).take(most);
        pieces.map(|piece| piece.unwrap().offset).collect::<Vec<_>>()
    };
    assert_eq!((shared.pieces().unwrap().len(), opened.load(Ordering::SeqCst)), (500, 0));
    assert!(offsets(500, 253).is_empty() && offsets(usize::MAX, 253).is_empty());
    assert_eq!(opened.swap(0, Ordering::SeqCst), 0);
    assert_eq!((offsets(100, 3), opened.swap(0, Ordering::SeqCst)), (vec![100, 101, 102], 3));
    assert_eq!((offsets(498, 253), opened.swap(0, Ordering::SeqCst)), (vec![498, 499], 2));
    let mut pieces = shared.pieces().unwrap();
    assert_eq!((pieces.nth(499).unwrap().unwrap().offset, pieces.len()), (499, 0));
    assert!(pieces.next().is_none());
    assert_eq!(opened.load(Ordering::SeqCst), 1);
}

#[test]
fn memory_that_cant_be_had_is_set_aside_and_the_rest_of_its_region_goes_on() {
    let algorithms = [
        Plugin::built_in::<cma_best_fit::BestFit>(),
        Plugin::built_in::<cma_buddy::Buddy>(),
        Plugin::built_in::<cma_bitmap::Bitmap>(),
        Plugin::built_in::<cma_tlsf::Tlsf>(),
    ];
    for plugin in algorithms {
        let name = plugin.name().to_string();
        let cma = Cma::new();
        cma.allocator_register(plugin).unwrap();
        cma.early_region_register(early("r")).unwrap();
        let mut memory = PartlyHeld::default();
        cma.early_regions_reserve(&mut memory);
        cma.initialise();
        let region = cma.region("r").unwrap();
        let all = cma.alloc_from("r", MIB, 0).unwrap();
        let aside = all.share().unwrap_err().set_aside().unwrap();
        assert_eq!(aside.range(), HELD, "{name}");
        assert_eq!((region.status().free_bytes, region.status().users), (MIB - HELD.bytes(), 1));
        region.check().unwrap();
        // Half of the region is there in one piece, and is memory.
        let half = cma.alloc_from("r", MIB / 2, 0).unwrap();
        assert!(!half.range().overlaps(HELD), "{name}");
        let half = half.share().unwrap();
        let aside = aside.share().unwrap_err().chunk;
        memory.0.store(1, Ordering::SeqCst);
        drop(aside.share().unwrap());
        drop(half);
        assert_eq!((region.status().free_bytes, region.status().users), (MIB, 0));
        region.check().unwrap();
        drop(cma.alloc_from("r", MIB, 0).unwrap().share().unwrap());
    }
}

#[test]
fn an_allocator_that_adopts_nothing_is_out_of_service_and_the_chunk_stays_aside_whole() {
    let cma = Cma::new();
    let allocator = common::scripted("0+64");
    cma.early_region_register(EarlyRegion { allocator, ..early("r") }).unwrap();
    cma.early_regions_reserve(&mut PartlyHeld::default());
    cma.initialise();
    let region = cma.region("r").unwrap();
    let aside = cma.alloc_from("r", 64 << 12, 0).unwrap().share().unwrap_err().set_aside().unwrap();
    assert_eq!(aside.range(), PageRange::from_pages(BASE >> 12, 64));
    assert_eq!((region.status().free_bytes, region.status().users), (MIB - (64 << 12), 1));
    assert!(matches!(region.status().allocator, AllocatorState::OutOfService { .. }));
    // It heals like any other, with the chunk in its place.
    let plugin = Plugin::built_in::<cma_buddy::Buddy>();
    cma.set_region_allocator(&region, AllocatorChoice::Given { plugin, params: String::new() }).unwrap();
    region.check().unwrap();
    drop(aside);
    assert_eq!(region.status().free_bytes, MIB);
    region.check().unwrap();
}

#[test]
fn what_is_wrong_with_a_request_is_no_reason_to_set_memory_aside() {
    let cma = Cma::new();
    cma.allocator_register(Plugin::built_in::<cma_buddy::Buddy>()).unwrap();
    cma.region_register(Some("r"), DmaAddr::new(BASE), MIB, AllocatorChoice::Default).unwrap();
    let simulated = cma.alloc_from("r", 4096, 0).unwrap().share().unwrap_err();
    assert!(matches!(simulated.set_aside().unwrap_err().error, MemoryError::Simulated { .. }));
}
