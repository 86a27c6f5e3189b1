//! The memory of a region: its life, chunks that move, and memory that is set aside. Ports have
//! tests of their own.

mod common;

use cma_framework::config::{Bytes, Map};
use cma_framework::errors::UnregisterError;
use cma_framework::memory::{Backing, Claim, Contiguity, Memory, Piece, Store};
use cma_framework::reserve::{ReserveError, ReserveRequest, Reserved, Reserver};
use cma_framework::{
    AllocatorChoice, AllocatorState, ChunkRequest, Cma, DmaAddr, EarlyRegion, EarlyState,
    MemoryError, PageRange, Pages, Plugin, Process, Region, Source,
};
use common::{BASE, MIB, NoBytes};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

/// Memory that makes no store. Counts its drops.
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

/// Reserves the same place for every region, with memory.
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
    // Handles and devices that outlive the region don't keep its memory.
    let _device = cma.device("camera", None).unwrap();
    cma.region_unregister(&region).unwrap();
    assert_eq!((ended.load(Ordering::SeqCst), region.backing()), (1, None));
    assert!(cma.early_regions().is_empty(), "{handle:?} is kept for ever");
}

#[test]
fn a_region_that_is_not_registered_keeps_its_memory_for_the_next_attempt() {
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
    let reserved = Reserved {
        range: PageRange::from_pages(1, 0),
        memory: Some(Box::new(Counted(ended.clone()))),
    };
    cma.region_register_reserved(None, reserved, AllocatorChoice::Default).unwrap_err();
    assert_eq!(ended.load(Ordering::SeqCst), 1);
}

#[test]
fn a_chunk_that_can_not_be_mapped_stays_live() {
    let cma = Cma::new();
    cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
    let range = PageRange::from_pages(BASE >> 12, 256);
    let reserved = Reserved { range, memory: Some(Box::new(Counted(Arc::default()))) };
    let backed = cma.region_register_reserved(None, reserved, AllocatorChoice::Default).unwrap();
    let addresses = common::region(&cma, "addresses", BASE + MIB, MIB, AllocatorChoice::Default);
    for (region, said) in
        [(backed, "still held"), (addresses, "region addresses is addresses alone")]
    {
        // It covers the region, so there is no other place.
        let chunk = cma.alloc_from_region(&region, MIB, 0).unwrap();
        let refused = chunk.map().unwrap_err();
        assert!(refused.to_string().contains(said), "{refused}");
        let refused = refused.chunk.share().unwrap_err();
        assert_eq!(region.status().users, 1);
        drop(refused);
        assert_eq!(region.status().users, 0);
    }
}

/// Memory of which another process holds the pages whose flag is set.
#[derive(Clone, Debug, Default)]
struct PartlyHeld(Arc<Mutex<Vec<bool>>>);

const HELD: PageRange = PageRange::from_pages((BASE >> 12) + 16, 4);

impl PartlyHeld {
    /// Another process holds `HELD`.
    fn new() -> Self {
        let memory = PartlyHeld::default();
        memory.hold(HELD);
        memory
    }

    fn hold(&self, range: PageRange) {
        let held = &mut *self.0.lock().unwrap();
        held.resize(256, false);
        held[(range.first_page() - (BASE >> 12)) as usize..][..range.pages().get() as usize]
            .fill(true);
    }

    fn release(&self) {
        self.0.lock().unwrap().fill(false);
    }

    /// The first held pages of `range`, up to the next page that is not held.
    fn held_in(&self, range: PageRange) -> Option<PageRange> {
        let held = self.0.lock().unwrap();
        let is_held =
            |page: &u64| held.get((page - (BASE >> 12)) as usize).is_some_and(|held| *held);
        let first = (range.first_page()..range.end_page()).find(is_held)?;
        let pages = (first..).take_while(is_held).count();
        Some(PageRange::from_pages(first, pages as u64))
    }
}

// SAFETY: a store has no bytes.
unsafe impl Memory for PartlyHeld {
    fn backing(&self) -> Backing {
        Backing { kind: "held", contiguity: Contiguity::No, granule: Pages::new(1) }
    }

    fn store(&self, claim: Claim) -> Result<Box<dyn Store>, MemoryError> {
        match self.held_in(claim.range()) {
            Some(range) => Err(MemoryError::Held { range }),
            None => Ok(Box::new(NoBytes)),
        }
    }
}

