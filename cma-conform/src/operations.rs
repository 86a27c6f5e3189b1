//! Generators of the random tests: sizes around powers of two, alignments far larger than the
//! region, limits around its edges, and regions at odd places of the address space.
//!
//! Every value shrinks to a small and simple one. Therefore no strategy depends on another's value:
//! values that depend on the region are drawn as plain numbers and mapped into the region
//! afterwards.

use crate::requests::{alignment, request_of};
use cma_api::{Alignment, Asker, Boundary, PAGE_SHIFT, PageRange, Request};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// An operation on an allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Place a chunk.
    Allocate(Request),
    /// Free live chunk `n` modulo their number, in ascending order of address; nothing when none is
    /// live.
    Free(usize),
    /// Adopt a range.
    Adopt(PageRange),
}

/// A region and operations on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// The region, empty at first.
    pub region: PageRange,
    /// The operations, in order.
    pub operations: Vec<Operation>,
}

/// Regions of up to 2^12 pages with up to `most` operations.
pub fn scripts(most: usize) -> impl Strategy<Value = Script> {
    (regions(), vec(drafts(), 1..=most)).prop_map(|(region, drafts)| {
        let operations = drafts.into_iter().map(|draft| draft.within(region)).collect();
        Script { region, operations }
    })
}

/// Operations on `region`: mostly allocating and freeing, a third of the requests with a window or
/// a boundary, sometimes a request larger than the region, and ranges to adopt that are free, in
/// use, or partly outside.
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

/// Alignments: half of them a page, a third below 1 MiB, the rest up to 2^63.
pub fn alignments() -> impl Strategy<Value = Alignment> {
    prop_oneof![3 => Just(PAGE_SHIFT), 2 => PAGE_SHIFT..20, 1 => PAGE_SHIFT..64].prop_map(alignment)
}

/// Sizes in pages from 1 to below `2 * most + 2`: uniform in their logarithm, and at powers of two
/// plus or minus one page.
pub fn sizes(most: u64) -> impl Strategy<Value = u64> {
    size_drafts().prop_map(move |size| size.pages(most))
}

/// An operation before the region is known.
#[derive(Clone, Copy, Debug)]
enum Draft {
    /// Of at most about an eighth of the region.
    Allocate(SizeDraft, Alignment, Asker),
    /// The same with limits, unless they contradict the request.
    AllocateLimited(SizeDraft, Alignment, Option<RangeDraft>, Option<u32>),
    /// Of at most about twice the region.
    AllocateLarge(SizeDraft, Alignment),
    Free(usize),
    Adopt(RangeDraft),
}

impl Draft {
    fn within(self, region: PageRange) -> Operation {
        let pages = region.pages().get();
        match self {
            Draft::Allocate(size, alignment, asker) => {
                Operation::Allocate(request_of(asker, size.pages(pages.div_ceil(8)), alignment))
            }
            Draft::AllocateLimited(size, alignment, window, boundary) => {
                let request = request_of(Asker::NOBODY, size.pages(pages.div_ceil(8)), alignment);
                let window =
                    window.map_or(PageRange::ADDRESS_SPACE, |window| window.within(region, pages));
                let boundary =
                    boundary.map_or(Boundary::NONE, |above| boundary_of(&request, above));
                Operation::Allocate(request.limited(window, boundary).unwrap_or(request))
            }
            Draft::AllocateLarge(size, alignment) => {
                Operation::Allocate(request_of(Asker::NOBODY, size.pages(pages), alignment))
            }
            Draft::Free(n) => Operation::Free(n),
            Draft::Adopt(range) => Operation::Adopt(range.within(region, pages.div_ceil(4))),
        }
    }
}

/// The boundary of 2^`above` times the fewest bytes that hold `request`.
fn boundary_of(request: &Request, above: u32) -> Boundary {
    let bytes = request.pages().get().next_power_of_two() << (PAGE_SHIFT + above);
    Boundary::new(bytes).expect("a power of two of at least a page")
}

/// A range before the region is known: an offset and a size.
#[derive(Clone, Copy, Debug)]
struct RangeDraft(u64, SizeDraft);

impl RangeDraft {
    /// The range, of about `most` pages at most. It starts anywhere from one page below the region
    /// to one page above it.
    fn within(self, region: PageRange, most: u64) -> PageRange {
        let RangeDraft(offset, size) = self;
        let first = region.first_page() + offset % (region.pages().get() + 2);
        PageRange::from_pages(first.saturating_sub(1), size.pages(most))
    }
}

fn range_drafts() -> impl Strategy<Value = RangeDraft> {
    (any::<u64>(), size_drafts()).prop_map(|(offset, size)| RangeDraft(offset, size))
}

fn drafts() -> impl Strategy<Value = Draft> {
    prop_oneof![
        6 => (size_drafts(), alignments(), (0..8_u32).prop_map(Asker)).prop_map(|(s, a, n)| Draft::Allocate(s, a, n)),
        3 => (size_drafts(), alignments(), option::of(range_drafts()), option::of(0..4_u32))
            .prop_map(|(s, a, window, boundary)| Draft::AllocateLimited(s, a, window, boundary)),
        1 => (size_drafts(), alignments()).prop_map(|(s, a)| Draft::AllocateLarge(s, a)),
        4 => (0..1_usize << 16).prop_map(Draft::Free),
        2 => range_drafts().prop_map(Draft::Adopt),
    ]
}

/// A size before its limit is known: a power of two, and an addend.
#[derive(Clone, Copy, Debug)]
enum SizeDraft {
    /// The power of two minus one, as it is, or plus one.
    Beside(u32, u64),
    /// The power of two plus less than itself.
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
