//! What takes part: anything that places chunks of pages in a region.

use crate::framework::{self, ByDevice, ByNames};
use crate::ours::Ours;
use crate::peers;
use crate::replay::{self, Outcome};
use crate::workload::Workload;
use cma_api::{Alignment, PageRange};

/// An allocator under measurement. Calls are resolved at compile time, so that none pays for the
/// comparison.
pub trait Contestant: Sized {
    /// Its name in tables.
    const NAME: &'static str;

    /// What it hands out and takes back.
    type Chunk;

    /// An allocator for an empty `region` in which at most `most_live` chunks are live at a time.
    fn new(region: PageRange, most_live: u32) -> Self;

    /// Whether it can take part in `workload`. (Some serve no alignment.)
    fn serves(workload: &Workload) -> bool {
        let _ = workload;
        true
    }

    /// Whether it is so slow on `workload` that it takes part only when asked for.
    fn is_heavy(workload: &Workload) -> bool {
        let _ = workload;
        false
    }

    /// Places a chunk, or finds no place.
    fn allocate(&mut self, pages: u32, alignment: Alignment) -> Option<Self::Chunk>;

    /// Takes a chunk back.
    fn free(&mut self, chunk: Self::Chunk);

    /// The chunk's lowest page.
    fn first_page(&self, chunk: &Self::Chunk) -> u64;
}

/// A contestant as a table entry: what remains of it at run time.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// Whether it can take part.
    pub serves: fn(&Workload) -> bool,
    /// Whether it is so slow on a workload that it takes part only when asked for.
    pub is_heavy: fn(&Workload) -> bool,
    /// Replays a workload from the start.
    pub replay: fn(&Workload) -> Outcome,
}

impl Entry {
    /// The entry of `C`.
    pub const fn of<C: Contestant>() -> Self {
        Entry {
            name: C::NAME,
            serves: C::serves,
            is_heavy: C::is_heavy,
            replay: replay::replay::<C>,
        }
    }
}

/// Everyone, ours first.
pub const CONTESTANTS: [Entry; 11] = [
    Entry::of::<Ours<cma_best_fit::BestFit>>(),
    Entry::of::<Ours<cma_tlsf::Tlsf>>(),
    Entry::of::<Ours<cma_buddy::Buddy>>(),
    Entry::of::<Ours<cma_bitmap::Bitmap>>(),
    Entry::of::<ByDevice<framework::BestFit>>(),
    Entry::of::<ByNames<framework::BestFit>>(),
    Entry::of::<ByDevice<framework::Tlsf>>(),
    Entry::of::<peers::Offset>(),
    Entry::of::<peers::Ranges>(),
    Entry::of::<peers::Buddy>(),
    Entry::of::<peers::Bitmap>(),
];
