//! What a contestant is: anything that places chunks of pages in a region.

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
