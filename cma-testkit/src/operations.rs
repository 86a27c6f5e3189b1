//! What the random tests ask of an allocator, and where: sizes around powers of two, alignments far
//! beyond the region, and regions in the odd places of the address space.
//!
//! Everything shrinks to the small and the simple. To that end no strategy is made from another's
//! value: what depends on the region is drawn as plain numbers and brought into the region
//! afterwards.

use crate::requests::{alignment, request_of};
use cma_api::{Alignment, Asker, PAGE_SHIFT, PageRange, Request};
use proptest::collection::vec;
use proptest::prelude::*;

/// One thing to ask of an allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Place a chunk.
    Allocate(Request),
    /// Take back the `n`th live chunk in ascending order of address, counting round; nothing when
    /// none is live.
    Free(usize),
    /// Adopt a range.
    Adopt(PageRange),
}

/// A region and what to do to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// The region, empty at first.
    pub region: PageRange,
    /// What to do, in order.
    pub operations: Vec<Operation>,
}

/// Regions of up to 2^12 pages with up to `most` operations.
pub fn scripts(most: usize) -> impl Strategy<Value = Script> {
    (regions(), vec(drafts(), 1..=most)).prop_map(|(region, drafts)| {
        let operations = drafts.into_iter().map(|draft| draft.within(region)).collect();
        Script { region, operations }
    })
}

/// Operations on `region`: mostly allocating and freeing, now and then a request larger than the
/// region, and ranges to adopt that are free, taken, or partly outside.
pub fn operations(region: PageRange) -> impl Strategy<Value = Operation> {
    drafts().prop_map(move |draft| draft.within(region))
}

/// Regions of up to 2^12 pages: at page 0, anywhere, across 2^63, ending at the top of the address
/// space.
pub fn regions() -> impl Strategy<Value = PageRange> {
    const TOP: u64 = PageRange::ADDRESS_SPACE_PAGES;
    (prop_oneof![1 => 1_u64..=16, 3 => sizes(1 << 11)], 0..6_u32, any::<u64>()).prop_map(
        |(pages, place, anywhere)| {
            let first = match place {
                0 => 0,
                1 => anywhere % 64,
                2 => (anywhere % (1 << 12)) << 8,
                3 => anywhere % (TOP - pages),
                4 => TOP / 2 - pages / 2,
                _ => TOP - pages,
            };
            PageRange::from_pages(first, pages)
        },
    )
}

/// Alignments: half of them a page, a third under a mebibyte, the rest up to 2^63.
pub fn alignments() -> impl Strategy<Value = Alignment> {
    prop_oneof![3 => Just(PAGE_SHIFT), 2 => PAGE_SHIFT..20, 1 => PAGE_SHIFT..64].prop_map(alignment)
}

/// Sizes in pages from 1 to under `2 * most + 2`: uniform in their logarithm, and exactly at powers
/// of two and one beside them.
pub fn sizes(most: u64) -> impl Strategy<Value = u64> {
    size_drafts().prop_map(move |size| size.pages(most))
}

/// An operation before the region is known.
#[derive(Clone, Copy, Debug)]
enum Draft {
    /// Of about an eighth of the region at most.
    Allocate(SizeDraft, Alignment, Asker),
    /// Of about twice the region at most.
    AllocateLarge(SizeDraft, Alignment),
    Free(usize),
    Adopt(u64, SizeDraft),
}

impl Draft {
    fn within(self, region: PageRange) -> Operation {
        let pages = region.pages().get();
        match self {
            Draft::Allocate(size, alignment, asker) => {
                Operation::Allocate(request_of(asker, size.pages(pages.div_ceil(8)), alignment))
            }
            Draft::AllocateLarge(size, alignment) => {
                Operation::Allocate(request_of(Asker::NOBODY, size.pages(pages), alignment))
            }
            Draft::Free(n) => Operation::Free(n),
            Draft::Adopt(offset, size) => {
                // From one page below the region to one above.
                let first = (region.first_page() + offset % (pages + 2)).saturating_sub(1);
                Operation::Adopt(PageRange::from_pages(first, size.pages(pages.div_ceil(4))))
            }
        }
    }
}

fn drafts() -> impl Strategy<Value = Draft> {
    prop_oneof![
        9 => (size_drafts(), alignments(), (0..8_u32).prop_map(Asker)).prop_map(|(s, a, n)| Draft::Allocate(s, a, n)),
        1 => (size_drafts(), alignments()).prop_map(|(s, a)| Draft::AllocateLarge(s, a)),
        4 => (0..1_usize << 16).prop_map(Draft::Free),
        2 => (any::<u64>(), size_drafts()).prop_map(|(offset, s)| Draft::Adopt(offset, s)),
    ]
}

/// A size before it is known how large it may be: a power of two, and what to add to it.
#[derive(Clone, Copy, Debug)]
enum SizeDraft {
    /// One page less, nothing, or one page more.
    Beside(u32, u64),
    /// Less than the power of two itself.
    Between(u32, u64),
}

impl SizeDraft {
    fn pages(self, most: u64) -> u64 {
        let bits = u64::BITS - most.leading_zeros();
        match self {
            SizeDraft::Beside(bit, beside) => {
                ((1 << (bit % (bits + 1))) + beside).saturating_sub(1).max(1)
            }
            SizeDraft::Between(bit, more) => {
                let power = 1 << (bit % bits);
                power + more % power
            }
        }
    }
}

fn size_drafts() -> impl Strategy<Value = SizeDraft> {
    let bit = || 0..u64::BITS;
    prop_oneof![
        (bit(), 0..3_u64).prop_map(|(bit, beside)| SizeDraft::Beside(bit, beside)),
        (bit(), any::<u64>()).prop_map(|(bit, more)| SizeDraft::Between(bit, more)),
    ]
}
