//! What an allocator did with a trace: the lives of all chunks, the refused requests, and the free
//! memory after each operation.

use crate::free::FreeRanges;
use crate::layout::{Layout, Placed, Request};
use crate::text;
use cma_analysis::{Allocator, Outcome, Run};
use cma_framework::errors::RegisterError;
use cma_framework::{PageRange, Pages};
use cma_trace::{Action, Requester, Trace};

/// The run of a trace on one allocator in one region.
#[derive(Clone, Debug)]
pub struct History<'t> {
    trace: &'t Trace,
    allocator: String,
    range: PageRange,
    chunks: Vec<Life>,
    refused: Vec<usize>,
    levels: Vec<Level>,
}

/// The life of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Its pages.
    pub range: PageRange,
    /// Its requester: an index into [`Trace::requesters`].
    pub requester: u16,
    /// The operation that allocated it: an index into [`Trace::operations`].
    pub from: usize,
    /// The operation that freed it; `None` if none does.
    pub until: Option<usize>,
}

/// The free memory after an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// The free bytes.
    pub free_bytes: u64,
    /// The largest free range in bytes.
    pub largest_free_bytes: u64,
}

/// A moment of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Moment {
    /// After the last operation up to this time in microseconds.
    Time(u64),
    /// After the operation of this index.
    Operation(usize),
    /// When a request is refused for the first time.
    FirstRefusal,
    /// When most free bytes are outside the largest free range.
    WorstFragmentation,
}

/// A moment that a trace doesn't have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoMoment {
    /// The trace is empty.
    #[error("the trace has no operation")]
    Empty,
    /// It has not begun.
    #[error("the trace begins later, at {first_us}us")]
    BeforeStart {
        /// The time of its first operation in microseconds.
        first_us: u64,
    },
    /// It is over.
    #[error("the trace ends earlier, at {last_us}us")]
    AfterEnd {
        /// The time of its last operation in microseconds.
        last_us: u64,
    },
    /// It has fewer operations.
    #[error("the last operation of the trace is number {operations}")]
    NoOperation {
        /// The number of its operations.
        operations: usize,
    },
    /// No request is refused.
    #[error("{allocator} refuses no request")]
    NothingRefused {
        /// The allocator.
        allocator: String,
    },
}

