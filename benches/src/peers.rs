//! Published crates as contestants. They use page numbers from 0 instead of addresses, which is
//! equivalent because every workload's region starts at a multiple of every alignment.

use crate::contestant::Contestant;
use crate::workload::{Op, Workload};
use bitmap_allocator::{BitAlloc, BitAlloc1M};
use buddy_system_allocator::FrameAllocator;
use cma_api::{Alignment, PageRange};
use std::ops::Range;

/// Whether an allocator without support for alignments aligns all chunks of `workload`: all
/// requests are page-aligned, or all chunks are of one size that is a multiple of their alignment.
fn is_always_aligned(workload: &Workload) -> bool {
    let requests = || {
        workload.setup.iter().chain(&workload.measured).filter_map(|op| match *op {
            Op::Allocate { pages, alignment, .. } => Some((u64::from(pages), alignment)),
            Op::Free { .. } => None,
        })
    };
    let size = requests().next().map_or(0, |(pages, _)| pages);
    requests().all(|(_, alignment)| alignment == Alignment::PAGE)
        || requests().all(|(pages, alignment)| {
            pages == size && pages.is_multiple_of(alignment.pages().get())
        })
}

fn size_of(region: PageRange) -> u32 {
    region.pages().get() as u32
}

/// `offset-allocator`: 256 bins over holes, no alignment. Refuses some requests that would fit,
/// because it rounds up to a bin.
#[allow(missing_debug_implementations, reason = "the crate's own prints the whole state")]
pub struct OffsetAllocator(offset_allocator::Allocator, u64);

impl Contestant for OffsetAllocator {
    const NAME: &'static str = "offset-allocator";
    type Chunk = offset_allocator::Allocation;

    fn new(region: PageRange, most_live: u32) -> Self {
        // A node for each chunk and for the hole before each, and two that it keeps in reserve.
        let nodes = 2 * most_live + 3;
        OffsetAllocator(
            offset_allocator::Allocator::with_max_allocs(size_of(region), nodes),
            region.first_page(),
        )
    }

    fn serves(workload: &Workload) -> bool {
        is_always_aligned(workload)
    }

    #[inline]
    fn allocate(&mut self, pages: u32, _alignment: Alignment) -> Option<Self::Chunk> {
        self.0.allocate(pages)
    }

    #[inline]
    fn free(&mut self, chunk: Self::Chunk) {
        self.0.free(chunk);
    }

    fn first_page(&self, chunk: &Self::Chunk) -> u64 {
        self.1 + u64::from(chunk.offset)
    }
}

/// `range-alloc`: best fit over a sorted list of holes, with alignment.
#[derive(Debug)]
pub struct RangeAlloc(range_alloc::RangeAllocator<u32>, u64);

impl Contestant for RangeAlloc {
    const NAME: &'static str = "range-alloc";
    type Chunk = Range<u32>;

    fn new(region: PageRange, _most_live: u32) -> Self {
        RangeAlloc(range_alloc::RangeAllocator::new(0..size_of(region)), region.first_page())
    }

    fn serves(workload: &Workload) -> bool {
        workload.slots <= 10_000
    }

    #[inline]
    fn allocate(&mut self, pages: u32, alignment: Alignment) -> Option<Self::Chunk> {
        if alignment == Alignment::PAGE {
            return self.0.allocate_range(pages).ok();
        }
        let alignment = u32::try_from(alignment.pages().get()).ok()?;
        self.0.allocate_range_aligned(pages, alignment).ok()
    }

    #[inline]
    fn free(&mut self, chunk: Self::Chunk) {
        self.0.free_range(chunk);
    }

    fn first_page(&self, chunk: &Self::Chunk) -> u64 {
        self.1 + u64::from(chunk.start)
    }
}

/// `buddy_system_allocator`: powers of two in B-trees.
#[allow(missing_debug_implementations, reason = "the crate's has none")]
pub struct BuddySystemAllocator(FrameAllocator<33>, u64);

impl Contestant for BuddySystemAllocator {
    const NAME: &'static str = "buddy_system_allocator";
    type Chunk = Range<usize>;

    fn new(region: PageRange, _most_live: u32) -> Self {
        let mut frames = FrameAllocator::new();
        frames.add_frame(0, size_of(region) as usize);
        BuddySystemAllocator(frames, region.first_page())
    }

    fn serves(workload: &Workload) -> bool {
        is_always_aligned(workload) && workload.slots <= 1_000_000
    }

    #[inline]
    fn allocate(&mut self, pages: u32, _alignment: Alignment) -> Option<Self::Chunk> {
        let pages = pages as usize;
        self.0.alloc(pages).map(|first| first..first + pages)
    }

    #[inline]
    fn free(&mut self, chunk: Self::Chunk) {
        self.0.dealloc(chunk.start, chunk.len());
    }

    fn first_page(&self, chunk: &Self::Chunk) -> u64 {
        self.1 + chunk.start as u64
    }
}

/// `bitmap-allocator`: a tree of 16-bit maps, first fit, with alignment. This is the smallest
/// variant that holds a GiB of pages, because each level costs time.
#[allow(missing_debug_implementations, reason = "the crate's has none")]
pub struct BitmapAllocator(Box<BitAlloc1M>, u64);

impl Contestant for BitmapAllocator {
    const NAME: &'static str = "bitmap-allocator";
    type Chunk = Range<usize>;

    fn new(region: PageRange, _most_live: u32) -> Self {
        let mut bits = Box::new(BitAlloc1M::DEFAULT);
        bits.insert(0..size_of(region) as usize);
        BitmapAllocator(bits, region.first_page())
    }

    fn serves(workload: &Workload) -> bool {
        workload.region.pages().get() <= BitAlloc1M::CAP as u64
    }

    fn is_heavy(workload: &Workload) -> bool {
        // First fit over a bitmap takes microseconds where chunks are not single pages.
        workload.name != "pages"
    }

    #[inline]
    fn allocate(&mut self, pages: u32, alignment: Alignment) -> Option<Self::Chunk> {
        let pages = pages as usize;
        let first = if pages == 1 && alignment == Alignment::PAGE {
            self.0.alloc()
        } else {
            self.0.alloc_contiguous(None, pages, alignment.pages().get().trailing_zeros() as usize)
        };
        first.map(|first| first..first + pages)
    }

    #[inline]
    fn free(&mut self, chunk: Self::Chunk) {
        if chunk.len() == 1 {
            self.0.dealloc(chunk.start);
        } else {
            self.0.dealloc_contiguous(chunk.start, chunk.len());
        }
    }

    fn first_page(&self, chunk: &Self::Chunk) -> u64 {
        self.1 + chunk.start as u64
    }
}
