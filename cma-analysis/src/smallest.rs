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
    let search = Search { demand, allocator, tried, count: AtomicU64::new(0) };
    let largest = search.largest()?;
    let mut smallest = largest;
    // Every allocator fails below the least size.
    let mut failed = demand.least() - 1;
    let mut step = (largest / FIRST_STEPS).max(1);
    loop {
        (smallest, failed) = search.descend(smallest, failed, step);
        if step == 1 {
            break;
        }
        step = (step / NEXT_STEPS).max(1);
    }
    Ok(Smallest {
        region: PageRange::from_pages(demand.start().page(), smallest),
        largest: Pages::new(largest),
        tried: search.count.into_inner(),
    })
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

struct Search<'a, 't> {
    demand: &'a Demand<'t>,
    allocator: &'a Allocator,
    tried: &'a (dyn Fn() + Sync),
    count: AtomicU64,
}

impl Search<'_, '_> {
    fn attempt(&self, pages: u64) -> Result<(), Failure> {
        let served = serves(self.demand, self.allocator, Pages::new(pages));
        self.count.fetch_add(1, Ordering::Relaxed);
        (self.tried)();
        served
    }

    /// The first size that serves, of twice the least and its doubles.
    fn largest(&self) -> Result<u64, Unserved> {
        let most = self.demand.most();
        let mut size = (2 * self.demand.least()).min(most);
        loop {
            match self.attempt(size) {
                Ok(()) => return Ok(size),
                Err(_) if size < most => size = (2 * size).min(most),
                Err(reason) => return Err(Unserved { largest: Pages::new(size), reason }),
            }
        }
    }

    /// Tries the sizes between `failed` and `served` from the top down, until one fails. Returns
    /// the smallest that was served, and the one that failed.
    fn descend(&self, mut served: u64, failed: u64, step: u64) -> (u64, u64) {
        let threads = rayon::current_num_threads() as u64;
        while served - failed > step {
            // As many sizes as there are threads: if one fails, no more were tried in vain.
            let room = (served - failed - 1) / step;
            let sizes: Vec<u64> = (1..=room.min(threads)).map(|n| served - n * step).collect();
            match sizes.par_iter().position_first(|size| self.attempt(*size).is_err()) {
                Some(n) => {
                    return (if n == 0 { served } else { sizes[n - 1] }, sizes[n]);
                }
                None => served = sizes[sizes.len() - 1],
            }
        }
        (served, failed)
    }
}
