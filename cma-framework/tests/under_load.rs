//! Changes of a system in use: of the map, and of the allocator of a region with live chunks.

use cma_framework::config::{Bytes, Map};
use cma_framework::{AllocatorChoice, Chunk, Cma, DmaAddr, PAGE_SIZE, Plugin};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

const START: u64 = 0x4000_0000;
const PAGES: u64 = 16 << 10;
const ALGORITHMS: [&str; 4] = ["best-fit", "buddy", "bitmap", "tlsf"];

/// The owner of each page, from the results of its requests alone: a thread's number, or 0.
struct Pages(Vec<AtomicU32>);

impl Pages {
    fn of(&self, chunk: &Chunk) -> &[AtomicU32] {
        let first = (chunk.start().get() - START) / PAGE_SIZE;
        &self.0[first as usize..(first + chunk.size() / PAGE_SIZE) as usize]
    }

    fn claim(&self, chunk: &Chunk, thread: u32) {
        for page in self.of(chunk) {
            let before = page.swap(thread, Ordering::Relaxed);
            assert_eq!(before, 0, "{chunk:?} overlaps a live chunk");
        }
    }

    fn give_up(&self, chunk: &Chunk, thread: u32) {
        for page in self.of(chunk) {
            let before = page.swap(0, Ordering::Relaxed);
            assert_eq!(before, thread, "{chunk:?} got another owner while it was live");
        }
    }
}

/// A small generator, of a fixed seed for each thread (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound
    }
}

/// Requested pages, by the result.
#[derive(Default)]
struct Requested {
    served: AtomicU64,
    refused: AtomicU64,
}

/// Allocates and frees by every call until `stop`; then frees everything.
fn client(cma: &Cma, thread: u32, owners: &Pages, requested: &Requested, stop: &AtomicBool) {
    let device = cma.device("camera", Some("frame")).unwrap().keeping(Bytes(1 << 20));
    let region = cma.region("r").unwrap();
    let mut random = Random(u64::from(thread));
    let mut live: Vec<Chunk> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        if live.len() > 150 || !live.is_empty() && random.below(2) == 0 {
            let chunk = live.swap_remove(random.below(live.len() as u64) as usize);
            owners.give_up(&chunk, thread);
            if random.below(4) == 0 {
                let address: DmaAddr = chunk.into_addr();
                cma.free(address).unwrap();
            } else {
                drop(chunk);
            }
            continue;
        }
        // Half of the requests recur, so that devices keep chunks.
        let (pages, alignment) = match random.below(2) {
            0 => (1 + random.below(4), PAGE_SIZE),
            _ => (1 + random.below(64), PAGE_SIZE << random.below(5)),
        };
        let size = pages * PAGE_SIZE;
        let answer = match random.below(4) {
            0 => cma.alloc("codec", None, size, alignment),
            1 => cma.alloc_from_region(&region, size, alignment),
            _ => device.alloc(size, alignment),
        };
        match answer {
            Ok(chunk) => {
                requested.served.fetch_add(pages, Ordering::Relaxed);
                owners.claim(&chunk, thread);
                live.push(chunk);
            }
            Err(_) => {
                requested.refused.fetch_add(pages, Ordering::Relaxed);
            }
        }
    }
    for chunk in live {
        owners.give_up(&chunk, thread);
    }
}

/// Stops the clients, also when the test fails, so that the failure is shown.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn chunks_stay_valid_and_unique_while_map_and_allocator_are_replaced_a_thousand_times() {
    // A deadlock fails the test.
    let (done, finished) = channel();
    let test = thread::spawn(move || {
        replaced_under_load();
        let _ = done.send(());
    });
    let waited = finished.recv_timeout(Duration::from_secs(300));
    assert!(waited.is_ok() || test.is_finished(), "the threads wait for one another");
    test.join().unwrap();
}

fn replaced_under_load() {
    let cma = Cma::new();
    cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
    cma.allocator_register(Plugin::built_in::<cma_buddy::Buddy>()).unwrap();
    cma.allocator_register(Plugin::built_in::<cma_bitmap::Bitmap>()).unwrap();
    cma.allocator_register(Plugin::built_in::<cma_tlsf::Tlsf>()).unwrap();
    let choice = AllocatorChoice::Default;
    let region =
        cma.region_register(Some("r"), DmaAddr::new(START), PAGES * PAGE_SIZE, choice).unwrap();
    cma.set_map(Map::parse("*=r").unwrap());

    let owners = Pages((0..PAGES).map(|_| AtomicU32::new(0)).collect());
    let (requested, stop) = (Requested::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        let clients: Vec<_> = (1..=2)
            .map(|thread| {
                scope.spawn({
                    let (cma, owners, requested, stop) = (&cma, &owners, &requested, &stop);
                    move || client(cma, thread, owners, requested, stop)
                })
            })
            .collect();
        let stops = Stops(&stop);
        let mut most_live = 0;
        for (n, name) in (0..1000).zip(ALGORITHMS.iter().cycle()) {
            let map = ["*=r", "camera/*,codec=r;*=r", "c*=nowhere,r"][n % 3];
            cma.set_map(Map::parse(map).unwrap());
            assert!(Map::parse("*==r").is_err());
            most_live = most_live.max(region.status().users);
            cma.set_region_allocator(&region, AllocatorChoice::named(*name)).unwrap();
            if n % 50 == 0 {
                region.check().unwrap();
            }
            // With fewer cores than threads, the others would hardly run otherwise.
            thread::yield_now();
        }
        drop(stops);
        clients.into_iter().for_each(|client| client.join().unwrap());
        assert!(most_live > 10, "no allocator had to adopt much");
    });

    region.check().unwrap();
    let figures = region.statistics().unwrap();
    assert_eq!((region.status().users, region.free().unwrap().get()), (0, PAGES));
    assert_eq!(figures.alloc_pages_success, requested.served.into_inner());
    assert_eq!(figures.alloc_pages_fail, requested.refused.into_inner());
    assert_eq!(figures.release_pages_success, figures.alloc_pages_success);
    assert!(figures.high_water_bytes <= PAGES * PAGE_SIZE);
    assert!(owners.0.iter().all(|page| page.load(Ordering::Relaxed) == 0));
}
