//! The violations that the suite can find, with the evidence and the steps that led to them.

use crate::placing::Placing;
use cma_api::{Alignment, Boundary, PageRange, Pages, Request};
use std::fmt;

/// A broken guarantee of [`Allocator`](cma_api::Allocator) or of its [`Placing`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// It refused a region that every allocator must serve.
    #[error("it refused the region: {reason}")]
    RegionRefused {
        /// The allocator's text.
        reason: String,
    },
    /// It panicked.
    #[error("it panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// It is in C, and returned what is no result, or reports that its data are broken.
    #[error("it failed: {message}")]
    Failed {
        /// The function, and what it returned.
        message: String,
    },
    /// It panicked when it was dropped.
    #[error("it panicked when it was dropped: {message}")]
    PanickedInDrop {
        /// The panic's message.
        message: String,
    },
    /// A call didn't return in time.
    #[error(
        "it has not returned from this call within {seconds} s: {call} (PROPTEST_RNG_SEED={seed})"
    )]
    Hangs {
        /// The call.
        call: Call,
        /// The time limit.
        seconds: u64,
        /// The seed of the random tests.
        seed: u64,
    },
    /// Hosts refuse its name, version or description.
    #[error("hosts refuse it, because its {what} \"{}\" {fault}", text.escape_debug())]
    BadInfo {
        /// `name`, `version` or `description`.
        what: &'static str,
        /// The text in its `INFO`.
        text: String,
        /// The reason.
        fault: &'static str,
    },
    /// A chunk does not have the requested size.
    #[error("{} pages were requested, the chunk {range} has {}", requested.get(), range.pages().get())]
    WrongSize {
        /// The request.
        requested: Pages,
        /// The chunk.
        range: PageRange,
    },
    /// A chunk is not inside the region.
    #[error("the chunk {range} is not inside the region {region}")]
    Outside {
        /// The chunk.
        range: PageRange,
        /// The region.
        region: PageRange,
    },
    /// A chunk doesn't start at a multiple of the alignment.
    #[error("the chunk {range} is not aligned to {:#x}", alignment.bytes())]
    Misaligned {
        /// The chunk.
        range: PageRange,
        /// The request.
        alignment: Alignment,
    },
    /// A chunk doesn't lie in the window of its request.
    #[error("the chunk {range} is not inside the window {window} of its request")]
    OutsideWindow {
        /// The chunk.
        range: PageRange,
        /// The request.
        window: PageRange,
    },
    /// A chunk crosses a multiple of the boundary of its request.
    #[error("the chunk {range} crosses a multiple of {:#x}", boundary.bytes().unwrap_or_default())]
    CrossesBoundary {
        /// The chunk.
        range: PageRange,
        /// The request.
        boundary: Boundary,
    },
    /// A chunk overlaps a live one.
    #[error("the chunk {range} overlaps the live chunk {live}")]
    Overlap {
        /// The new chunk.
        range: PageRange,
        /// The live chunk.
        live: PageRange,
    },
    /// It returned `NoRoom`, or no hole as the fit, although a place is free.
    #[error("it found no room, but {place} is free and serves the request")]
    NoRoomThoughFree {
        /// The lowest free place.
        place: PageRange,
    },
    /// A chunk isn't at the place that the declared rule chooses.
    #[error("{placing:?} places the chunk at {expected}, not at {range}")]
    Misplaced {
        /// The declared rule.
        placing: Placing,
        /// The allocator's place.
        range: PageRange,
        /// The rule's place.
        expected: PageRange,
    },
    /// `fit` returned a range that is not a hole (a maximal free range).
    #[error("fit returned {fit}, which is not a hole")]
    FitIsNoHole {
        /// The answer of `fit`.
        fit: PageRange,
    },
    /// `fit` returned a hole without a place for the request.
    #[error("fit returned {fit}, which has no place for the request")]
    FitWithoutAPlace {
        /// The answer of `fit`.
        fit: PageRange,
    },
    /// `fit` returned another hole than the one that `allocate` used directly afterwards.
    #[error("fit returned {}, and allocate returned {}", or_none(*fit), or_none(*place))]
    FitNotKept {
        /// The answer of `fit`.
        fit: Option<PageRange>,
        /// The chunk.
        place: Option<PageRange>,
    },
    /// Calls of `fit` changed the result of a later operation, or the largest request after it.
    #[error(
        "without the calls of fit before it, operation {operation} returns {}, and the largest \
         request then has {} pages; with them {}, and {} pages",
        or_none(without.0), without.1.get(), or_none(with.0), with.1.get()
    )]
    FitChangedSomething {
        /// The number of the operation, from 1 on and without calls of `fit`.
        operation: usize,
        /// The chunk that it placed, adopted or freed with calls of `fit` before, and the largest
        /// request after it.
        with: (Option<PageRange>, Pages),
        /// The same without calls of `fit`.
        without: (Option<PageRange>, Pages),
    },
    /// It refused to free a live chunk.
    #[error("it refused to free the live chunk {range}")]
    FreeRefused {
        /// The chunk.
        range: PageRange,
    },
    /// It refused to adopt a free range that it must adopt.
    #[error("it refused to adopt the free range {range}: {reason}")]
    AdoptRefused {
        /// The range.
        range: PageRange,
        /// The allocator's text.
        reason: String,
    },
    /// It refused without a reason for the user.
    #[error("it gave no reason for refusing")]
    NoReason,
    /// The reported holes are not those of the model.
    #[error("hole {position}: it reports {}, the model has {}", or_none(*reported), or_none(*actual))]
    Holes {
        /// The index of the first difference.
        position: usize,
        /// The allocator's hole.
        reported: Option<PageRange>,
        /// The model's hole.
        actual: Option<PageRange>,
    },
    /// The reported largest request is impossible, or less than an exact allocator serves.
    #[error("it reports a largest request of {} pages, the largest hole has {}", reported.get(), hole.get())]
    LargestRequest {
        /// The allocator's result.
        reported: Pages,
        /// The model's largest hole.
        hole: Pages,
    },
    /// A request for as many pages as the reported largest request failed.
    #[error("it reports a largest request of {} pages, and refused it", reported.get())]
    LargestRequestNotServed {
        /// The allocator's result.
        reported: Pages,
    },
    /// A request for more pages than the reported largest request succeeded.
    #[error("it reports a largest request of {} pages, and served one of {}", reported.get(), served.get())]
    LargestRequestExceeded {
        /// The allocator's result.
        reported: Pages,
        /// The request that succeeded.
        served: Pages,
    },
    /// With all chunks freed its largest request is not what it was when it was new.
    #[error("its largest request was {} pages when it was new, and is {} with all chunks freed", new.get(), now.get())]
    NotAsNew {
        /// The largest request when it was new.
        new: Pages,
        /// The largest request now.
        now: Pages,
    },
    /// It refuses a single page of an empty region.
    #[error("the region is empty, and it refuses a single page")]
    ServesNothing,
    /// Its own check of its invariants failed.
    #[error("its own check failed: {broken}")]
    Check {
        /// The allocator's text.
        broken: String,
    },
    /// It accepted an unknown parameter.
    #[error("it accepted the unknown parameter in \"{params}\"")]
    ParameterAccepted {
        /// The parameters.
        params: String,
    },
    /// It refused an unknown parameter without naming it.
    #[error("its refusal of \"{params}\" doesn't name the parameter: {reason}")]
    ParameterNotNamed {
        /// The parameters.
        params: String,
        /// The allocator's text.
        reason: String,
    },
}

