//! Adopting chunks that another allocator has placed.

use super::{ODD_REGIONS, ORDERS, empty, fill_mixed};
use crate::checked::Subject;
use crate::model::Model;
use crate::requests::{alignment, request};
use crate::violation::{Failure, Violation};
use cma_api::{PAGE_SHIFT, PageRange, Placement, Tag};

/// A range that is in use, entirely or in part, or that is not inside the region is refused, and
/// the refusal changes nothing.
///
/// # Errors
///
/// The first region for which this fails.
pub fn a_refused_adoption_changes_nothing(subject: &Subject) -> Result<(), Failure> {
    for region in ODD_REGIONS {
        subject.on(region, |allocator| {
            let (first, pages) = (region.first_page(), region.pages().get());
            let taken =
                allocator.allocate_pages(pages.div_ceil(3))?.ok_or(Violation::ServesNothing)?;
            let mut wrong = vec![
                PageRange::from_pages(first, pages + 1),
                PageRange::from_pages(first + pages, 1),
                PageRange::from_pages(first + pages - 1, 2),
                PageRange::from_pages(u64::MAX, 1),
                PageRange::from_pages(u64::MAX - 1, 3),
                taken,
                PageRange::from_pages(taken.first_page(), 1),
                PageRange::from_pages(taken.end_page() - 1, 1),
                PageRange::from_pages(taken.end_page() - 1, 2),
                region,
            ];
            if first > 0 {
                wrong.push(PageRange::from_pages(first - 1, 1));
                wrong.push(PageRange::from_pages(first - 1, pages + 2));
                wrong.push(PageRange::from_pages(taken.first_page() - 1, 2));
                wrong.push(PageRange::from_pages(0, first + pages));
            }
            for range in wrong {
                allocator.adopt(range)?;
                allocator.verify()?;
            }
            empty(allocator, ORDERS[0])
        })?;
    }
    Ok(())
}

/// A new allocator adopts all chunks that another of the same kind has placed, in ascending order.
/// When all are freed, one hole remains.
///
/// # Errors
///
/// The first region for which this fails.
pub fn a_fresh_allocator_adopts_all_chunks_of_a_full_one(subject: &Subject) -> Result<(), Failure> {
    for region in ODD_REGIONS {
        let full: Vec<Placement> = subject.on(region, |allocator| {
            fill_mixed(allocator)?;
            Ok(allocator.model().live().collect())
        })?;
        for order in ORDERS {
            subject.on(region, |allocator| {
                for chunk in &full {
                    if !allocator.adopt(chunk.range)? {
                        let reason = "it placed that chunk itself".to_string();
                        return Err(Violation::AdoptRefused { range: chunk.range, reason });
                    }
                }
                allocator.verify()?;
                allocator.allocate_pages(1)?;
                empty(allocator, order)
            })?;
        }
    }
    Ok(())
}

/// Chunks at places that no rule would choose are adopted in any order, or refused without any
/// change. The allocator then serves requests around them, and when all is freed, one hole remains.
///
/// # Errors
///
/// The first region and order for which this fails.
pub fn chunks_are_adopted_in_any_order(subject: &Subject) -> Result<(), Failure> {
    for region in ODD_REGIONS {
        let scattered = scattered(region);
        for order in ORDERS {
            subject.on(region, |allocator| {
                let mut chunks: Vec<Placement> = scattered.live().collect();
                order(&mut chunks);
                for (n, chunk) in chunks.iter().enumerate() {
                    allocator.adopt(chunk.range)?;
                    if n % 8 == 0 {
                        allocator.verify()?;
                    }
                }
                allocator.verify()?;
                for pages in [1, 2, 5] {
                    allocator.allocate(&request(pages, alignment(PAGE_SHIFT + 1)))?;
                    allocator.verify()?;
                }
                empty(allocator, order)
            })?;
        }
    }
    Ok(())
}

/// Chunks of 1 to 13 pages with gaps of 0 to 3 between them.
fn scattered(region: PageRange) -> Model {
    let mut model = Model::new(region);
    let mut at = region.first_page();
    for n in 0_u64.. {
        at += n * 5 % 4;
        let range = PageRange::from_pages(at, 1 + n * 11 % 13);
        if model.adopt(range, Tag(0)).is_err() {
            break;
        }
        at = range.end_page();
    }
    model
}
