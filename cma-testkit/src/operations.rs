//! What the random tests ask of an allocator, and where: sizes around powers of two, alignments far beyond the region, and
//! regions in the odd places of the address space. Everything shrinks to the small and the simple.

use crate::trial::{alignment, request_of};
use cma_api::{Alignment, Asker, PAGE_SHIFT, PageRange, Request};
use proptest::collection::vec;
use proptest::prelude::*;

/// One thing to ask of an allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Place a chunk.
    Allocate(Request),
    /// Take back the `n`th live chunk in ascending order of address, counting round; nothing when none is live.
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

/// Sizes in pages from 1 to about `most`: uniform in their logarithm, and exactly at powers of two and one
/// beside them.
pub fn sizes(most: u64) -> impl Strategy<Value = u64> {
    let bits = u64::BITS - most.leading_zeros();
    let around_powers =
        (0..=bits, 0_u64..3).prop_map(|(bit, beside)| ((1 << bit) + beside).saturating_sub(1));
    let log_uniform = (0..bits).prop_flat_map(|bit| (1_u64 << bit)..(2 << bit));
    prop_oneof![around_powers, log_uniform].prop_map(|pages| pages.max(1))
}

/// Alignments: half of them a page, a third under a mebibyte, the rest up to 2^63.
pub fn alignments() -> impl Strategy<Value = Alignment> {
    let log2 = prop_oneof![3 => Just(PAGE_SHIFT), 2 => PAGE_SHIFT..20, 1 => PAGE_SHIFT..64];
    log2.prop_map(alignment)
}

/// Regions of up to 2^12 pages: at page 0, anywhere, ending at the top of the address space, across 2^63.
pub fn regions() -> impl Strategy<Value = PageRange> {
    const TOP: u64 = PageRange::ADDRESS_SPACE_PAGES;
    let pages = prop_oneof![1_u64..=16, sizes(1 << 12)];
    pages.prop_flat_map(|pages| {
        let first = prop_oneof![
            Just(0),
            1_u64..64,
            (0_u64..1 << 20).prop_map(|page| page & !0xff),
            0..=TOP - pages,
            Just(TOP / 2 - pages / 2),
            Just(TOP - pages),
        ];
        first.prop_map(move |first| PageRange::from_pages(first, pages))
    })
}

/// Operations for `region`: mostly allocating and freeing, now and then a request larger than the region, and ranges to
/// adopt that are free, taken, or partly outside.
pub fn operations(region: PageRange) -> impl Strategy<Value = Operation> {
    let pages = region.pages().get();
    let allocate = |size: BoxedStrategy<u64>| {
        (size, alignments(), 0_u32..8).prop_map(|(size, alignment, asker)| {
            Operation::Allocate(request_of(Asker(asker), size, alignment))
        })
    };
    let adopt = (0..pages + 2, sizes(pages.div_ceil(4))).prop_map(move |(offset, size)| {
        let first = (region.first_page() + offset).saturating_sub(1);
        Operation::Adopt(PageRange::from_pages(first, size))
    });
    prop_oneof![
        6 => allocate(sizes(pages.div_ceil(4)).boxed()),
        1 => allocate(sizes(pages).boxed()),
        5 => (0_usize..1 << 16).prop_map(Operation::Free),
        2 => adopt,
    ]
}

/// Regions with up to `most` operations.
pub fn scripts(most: usize) -> impl Strategy<Value = Script> {
    regions().prop_flat_map(move |region| {
        vec(operations(region), 1..=most).prop_map(move |operations| Script { region, operations })
    })
}
