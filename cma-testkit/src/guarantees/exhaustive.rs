//! All short sequences over tiny regions: errors that random tests find by chance are found with
//! certainty here, and the shortest sequence first.

use super::TOP;
use crate::checked::{CheckedAllocator, Subject};
use crate::operations::Operation;
use crate::requests::{alignment, request};
use crate::violation::Failure;
use cma_api::{PAGE_SHIFT, PageRange};

/// Every sequence of up to five allocations, frees and adoptions over regions of 8 to 11 pages
/// matches the model.
///
/// # Errors
///
/// A shortest failing sequence.
pub fn every_short_sequence_matches_the_model(subject: &Subject) -> Result<(), Failure> {
    let regions = [
        (PageRange::from_pages(8, 8), 4),
        (PageRange::from_pages(3, 11), 5),
        (PageRange::from_pages(TOP - 10, 10), 4),
    ];
    for (region, longest) in regions {
        for length in 1..=longest {
            extend(subject, region, &mut Vec::new(), length)?;
        }
    }
    Ok(())
}

/// Runs every sequence of `length` operations that starts with `path`. An operation that changes
/// nothing is not extended: what could follow it was tested as a shorter sequence.
fn extend(
    subject: &Subject,
    region: PageRange,
    path: &mut Vec<Operation>,
    length: usize,
) -> Result<(), Failure> {
    let live = live_after(path);
    for operation in menu(region, live) {
        path.push(operation);
        if length == 1 {
            replay(subject, region, path)?;
        } else if replay(subject, region, path)? {
            extend(subject, region, path, length - 1)?;
        }
        path.pop();
    }
    Ok(())
}

/// Runs `path` on a new allocator, verifies the outcome and returns whether the last operation
/// changed anything. The steps before the last were verified as a shorter sequence.
fn replay(subject: &Subject, region: PageRange, path: &[Operation]) -> Result<bool, Failure> {
    let mut allocator = CheckedAllocator::begin(subject, region)?;
    let mut changed = false;
    let outcome = path.iter().try_for_each(|operation| {
        changed = allocator.apply(operation)?.is_some();
        Ok(())
    });
    outcome.and_then(|()| allocator.verify()).map_err(|violation| allocator.failure(violation))?;
    Ok(changed)
}

/// The number of live chunks after `path`, in which every operation changed something.
fn live_after(path: &[Operation]) -> usize {
    path.iter().fold(0, |live, operation| match operation {
        Operation::Free(_) => live - 1,
        Operation::Allocate(_) | Operation::Adopt(_) => live + 1,
    })
}

/// The operations to try on `region` with `live` live chunks.
fn menu(region: PageRange, live: usize) -> Vec<Operation> {
    const REQUESTS: [(u64, u32); 6] = [(1, 0), (2, 0), (3, 0), (1, 2), (2, 1), (5, 3)];
    let allocate = REQUESTS
        .map(|(pages, log2)| Operation::Allocate(request(pages, alignment(PAGE_SHIFT + log2))));
    let adopt = [(2, 1), (4, 3)].map(|(offset, pages)| {
        Operation::Adopt(PageRange::from_pages(region.first_page() + offset, pages))
    });
    let free = (0..live).map(Operation::Free);
    allocate.into_iter().chain(adopt).chain(free).collect()
}
