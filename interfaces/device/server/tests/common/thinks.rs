//! An allocator that hangs, as a faulty one does.

use crate::common::{BASE, MIB, with_map};
use cma_api::{
    Allocator, AllocatorInfo, CannotAdopt, InitError, NoRoom, NotMine, PageRange, Pages, Placement,
    Tag,
};
use cma_framework::{AllocatorChoice, Cma, DmaAddr, Plugin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

/// An allocator that thinks until it is told to stop, and then has no room.
struct Thinks;

static THINKING: AtomicUsize = AtomicUsize::new(0);
static GATE: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

impl Allocator for Thinks {
    const INFO: AllocatorInfo = AllocatorInfo {
        name: "thinks",
        version: "1",
        description: "thinks until it is told to stop",
    };

    fn new(_: PageRange, _: &str) -> Result<Self, InitError> {
        Ok(Thinks)
    }

    fn allocate(&mut self, _: &cma_api::Request) -> Result<Placement, NoRoom> {
        THINKING.fetch_add(1, Ordering::SeqCst);
        let open = GATE.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _open = GATE.1.wait_while(open, |open| !*open).unwrap_or_else(PoisonError::into_inner);
        Err(NoRoom)
    }

    fn free(&mut self, _: Placement) -> Result<(), NotMine> {
        Err(NotMine)
    }

    fn adopt(&mut self, _: PageRange) -> Result<Tag, CannotAdopt> {
        Err(CannotAdopt::new("it is thinking"))
    }

    fn holes(&self, _: &mut dyn FnMut(PageRange)) {}

    fn largest_request(&self) -> Pages {
        Pages::ZERO
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// 64 MiB of ordinary memory as region `ram`, and a region `thinks` with that allocator, for device
/// `thinks`.
pub(crate) fn framework() -> Cma {
    let cma = with_map("ram=64M", "thinks=thinks;*=ram");
    let choice =
        AllocatorChoice::Given { plugin: Plugin::built_in::<Thinks>(), params: String::new() };
    cma.region_register(Some("thinks"), DmaAddr::new(BASE + (1 << 38)), 16 * MIB, choice).unwrap();
    cma
}

/// How many requests have come to it.
pub(crate) fn how_many() -> usize {
    THINKING.load(Ordering::SeqCst)
}

/// Lets it have no room.
pub(crate) fn stop() {
    *GATE.0.lock().unwrap() = true;
    GATE.1.notify_all();
}
