//! Creating a trace, operation by operation. The invariants of a trace are checked here and nowhere
//! else.

use crate::format::{FROM, MAX_QUOTE, quoted};
use crate::limits::Limits;
use crate::trace::{Action, Figures, Operation, Requester, Trace};
use cma_api::{PageRange, Pages};
use cma_framework::ChunkRequest;
use cma_framework::config::Bytes;
use cma_framework::errors::InvalidRequest;
use std::collections::HashMap;
use std::num::NonZeroU64;

/// The most operations of a trace, so that other input can't fill memory. While a trace is read, an
/// operation takes at most 32 bytes in the trace, 8 in the table of chunks, and 51 in the table of
/// ids while that grows. All operations together take less than 512 MiB.
pub(crate) const MAX_OPERATIONS: usize = 1 << 22;

/// Bytes of the table of ids for each operation while the table doubles: 17 for each slot, and 3
/// slots for each id while the old and the new table exist.
const ID: usize = 51;

const _: () = assert!(
    MAX_OPERATIONS * (size_of::<Operation>() + size_of::<Option<NonZeroU64>>() + ID) <= 512 << 20,
    "reading a trace takes more memory than documented"
);

/// The longest `device/type` and the longest list of regions, in bytes.
const MAX_NAME: usize = 255;

/// A trace that is being recorded.
#[derive(Debug)]
pub struct Recording {
    trace: Trace,
    /// The index of each requester in the trace, by its text.
    requesters: HashMap<String, u16>,
    /// The index of each set of limits in the trace, except no limits.
    limits: HashMap<Limits, u16>,
    /// The size in bytes of each chunk that was allocated; `None` once it was freed.
    chunks: Vec<Option<NonZeroU64>>,
    live: LiveTotals,
}

/// A request as a trace has it.
struct Asked {
    size: NonZeroU64,
    alignment: u64,
    requester: u16,
    limits: u16,
}

#[derive(Debug, Default)]
struct LiveTotals {
    bytes: u64,
    pages: u64,
    chunks: u64,
}

/// The reason why an operation can't be part of a trace. The recording is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// It is earlier than the operation before it.
    #[error(
        "expected a time of {last_us} us or later, found {time_us}: operations are in order of time"
    )]
    BackInTime {
        /// Its time in microseconds.
        time_us: u64,
        /// The time of the operation before it.
        last_us: u64,
    },
    /// Size 0.
    #[error("expected a size of 1 byte or more, found 0")]
    NoSize,
    /// Together with the live chunks it exceeds the address space.
    #[error("{bytes} more bytes, rounded up to pages, exceed a 64-bit address space")]
    TooLarge {
        /// Its size in bytes.
        bytes: u64,
    },
    /// The alignment is not a power of two.
    #[error("expected an alignment that is a power of two, found {bytes}")]
    Alignment {
        /// The alignment in bytes.
        bytes: u64,
    },
    /// The limits contradict each other or the request.
    #[error(transparent)]
    Limits(InvalidRequest),
    /// Not `device` or `device/type`.
    #[error(
        "expected device or device/type, up to 255 bytes without white space, found \"{}\"",
        quoted(found)
    )]
    BadRequester {
        /// The text, shortened.
        found: String,
    },
    /// Not a list of regions.
    #[error(
        "expected up to 255 bytes of region names, separated by commas, found \"{}\"",
        quoted(found)
    )]
    BadRegions {
        /// The text, shortened.
        found: String,
    },
    /// The chunk that is freed is not live.
    #[error("the chunk is not live")]
    NotLive,
    /// The trace has the most operations.
    #[error("a trace holds up to {MAX_OPERATIONS} operations")]
    TooManyOperations,
    /// The trace has the most requesters.
    #[error("a trace holds up to {} sets of device, type and named regions", 1 << 16)]
    TooManyRequesters,
    /// The trace has the most different limits.
    #[error("a trace holds up to {} different sets of limits", 1 << 16)]
    TooManyLimits,
}

