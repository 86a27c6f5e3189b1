//! What an allocator can do wrong, with the evidence, and the story of how it came to it.

use crate::placing::Placing;
use cma_api::{Alignment, PageRange, Pages, Request};
use std::fmt;

/// A promise of [`Allocator`](cma_api::Allocator) or of its [`Placing`] that was not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// It can't serve a region that every allocator must.
    #[error("it refused the region: {reason}")]
    RegionRefused {
        /// What it said.
        reason: String,
    },
    /// It panicked.
    #[error("it panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// It panicked when it was dropped.
    #[error("it panicked when it was dropped: {message}")]
    PanickedInDrop {
        /// The panic's message.
        message: String,
    },
    /// A call doesn't return.
    #[error(
        "it has not returned from this call within {seconds} s: {call} (PROPTEST_RNG_SEED={seed})"
    )]
    Hangs {
        /// What was asked of it.
        call: Call,
        /// How long the suite waited.
        seconds: u64,
        /// The seed of the random tests.
        seed: u64,
    },
    /// Hosts refuse what it says of itself.
    #[error("hosts refuse it, because its {what} \"{}\" {fault}", text.escape_debug())]
    BadInfo {
        /// `name`, `version` or `description`.
        what: &'static str,
        /// What stands in its `INFO`.
        text: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A chunk is not of the size that was asked for.
    #[error("{} pages were asked for, the chunk {range} has {}", asked.get(), range.pages().get())]
    WrongSize {
        /// The request.
        asked: Pages,
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
    /// A chunk lies over a live one.
    #[error("the chunk {range} lies over the live chunk {live}")]
    Overlap {
        /// The new chunk.
        range: PageRange,
        /// The live chunk.
        live: PageRange,
    },
    /// It found no room, and there is some.
    #[error("it has no room, but {place} is free and aligned")]
    NoRoomThoughFree {
        /// The lowest place there is.
        place: PageRange,
    },
    /// A chunk isn't where the declared rule puts it.
    #[error("{placing:?} puts the chunk at {is}, not at {range}")]
    Misplaced {
        /// The declared rule.
        placing: Placing,
        /// Where the allocator put it.
        range: PageRange,
        /// Where the rule puts it.
        is: PageRange,
    },
    /// It wouldn't take back a live chunk.
    #[error("it calls the live chunk {range} none of its own")]
    FreeRefused {
        /// The chunk.
        range: PageRange,
    },
    /// It wouldn't adopt a free range that it must.
    #[error("it wouldn't adopt the free range {range}: {reason}")]
    AdoptRefused {
        /// The range.
        range: PageRange,
        /// What it said.
        reason: String,
    },
    /// It refused without a word to the user.
    #[error("it gave no reason for refusing")]
    NoReason,
    /// The holes it tells of are not the holes there are.
    #[error("hole {position}: it tells of {}, the model has {}", or_none(*told), or_none(*is))]
    Holes {
        /// The index of the first difference.
        position: usize,
        /// The allocator's hole.
        told: Option<PageRange>,
        /// The model's hole.
        is: Option<PageRange>,
    },
    /// The largest hole it tells of can't be.
    #[error("it tells of a largest hole of {} pages, the model has {}", told.get(), is.get())]
    LargestRequest {
        /// The allocator's answer.
        told: Pages,
        /// The model's.
        is: Pages,
    },
    /// A request for as many pages as it says it could serve failed.
    #[error("it said that {} pages could be had, and they couldn't", told.get())]
    LargestRequestNotServed {
        /// The allocator's answer.
        told: Pages,
    },
    /// A request for more pages than it says it could serve succeeded.
    #[error("it said that at most {} pages could be had, and {} could", told.get(), served.get())]
    LargestRequestExceeded {
        /// The allocator's answer.
        told: Pages,
        /// The request that succeeded.
        served: Pages,
    },
    /// With every chunk back it can't serve what it could when it was new.
    #[error("new it could serve {} pages at once, empty again {}", new.get(), now.get())]
    NotAsNew {
        /// The largest hole when it was new.
        new: Pages,
        /// The largest hole now.
        now: Pages,
    },
    /// It doesn't serve a single page of an empty region.
    #[error("the region is empty, and it has no room for a single page")]
    ServesNothing,
    /// Its own check of its invariants failed.
    #[error("its own check failed: {broken}")]
    Check {
        /// What it said.
        broken: String,
    },
    /// It was initialised with a parameter it can't know.
    #[error("it accepted the unknown parameter in \"{params}\"")]
    ParameterAccepted {
        /// The parameters.
        params: String,
    },
    /// It refused an unknown parameter without saying which.
    #[error("refusing \"{params}\" it didn't name the parameter: {reason}")]
    ParameterNotNamed {
        /// The parameters.
        params: String,
        /// What it said.
        reason: String,
    },
}

fn or_none(hole: Option<PageRange>) -> String {
    hole.map_or("none".to_string(), |hole| hole.to_string())
}

/// One thing that was asked of an allocator, and the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A request and where its chunk went, or that there was no room.
    Allocate(Request, Option<PageRange>),
    /// A chunk that was handed back.
    Free(PageRange),
    /// A range to adopt and whether it was.
    Adopt(PageRange, bool),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Step::Allocate(request, Some(range)) => {
                write!(f, "{} -> {range}", Call::Allocate(request))
            }
            Step::Allocate(request, None) => write!(f, "{} -> no room", Call::Allocate(request)),
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
            Call::Allocate(request) => {
                let (size, alignment) = (request.pages().bytes(), request.alignment().bytes());
                write!(f, "allocate {size:#x} aligned {alignment:#x}")?;
                match request.asker().0 {
                    0 => Ok(()),
                    asker => write!(f, " for asker {asker}"),
                }
            }
            Call::Free(range) => write!(f, "free {range}"),
            Call::Adopt(range) => write!(f, "adopt {range}"),
            Call::Holes => f.write_str("holes"),
            Call::LargestRequest => f.write_str("largest_request"),
            Call::Check => f.write_str("check"),
            Call::Drop => f.write_str("drop"),
        }
    }
}

/// A violation and the steps that led to it, the last of which it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The allocator's name.
    pub allocator: &'static str,
    /// The region it worked on.
    pub region: PageRange,
    /// What was asked of it, in order.
    pub steps: Vec<Step>,
    /// What it did wrong.
    pub violation: Box<Violation>,
}

impl Failure {
    /// How many of the last steps are shown.
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
