//! After initialising, no operation allocates or frees heap memory.

use cma_api::{Alignment, Allocator, Asker, Boundary, PageRange, Pages, Placement, Request};
use cma_tlsf::Tlsf;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// The heap calls of this thread. (The test harness has other threads.)
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// The system's heap, with every call counted.
struct Counting;

// SAFETY: every call is forwarded to the system's heap unchanged, and counting neither allocates
// nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller guarantees the same preconditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller guarantees the same preconditions.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller guarantees the same preconditions.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static HEAP: Counting = Counting;

fn request(pages: u64, log2: u32) -> Request {
    Request::new(Pages::new(pages), Alignment::new(1 << log2).unwrap(), Asker::NOBODY).unwrap()
}

#[test]
fn the_heap_is_used_only_to_initialise() {
    const CHUNKS: usize = 1000;
    let region = PageRange::from_pages(3, 5 * CHUNKS as u64);
    let mut live: Vec<Placement> = Vec::with_capacity(2 * CHUNKS);
    let before = CALLS.get();
    let mut tlsf = Tlsf::new(region, "chunks=1000").unwrap();
    assert!(CALLS.get() > before, "initialising reserves memory, so calls are counted");

    let after = CALLS.get();
    for _ in 0..3 {
        // The most nodes possible: a hole before each chunk, and one after the last.
        for n in 0..CHUNKS as u64 {
            let range = PageRange::from_pages(4 + 2 * n, 1);
            let tag = tlsf.adopt(range).unwrap();
            live.push(Placement { range, tag });
        }
        assert!(tlsf.allocate(&request(1, 12)).is_err(), "the most chunks are live");
        live.drain(..).rev().for_each(|chunk| tlsf.free(chunk).unwrap());

        let sizes = (0..).map(|n| (1 + n * 7 % 13, 12 + (n % 4) as u32));
        for (pages, log2) in sizes.take(CHUNKS) {
            live.extend(tlsf.allocate(&request(pages, log2)));
            let window = PageRange::from_pages(1000, 1000);
            let limited = request(pages, log2).limited(window, Boundary::NONE).unwrap();
            if tlsf.fit(&limited).is_some() {
                live.extend(tlsf.allocate(&limited));
            }
            assert!(tlsf.largest_request() < region.pages());
        }
        assert!(tlsf.allocate(&request(5000, 12)).is_err(), "no hole is large enough");
        let mut index = 0;
        while !live.is_empty() {
            index = (index + 7919) % live.len();
            tlsf.free(live.swap_remove(index)).unwrap();
        }
        assert_eq!(tlsf.largest_request(), region.pages());
    }
    assert_eq!(CALLS.get() - after, 0);
    tlsf.check().unwrap();
}
