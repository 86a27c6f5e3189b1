//! Memory that a reserver gives goes with its region. What ports do with it is tested with them.

mod common;

use cma_framework::config::Map;
use cma_framework::memory::{Backing, Claim, Contiguity, Memory, Store};
use cma_framework::reserve::{ReserveError, ReserveRequest, Reserved, Reserver};
use cma_framework::{AllocatorChoice, Cma, EarlyRegion, EarlyState, MemoryError, PageRange, Pages, Plugin};
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
