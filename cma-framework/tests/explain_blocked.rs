//! An allocator that doesn't return while a refusal is explained. In a process of its own, because
//! such allocators are counted in the process.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use cma_framework::explain::{AfterLeaving, Explanation};
use cma_framework::{AllocatorChoice, Cma, Plugin};
use common::{BASE, MIB, delegate};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Whether a new instance of [`Blocking`] blocks.
static BLOCKS: AtomicBool = AtomicBool::new(false);

/// How long an instance needs to start.
static SLOWNESS_MS: AtomicU64 = AtomicU64::new(0);

/// Best fit, which does not start while `BLOCKS`, and then needs some time.
#[derive(Debug)]
struct Blocking(cma_best_fit::BestFit);

delegate!(Blocking, |this| this.0, |region, params| {
    while BLOCKS.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(Duration::from_millis(SLOWNESS_MS.load(Ordering::SeqCst)));
    cma_api::Allocator::new(region, params).map(Blocking)
});

fn after(explanation: &Explanation) -> AfterLeaving {
    let room = explanation.regions[0].layout.as_ref().unwrap().room.as_ref().unwrap();
    room.by_bytes.after.clone()
}

#[test]
fn an_allocator_that_does_not_return_delays_explanations_and_no_request() {
    let cma = Cma::new();
    let plugin = Plugin::built_in::<Blocking>();
    let choice = AllocatorChoice::Given { plugin, params: String::new() };
    common::region(&cma, "r", BASE, MIB, choice);
    let chunk = cma.alloc_from("r", MIB, 0).unwrap();
    let error = cma.alloc_from("r", 4096, 0).unwrap_err();
    let unknown = |explanation: &Explanation, said: &str| match after(explanation) {
        AfterLeaving::Unknown { reason } => assert!(reason.contains(said), "{reason}"),
        other => panic!("{other:?}"),
    };

    BLOCKS.store(true, Ordering::SeqCst);
    thread::scope(|scope| {
        let explain = || scope.spawn(|| error.explain(&cma));
        let explained: Vec<_> = (0..6).map(|_| explain()).collect();
        // The region serves meanwhile.
        drop(chunk);
        drop(cma.alloc_from("r", MIB, 0).unwrap());
        for explained in explained {
            unknown(&explained.join().unwrap(), "did not answer");
        }
    });
    unknown(&error.explain(&cma), "do not return");

    BLOCKS.store(false, Ordering::SeqCst);
    while !matches!(after(&error.explain(&cma)), AfterLeaving::Placed(_)) {
        thread::yield_now();
    }
    // Slow answers are waited for, and not without end.
    let _all = cma.alloc_from("r", MIB, 0).unwrap();
    for pages in 1..10 {
        cma.alloc_from("r", pages * 4096, 0).unwrap_err();
    }
    SLOWNESS_MS.store(1500, Ordering::SeqCst);
    let explained = cma.explain_refusals();
    // The newest are explained first.
    assert!(matches!(after(&explained[0]), AfterLeaving::Placed(_)), "{:?}", after(&explained[0]));
    unknown(explained.last().unwrap(), "it was not asked");
}
