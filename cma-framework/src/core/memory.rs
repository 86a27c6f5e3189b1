//! The port that puts memory behind a region's addresses.
//!
//! A [`Reserver`](crate::core::reserve::Reserver) may hand out [`Memory`] with a range of addresses;
//! the region owns it from then on. The framework maps nothing itself: what the memory is (files in
//! memory, huge pages) is the port's.

use cma_api::{PageRange, Pages};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The memory of one region. Implemented by ports; a region is its only owner.
///
/// # Safety
///
/// The framework lends [`Store::bytes`] as plain slices, on this word of the implementation:
///
/// - The bytes of a store are the claim's alone, from [`store`](Self::store) until the store is
///   dropped: no other store has them, and nobody else reads or writes them before a
///   [`Store::piece`] was asked for. A claim for a range that is not this memory's is refused.
/// - A claim is good for one store, at once. One memory that stands before another passes claims
///   on, neither keeps nor invents any, and keeps neither the store nor a piece of it.
pub unsafe trait Memory: fmt::Debug + Send + Sync {
    /// What it is, and what is known of it.
    fn backing(&self) -> Backing;

    /// The memory of one chunk, all zero. It goes before the chunk does.
    ///
    /// # Errors
    ///
    /// [`MemoryError`]; then nothing has changed.
    fn store(&self, claim: Claim) -> Result<Box<dyn Store>, MemoryError>;
}

/// The memory of one chunk, in a port's hands.
pub trait Store: fmt::Debug + Send + Sync {
    /// Makes [`bytes`](Self::bytes) the chunk's, if they are not yet.
    ///
    /// # Errors
    ///
    /// [`MemoryError`]; then nothing has changed.
    fn map(&mut self) -> Result<(), MemoryError>;

    /// The chunk's bytes; none before it is mapped.
    fn bytes(&self) -> &[u8];

    /// The chunk's bytes; none before it is mapped.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// How many files the chunk is made of. No file is opened.
    ///
    /// # Errors
    ///
    /// [`MemoryError::Granule`] when the chunk shares a piece of memory with others that can't be
    /// divided.
    fn pieces(&self) -> Result<usize, MemoryError>;

    /// Opens piece number `index`, counted from the chunk's start: a new descriptor at each call,
    /// sealed against growing and shrinking, that reaches no byte of another chunk. The framework
    /// asks for pieces below [`pieces`](Self::pieces) only.
    ///
    /// # Errors
    ///
    /// [`MemoryError`]; then nothing has changed.
    fn piece(&self, index: usize) -> Result<Piece<'_>, MemoryError>;

    /// Whether a descriptor or a mapping of any piece is still held by somebody else.
    fn held(&self) -> bool;
}

/// The word of the framework that a range is a live chunk, and that whoever asks is the only one to
/// have its memory.
#[derive(Debug)]
pub struct Claim(PageRange);

impl Claim {
    /// The claim to `range`, which is a live chunk that nobody else claims.
    pub(crate) fn new(range: PageRange) -> Self {
        Claim(range)
    }

    /// The chunk's range.
    pub fn range(&self) -> PageRange {
        self.0
    }
}

/// A part of a chunk's memory, as a file for another process. It borrows the [`SharedChunk`](crate::SharedChunk), so
/// the chunk stays live as long as the piece does.
#[derive(Debug)]
pub struct Piece<'a> {
    file: OwnedFd,
    /// Where in the file it starts, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
    chunk: PhantomData<&'a ()>,
}

impl Piece<'_> {
    /// The `len` bytes at byte `offset` of `file`. Ports make pieces.
    pub fn new(file: OwnedFd, offset: u64, len: u64) -> Self {
        Piece { file, offset, len, chunk: PhantomData }
    }

    /// The descriptor alone. It no longer keeps the chunk: whoever takes it has to keep the
    /// [`SharedChunk`](crate::SharedChunk) as long as the memory is to be nobody else's.
    pub fn into_file(self) -> OwnedFd {
        self.file
    }
}

impl AsFd for Piece<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// What a region's memory is, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    /// The port's name, as `memfd` or `hugetlb`.
    pub kind: &'static str,
    /// Whether the region's addresses are physical ones in one run.
    pub contiguity: Contiguity,
    /// What a chunk's start and size have to be multiples of so that it can be given to another
    /// process.
    pub granule: Pages,
}

/// Whether memory is one physically contiguous run at the addresses that its region has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Contiguity {
    /// It is: every page was looked up after it was placed, and none can be moved.
    Verified,
    /// It was, when it was made. The kernel may move its pages, for this reason.
    Movable(String),
    /// Nobody may tell this process; with the reason.
    Unknown(String),
    /// It is not: addresses are for telling chunks apart, not for a device.
    No,
}

impl fmt::Display for Contiguity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Contiguity::Verified => f.write_str("physically contiguous, verified"),
            Contiguity::Movable(why) => {
                write!(
                    f,
                    "physically contiguous when it was made, but the kernel may move it: {why}"
                )
            }
            Contiguity::Unknown(why) => write!(f, "contiguity unknown: {why}"),
            Contiguity::No => f.write_str("not physically contiguous"),
        }
    }
}

/// Why a chunk is no memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The region has addresses alone.
    #[error("region {region} is addresses alone; reserve it from a port that has memory")]
    Simulated {
        /// Its name, or its range.
        region: String,
    },
    /// The chunk is not made of whole pieces.
    #[error("{range} can't be given to another process: that takes whole multiples of {} bytes", granule.bytes())]
    Granule {
        /// The chunk.
        range: PageRange,
        /// What start and size have to be multiples of.
        granule: Pages,
    },
    /// Somebody who had the memory before still holds it.
    #[error("memory of {range} is still held by a process that was given it before")]
    Held {
        /// The part that is held.
        range: PageRange,
    },
    /// Somebody who had the memory before gave it up, and it went elsewhere.
    #[error(
        "memory of {range} is lost: a process that was given it has given it back to the system"
    )]
    Lost {
        /// The part that is lost.
        range: PageRange,
    },
    /// The claim is for addresses that this memory is not behind.
    #[error("{range} is not what this memory is behind")]
    Elsewhere {
        /// The chunk.
        range: PageRange,
    },
    /// The system refused.
    #[error("{call}: {source}{}", remedy.as_deref().map(|remedy| format!("; {remedy}")).unwrap_or_default())]
    System {
        /// What was asked of it.
        call: &'static str,
        /// What it said.
        source: io::Error,
        /// What to do about it, where that is known.
        remedy: Option<String>,
    },
}

/// A part of a region whose memory nobody can be given now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unusable {
    pub(crate) range: PageRange,
    /// The memory went elsewhere; else somebody still holds it.
    pub(crate) lost: bool,
}

impl Unusable {
    /// What an error says of the state of memory; `None` for any other error.
    pub(crate) fn of(error: &MemoryError) -> Option<Self> {
        match *error {
            MemoryError::Held { range } => Some(Unusable { range, lost: false }),
            MemoryError::Lost { range } => Some(Unusable { range, lost: true }),
            _ => None,
        }
    }

    /// Whether the memory of `range`, which is a live chunk that nobody uses, can be had again.
    ///
    /// # Errors
    ///
    /// What of it can't, where that is the reason.
    pub(crate) fn check(memory: &dyn Memory, range: PageRange) -> Result<(), Option<Self>> {
        memory.store(Claim(range)).map(drop).map_err(|error| Unusable::of(&error))
    }
}
