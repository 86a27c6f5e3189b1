//! The chunk that a client requests: size, alignment and limits.

use crate::bytes::{Reader, Writer};
use crate::malformed::Malformed;
use std::time::Duration;

/// The chunk that a client requests, with its limits (specification section 6). Whether they fit
/// together is the server's decision.
///
/// ```
/// use cma_device_protocol::ChunkRequest;
/// use std::time::Duration;
///
/// let frame = ChunkRequest::new(3 << 20)
///     .aligned(64 << 10)
///     .below(4 << 30)
///     .wait(Duration::from_secs(2));
/// assert_eq!((frame.below, frame.above), (Some(4 << 30), None));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkRequest {
    /// The size in bytes.
    pub size: u64,
    /// The alignment in bytes; 0 for a page.
    pub alignment: u64,
    /// The lowest address that the chunk may have.
    pub above: Option<u64>,
    /// One past the highest address that the chunk may have.
    pub below: Option<u64>,
    /// A power of two of which the chunk crosses no multiple, in bytes.
    pub boundary: Option<u64>,
    /// The address at which the chunk starts.
    pub at: Option<u64>,
    /// How long the request waits while there is no room. In a message it is rounded up to whole
    /// microseconds, at most 2^64 - 1 of them.
    pub wait: Option<Duration>,
}

/// The size of its fields in a message, without the flags.
pub(crate) const CHUNK_REQUEST_BYTES: usize = 7 * 8;

const ABOVE: u32 = 1 << 1;
const BELOW: u32 = 1 << 2;
const BOUNDARY: u32 = 1 << 3;
const AT: u32 = 1 << 4;

const WAIT: u32 = 1 << 5;

/// The flags of the limits that a request can have.
pub(crate) const LIMIT_FLAGS: u32 = ABOVE | BELOW | BOUNDARY | AT | WAIT;

impl ChunkRequest {
    /// A chunk of `size` bytes anywhere, without a wait.
    pub const fn new(size: u64) -> Self {
        ChunkRequest {
            size,
            alignment: 0,
            above: None,
            below: None,
            boundary: None,
            at: None,
            wait: None,
        }
    }

    /// The chunk starts at a multiple of `alignment` bytes, a power of two; 0 for a page.
    #[must_use]
    pub const fn aligned(self, alignment: u64) -> Self {
        ChunkRequest { alignment, ..self }
    }

    /// The chunk lies at `start` or above.
    #[must_use]
    pub const fn above(self, start: u64) -> Self {
        ChunkRequest { above: Some(start), ..self }
    }

    /// The chunk lies below `end`, as a device with a DMA mask needs it.
    #[must_use]
    pub const fn below(self, end: u64) -> Self {
        ChunkRequest { below: Some(end), ..self }
    }

    /// The chunk crosses no multiple of `boundary` bytes, a power of two.
    #[must_use]
    pub const fn boundary(self, boundary: u64) -> Self {
        ChunkRequest { boundary: Some(boundary), ..self }
    }

    /// The chunk starts at `start`.
    #[must_use]
    pub const fn at(self, start: u64) -> Self {
        ChunkRequest { at: Some(start), ..self }
    }

    /// The request waits for up to `wait` while there is no room.
    #[must_use]
    pub const fn wait(self, wait: Duration) -> Self {
        ChunkRequest { wait: Some(wait), ..self }
    }

    /// The limits in the order of the message, with their flags.
    fn limits(&self) -> [(u32, Option<u64>); 5] {
        let micros = |wait: Duration| wait.as_nanos().div_ceil(1000);
        let wait = self.wait.map(|wait| u64::try_from(micros(wait)).unwrap_or(u64::MAX));
        [
            (ABOVE, self.above),
            (BELOW, self.below),
            (BOUNDARY, self.boundary),
            (AT, self.at),
            (WAIT, wait),
        ]
    }

    /// The flags of its limits.
    pub(crate) fn flags(&self) -> u32 {
        let set = self.limits().into_iter().filter(|(_, limit)| limit.is_some());
        set.fold(0, |flags, (flag, _)| flags | flag)
    }

    pub(crate) fn write(&self, body: &mut Writer<'_>) {
        body.u64s([self.size, self.alignment]);
        body.u64s(self.limits().map(|(_, limit)| limit.unwrap_or(0)));
    }

    /// Reads a request whose limits have these `flags`.
    pub(crate) fn read(body: &mut Reader<'_>, flags: u32) -> Result<Self, Malformed> {
        let [size, alignment, above, below, boundary, at, wait] = body.u64s()?;
        let limit = |flag, value| match (flags & flag != 0, value) {
            (true, value) => Ok(Some(value)),
            (false, 0) => Ok(None),
            (false, _) => Err(Malformed::Unset),
        };
        Ok(ChunkRequest {
            size,
            alignment,
            above: limit(ABOVE, above)?,
            below: limit(BELOW, below)?,
            boundary: limit(BOUNDARY, boundary)?,
            at: limit(AT, at)?,
            wait: limit(WAIT, wait)?.map(Duration::from_micros),
        })
    }
}