impl Reserver for PartlyHeld {
    fn reserve(&mut self, request: &ReserveRequest) -> Result<Reserved, ReserveError> {
        let range = PageRange::from_pages(BASE >> 12, request.pages.get());
        Ok(Reserved { range, memory: Some(Box::new(self.clone())) })
    }
}

/// Memory in pieces of one page. Counts opened pieces.
#[derive(Clone, Debug, Default)]
struct Pieced(Arc<AtomicUsize>);

// SAFETY: a store has no bytes.
unsafe impl Memory for Pieced {
    fn backing(&self) -> Backing {
        Backing { kind: "pieces", contiguity: Contiguity::No, granule: Pages::new(1) }
    }

    fn store(&self, claim: Claim) -> Result<Box<dyn Store>, MemoryError> {
        Ok(Box::new(Counting {
            pieces: claim.range().pages().get() as usize,
            opened: self.0.clone(),
        }))
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
fn only_requested_pieces_are_opened() {
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

fn algorithms() -> [Plugin; 4] {
    [
        Plugin::built_in::<cma_best_fit::BestFit>(),
        Plugin::built_in::<cma_buddy::Buddy>(),
        Plugin::built_in::<cma_bitmap::Bitmap>(),
        Plugin::built_in::<cma_tlsf::Tlsf>(),
    ]
}

/// A framework with a region `r` of 1 MiB of `memory`.
fn partly_held(plugin: Plugin, memory: &PartlyHeld) -> (Cma, Region) {
    let cma = Cma::new();
    cma.allocator_register(plugin).unwrap();
    cma.early_region_register(early("r")).unwrap();
    cma.early_regions_reserve(&mut memory.clone());
    cma.initialise();
    cma.set_map(Map::parse("*=r").unwrap());
    let region = cma.region("r").unwrap();
    (cma, region)
}

fn figures(region: &Region) -> (u64, u32) {
    (region.status().free_bytes, region.status().users)
}

#[test]
fn a_chunk_on_held_memory_moves_and_the_held_part_is_set_aside() {
    for plugin in algorithms() {
        let name = plugin.name().to_string();
        let memory = PartlyHeld::new();
        let (cma, region) = partly_held(plugin, &memory);
        // There is no other place of its size, so nothing changes.
        let all = cma.alloc("camera", None, MIB, 0).unwrap();
        let refused = all.share().unwrap_err();
        assert!(matches!(refused.error, MemoryError::Held { range } if range == HELD), "{name}");
        assert_eq!((refused.chunk.size(), figures(&region)), (MIB, (0, 1)));
        region.check().unwrap();
        drop(refused);
        // There is another place for half of it.
        let process = Process { uid: 1000, pid: 4711, name: "ffmpeg".into() };
        let camera = Source::Device { name: "camera", kind: None };
        let half = cma
            .to_share(process.clone(), camera, &ChunkRequest::parse("512K/512K").unwrap())
            .unwrap()
            .alloc()
            .unwrap();
        let half = half.share().unwrap();
        assert!(
            !half.chunk().range().overlaps(HELD) && half.start().get() % (MIB / 2) == 0,
            "{name}"
        );
        assert_eq!(figures(&region), (MIB / 2 - HELD.bytes(), 2));
        region.check().unwrap();
        let owners: Vec<_> =
            cma.owners(&region).unwrap().iter().map(|owner| owner.device.is_some()).collect();
        assert_eq!(
            owners,
            [false, true],
            "{name}: the chunk has its device as owner, the part that is set aside has none"
        );
        assert_eq!(cma.owners(&region).unwrap()[1].process.as_ref(), Some(&process), "{name}");
        drop(half);
        // A request that needs it gets it, without a check by the host.
        cma.alloc("camera", None, MIB, 0).unwrap_err();
        memory.release();
        drop(cma.alloc("camera", None, MIB, 0).unwrap().share().unwrap());
        assert_eq!(figures(&region), (MIB, 0));
        region.check().unwrap();
    }
}

#[test]
fn a_chunk_may_move_to_a_place_that_overlaps_its_old_one() {
    let memory = PartlyHeld::new();
    let (cma, region) = partly_held(Plugin::built_in::<cma_best_fit::BestFit>(), &memory);
    let chunk = cma.alloc_from("r", 100 << 12, 0).unwrap();
    let gap = cma.alloc_from("r", 20 << 12, 0).unwrap();
    let _rest = cma.alloc_from("r", (256 - 120) << 12, 0).unwrap();
    drop(gap);
    assert_eq!(chunk.range(), PageRange::from_pages(BASE >> 12, 100));
    let moved = chunk.map().unwrap();
    assert!(moved.chunk().range().overlaps(PageRange::from_pages(BASE >> 12, 100)));
    assert_eq!(moved.chunk().range().pages(), Pages::new(100));
    assert!(memory.held_in(moved.chunk().range()).is_none());
    region.check().unwrap();
}

/// A huge page is held as a whole, however small the chunk on it.
#[test]
fn the_whole_held_range_is_set_aside_at_once() {
    for plugin in algorithms() {
        let memory = PartlyHeld::default();
        let (cma, region) = partly_held(plugin, &memory);
        let first = PageRange::from_pages(BASE >> 12, 64);
        memory.hold(first);
        let chunk = cma.alloc_from("r", 4096, 0).unwrap();
        assert!(chunk.range().overlaps(first));
        let moved = chunk.map().unwrap();
        assert!(!moved.chunk().range().overlaps(first));
        assert_eq!(figures(&region), (MIB - first.bytes() - 4096, 2));
        region.check().unwrap();
        // All of the region is held. The chunk isn't moved from page to page.
        drop(moved);
        memory.hold(region.range());
        let refused = cma.alloc("camera", None, 4096, 0).unwrap().map().unwrap_err();
        assert_eq!(figures(&region), (MIB - first.bytes() - 4096, 2));
        drop(refused);
        region.check().unwrap();
    }
}

#[test]
fn recover_memory_frees_usable_memory_and_returns_when_the_next_check_is_due() {
    let memory = PartlyHeld::new();
    let (cma, region) = partly_held(Plugin::built_in::<cma_buddy::Buddy>(), &memory);
    assert_eq!(cma.recover_memory(), None);
    drop(cma.alloc_from("r", 64 << 12, 0).unwrap().share().unwrap());
    assert_eq!(figures(&region), (MIB - HELD.bytes(), 1));
    let mut due = cma.recover_memory().unwrap();
    for _ in 0..3 {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let next = cma.recover_memory().unwrap();
        assert!(next > due, "the intervals between checks grow");
        due = next;
    }
    memory.release();
    std::thread::sleep(due.saturating_duration_since(Instant::now()));
    assert_eq!(cma.recover_memory(), None);
    assert_eq!(figures(&region), (MIB, 0));
}

#[test]
fn a_devices_chunk_moves_to_the_next_region_of_its_rule_if_its_own_is_full() {
    let memory = PartlyHeld::new();
    let (cma, region) = partly_held(Plugin::built_in::<cma_bitmap::Bitmap>(), &memory);
    let other = Reserved {
        range: PageRange::from_pages((BASE >> 12) + 256, 256),
        memory: Some(Box::new(Pieced::default())),
    };
    let other =
        cma.region_register_reserved(Some("other"), other, AllocatorChoice::Default).unwrap();
    cma.set_map(Map::parse("*=r,other").unwrap());
    let moved = cma.alloc("camera", Some("frame"), MIB, 0).unwrap().share().unwrap();
    assert_eq!((moved.chunk().region(), figures(&other)), (&other, (0, 1)));
    assert_eq!(figures(&region), (MIB - HELD.bytes(), 1));
    drop(moved);
    memory.release();
    // A chunk of a request that named the region stays in it.
    assert_eq!(
        cma.alloc_from_region(&region, MIB, 0).unwrap().share().unwrap().chunk().region(),
        &region
    );
    memory.hold(HELD);
    let refused = cma.alloc_from_region(&region, MIB, 0).unwrap().share().unwrap_err();
    assert!(refused.may_be_elsewhere() && *refused.chunk.region() == region);
    region.check().unwrap();
    other.check().unwrap();
}

#[test]
fn a_chunk_that_moves_goes_to_the_region_of_a_group_that_fits_best() {
    let memory = PartlyHeld::new();
    let (cma, _region) = partly_held(Plugin::built_in::<cma_bitmap::Bitmap>(), &memory);
    for (name, at, size) in [("large", 1, 4), ("small", 8, 2), ("none", 16, 8)] {
        let choice = AllocatorChoice::Default;
        common::region(&cma, name, BASE + at * MIB, size * MIB, choice);
    }
    // It is placed in `r`, whose hole is the smallest, and moves from there.
    cma.set_map(Map::parse("*=r|large|small,none").unwrap());
    let refused = cma.alloc("camera", None, MIB, 0).unwrap().share().unwrap_err();
    // The other regions are addresses alone, so they share nothing.
    assert!(matches!(refused.error, MemoryError::Simulated { .. }), "{refused}");
    assert_eq!(refused.chunk.region().name(), Some("small"));
}

/// All of `r`, of which a part is set aside.
fn with_a_part_set_aside(memory: &PartlyHeld) -> (Cma, Region, ChunkRequest) {
    let (cma, region) = partly_held(Plugin::built_in::<cma_buddy::Buddy>(), memory);
    drop(cma.alloc_from("r", 64 << 12, 0).unwrap().share().unwrap());
    assert_eq!(figures(&region), (MIB - HELD.bytes(), 1));
    (cma, region, ChunkRequest::new(Bytes(MIB)))
}

#[test]
fn a_thread_that_waits_gets_memory_that_was_set_aside_though_nobody_recovers_it() {
    let memory = PartlyHeld::new();
    let (cma, region, all) = with_a_part_set_aside(&memory);
    let waiting = all.wait(std::time::Duration::from_secs(60));
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| cma.allocate(Source::Regions("r"), &waiting).unwrap());
        while cma.waiters().is_empty() {
            std::thread::yield_now();
        }
        memory.release();
        assert_eq!(waits.join().unwrap().size(), MIB);
    });
    assert_eq!(figures(&region), (MIB, 0));
}