impl<'t> History<'t> {
    /// Runs `trace` on a new instance of `allocator` in the region `range`.
    ///
    /// # Errors
    ///
    /// [`RegisterError`] when the region is no region, or the allocator refuses it.
    pub fn of(
        trace: &'t Trace,
        allocator: &Allocator,
        range: PageRange,
    ) -> Result<History<'t>, RegisterError> {
        let mut run = Run::new(trace, allocator, range)?;
        let mut free = FreeRanges::of(range);
        let mut history = History {
            trace,
            allocator: allocator.to_string(),
            range,
            chunks: Vec::new(),
            refused: Vec::new(),
            levels: Vec::with_capacity(trace.operations().len()),
        };
        // By the chunk's number in the trace: its index in `chunks`, if it got memory.
        let mut index_of: Vec<Option<usize>> = Vec::new();
        while let Some(step) = run.step() {
            match (trace.operations()[step.operation].action, step.outcome) {
                (Action::Allocate { requester, .. }, Outcome::Placed(range)) => {
                    free.take(range);
                    index_of.push(Some(history.chunks.len()));
                    history.chunks.push(Life {
                        range,
                        requester,
                        from: step.operation,
                        until: None,
                    });
                }
                (Action::Allocate { .. }, _) => {
                    index_of.push(None);
                    history.refused.push(step.operation);
                }
                (Action::Refused { .. }, Outcome::Refused(_)) => {
                    history.refused.push(step.operation);
                }
                (Action::Free { chunk }, _) => {
                    if let Some(index) = index_of[chunk as usize] {
                        let life = &mut history.chunks[index];
                        life.until = Some(step.operation);
                        free.give(life.range);
                    }
                }
                (Action::Refused { .. }, _) => {}
            }
            history.levels.push(Level {
                free_bytes: Pages::new(free.pages()).bytes(),
                largest_free_bytes: Pages::new(free.largest_pages()).bytes(),
            });
        }
        Ok(history)
    }

    /// The trace.
    pub fn trace(&self) -> &'t Trace {
        self.trace
    }

    /// The allocator.
    pub fn allocator(&self) -> &str {
        &self.allocator
    }

    /// The region.
    pub fn range(&self) -> PageRange {
        self.range
    }

    /// All chunks, in the order of allocation.
    pub fn chunks(&self) -> &[Life] {
        &self.chunks
    }

    /// The operations whose requests were refused, as indices into [`Trace::operations`].
    pub fn refused(&self) -> &[usize] {
        &self.refused
    }

    /// The free memory after each operation.
    pub fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// The moment that shows most: the first refusal, or else the worst fragmentation; `None` for a
    /// trace in which all free memory is always one range.
    pub fn telling_moment(&self) -> Option<usize> {
        self.refused.first().copied().or_else(|| self.worst().filter(|&it| self.apart(it) > 0))
    }

    /// The operation after which it is `moment`.
    ///
    /// # Errors
    ///
    /// [`NoMoment`].
    pub fn operation_at(&self, moment: Moment) -> Result<usize, NoMoment> {
        let operations = self.trace.operations();
        let (Some(first), Some(last)) = (operations.first(), operations.last()) else {
            return Err(NoMoment::Empty);
        };
        match moment {
            Moment::Time(us) if us < first.time_us => {
                Err(NoMoment::BeforeStart { first_us: first.time_us })
            }
            Moment::Time(us) if us > last.time_us => {
                Err(NoMoment::AfterEnd { last_us: last.time_us })
            }
            Moment::Time(us) => Ok(operations.partition_point(|it| it.time_us <= us) - 1),
            Moment::Operation(index) if index >= operations.len() => {
                Err(NoMoment::NoOperation { operations: operations.len() })
            }
            Moment::Operation(index) => Ok(index),
            Moment::FirstRefusal => self
                .refused
                .first()
                .copied()
                .ok_or_else(|| NoMoment::NothingRefused { allocator: self.allocator.clone() }),
            Moment::WorstFragmentation => Ok(self.worst().unwrap_or(0)),
        }
    }

    /// The region after `operation`.
    pub fn layout_at(&self, operation: usize) -> Layout {
        let operations = self.trace.operations();
        let until = operations.get(operation).map_or(0, |it| it.time_us);
        let is_live =
            |it: &&Life| it.from <= operation && it.until.is_none_or(|until| until > operation);
        let placed = |life: &Life| {
            let requester = &self.trace.requesters()[usize::from(life.requester)];
            let age = until.saturating_sub(operations[life.from].time_us);
            Placed {
                range: life.range,
                device: requester.device.clone(),
                detail: format!("{requester}, for {}", text::time(age)),
            }
        };
        let refused = self.refused.binary_search(&operation).is_ok();
        let request = refused.then(|| self.request(operation)).flatten();
        let chunks = self.chunks.iter().filter(is_live).map(placed).collect();
        let name = match operations.get(operation) {
            Some(it) => {
                let number = text::grouped(operation as u64 + 1);
                format!("{} at {}, operation {number}", self.allocator, text::time(it.time_us))
            }
            None => self.allocator.clone(),
        };
        Layout::new(name, self.range, chunks).refusing(request)
    }

    /// The request of `operation`.
    fn request(&self, operation: usize) -> Option<Request> {
        match self.trace.operations()[operation].action {
            Action::Allocate { size, alignment, requester, limits }
            | Action::Refused { size, alignment, requester, limits } => {
                let requester = &self.trace.requesters()[usize::from(requester)];
                // All is one region here, whichever the request names.
                let requester = Requester { from: None, ..requester.clone() };
                let request = self.trace.limits()[usize::from(limits)].request(size, alignment);
                Some(Request { bytes: request.size.0, requester: requester.to_string() })
            }
            Action::Free { .. } => None,
        }
    }

    /// The first operation after which most free bytes are outside the largest free range.
    fn worst(&self) -> Option<usize> {
        (0..self.levels.len()).max_by_key(|&it| (self.apart(it), std::cmp::Reverse(it)))
    }

    /// The free bytes outside the largest free range.
    fn apart(&self, operation: usize) -> u64 {
        let Level { free_bytes, largest_free_bytes } = self.levels[operation];
        free_bytes.saturating_sub(largest_free_bytes)
    }
}
