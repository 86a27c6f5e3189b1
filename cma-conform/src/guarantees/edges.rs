//! Edge cases: full regions, whole regions, huge alignments, the ends of the address space.

use super::{ODD_REGIONS, ORDERS, TOP, empty, fill_mixed};
use crate::checked::Subject;
use crate::requests::{alignment, request};
use crate::violation::{Failure, Violation};
use cma_api::{Alignment, PAGE_SHIFT, PageRange, Placement};

/// A region of any size at any place can be one chunk. Nothing else fits then, and freeing the
/// chunk leaves one hole. (An allocator that isn't exact may have no room for it.)
///
/// # Errors
///
/// The first region for which this fails.
pub fn a_whole_region_can_be_one_chunk(subject: &Subject) -> Result<(), Failure> {
    // Allocators that round up to a bin or a power of two fail for 36 MiB aligned to 128 KiB.
    let nine_fourths = (PageRange::from_pages(0x4_0000, 9216), alignment(17));
    let regions = ODD_REGIONS.map(|region| (region, Alignment::PAGE));
    for (region, aligned) in regions.into_iter().chain([nine_fourths]) {
        subject.on(region, |allocator| {
            let whole = request(region.pages().get(), aligned);
            for _ in 0..2 {
                let place = allocator.allocate(&whole)?;
                allocator.verify()?;
                if place.is_some() {
                    allocator.allocate_pages(1)?;
                    allocator.allocate(&whole)?;
                    empty(allocator, ORDERS[0])?;
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Single pages are placed until the region is full. When they are freed in any order, one hole
/// remains.
///
/// # Errors
///
/// The first region and order for which this fails.
pub fn a_region_fills_page_by_page_and_empties_in_any_order(
    subject: &Subject,
) -> Result<(), Failure> {
    for region in ODD_REGIONS {
        subject.on(region, |allocator| {
            for order in ORDERS {
                if allocator.allocate_pages(1)?.is_none() {
                    return Err(Violation::ServesNothing);
                }
                while allocator.allocate_pages(1)?.is_some() {}
                allocator.verify()?;
                empty(allocator, order)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Chunks of many sizes and alignments are placed until the region is full. When they are freed in
/// any order, one hole remains.
///
/// # Errors
///
/// The first region and order for which this fails.
pub fn a_region_filled_with_mixed_sizes_empties_in_any_order(
    subject: &Subject,
) -> Result<(), Failure> {
    for region in ODD_REGIONS {
        subject.on(region, |allocator| {
            ORDERS.iter().try_for_each(|order| {
                fill_mixed(allocator)?;
                empty(allocator, *order)
            })
        })?;
    }
    Ok(())
}

/// A request with an alignment larger than the region, up to 2^63, gets a place inside the region
/// or none: rounding up never wraps.
///
/// # Errors
///
/// The first region for which this fails.
pub fn huge_alignments_stay_inside_the_region(subject: &Subject) -> Result<(), Failure> {
    for region in ODD_REGIONS {
        subject.on(region, |allocator| {
            // Once in the empty region, and once after a chunk, where holes start at other places.
            for _ in 0..2 {
                for log2 in PAGE_SHIFT..u64::BITS {
                    for pages in [1, region.pages().get().div_ceil(3), region.pages().get()] {
                        if let Some(place) = allocator.allocate(&request(pages, alignment(log2)))? {
                            allocator.verify()?;
                            allocator.free(place.first_page())?;
                        }
                    }
                    allocator.verify()?;
                }
                allocator.allocate_pages(region.pages().get().div_ceil(5))?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// A region that ends at the top of the address space is usable up to its last page.
///
/// # Errors
///
/// The first region for which this fails.
pub fn a_region_may_end_at_the_top_of_the_address_space(subject: &Subject) -> Result<(), Failure> {
    for pages in [1, 2, 3, 64, 100, 513] {
        subject.on(PageRange::from_pages(TOP - pages, pages), |allocator| {
            let adopted = allocator.adopt(PageRange::from_pages(TOP - 1, 1))?;
            allocator.verify()?;
            fill_mixed(allocator)?;
            empty(allocator, ORDERS[1])?;
            if adopted {
                fill_mixed(allocator)?;
                empty(allocator, ORDERS[0])?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// A region of 64 GiB is served like any other, or refused with a reason.
///
/// # Errors
///
/// The region is refused without a reason or by a panic, or served wrongly.
pub fn a_region_of_64_gibibytes_is_served_or_refused_with_a_reason(
    subject: &Subject,
) -> Result<(), Failure> {
    let region = PageRange::from_pages(0x10_0003, 64 << (30 - PAGE_SHIFT));
    let served = subject.on(region, |allocator| {
        for log2 in PAGE_SHIFT..36 {
            for pages in [1, (1 << (log2 - PAGE_SHIFT)) - 1, 3 << (log2 - PAGE_SHIFT)] {
                allocator.allocate(&request(u64::max(pages, 1), alignment(log2)))?;
            }
            allocator.verify()?;
        }
        empty(allocator, ORDERS[3])
    });
    match served {
        Err(Failure { violation, .. }) if matches!(&*violation, Violation::RegionRefused { reason } if !reason.trim().is_empty()) => {
            Ok(())
        }
        served => served,
    }
}

/// A request for more pages than the region has, up to the largest possible one, is refused and
/// changes nothing.
///
/// # Errors
///
/// The first region for which this fails.
pub fn a_request_larger_than_the_region_changes_nothing(subject: &Subject) -> Result<(), Failure> {
    for region in ODD_REGIONS {
        subject.on(region, |allocator| {
            let pages = region.pages().get();
            for half_full in [false, true] {
                if half_full {
                    allocator.allocate_pages(pages.div_ceil(2))?;
                }
                for more in [pages + 1, pages * 2, pages.next_power_of_two() * 2, TOP / 2, TOP - 1]
                {
                    for log2 in [PAGE_SHIFT, 20, 63] {
                        allocator.allocate(&request(more, alignment(log2)))?;
                        allocator.verify()?;
                    }
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// More holes and chunks than an 8-bit or 12-bit number can count stay separate, and merge when all
/// is freed.
///
/// # Errors
///
/// The steps up to the first wrong result.
pub fn thousands_of_holes_are_kept_and_merged(subject: &Subject) -> Result<(), Failure> {
    const HOLES: u64 = (1 << 12) + 3;
    let region = PageRange::from_pages(0x4_0000, 2 * HOLES);
    subject.on(region, |allocator| {
        // Adopting is the cheapest operation for the model and for slow allocators. An allocator
        // that refuses further chunks has a documented limit.
        for page in region.first_page()..region.end_page() {
            if !allocator.adopt(PageRange::from_pages(page, 1))? {
                break;
            }
        }
        allocator.verify()?;
        let mut chunks: Vec<Placement> = allocator.model().live().collect();
        ORDERS[3](&mut chunks);
        let (mut lower, upper): (Vec<_>, Vec<_>) =
            chunks.iter().map(|chunk| chunk.range.first_page()).partition(|page| page % 2 == 0);
        lower.extend(upper);
        for (freed, page) in (1_u64..).zip(lower) {
            allocator.free(page)?;
            if [1 << 8, 1 << 10, (1 << 11) + 1, HOLES, HOLES + 300].contains(&freed) {
                allocator.verify()?;
            }
        }
        empty(allocator, ORDERS[0])
    })
}
