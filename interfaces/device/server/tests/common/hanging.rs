//! An allocator whose calls block until the test releases them.

use crate::common::{BASE, MIB, with_map};
use cma_api::{
    Allocator, AllocatorInfo, CannotAdopt, InitError, NoRoom, NotMine, PageRange, Pages, Placement,
    Tag,
};
use cma_framework::{AllocatorChoice, Cma, DmaAddr, Plugin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

/// Its `allocate` blocks until [`release`] is called, and then refuses.
struct HangingAllocator;

static BLOCKED: AtomicUsize = AtomicUsize::new(0);
static RELEASED: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

impl Allocator for HangingAllocator {
    const INFO: AllocatorInfo =
        AllocatorInfo { name: "hanging", version: "1", description: "blocks until it is released" };

    fn new(_: PageRange, _: &str) -> Result<Self, InitError> {
        Ok(HangingAllocator)
    }

    fn allocate(&mut self, _: &cma_api::Request) -> Result<Placement, NoRoom> {
        BLOCKED.fetch_add(1, Ordering::SeqCst);
        let released = RELEASED.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _released = RELEASED
            .1
            .wait_while(released, |released| !*released)
            .unwrap_or_else(PoisonError::into_inner);
        Err(NoRoom)
    }

    fn fit(&mut self, _: &cma_api::Request) -> Option<PageRange> {
        None
    }

    fn free(&mut self, _: Placement) -> Result<(), NotMine> {
        Err(NotMine)
    }

    fn adopt(&mut self, _: PageRange) -> Result<Tag, CannotAdopt> {
        Err(CannotAdopt::new("it blocks"))
    }

    fn holes(&self, _: &mut dyn FnMut(PageRange)) {}

    fn largest_request(&self) -> Pages {
        Pages::ZERO
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// 64 MiB of ordinary memory as region `ram`, and a region `hanging` with that allocator, for
/// device `hanging`.
pub(crate) fn framework() -> Cma {
    let cma = with_map("ram=64M", "hanging=hanging;*=ram");
    let choice = AllocatorChoice::Given {
        plugin: Plugin::built_in::<HangingAllocator>(),
        params: String::new(),
    };
    cma.region_register(Some("hanging"), DmaAddr::new(BASE + (1 << 38)), 16 * MIB, choice).unwrap();
    cma
}

/// Number of requests that have reached it.
pub(crate) fn blocked_requests() -> usize {
    BLOCKED.load(Ordering::SeqCst)
}

/// Ends its blocked calls.
pub(crate) fn release() {
    *RELEASED.0.lock().unwrap() = true;
    RELEASED.1.notify_all();
}
