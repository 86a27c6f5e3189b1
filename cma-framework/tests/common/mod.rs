//! Shared by the framework's tests: a framework with regions, scripted allocators, and a macro for
//! allocators that delegate to another one.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    unused_macros,
    reason = "each test file uses its part"
)]

use cma_api::{
    Allocator, AllocatorInfo, CannotAdopt, InitError, NoRoom, NotMine, PageRange, Pages, Placement,
    Request, Tag,
};
use cma_framework::events::{Event, Observation, Observer};
use cma_framework::memory::{Piece, Store};
use cma_framework::{AllocatorChoice, Cma, DmaAddr, MemoryError, Plugin, Region};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

pub const BASE: u64 = 0x4000_0000;
pub const MIB: u64 = 1 << 20;

/// A framework with best fit and, one behind the other from [`BASE`] on, regions of 16 MiB with
/// these names.
pub fn with_regions(names: &[&str], map: &str) -> Cma {
    let cma = Cma::new();
    cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>()).unwrap();
    for (i, name) in names.iter().enumerate() {
        region(&cma, name, BASE + i as u64 * 16 * MIB, 16 * MIB, AllocatorChoice::Default);
    }
    cma.set_map(cma_framework::config::Map::parse(map).unwrap());
    cma
}

pub fn region(cma: &Cma, name: &str, start: u64, size: u64, choice: AllocatorChoice) -> Region {
    cma.region_register(Some(name), DmaAddr::new(start), size, choice).unwrap()
}

/// The number of calls of `free`, by thread and first page of the region.
static FREED: LazyLock<Mutex<HashMap<(ThreadId, u64), usize>>> = LazyLock::new(Mutex::default);

/// The number of chunks that this thread freed in the [`Scripted`] allocator of `region`.
pub fn freed_in(region: &Region) -> usize {
    let key = (std::thread::current().id(), region.range().first_page());
    FREED.lock().unwrap().get(&key).copied().unwrap_or(0)
}

/// Returns the places that its parameters list, `page+pages` separated by blanks, relative to the
/// region, then [`NoRoom`]. Counts the chunks that are freed.
pub struct Scripted {
    region: PageRange,
    script: Vec<PageRange>,
}

impl Allocator for Scripted {
    const INFO: AllocatorInfo =
        AllocatorInfo { name: "scripted", version: "1", description: "answers by a script" };

    fn new(region: PageRange, params: &str) -> Result<Self, InitError> {
        let place = |text: &str| {
            let (first, pages) = text.split_once('+')?;
            let first = region.first_page().wrapping_add_signed(first.parse().ok()?);
            Some(PageRange::from_pages(first, pages.parse().ok()?))
        };
        let script: Option<Vec<_>> = params.split_whitespace().rev().map(place).collect();
        let script = script.ok_or_else(|| InitError::new(format!("no script: {params}")))?;
        Ok(Scripted { region, script })
    }

    fn allocate(&mut self, _: &Request) -> Result<Placement, NoRoom> {
        let range = self.script.pop().ok_or(NoRoom)?;
        Ok(Placement { range, tag: Tag(0) })
    }

    fn fit(&mut self, _: &Request) -> Option<PageRange> {
        self.script.last().copied()
    }

    fn free(&mut self, _: Placement) -> Result<(), NotMine> {
        let key = (std::thread::current().id(), self.region.first_page());
        *FREED.lock().unwrap().entry(key).or_default() += 1;
        Ok(())
    }

    fn adopt(&mut self, _: PageRange) -> Result<Tag, CannotAdopt> {
        Err(CannotAdopt::new("the script has no adoption"))
    }

    fn holes(&self, _: &mut dyn FnMut(PageRange)) {}

