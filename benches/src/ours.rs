//! Our allocators as contestants: the algorithm alone, without framework or ABI boundary.

use crate::contestant::Contestant;
use cma_api::{Alignment, Allocator, Asker, PageRange, Pages, Placement, Request, Tag};
use std::num::NonZeroU32;

/// Any algorithm that implements the [`Allocator`] trait.
#[derive(Debug)]
pub struct Ours<A> {
    algorithm: A,
    first_page: u64,
}

/// A placement as a chunk table would store it, relative to its region.
#[derive(Debug)]
pub struct Placed {
    first: u32,
    pages: NonZeroU32,
    tag: u32,
}

impl<A: Allocator> Contestant for Ours<A> {
    const NAME: &'static str = A::INFO.name;
    type Chunk = Placed;

    fn new(region: PageRange, _most_live: u32) -> Self {
        let algorithm = A::new(region, "").expect("every workload's region can be served");
        Ours { algorithm, first_page: region.first_page() }
    }

    #[inline]
    fn allocate(&mut self, pages: u32, alignment: Alignment) -> Option<Placed> {
        let request = Request::new(Pages::new(u64::from(pages)), alignment, Asker::NOBODY)?;
        let placement = self.algorithm.allocate(&request).ok()?;
        let first = (placement.range.first_page() - self.first_page) as u32;
        let tag = u32::try_from(placement.tag.0).expect("our tags are small numbers");
        Some(Placed { first, pages: NonZeroU32::new(pages)?, tag })
    }

    #[inline]
    fn free(&mut self, chunk: Placed) {
        let first = self.first_page + u64::from(chunk.first);
        let range = PageRange::from_pages(first, u64::from(chunk.pages.get()));
        self.algorithm
            .free(Placement { range, tag: Tag(u64::from(chunk.tag)) })
            .expect("a live chunk can be freed");
    }

    fn first_page(&self, chunk: &Placed) -> u64 {
        self.first_page + u64::from(chunk.first)
    }
}