impl Violation {
    /// The name of the variant.
    pub fn kind(&self) -> String {
        let debug = format!("{self:?}");
        debug.chars().take_while(|letter| letter.is_alphanumeric()).collect()
    }
}

fn or_none(hole: Option<PageRange>) -> String {
    hole.map_or("none".to_string(), |hole| hole.to_string())
}

/// A call of an allocator with its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A request and the place of its chunk, or `None` for no room.
    Allocate(Request, Option<PageRange>),
    /// A request and the hole in which it would be placed, or `None`.
    Fit(Request, Option<PageRange>),
    /// A chunk that was freed.
    Free(PageRange),
    /// A range to adopt, and whether it was adopted.
    Adopt(PageRange, bool),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Step::Allocate(request, Some(range)) => {
                write!(f, "{} -> {range}", Call::Allocate(request))
            }
            Step::Allocate(request, None) => write!(f, "{} -> no room", Call::Allocate(request)),
            Step::Fit(request, hole) => write!(f, "{} -> {}", Call::Fit(request), or_none(hole)),
            Step::Free(range) => write!(f, "{}", Call::Free(range)),
            Step::Adopt(range, true) => write!(f, "{}", Call::Adopt(range)),
            Step::Adopt(range, false) => write!(f, "{} -> refused", Call::Adopt(range)),
        }
    }
}

/// A call of an allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `new`, on the failure's region.
    New,
    /// `allocate`.
    Allocate(Request),
    /// `fit`.
    Fit(Request),
    /// `free`, of a live chunk.
    Free(PageRange),
    /// `adopt`.
    Adopt(PageRange),
    /// `holes`.
    Holes,
    /// `largest_request`.
    LargestRequest,
    /// `check`.
    Check,
    /// `drop`.
    Drop,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Call::New => f.write_str("new"),
            Call::Allocate(request) => write!(f, "allocate {}", Asked(request)),
            Call::Fit(request) => write!(f, "fit {}", Asked(request)),
            Call::Free(range) => write!(f, "free {range}"),
            Call::Adopt(range) => write!(f, "adopt {range}"),
            Call::Holes => f.write_str("holes"),
            Call::LargestRequest => f.write_str("largest_request"),
            Call::Check => f.write_str("check"),
            Call::Drop => f.write_str("drop"),
        }
    }
}

/// A request, in the words of a failure.
struct Asked<'a>(&'a Request);

impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let request = self.0;
        write!(f, "{:#x} aligned {:#x}", request.pages().bytes(), request.alignment().bytes())?;
        if request.window() != PageRange::ADDRESS_SPACE {
            write!(f, " in {}", request.window())?;
        }
        if let Some(boundary) = request.boundary().bytes() {
            write!(f, " boundary {boundary:#x}")?;
        }
        match request.asker().0 {
            0 => Ok(()),
            asker => write!(f, " for requester {asker}"),
        }
    }
}

/// A violation and the steps that led to it. The last step caused it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The allocator's name.
    pub allocator: &'static str,
    /// The allocator's region.
    pub region: PageRange,
    /// The calls and their results, in order.
    pub steps: Vec<Step>,
    /// The violation.
    pub violation: Box<Violation>,
}

impl Failure {
    /// The number of last steps that are shown.
    const SHOWN: usize = 40;
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "allocator \"{}\" on the region {}:", self.allocator, self.region)?;
        let hidden = self.steps.len().saturating_sub(Self::SHOWN);
        if hidden > 0 {
            writeln!(f, "    ({hidden} steps before)")?;
        }
        for (i, step) in self.steps.iter().enumerate().skip(hidden) {
            writeln!(f, "{:5}. {step}", i + 1)?;
        }
        write!(f, "{}", self.violation)
    }
}

impl std::error::Error for Failure {}
