//! What a journal records.

use std::fmt;

/// Identifies a live record of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(pub(crate) u64);

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identifies a connection for as long as it lives, over all servers that serve it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionNumber(pub u64);

/// The bytes from `start` on; `start + size` is at most 2^64 - 1, and `size` isn't 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    start: u64,
    size: u64,
}

impl Span {
    /// The `size` bytes from `start` on. `None` when there are none, or when they exceed the
    /// address space.
    pub const fn new(start: u64, size: u64) -> Option<Self> {
        match start.checked_add(size) {
            Some(_) if size > 0 => Some(Span { start, size }),
            _ => None,
        }
    }

    /// The address of the first byte.
    pub const fn start(self) -> u64 {
        self.start
    }

    /// The size in bytes.
    pub const fn size(self) -> u64 {
        self.size
    }
}

/// One fact that a new server has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A region.
    Region(Region),
    /// A live chunk.
    Chunk(Chunk),
    /// A request that waits for room.
    Waiting(Waiting),
    /// A request that was carried out.
    Answered(Answered),
    /// A text of the configuration.
    Configuration(Configuration),
    /// Memory that is set aside.
    SetAside(SetAside),
}

/// The kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// [`Record::Region`].
    Region,
    /// [`Record::Chunk`].
    Chunk,
    /// [`Record::Waiting`].
    Waiting,
    /// [`Record::Answered`].
    Answered,
    /// [`Record::Configuration`].
    Configuration,
    /// [`Record::SetAside`].
    SetAside,
}

impl Kind {
    const ALL: [Kind; 6] = [
        Kind::Region,
        Kind::Chunk,
        Kind::Waiting,
        Kind::Answered,
        Kind::Configuration,
        Kind::SetAside,
    ];

    /// Its number in the head of a slot, which is the same in all versions.
    pub(crate) fn number(self) -> u32 {
        match self {
            Kind::Region => 1,
            Kind::Chunk => 2,
            Kind::Waiting => 4,
            Kind::Answered => 5,
            Kind::Configuration => 6,
            Kind::SetAside => 7,
        }
    }

    pub(crate) fn from_number(number: u32) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::Region => "region",
            Kind::Chunk => "chunk",
            Kind::Waiting => "request that waits",
            Kind::Answered => "request that was answered",
            Kind::Configuration => "text of the configuration",
            Kind::SetAside => "memory that is set aside",
        })
    }
}

impl Record {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Record::Region(_) => Kind::Region,
            Record::Chunk(_) => Kind::Chunk,
            Record::Waiting(_) => Kind::Waiting,
            Record::Answered(_) => Kind::Answered,
            Record::Configuration(_) => Kind::Configuration,
            Record::SetAside(_) => Kind::SetAside,
        }
    }
}

/// A region, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its name; `None` for a private region.
    pub name: Option<String>,
    /// Its place.
    pub range: Span,
    /// The name of the allocator that serves it, as changed last; `None` for none.
    pub allocator: Option<String>,
    /// The parameters of the region, for its allocator.
    pub params: String,
    /// The kind of its memory, such as `memfd`; `None` for a region that has addresses alone.
    pub memory: Option<String>,
}

/// The process that made a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its user ID.
    pub uid: u32,
    /// Its process ID.
    pub pid: u32,
    /// Its name; empty if unknown.
    pub name: String,
}

/// The size, the alignment and the limits of a request, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The size.
    pub size: u64,
    /// The alignment; 0 for a page.
    pub alignment: u64,
    /// The lowest address.
    pub above: Option<u64>,
    /// One past the highest address.
    pub below: Option<u64>,
    /// The chunk crosses no multiple of this.
    pub boundary: Option<u64>,
    /// The exact address.
    pub at: Option<u64>,
}

/// A live chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its place.
    pub range: Span,
    /// The request that it serves.
    pub request: Limits,
    /// Device and type of the request; `None` when it named regions.
    pub device: Option<(String, String)>,
    /// The process that made the request.
    pub process: Process,
    /// When it was allocated: `CLOCK_MONOTONIC` in nanoseconds.
    pub since: u64,
    /// The connection that has it; `None` when that has ended while a process holds the memory.
    pub connection: Option<ConnectionNumber>,
    /// The number of the open file whose chunk it is.
    pub file: Option<u128>,
}

/// A request that waits for room. Its message stays in the socket until it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The connection on which it came.
    pub connection: ConnectionNumber,
    /// Its id in the protocol.
    pub id: u64,
    /// Its place among all requests that wait, which are served in ascending order.
    pub order: u64,
    /// When it fails: `CLOCK_MONOTONIC` in nanoseconds.
    pub deadline: u64,
}

/// The last request of a connection that changed something. It is recorded together with what it
/// changed, before its answer is sent, and while its message is still in the socket. So a server
/// that finds a message of this id there only has to answer it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The connection on which it came.
    pub connection: ConnectionNumber,
    /// Its id in the protocol.
    pub id: u64,
    /// The answer, without descriptors.
    pub answer: Vec<u8>,
}

/// A text of the configuration, as changed last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// What it configures, such as `map`.
    pub name: String,
    /// The text.
    pub text: String,
}

/// Memory that is set aside: a process holds it that doesn't own it any more, or has lost it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// The memory.
    pub range: Span,
    /// Whether the process that had it has returned it to the system.
    pub lost: bool,
}
