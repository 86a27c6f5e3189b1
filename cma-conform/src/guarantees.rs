//! The conformance suite: one function for each guarantee that every allocator must keep.
//!
//! Each function runs on a [`Subject`], so it is independent of whether the algorithm is linked or
//! loaded. [`CheckedAllocator`] checks each single result; these functions choose the operations.

mod adoption;
mod edges;
mod exhaustive;
mod instances;
mod limits;
mod random;
mod verdict;

pub use adoption::{
    a_fresh_allocator_adopts_all_chunks_of_a_full_one, a_refused_adoption_changes_nothing,
    chunks_are_adopted_in_any_order,
};
pub use edges::{
    a_region_filled_with_mixed_sizes_empties_in_any_order,
    a_region_fills_page_by_page_and_empties_in_any_order,
    a_region_may_end_at_the_top_of_the_address_space,
    a_region_of_64_gibibytes_is_served_or_refused_with_a_reason,
    a_request_larger_than_the_region_changes_nothing, a_whole_region_can_be_one_chunk,
    huge_alignments_stay_inside_the_region, thousands_of_holes_are_kept_and_merged,
};
pub use exhaustive::every_short_sequence_matches_the_model;
pub use instances::{
    a_full_allocator_can_be_dropped, an_allocator_may_move_between_threads,
    hosts_accept_the_name_version_and_description, placements_are_valid_for_every_asker,
    regions_are_independent, unknown_parameters_are_refused_by_name,
};
pub use limits::{every_limit_in_a_small_region_is_kept, limits_around_words_and_blocks_are_kept};
pub use random::{
    asking_for_a_fit_changes_nothing, fit_names_the_hole_that_allocate_uses,
    random_operations_match_the_model, the_largest_request_is_served_and_no_larger_one,
};
pub(crate) use verdict::watched;
pub use verdict::{verdict, verdict_within};

use crate::checked::{CheckedAllocator, Subject};
use crate::requests::{alignment, request};
use crate::violation::{Failure, Violation};
use cma_api::{PAGE_SHIFT, PageRange, Placement};

/// A guarantee. Returns `Ok` when the subject keeps it.
pub type Guarantee = fn(&Subject) -> Result<(), Failure>;

macro_rules! list {
    ($($guarantee:ident)+) => {
        /// Every guarantee with its name.
        pub const ALL: &[(&str, Guarantee)] = &[$((stringify!($guarantee), $guarantee)),+];
    };
}
crate::__guarantees! { list }

const TOP: u64 = PageRange::ADDRESS_SPACE_PAGES;

/// Regions at odd places and of odd sizes, each of which exposes some arithmetic error.
const ODD_REGIONS: [PageRange; 12] = [
    PageRange::from_pages(0, 1),
    PageRange::from_pages(0, 16),
    PageRange::from_pages(1, 1),
    PageRange::from_pages(1, 255),
    PageRange::from_pages(3, 11),
    PageRange::from_pages(7, 300),
    PageRange::from_pages(0x3_0000, 288), // nine times 128 KiB, aligned far beyond that
    PageRange::from_pages(TOP / 2 - 5, 10),
    PageRange::from_pages(TOP / 2, 12),
    PageRange::from_pages(TOP - 1, 1),
    PageRange::from_pages(TOP - 37, 37),
    PageRange::from_pages(TOP - 256, 256),
];

/// Orders in which chunks are freed.
const ORDERS: [fn(&mut Vec<Placement>); 4] = [
    |_| {},
    |chunks| chunks.reverse(),
    // Every second chunk first: each of them leaves a hole between two live chunks, and each of the
    // others then merges with two holes.
    |chunks| chunks.sort_by_key(|chunk| chunk.range.first_page() % 2),
    |chunks| {
        chunks.sort_by_key(|chunk| {
            chunk.range.first_page().wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(20)
        });
    },
];

/// Allocates chunks of varying sizes and alignments until the region is full, and verifies the
/// result.
fn fill_mixed(allocator: &mut CheckedAllocator) -> Result<(), Violation> {
    let region = allocator.model().region().pages().get();
    for n in 0_u32.. {
        let pages = 1 + u64::from(n) * u64::from(n) * 7 % region.div_ceil(8);
        let aligned = alignment(PAGE_SHIFT + n % 5);
        if allocator.allocate(&request(pages, aligned))?.is_none() {
            break;
        }
    }
    while allocator.allocate_pages(1)?.is_some() {}
    allocator.verify()
}

/// Frees all chunks and verifies that one hole remains and that the largest request is that of a
/// new allocator.
fn empty(
    allocator: &mut CheckedAllocator,
    arrange: fn(&mut Vec<Placement>),
) -> Result<(), Violation> {
    allocator.free_all(arrange)?;
    allocator.verify()?;
    let (new, now) = (allocator.largest_request_when_new(), allocator.largest_request());
    if now == new { Ok(()) } else { Err(Violation::NotAsNew { new, now }) }
}
