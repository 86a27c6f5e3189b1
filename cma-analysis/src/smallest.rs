//! The smallest region in which an allocator serves a trace.

use crate::allocator::Allocator;
use crate::demand::Demand;
use crate::run::Run;
use cma_framework::errors::RegisterError;
use cma_framework::{AllocError, PageRange, Pages};
use rayon::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};

/// The result of a search for the smallest region.
///
/// That an allocator serves a trace in one region does not mean that it does in a larger one: the
/// additional space changes its choices. So the smallest region of all says little. The result is
/// the smallest size from which every larger size that was tried serves the trace.
///
/// # The sizes that are tried
///
/// 1. Twice the fewest pages that any region needs ([`Demand::peak`], or more if requests are for
///    places further up); doubled until the trace is served.
/// 2. From there down in steps of 1/128, until one size fails.
/// 3. Between that and the size above, again from the top down, in steps of 1/16 of the last step;
///    and so on, until a step is a page.
///
/// So the size that is a page smaller than the result fails, or can't serve any allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Smallest {
    /// The region.
    pub region: PageRange,
    /// The largest size that was tried.
    pub largest: Pages,
    /// How many sizes were tried.
    pub tried: u64,
}

/// Why an allocator serves a trace in no size that was tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not served in a region of {}: {reason}", cma_framework::config::Bytes(largest.bytes()))]
pub struct Unserved {
    /// The largest size that was tried.
    pub largest: Pages,
    /// What failed there.
    pub reason: Failure,
}

/// Why an allocator doesn't serve a trace in a region.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// It refuses the region or its parameters.
    #[error(transparent)]
    Start(RegisterError),
    /// A request is refused.
    #[error("operation {}: {error}", operation + 1)]
    Refused {
        /// The operation: an index into [`Trace::operations`](cma_trace::Trace::operations).
        operation: usize,
        /// The reason.
        error: AllocError,
    },
}

/// The fraction of the largest size by which the first sizes differ.
const FIRST_STEPS: u64 = 128;

/// The fraction of a step by which the sizes differ next.
const NEXT_STEPS: u64 = 16;

/// Searches for the smallest region in which `allocator` serves the trace of `demand`, on all
/// threads of the pool that this is called in. `tried` is called after each size.
///
/// # Errors
///
/// [`Unserved`].
pub fn smallest_region(
    demand: &Demand<'_>,
    allocator: &Allocator,
    tried: &(dyn Fn() + Sync),
) -> Result<Smallest, Unserved> {
    let count = AtomicU64::new(0);
    let attempt = |pages| {
        let served = serves(demand, allocator, Pages::new(pages));
        count.fetch_add(1, Ordering::Relaxed);
        tried();
        served
    };
    let (smallest, largest) = search(demand, &attempt)
        .map_err(|(largest, reason)| Unserved { largest: Pages::new(largest), reason })?;
    Ok(Smallest {
        region: PageRange::from_pages(demand.start().page(), smallest),
        largest: Pages::new(largest),
        tried: count.into_inner(),
    })
}

/// The smallest number of pages, and the largest that was tried, of a region for `demand`, by
/// whether an `attempt` with so many pages serves. See [`Smallest`].
///
/// # Errors
///
/// The largest number that was tried, and why it does not serve.
pub(crate) fn search<E: Send>(
    demand: &Demand<'_>,
    attempt: &(dyn Fn(u64) -> Result<(), E> + Sync),
) -> Result<(u64, u64), (u64, E)> {
    let largest = largest(demand, attempt)?;
    let mut smallest = largest;
    // Every allocator fails below the least size.
    let mut failed = demand.least() - 1;
    let mut step = (largest / FIRST_STEPS).max(1);
    loop {
        (smallest, failed) = descend(attempt, smallest, failed, step);
        if step == 1 {
            return Ok((smallest, largest));
        }
        step = (step / NEXT_STEPS).max(1);
    }
}

/// Runs the trace of `demand` on `allocator` in a region of `pages` pages.
///
/// # Errors
///
/// The first [`Failure`].
pub fn serves(demand: &Demand<'_>, allocator: &Allocator, pages: Pages) -> Result<(), Failure> {
    let region = PageRange::from_pages(demand.start().page(), pages.get());
    let mut run = Run::new(demand.trace(), allocator, region).map_err(Failure::Start)?;
    match run.next_refusal() {
        Some((operation, error)) => Err(Failure::Refused { operation, error }),
        None => Ok(()),
    }
}

/// The alignment of the start of a region of `pages` pages with which it serves as well as one that
/// starts where the search had it: the largest alignment or boundary of all requests. If
/// `allocator` fails in a region that starts at an odd multiple of that, because it places by
/// absolute address as buddy allocators do, it is the region's size, rounded up to a power of two.
pub fn start_alignment(demand: &Demand<'_>, allocator: &Allocator, pages: Pages) -> Pages {
    let (grid, whole) = (demand.grid(), Pages::new(pages.get().next_power_of_two()));
    let moved = demand.start().checked_add(grid.bytes());
    let moved = moved.and_then(|start| Demand::of(demand.trace(), Some(start)).ok());
    match moved {
        Some(moved) if serves(&moved, allocator, pages).is_err() => whole.max(grid),
        _ => grid,
    }
}

/// The first size that serves, of twice the least and its doubles.
fn largest<E>(
    demand: &Demand<'_>,
    attempt: &dyn Fn(u64) -> Result<(), E>,
) -> Result<u64, (u64, E)> {
    let most = demand.most();
    let mut size = (2 * demand.least()).min(most);
    loop {
        match attempt(size) {
            Ok(()) => return Ok(size),
            Err(_) if size < most => size = (2 * size).min(most),
            Err(reason) => return Err((size, reason)),
        }
    }
}

/// Tries the sizes between `failed` and `served` from the top down, until one fails. Returns the
/// smallest that was served, and the one that failed.
fn descend<E: Send>(
    attempt: &(dyn Fn(u64) -> Result<(), E> + Sync),
    mut served: u64,
    failed: u64,
    step: u64,
) -> (u64, u64) {
    let threads = rayon::current_num_threads() as u64;
    while served - failed > step {
        // As many sizes as there are threads: if one fails, no more were tried in vain.
        let room = (served - failed - 1) / step;
        let sizes: Vec<u64> = (1..=room.min(threads)).map(|n| served - n * step).collect();
        match sizes.par_iter().position_first(|size| attempt(*size).is_err()) {
            Some(n) => {
                return (if n == 0 { served } else { sizes[n - 1] }, sizes[n]);
            }
            None => served = sizes[sizes.len() - 1],
        }
    }
    (served, failed)
}
