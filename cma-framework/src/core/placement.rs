//! Judges an allocator's answers: which placement the framework accepts, and which answer takes the
//! allocator out of service.

use crate::vocabulary::errors::Misplacement;
use cma_api::v1::CallFailure;
use cma_api::{PageRange, Pages, Request};
use std::fmt;

/// Checks the size, the place and the alignment of `placed`, with which an allocator of `region`
/// serves `request`. `Books::place` calls this and [`check_limits`], and checks for overlaps with
/// live chunks itself.
#[inline(always)]
pub(crate) fn check(
    placed: PageRange,
    request: &Request,
    region: PageRange,
) -> Result<(), Misplacement> {
    if placed.pages() != request.pages() {
        Err(Misplacement::WrongSize(placed))
    } else if !placed.within(region) {
        Err(Misplacement::Outside(placed))
    } else if placed.first_page() & (request.alignment().pages().get() - 1) != 0 {
        Err(Misplacement::Unaligned(placed))
    } else {
        Ok(())
    }
}

/// Checks the limits of a placement of the right size and alignment.
#[cold]
pub(crate) fn check_limits(placed: PageRange, request: &Request) -> Result<(), Misplacement> {
    if !placed.within(request.window()) {
        Err(Misplacement::OutsideWindow(placed))
    } else if !request.accepts(placed) {
        Err(Misplacement::CrossesBoundary(placed))
    } else {
        Ok(())
    }
}

/// Why no chunk was booked for a request that an allocator was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// The allocator refused, or failed.
    Failed(CallFailure),
    /// The framework refused the allocator's placement.
    Misplaced(Misplacement),
}

/// The reason why an allocator is taken out of service: a breach of its contract that the framework
/// has found, or a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AllocatorFault {
    /// It panicked in this call, or, in C, returned what is no result. The message is its own.
    Failed(AllocatorCall),
    /// It answered a request with a place that it may not hand out.
    Misplaced(Request, Misplacement),
    /// It refused to free a live chunk that it had placed or adopted.
    RefusedFree(PageRange),
    /// It refused to adopt a range that it had placed before and that was free.
    RefusedAdoption(PageRange),
    /// It reported a largest request that exceeds what is free.
    ExcessiveLargest { reported: Pages, free: Pages },
}

/// A call of an allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AllocatorCall {
    Allocate,
    Fit,
    Free(PageRange),
    Adopt,
    Check,
    LargestRequest,
    Holes,
}

impl AllocatorFault {
    /// A free of the live chunk `range` that failed.
    pub(crate) fn of_free(range: PageRange, failure: CallFailure) -> Self {
        match failure {
            CallFailure::Panicked => AllocatorFault::Failed(AllocatorCall::Free(range)),
            CallFailure::Refused => AllocatorFault::RefusedFree(range),
        }
    }
}

impl fmt::Display for AllocatorFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AllocatorFault::Failed(AllocatorCall::Allocate) => {
                f.write_str("it failed while allocating")
            }
            AllocatorFault::Failed(AllocatorCall::Fit) => {
                f.write_str("it failed while looking for a place")
            }
            AllocatorFault::Failed(AllocatorCall::Free(range)) => {
                write!(f, "it failed while freeing {range}")
            }
            AllocatorFault::Failed(AllocatorCall::Adopt) => f.write_str("it failed while adopting"),
            AllocatorFault::Failed(AllocatorCall::Check) => {
                f.write_str("it failed while checking itself")
            }
            AllocatorFault::Failed(AllocatorCall::LargestRequest) => {
                f.write_str("it failed while looking for its largest request")
            }
            AllocatorFault::Failed(AllocatorCall::Holes) => {
                f.write_str("it failed while listing its holes")
            }
            AllocatorFault::Misplaced(request, misplacement) => {
                let (bytes, alignment) = (request.pages().bytes(), request.alignment().bytes());
                write!(
                    f,
                    "it answered a request for {bytes} bytes aligned to {alignment} with \
                     {misplacement}"
                )
            }
            AllocatorFault::RefusedFree(range) => {
                write!(f, "it refused to free {range}, a live chunk of its own")
            }
            AllocatorFault::RefusedAdoption(range) => {
                write!(f, "it can't adopt {range}, which it had placed itself")
            }
            AllocatorFault::ExcessiveLargest { reported, free } => write!(
                f,
                "it reports a largest request of {} pages, but only {} are free",
                reported.get(),
                free.get()
            ),
        }
    }
}