impl Recording {
    /// An empty recording. `source` describes in one line what is recorded; control characters in
    /// it become spaces.
    pub fn new(source: &str) -> Self {
        let source = one_line(source);
        Recording {
            trace: Trace {
                source,
                requesters: Vec::new(),
                limits: vec![Limits::NONE],
                operations: Vec::new(),
                figures: Figures::default(),
                peak_live: Pages::ZERO,
            },
            requesters: HashMap::new(),
            limits: HashMap::new(),
            chunks: Vec::new(),
            live: LiveTotals::default(),
        }
    }

    /// Records that `requester`, written as `device[/type] [from=REGION[,REGION...]]`, got a chunk
    /// of `size` bytes at a multiple of `alignment` bytes, at `time_us`. Returns the chunk's
    /// number, counted from 0.
    ///
    /// # Errors
    ///
    /// [`RecordError`], for an operation that is not allowed in a trace.
    pub fn allocate(
        &mut self,
        time_us: u64,
        size: u64,
        alignment: u64,
        requester: &str,
    ) -> Result<u32, RecordError> {
        let request = ChunkRequest::new(Bytes(size)).aligned(Bytes(alignment));
        self.allocate_limited(time_us, &request, requester)
    }

    /// As [`allocate`](Self::allocate), for a request that may have limits. A time to wait is
    /// rounded up to whole microseconds.
    ///
    /// # Errors
    ///
    /// [`RecordError`], for an operation that is not allowed in a trace.
    pub fn allocate_limited(
        &mut self,
        time_us: u64,
        request: &ChunkRequest,
        requester: &str,
    ) -> Result<u32, RecordError> {
        let pages = self.live.pages.saturating_add(Pages::covering(request.size.0).get());
        let Asked { size, alignment, requester, limits } =
            self.request(time_us, request, requester, pages)?;
        #[allow(clippy::cast_possible_truncation, reason = "fewer than MAX_OPERATIONS")]
        let chunk = self.chunks.len() as u32;
        self.chunks.push(Some(size));
        let size = size.get();
        self.live.pages = pages;
        self.live.bytes += size;
        self.live.chunks += 1;
        let Trace { figures, peak_live, .. } = &mut self.trace;
        *peak_live = (*peak_live).max(Pages::new(pages));
        figures.peak_live_bytes = figures.peak_live_bytes.max(self.live.bytes);
        figures.peak_live_chunks = figures.peak_live_chunks.max(self.live.chunks);
        self.push(time_us, Action::Allocate { size, alignment, requester, limits });
        Ok(chunk)
    }

    /// Records that the recorded system refused `request` of `requester` at `time_us`. A time to
    /// wait is rounded up to whole microseconds.
    ///
    /// # Errors
    ///
    /// [`RecordError`], for an operation that is not allowed in a trace.
    pub fn refuse(
        &mut self,
        time_us: u64,
        request: &ChunkRequest,
        requester: &str,
    ) -> Result<(), RecordError> {
        let pages = Pages::covering(request.size.0).get();
        let Asked { size, alignment, requester, limits } =
            self.request(time_us, request, requester, pages)?;
        let size = size.get();
        self.push(time_us, Action::Refused { size, alignment, requester, limits });
        Ok(())
    }

    /// The parts of a request, which takes `pages` together with what is live, as the trace has
    /// them. The recording is unchanged, but for what it knows of requesters and limits.
    fn request(
        &mut self,
        time_us: u64,
        request: &ChunkRequest,
        requester: &str,
        pages: u64,
    ) -> Result<Asked, RecordError> {
        let (Bytes(size), Bytes(alignment)) = (request.size, request.alignment);
        self.check_next(time_us)?;
        let nonzero = NonZeroU64::new(size).ok_or(RecordError::NoSize)?;
        if !alignment.is_power_of_two() {
            return Err(RecordError::Alignment { bytes: alignment });
        }
        if pages >= PageRange::ADDRESS_SPACE_PAGES {
            return Err(RecordError::TooLarge { bytes: size });
        }
        request.check().map_err(RecordError::Limits)?;
        let limits = self.limits_index(request)?;
        let requester = self.requester(requester)?;
        Ok(Asked { size: nonzero, alignment, requester, limits })
    }

