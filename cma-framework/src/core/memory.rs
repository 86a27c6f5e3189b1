//! The port for memory behind a region's addresses.
//!
//! A [`Reserver`](crate::reserve::Reserver) may return [`Memory`] with a range of addresses; the
//! region owns it from then on. The framework maps nothing itself: the port decides what the memory
//! is (files in memory, huge pages).

use cma_api::{PageRange, Pages};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The memory of one region. Ports implement it; a region is its only owner.
///
/// # Safety
///
/// The framework hands out [`Store::bytes`] as plain slices. That is sound because each
/// implementation guarantees:
///
/// - From [`store`](Self::store) until the store is dropped, its bytes belong to the claim alone:
///   no other store has them, and nothing else reads or writes them before a [`Store::piece`] is
///   opened. A claim for a range outside this memory is refused.
/// - A claim is used for one store, at once. An implementation that wraps another one passes claims
///   on. It neither keeps nor makes claims, and keeps neither the store nor a piece of it.
pub unsafe trait Memory: fmt::Debug + Send + Sync {
    /// The kind of memory, and its properties.
    fn backing(&self) -> Backing;

    /// The memory of one chunk, all zero. It is dropped before the chunk is freed.
    ///
    /// # Errors
    ///
    /// [`MemoryError`]; then nothing has changed.
    fn store(&self, claim: Claim) -> Result<Box<dyn Store>, MemoryError>;

    /// The memory of a chunk of a process that has ended, with its bytes. `files` are those that
    /// [`Store::lasting`] returned there. They may be wrong files, so an implementation verifies
    /// each.
    ///
    /// # Errors
    ///
    /// [`MemoryError`]; then nothing has changed. [`MemoryError::NotLasting`] by default.
    fn restore(&self, claim: Claim, files: Vec<OwnedFd>) -> Result<Box<dyn Store>, MemoryError> {
        drop((claim, files));
        Err(MemoryError::NotLasting)
    }

    /// The files of the region itself that have to outlive this process, besides those of its
    /// chunks, so that the region can be restored. By default there are none.
    ///
    /// # Errors
    ///
    /// [`MemoryError`].
    fn lasting(&self) -> Result<Vec<OwnedFd>, MemoryError> {
        Ok(Vec::new())
    }

    /// The parts of a restored region that have no usable memory, after all its chunks were
    /// restored. By default there are none.
    fn missing(&self) -> Vec<PageRange> {
        Vec::new()
    }
}

/// The memory of one chunk.
pub trait Store: fmt::Debug + Send + Sync {
    /// Makes the chunk's [`bytes`](Self::bytes) accessible, if they are not yet.
    ///
    /// # Errors
    ///
    /// [`MemoryError`]; then nothing has changed.
    fn map(&mut self) -> Result<(), MemoryError>;

    /// The chunk's bytes; empty before it is mapped.
    fn bytes(&self) -> &[u8];

    /// The chunk's bytes; empty before it is mapped.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// The number of files that make up the chunk. No file is opened.
    ///
    /// # Errors
    ///
    /// [`MemoryError::Granule`] when the chunk shares an indivisible piece of memory with other
    /// chunks.
    fn pieces(&self) -> Result<usize, MemoryError>;

    /// Opens piece number `index`, counted from the chunk's start. Each call returns a new
    /// descriptor, sealed against growing and shrinking, that reaches no byte of another chunk. The
    /// framework opens pieces below [`pieces`](Self::pieces) only.
    ///
    /// # Errors
    ///
    /// [`MemoryError`]; then nothing has changed.
    fn piece(&self, index: usize) -> Result<Piece<'_>, MemoryError>;

    /// Whether another process still holds a descriptor or a mapping of any piece. The files of
    /// [`lasting`](Self::lasting) don't count.
    fn held(&self) -> bool;

    /// The files by which [`Memory::restore`] brings this memory back in another process.
    ///
    /// They have this store's own open file descriptions, so their holder doesn't count as one that
    /// has the memory ([`held`](Self::held)).
    ///
    /// # Errors
    ///
    /// [`MemoryError::NotLasting`] by default.
    fn lasting(&self) -> Result<Vec<LastingFile<'_>>, MemoryError> {
        Err(MemoryError::NotLasting)
    }
}

/// The framework's guarantee to a port that a range is a live chunk whose memory nothing else has.
/// Only the framework makes claims.
#[derive(Debug)]
pub struct Claim(PageRange);

impl Claim {
    /// The claim to `range`, a live chunk without another claim.
    pub(crate) fn new(range: PageRange) -> Self {
        Claim(range)
    }

