//! The interface of a contestant: anything that places chunks of pages in a region.

use crate::workload::Workload;
use cma_api::{Alignment, PageRange};

/// An allocator under measurement. Calls are resolved at compile time, so that the comparison
/// itself costs nothing.
pub trait Contestant: Sized {
    /// Its name in tables.
    const NAME: &'static str;

    /// Its handle of a chunk.
    type Chunk;

    /// An allocator for an empty `region` in which at most `most_live` chunks are live at a time.
    fn new(region: PageRange, most_live: u32) -> Self;

    /// Whether it can run `workload`. (Some don't support alignments.)
    fn serves(workload: &Workload) -> bool {
        let _ = workload;
        true
    }

    /// Whether it is so slow on `workload` that it runs only on request.
    fn is_heavy(workload: &Workload) -> bool {
        let _ = workload;
        false
    }

    /// Places a chunk; `None` if there is no place.
    fn allocate(&mut self, pages: u32, alignment: Alignment) -> Option<Self::Chunk>;

    /// Frees a chunk.
    fn free(&mut self, chunk: Self::Chunk);

    /// The chunk's lowest page.
    fn first_page(&self, chunk: &Self::Chunk) -> u64;
}