    /// Records that chunk number `chunk` was freed at `time_us`.
    ///
    /// # Errors
    ///
    /// [`RecordError::NotLive`] and others.
    pub fn free(&mut self, time_us: u64, chunk: u32) -> Result<(), RecordError> {
        self.check_next(time_us)?;
        let size = self
            .chunks
            .get_mut(chunk as usize)
            .and_then(Option::take)
            .ok_or(RecordError::NotLive)?;
        let size = size.get();
        self.live.pages -= Pages::covering(size).get();
        self.live.bytes -= size;
        self.live.chunks -= 1;
        self.push(time_us, Action::Free { chunk });
        Ok(())
    }

    /// Returns the trace.
    pub fn finish(self) -> Trace {
        self.trace
    }

    fn check_next(&self, time_us: u64) -> Result<(), RecordError> {
        let last_us = self.trace.operations.last().map_or(0, |last| last.time_us);
        if time_us < last_us {
            Err(RecordError::BackInTime { time_us, last_us })
        } else if self.trace.operations.len() == MAX_OPERATIONS {
            Err(RecordError::TooManyOperations)
        } else {
            Ok(())
        }
    }

    fn push(&mut self, time_us: u64, action: Action) {
        self.trace.operations.push(Operation { time_us, action });
        self.trace.figures.operations += 1;
    }

    /// The index of the limits of `request`, which are added if they are new.
    fn limits_index(&mut self, request: &ChunkRequest) -> Result<u16, RecordError> {
        let limits = Limits::of(request);
        if limits == Limits::NONE {
            return Ok(0);
        }
        if let Some(index) = self.limits.get(&limits) {
            return Ok(*index);
        }
        let index =
            u16::try_from(self.trace.limits.len()).map_err(|_| RecordError::TooManyLimits)?;
        self.trace.limits.push(limits);
        self.limits.insert(limits, index);
        Ok(index)
    }

    /// The index of a requester, which is added if it is new.
    fn requester(&mut self, written: &str) -> Result<u16, RecordError> {
        if let Some(index) = self.requesters.get(written) {
            return Ok(*index);
        }
        let (names, from) = match written.split_once(FROM) {
            None => (written, None),
            Some((names, regions)) => (names, Some(region_list(regions)?)),
        };
        let (device, kind) = names.split_once('/').map_or((names, None), |(d, k)| (d, Some(k)));
        if names.len() > MAX_NAME || !is_name(device) || !kind.is_none_or(is_name) {
            return Err(RecordError::BadRequester { found: shortened(names) });
        }
        let index = u16::try_from(self.trace.requesters.len())
            .map_err(|_| RecordError::TooManyRequesters)?;
        self.trace.requesters.push(Requester {
            device: device.into(),
            kind: kind.map(String::from),
            from,
        });
        self.requesters.insert(written.to_string(), index);
        Ok(index)
    }
}

/// Region names, separated by commas, or by `|` within a group.
fn region_list(written: &str) -> Result<String, RecordError> {
    match is_region_list(written) {
        true => Ok(written.to_string()),
        false => Err(RecordError::BadRegions { found: shortened(written) }),
    }
}

/// Whether a request of a trace can name these regions.
pub(crate) fn is_region_list(written: &str) -> bool {
    let is_region = |name: &str| is_name(name) && !name.contains([';', '=']);
    written.len() <= MAX_NAME && written.split([',', '|']).all(is_region)
}

/// `text` as a description or a comment.
pub(crate) fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ").trim().to_string()
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/')
}

/// The start of unexpected text, for an error.
fn shortened(text: &str) -> String {
    text.chars().take(MAX_QUOTE).collect()
}

#[cfg(test)]
mod tests;
