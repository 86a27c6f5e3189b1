//! Windows and boundaries: all of them in a small region, and those around the edges of words and
//! blocks in larger ones.

use super::TOP;
use crate::checked::{CheckedAllocator, Subject};
use crate::requests::{alignment, request};
use crate::violation::{Failure, Violation};
use cma_api::{Boundary, PAGE_SHIFT, PageRange, Request};

/// In a region of six pages, and in one of four pages at each end of the address space, with every
/// set of its pages in use: for every size, alignment, window and boundary a chunk lies within its
/// limits, none is refused that the declared rule serves, and [`fit`](cma_api::Allocator::fit)
/// names its hole.
///
/// # Errors
///
/// The first request for which this fails.
pub fn every_limit_in_a_small_region_is_kept(subject: &Subject) -> Result<(), Failure> {
    for (first, pages) in [(0, 4), (5, 6), (TOP - 4, 4)] {
        let region = PageRange::from_pages(first, pages);
        // From a page below the region to a page above it.
        let edges: Vec<u64> = (first.saturating_sub(1)..=first + pages + 1).collect();
        let requests = Requests {
            sizes: (1..=pages).collect(),
            alignments: vec![1, 2, 4],
            boundaries: vec![1, 2, 4, 8],
            windows: windows(&edges),
        };
        for set in 0..1_u64 << pages {
            let taken = (0..pages).filter(|page| set >> page & 1 == 1);
            let taken: Vec<PageRange> =
                taken.map(|page| PageRange::from_pages(first + page, 1)).collect();
            requests.keep_their_limits(subject, region, &taken)?;
        }
    }
    Ok(())
}

/// In regions of 300 pages, with chunks in use at the edges of words of 64 pages and of blocks: for
/// sizes and windows that are a page less than a word or a block, as much, and a page more, with
/// several alignments and boundaries, a chunk lies within its limits, none is refused that the
/// declared rule serves, and [`fit`](cma_api::Allocator::fit) names its hole.
///
/// # Errors
///
/// The first request for which this fails.
pub fn limits_around_words_and_blocks_are_kept(subject: &Subject) -> Result<(), Failure> {
    const PAGES: u64 = 300;
    const EDGES: [u64; 14] = [0, 1, 31, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, PAGES];
    /// Ranges in use, as offsets in the region and pages.
    const IN_USE: [&[(u64, u64)]; 4] = [
        &[],
        &[(63, 1), (128, 1), (200, 56)],
        &[(0, 1), (64, 1), (129, 2), (192, 64)],
        &[(1, 62), (66, 1), (127, 2), (160, 1), (191, 2), (255, 1), (299, 1)],
    ];
    for first in [0x4_0000, 0x4_0025, TOP - PAGES] {
        let region = PageRange::from_pages(first, PAGES);
        let requests = Requests {
            sizes: vec![1, 2, 31, 33, 63, 64, 65, 127, 129],
            alignments: vec![1, 32, 64, 128],
            boundaries: vec![2, 32, 64, 128, 256],
            windows: windows(&EDGES.map(|edge| first + edge)),
        };
        for in_use in IN_USE {
            let taken = in_use.iter().map(|(at, pages)| PageRange::from_pages(first + at, *pages));
            requests.keep_their_limits(subject, region, &taken.collect::<Vec<_>>())?;
        }
    }
    Ok(())
}

/// All ranges from one of the ascending `edges` to another, and the whole address space.
fn windows(edges: &[u64]) -> Vec<PageRange> {
    let mut windows = vec![PageRange::ADDRESS_SPACE];
    for (n, start) in edges.iter().enumerate() {
        let above = edges.get(n + 1..).unwrap_or_default();
        windows.extend(above.iter().map(|end| PageRange::from_pages(*start, end - start)));
    }
    windows
}

/// The requests of a test, without those that contradict themselves. All numbers are pages.
struct Requests {
    sizes: Vec<u64>,
    alignments: Vec<u64>,
    /// There are also requests without a boundary.
    boundaries: Vec<u64>,
    windows: Vec<PageRange>,
}

impl Requests {
    fn all(&self) -> impl Iterator<Item = Request> {
        let boundaries = self.boundaries.iter().map(|pages| Boundary::new(pages << PAGE_SHIFT));
        let boundaries: Vec<Boundary> = boundaries.flatten().chain([Boundary::NONE]).collect();
        let aligned = self.alignments.iter().map(|pages| alignment(PAGE_SHIFT + pages.ilog2()));
        let plain = aligned
            .flat_map(|aligned| self.sizes.iter().map(move |pages| request(*pages, aligned)));
        plain.flat_map(move |plain| {
            let boundaries = boundaries.clone();
            let windows = self.windows.iter();
            windows.flat_map(move |window| {
                let boundaries = boundaries.clone().into_iter();
                boundaries.filter_map(move |boundary| plain.limited(*window, boundary))
            })
        })
    }

    /// Places a chunk for each request, alone, in `region` with the chunks `taken`.
    fn keep_their_limits(
        &self,
        subject: &Subject,
        region: PageRange,
        taken: &[PageRange],
    ) -> Result<(), Failure> {
        let mut failed = None;
        let outcome = subject.on(region, |allocator| {
            prepare(allocator, taken)?;
            for request in self.all() {
                place(allocator, &request).inspect_err(|_| failed = Some(request))?;
            }
            Ok(())
        });
        // The steps of the other requests only hide those that matter.
        match failed {
            Some(request) => subject
                .on(region, |allocator| {
                    prepare(allocator, taken)?;
                    place(allocator, &request)
                })
                .and(outcome),
            None => outcome,
        }
    }
}

/// Makes chunks of `taken`, as far as the allocator adopts them.
fn prepare(allocator: &mut CheckedAllocator, taken: &[PageRange]) -> Result<(), Violation> {
    for range in taken {
        allocator.adopt(*range)?;
    }
    allocator.verify()
}

/// Asks for the fit, places the chunk, and frees it.
fn place(allocator: &mut CheckedAllocator, request: &Request) -> Result<(), Violation> {
    allocator.fit(request)?;
    match allocator.allocate(request)? {
        Some(place) => allocator.free(place.first_page()),
        None => Ok(()),
    }
}