#[test]
fn recover_memory_wakes_a_future_that_waits_for_memory_that_was_set_aside() {
    let memory = PartlyHeld::new();
    let (cma, region, all) = with_a_part_set_aside(&memory);
    let mut pending = pin!(cma.allocate_async(Source::Regions("r"), &all).unwrap());
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut context = Context::from_waker(&waker);
    assert!(pending.as_mut().poll(&mut context).is_pending());
    memory.release();
    while let Some(due) = cma.recover_memory() {
        assert!(!woken.0.load(Ordering::SeqCst));
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    assert!(woken.0.load(Ordering::SeqCst));
    let Poll::Ready(Ok(chunk)) = pending.poll(&mut context) else { panic!("there is room") };
    drop(chunk);
    assert_eq!(figures(&region), (MIB, 0));
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_region_with_memory_set_aside_can_be_unregistered() {
    let memory = PartlyHeld::new();
    let (cma, region) = partly_held(Plugin::built_in::<cma_tlsf::Tlsf>(), &memory);
    let chunk = cma.alloc_from("r", 64 << 12, 0).unwrap().share().unwrap();
    assert_eq!(region.status().users, 2);
    assert_eq!(cma.region_unregister(&region), Err(UnregisterError::Busy { users: 1 }));
    drop(chunk);
    cma.region_unregister(&region).unwrap();
    assert_eq!((figures(&region), cma.recover_memory()), ((MIB, 0), None));
}

/// While pages are held and released at random, chunks never overlap held pages or each other, and
/// the books are correct.
#[test]
fn chunks_are_never_on_held_memory_and_all_memory_is_free_at_the_end() {
    for (plugin, mut seed) in algorithms().into_iter().zip([1_u64, 2, 3, 4]) {
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (seed >> 33) % below
        };
        let memory = PartlyHeld::default();
        let (cma, region) = partly_held(plugin, &memory);
        let mut live = Vec::new();
        let (mut moved, mut kept) = (0, 0);
        for _ in 0..3000 {
            match random(8) {
                0 if random(4) == 0 => memory.release(),
                0 => memory.hold(PageRange::from_pages((BASE >> 12) + random(254), 1 + random(2))),
                1..=4 => {
                    let (pages, alignment) = (1 + random(40), 4096 << random(4));
                    let Ok(chunk) = cma.alloc("camera", None, pages << 12, alignment) else {
                        continue;
                    };
                    let place = chunk.range();
                    match chunk.share() {
                        Ok(shared) => {
                            let now = shared.chunk().range();
                            assert!(
                                memory.held_in(now).is_none() && now.start().get() % alignment == 0
                            );
                            assert_eq!(now.pages().get(), pages);
                            moved += usize::from(now != place);
                            live.push(shared);
                        }
                        Err(refused) => {
                            assert!(refused.may_be_elsewhere());
                            // At its old place, or where the last attempt moved it.
                            assert_eq!(refused.chunk.range().pages().get(), pages);
                            kept += 1;
                        }
                    }
                }
                _ if !live.is_empty() => drop(live.swap_remove(random(live.len() as u64) as usize)),
                _ => {}
            }
            region.check().unwrap();
        }
        assert!(moved > 20 && kept > 0, "{moved} moved, {kept} stayed");
        live.clear();
        memory.release();
        drop(cma.alloc("camera", None, MIB, 0));
        while let Some(due) = cma.recover_memory() {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        assert_eq!(figures(&region), (MIB, 0));
        region.check().unwrap();
    }
}

#[test]
fn an_allocator_that_adopts_nothing_is_out_of_service_and_the_chunk_keeps_its_place() {
    let cma = Cma::new();
    let allocator = common::scripted("0+64");
    cma.early_region_register(EarlyRegion { allocator, ..early("r") }).unwrap();
    cma.early_regions_reserve(&mut PartlyHeld::new());
    cma.initialise();
    let region = cma.region("r").unwrap();
    let stayed = cma.alloc_from("r", 64 << 12, 0).unwrap().share().unwrap_err().chunk;
    assert_eq!(stayed.range(), PageRange::from_pages(BASE >> 12, 64));
    assert_eq!(figures(&region), (MIB - (64 << 12), 1));
    assert!(matches!(region.status().allocator, AllocatorState::OutOfService { .. }));
    // Another allocator adopts the chunk in its place.
    let plugin = Plugin::built_in::<cma_buddy::Buddy>();
    cma.set_region_allocator(&region, AllocatorChoice::Given { plugin, params: String::new() })
        .unwrap();
    region.check().unwrap();
    drop(stayed);
    assert_eq!(region.status().free_bytes, MIB);
    region.check().unwrap();
}

#[test]
fn a_region_without_memory_moves_no_chunk() {
    let cma = Cma::new();
    cma.allocator_register(Plugin::built_in::<cma_buddy::Buddy>()).unwrap();
    let region =
        cma.region_register(Some("r"), DmaAddr::new(BASE), MIB, AllocatorChoice::Default).unwrap();
    let simulated = cma.alloc_from("r", 4096, 0).unwrap().share().unwrap_err();
    assert!(
        matches!(simulated.error, MemoryError::Simulated { .. }) && !simulated.may_be_elsewhere()
    );
    assert_eq!(figures(&region), (MIB - 4096, 1));
}

#[test]
fn a_chunk_that_moves_stays_within_the_limits_of_its_request() {
    for plugin in algorithms() {
        let memory = PartlyHeld::new();
        let (cma, region) = partly_held(plugin, &memory);
        let camera = Source::Device { name: "camera", kind: None };
        // All of the window is the chunk, so there is no other place for it.
        let (first, end) = (HELD.start().get(), HELD.start().get() + HELD.bytes());
        let wanted = ChunkRequest::new(Bytes(HELD.bytes()))
            .above(DmaAddr::new(first))
            .below(DmaAddr::new(end));
        let chunk = cma.allocate(camera, &wanted).unwrap();
        let refused = chunk.share().unwrap_err();
        assert_eq!((refused.chunk.start().get(), figures(&region).1), (first, 1));
        // It has not lost its limits by staying.
        let refused = refused.chunk.share().unwrap_err();
        assert_eq!(refused.chunk.start().get(), first);
        drop(refused);
        // With as much again in the window, it moves there and not to the region's start.
        let wanted = wanted.below(DmaAddr::new(end + HELD.bytes()));
        let filler = cma.allocate(camera, &wanted.at(DmaAddr::new(end))).unwrap();
        let chunk = cma.allocate(camera, &wanted).unwrap();
        assert_eq!(chunk.start().get(), first);
        drop(filler);
        let shared = chunk.share().unwrap();
        assert_eq!(shared.start().get(), end);
        drop(shared);
        region.check().unwrap();
    }
}