    fn largest_request(&self) -> Pages {
        Pages::ZERO
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// [`Scripted`] with this script, for a region.
pub fn scripted(script: &str) -> AllocatorChoice {
    AllocatorChoice::Given { plugin: Plugin::built_in::<Scripted>(), params: script.to_string() }
}

/// Blocks calls of an allocator while it is shut.
#[derive(Default)]
pub struct CallGate {
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

static GATES: LazyLock<Mutex<HashMap<String, Arc<CallGate>>>> = LazyLock::new(Mutex::default);

impl CallGate {
    pub fn new() -> (String, Arc<CallGate>) {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = NUMBER.fetch_add(1, Ordering::Relaxed).to_string();
        let gate = Arc::default();
        GATES.lock().unwrap().insert(name.clone(), Arc::clone(&gate));
        (name, gate)
    }

    pub fn named(name: &str) -> Arc<CallGate> {
        GATES.lock().unwrap().get(name).cloned().unwrap_or_default()
    }

    pub fn set(&self, shut: bool) {
        self.state.lock().unwrap().0 = shut;
        self.changed.notify_all();
    }

    /// Called by the allocator. Returns when the gate is open.
    pub fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| state.0).unwrap());
        self.state.lock().unwrap().1 -= 1;
    }

    /// Waits until a call is blocked.
    pub fn wait_for_a_call(&self) {
        drop(self.changed.wait_while(self.state.lock().unwrap(), |state| state.1 == 0).unwrap());
    }
}

/// Keeps every event.
#[derive(Default)]
pub struct Kept(Mutex<Vec<Event>>);

impl Observer for Kept {
    fn receive(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

impl Kept {
    pub fn observing(cma: &Cma) -> (Arc<Self>, Observation) {
        let kept = Arc::new(Kept::default());
        (kept.clone(), cma.observe(kept).unwrap())
    }

    /// Whether nothing was received that was not taken.
    pub fn is_empty(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }

    /// The events up to now, without those taken before.
    pub fn take(&self, observation: &Observation) -> Vec<Event> {
        assert!(observation.catch_up(Duration::from_secs(60)));
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// A store without bytes.
#[derive(Debug)]
pub struct NoBytes;

impl Store for NoBytes {
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

/// Implements `Allocator` for `$type` by delegating to the allocator `$inner` in it. The test's
/// expressions run at each start, and whenever `$inner` is evaluated.
macro_rules! delegate {
    ($type:ty, |$this:ident| $inner:expr, |$region:ident, $params:pat_param| $new:expr) => {
        crate::common::delegate!($type, "delegate", |$this| $inner, |$region, $params| $new);
    };
    ($type:ty, $name:literal, |$this:ident| $inner:expr, |$region:ident, $params:pat_param| $new:expr) => {
        impl cma_api::Allocator for $type {
            const INFO: cma_api::AllocatorInfo = cma_api::AllocatorInfo {
                name: $name,
                version: "1",
                description: "another allocator, watched",
            };
            fn new($region: cma_api::PageRange, $params: &str) -> Result<Self, cma_api::InitError> {
                $new
            }
            fn allocate(
                &mut self,
                request: &cma_api::Request,
            ) -> Result<cma_api::Placement, cma_api::NoRoom> {
                let $this = self;
                $inner.allocate(request)
            }
            fn fit(&mut self, request: &cma_api::Request) -> Option<cma_api::PageRange> {
                let $this = self;
                $inner.fit(request)
            }
            fn free(&mut self, chunk: cma_api::Placement) -> Result<(), cma_api::NotMine> {
                let $this = self;
                $inner.free(chunk)
            }
            fn adopt(
                &mut self,
                range: cma_api::PageRange,
            ) -> Result<cma_api::Tag, cma_api::CannotAdopt> {
                let $this = self;
                $inner.adopt(range)
            }
            fn holes(&self, visit: &mut dyn FnMut(cma_api::PageRange)) {
                let $this = self;
                $inner.holes(visit)
            }
            fn largest_request(&self) -> cma_api::Pages {
                let $this = self;
                $inner.largest_request()
            }
            fn check(&self) -> Result<(), String> {
                let $this = self;
                $inner.check()
            }
        }
    };
}
pub(crate) use delegate;