    /// The chunk's range.
    pub fn range(&self) -> PageRange {
        self.0
    }
}

/// A part of a chunk's memory, as a file for another process. It borrows the
/// [`SharedChunk`](crate::SharedChunk), so the chunk stays live as long as the piece does.
#[derive(Debug)]
pub struct Piece<'a> {
    file: OwnedFd,
    /// Its offset in the file, in bytes.
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

    /// The descriptor alone, which no longer borrows the chunk. The caller must keep the
    /// [`SharedChunk`](crate::SharedChunk) as long as the memory must not be used for another
    /// chunk.
    pub fn into_file(self) -> OwnedFd {
        self.file
    }
}

impl AsFd for Piece<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A file of a chunk's memory, for the process that has the memory after this one.
#[derive(Debug)]
pub struct LastingFile<'a> {
    /// The file.
    pub file: BorrowedFd<'a>,
    /// The parts of the file, in bytes, whose pages this process has pinned. They stay where they
    /// are after its end if the holder of the file pins them, too.
    pub pinned: Vec<Range<u64>>,
}

/// The kind of a region's memory, and its properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    /// The port's name, such as `memfd` or `hugetlb`.
    pub kind: &'static str,
    /// Whether the region is physically contiguous at its addresses.
    pub contiguity: Contiguity,
    /// A chunk whose start and size are multiples of this can be given to another process.
    pub granule: Pages,
}

/// Whether memory is one physically contiguous run at its region's addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Contiguity {
    /// It is: each page's address was verified after mapping, and the page is pinned.
    Verified,
    /// It was when it was made. The kernel may move its pages, for this reason.
    Movable(String),
    /// It is not any more: the kernel moved pages of live chunks while no process pinned them.
    /// Those chunks are elsewhere than their addresses say, as told here.
    Moved(String),
    /// Physical addresses are hidden from this process, for this reason.
    Unknown(String),
    /// It is not: addresses identify chunks, but no device can use them.
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
            Contiguity::Moved(what) => {
                write!(f, "not physically contiguous any more: {what}")
            }
            Contiguity::Unknown(why) => write!(f, "contiguity unknown: {why}"),
            Contiguity::No => f.write_str("not physically contiguous"),
        }
    }
}

/// Why a chunk has no usable memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The region has addresses alone.
    #[error("region {region} is addresses alone; reserve it from a port that has memory")]
    Simulated {
        /// Its name, or its range.
        region: String,
    },
    /// The chunk doesn't consist of whole pieces.
    #[error("{range} can't be given to another process: its start and size are not multiples of {} bytes", granule.bytes())]
    Granule {
        /// The chunk.
        range: PageRange,
        /// Start and size have to be multiples of this.
        granule: Pages,
    },
    /// A process that had the memory before still holds it.
    #[error("memory of {range} is still held by a process that had it before")]
    Held {
        /// The part that is held.
        range: PageRange,
    },
    /// A process that had the memory before freed it, and the system used it elsewhere.
    #[error("memory of {range} is lost: a process that had it before returned it to the system")]
    Lost {
        /// The part that is lost.
        range: PageRange,
    },
    /// The memory that a chunk had in a process that has ended can't be its memory here.
    #[error("the memory of {range} can't be restored: {reason}")]
    NotRestored {
        /// The chunk.
        range: PageRange,
        /// Why.
        reason: String,
    },
    /// This kind of memory, or this chunk of it, ends with its process.
    #[error("this memory can't outlive its process")]
    NotLasting,
    /// The claim is for addresses outside this memory.
    #[error("{range} is outside the addresses of this memory")]
    Elsewhere {
        /// The chunk.
        range: PageRange,
    },
    /// A system call failed.
    #[error("{call}: {source}{}", remedy.as_deref().map(|remedy| format!("; {remedy}")).unwrap_or_default())]
    System {
        /// The call.
        call: &'static str,
        /// Its error.
        source: io::Error,
        /// The remedy, if one is known.
        remedy: Option<String>,
    },
}

/// A part of a region whose memory can't be used now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unusable {
    pub(crate) range: PageRange,
    /// Whether the memory is lost ([`MemoryError::Lost`]); else a process still holds it.
    pub(crate) lost: bool,
}

impl Unusable {
    /// The unusable part that an error reports; `None` for an error with another cause.
    pub(crate) fn of(error: &MemoryError) -> Option<Self> {
        match *error {
            MemoryError::Held { range } => Some(Unusable { range, lost: false }),
            MemoryError::Lost { range } => Some(Unusable { range, lost: true }),
            _ => None,
        }
    }
}
