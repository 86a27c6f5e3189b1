//! Random operations against the model.

use crate::checked::{CheckedAllocator, Subject};
use crate::operations::{Operation, Script, scripts};
use crate::violation::{Failure, Violation};
use crate::watch::Watch;
use cma_api::{PageRange, Pages};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use std::cell::{Cell, RefCell};

/// For random operations in random regions: every placement is valid and as declared, and no
/// request is refused that the declared rule serves. After each step the allocator's holes are the
/// model's, and its own check succeeds.
///
/// # Errors
///
/// The shortest failing sequence found.
pub fn random_operations_match_the_model(subject: &Subject) -> Result<(), Failure> {
    for_all(&scripts(160), |script| {
        subject.on(script.region, |allocator| {
            script.operations.iter().try_for_each(|operation| {
                allocator.apply(operation)?;
                allocator.verify()
            })
        })
    })
}

/// The answer of [`fit`](cma_api::Allocator::fit) is a hole with a place for the request, in which
/// `allocate` then places it, and none exactly when `allocate` refuses. After each call the
/// allocator's holes are the model's, and its own check succeeds.
///
/// # Errors
///
/// The shortest failing sequence found.
pub fn fit_names_the_hole_that_allocate_uses(subject: &Subject) -> Result<(), Failure> {
    for_all(&scripts(60), |script| {
        subject.on(script.region, |allocator| {
            script.operations.iter().try_for_each(|operation| {
                if let Operation::Allocate(request) = operation {
                    allocator.fit(request)?;
                    allocator.verify()?;
                }
                allocator.apply(operation)?;
                allocator.verify()
            })
        })
    })
}

/// Calls of [`fit`](cma_api::Allocator::fit) change no result of a later call: an allocator that is
/// asked answers everything else as one that is not.
///
/// # Errors
///
/// The shortest failing sequence found.
pub fn asking_for_a_fit_changes_nothing(subject: &Subject) -> Result<(), Failure> {
    for_all(&scripts(60), |script| {
        let unasked = results(subject, script)?;
        subject.on(script.region, |allocator| {
            for (n, without) in unasked.iter().enumerate() {
                for later in script.operations.iter().skip(n).step_by(3).take(3) {
                    if let Operation::Allocate(request) = later {
                        allocator.fit(request)?;
                    }
                }
                let with = result(allocator, &script.operations[n])?;
                // An allocator whose results differ from run to run proves nothing.
                if with != *without && results(subject, script).is_ok_and(|again| again == unasked)
                {
                    let (operation, without) = (n + 1, *without);
                    return Err(Violation::FitChangedSomething { operation, with, without });
                }
            }
            Ok(())
        })
    })
}

/// The results of the operations of `script` on a new allocator.
fn results(subject: &Subject, script: &Script) -> Result<Vec<OperationResult>, Failure> {
    subject.on(script.region, |allocator| {
        script.operations.iter().map(|operation| result(allocator, operation)).collect()
    })
}

/// The chunk that an operation placed, adopted or freed, and the largest request after it.
type OperationResult = (Option<PageRange>, Pages);

fn result(
    allocator: &mut CheckedAllocator,
    operation: &Operation,
) -> Result<OperationResult, Violation> {
    let chunk = allocator.apply(operation)?;
    Ok((chunk, allocator.largest_request()))
}

/// A page-aligned request for [`largest_request`](cma_api::Allocator::largest_request) pages
/// succeeds, and none for more pages does. An empty region serves at least one page.
///
/// # Errors
///
/// The shortest failing sequence found.
pub fn the_largest_request_is_served_and_no_larger_one(subject: &Subject) -> Result<(), Failure> {
    for_all(&scripts(60), |script| {
        subject.on(script.region, |allocator| {
            if allocator.largest_request().get() == 0 {
                return Err(Violation::ServesNothing);
            }
            probe_largest_request(allocator)?;
            for operation in &script.operations {
                allocator.apply(operation)?;
            }
            probe_largest_request(allocator)
        })
    })
}

fn probe_largest_request(allocator: &mut CheckedAllocator) -> Result<(), Violation> {
    let reported = allocator.largest_request();
    let largest = allocator.model().largest_hole().get();
    if reported.get() > 0 {
        let place = allocator
            .allocate_pages(reported.get())?
            .ok_or(Violation::LargestRequestNotServed { reported })?;
        allocator.free(place.first_page())?;
    }
    for pages in [
        reported.get() + 1,
        reported.get().next_power_of_two(),
        reported.get() * 2,
        largest,
        largest + 1,
    ] {
        if pages > reported.get()
            && let Some(place) = allocator.allocate_pages(pages)?
        {
            return Err(Violation::LargestRequestExceeded { reported, served: place.pages() });
        }
    }
    allocator.verify()
}

/// Panics of the allocator after which shrinking a failure stops.
const MOST_PANICS: u32 = 8;

/// Runs `body` on values of `strategy` and returns the failure of the simplest value that fails.
fn for_all<S: Strategy>(
    strategy: &S,
    body: impl Fn(&S::Value) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let rng_seed = RngSeed::Fixed(Watch::current().seed());
    let config = Config {
        failure_persistence: None,
        max_shrink_iters: 10_000,
        rng_seed,
        ..Config::default()
    };
    // Shrinking ends with the simplest failing value, and only passing values are tried after it:
    // so the last failure is the one to return.
    let last = RefCell::new(None);
    let panics = Cell::new(0);
    let outcome = TestRunner::new(config).run(strategy, |value| {
        // A library prints each of its panics.
        if panics.get() == MOST_PANICS {
            return Ok(());
        }
        body(&value).map_err(|failure| {
            panics.set(
                panics.get() + u32::from(matches!(*failure.violation, Violation::Panicked { .. })),
            );
            let reason = failure.violation.to_string();
            last.replace(Some(failure));
            TestCaseError::fail(reason)
        })
    });
    match (outcome, last.into_inner()) {
        (Ok(()), _) => Ok(()),
        (Err(_), Some(failure)) => Err(failure),
        (Err(error), None) => panic!("the suite itself failed: {error}"),
    }
}
