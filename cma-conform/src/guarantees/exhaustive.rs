//! All short sequences over tiny regions: errors that random tests find by chance are found with
//! certainty here, and the shortest sequence first.

use super::TOP;
use crate::checked::{CheckedAllocator, Subject};
use crate::operations::Operation;
use crate::requests::{alignment, request};
use crate::violation::{Failure, Violation};
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
            let mut search = Search { subject, region, longer: None };
            search.extend(&mut Vec::new(), length)?;
            search.longer.map_or(Ok(()), Err)?;
        }
    }
    Ok(())
}

/// The search through the sequences of one length.
struct Search<'a> {
    subject: &'a Subject,
    region: PageRange,
    /// A failure of a longer sequence, which is reported if no sequence of this length fails.
    longer: Option<Failure>,
}

impl Search<'_> {
    /// Runs every sequence of `length` operations that starts with `path`. An operation that
    /// changes nothing is not extended: what could follow it was tested as a shorter sequence.
    fn extend(&mut self, path: &mut Vec<Operation>, length: usize) -> Result<(), Failure> {
        let menu = menu(self.region, live_after(path));
        if length == 1 {
            return self.end(path, &menu);
        }
        for operation in menu {
            path.push(operation);
            if self.after(path)?.1 {
                self.extend(path, length - 1)?;
            }
            path.pop();
        }
        Ok(())
    }

    /// Verifies each sequence of `path` and one of `last`. Most sequences are here, and most of
    /// their last operations can be undone by freeing a chunk, so that a new allocator for each is
    /// not needed: an allocator that freed its last chunk must serve as it did before.
    fn end(&mut self, path: &[Operation], last: &[Operation]) -> Result<(), Failure> {
        let mut undone: Option<CheckedAllocator> = None;
        for (n, operation) in last.iter().enumerate() {
            let mut allocator = match undone.take() {
                Some(allocator) => allocator,
                None => self.after(path)?.0,
            };
            match try_and_undo(&mut allocator, operation) {
                // After a failure by undoing nothing is undone.
                Ok(true) if self.longer.is_none() => undone = Some(allocator),
                Ok(_) => {}
                Err(violation) => {
                    self.alone(path, operation, false)?;
                    let undone = last[..n].iter();
                    let longer = undone.map(|earlier| self.alone(path, earlier, true));
                    let longer = longer.filter_map(Result::err).next();
                    self.longer = longer.or_else(|| Some(allocator.failure(violation)));
                }
            }
        }
        Ok(())
    }

    /// Verifies `path` and then `last` on a new allocator; with `undo` also what undoes it.
    fn alone(&self, path: &[Operation], last: &Operation, undo: bool) -> Result<(), Failure> {
        let (mut allocator, _) = self.after(path)?;
        let outcome = match undo {
            true => try_and_undo(&mut allocator, last).map(drop),
            false => allocator.apply(last).map(drop),
        };
        let outcome = outcome.and_then(|()| allocator.verify());
        outcome.map_err(|violation| allocator.failure(violation))
    }

    /// A new allocator after `path`, and whether the last operation changed anything. The path was
    /// verified as a shorter sequence.
    fn after(&self, path: &[Operation]) -> Result<(CheckedAllocator, bool), Failure> {
        let mut allocator = CheckedAllocator::begin(self.subject, self.region)?;
        let mut changed = false;
        let outcome = path.iter().try_for_each(|operation| {
            changed = allocator.apply(operation)?.is_some();
            Ok(())
        });
        outcome.map_err(|violation| allocator.failure(violation))?;
        Ok((allocator, changed))
    }
}

/// Carries out `operation`, verifies its outcome, and undoes it. Returns whether it could.
fn try_and_undo(
    allocator: &mut CheckedAllocator,
    operation: &Operation,
) -> Result<bool, Violation> {
    let chunk = allocator.apply(operation)?;
    allocator.verify()?;
    match (operation, chunk) {
        (Operation::Allocate(_) | Operation::Adopt(_), Some(chunk)) => {
            allocator.free(chunk.first_page())?;
            Ok(true)
        }
        (Operation::Free(_), Some(_)) => Ok(false),
        (_, None) => Ok(true),
    }
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
