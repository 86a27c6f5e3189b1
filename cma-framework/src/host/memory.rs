//! Memory behind a region: the port that makes addresses touchable, and chunks as memory.
//!
//! A [`Reserver`](crate::core::reserve::Reserver) may hand out memory with a range of addresses; the
//! region owns it from then on. What the memory is (files in memory, huge pages) is the port's: the
//! framework maps nothing. A chunk becomes bytes with [`Chunk::map`], which is for this process
//! alone, or descriptors with [`Chunk::share`], which is for others. It is one or the other: bytes
//! that somebody else can change are no Rust slice.

use crate::host::region::Chunk;
use cma_api::{DmaAddr, PageRange, Pages};
use std::fmt;
use std::io;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};
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
    /// The chunk's range.
    pub fn range(&self) -> PageRange {
        self.0
    }
}

/// A part of a chunk's memory, as a file for another process. It borrows the [`SharedChunk`], so
/// the chunk stays live as long as the piece does.
#[derive(Debug)]
pub struct Piece<'a> {
    file: OwnedFd,
    /// Where in the file it starts, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
    chunk: PhantomData<&'a SharedChunk>,
}

impl Piece<'_> {
    /// The `len` bytes at byte `offset` of `file`. Ports make pieces.
    pub fn new(file: OwnedFd, offset: u64, len: u64) -> Self {
        Piece { file, offset, len, chunk: PhantomData }
    }

    /// The descriptor alone. It no longer keeps the chunk: whoever takes it has to keep the
    /// [`SharedChunk`] as long as the memory is to be nobody else's.
    pub fn into_file(self) -> OwnedFd {
        self.file
    }
}

impl AsFd for Piece<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The pieces of a chunk in the order of their addresses. Each is opened when it is asked for;
/// those that are skipped ([`Iterator::nth`], [`Iterator::skip`]) are not opened.
#[derive(Debug)]
pub struct Pieces<'a> {
    store: &'a dyn Store,
    left: Range<usize>,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Result<Piece<'a>, MemoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.nth(0)
    }

    fn nth(&mut self, n: usize) -> Option<Self::Item> {
        self.left.nth(n).map(|index| self.store.piece(index))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.left.size_hint()
    }
}

impl ExactSizeIterator for Pieces<'_> {}

impl FusedIterator for Pieces<'_> {}

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

/// A chunk that did not become memory. It is live as before.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct NotMapped {
    /// The chunk.
    pub chunk: Chunk,
    /// Why.
    pub error: MemoryError,
}

/// A chunk whose bytes are this process's to read and write. Dropping it unmaps and frees it.
///
/// A device that is told its [address](Self::start) writes behind the compiler's back: hand the
/// chunk to it and look at the bytes when it is done, as with every DMA buffer.
#[derive(Debug)]
pub struct MappedChunk {
    // Goes before the chunk whose memory it is.
    store: Box<dyn Store>,
    chunk: Chunk,
}

/// A chunk whose memory others may have. Dropping it frees it; see [`reclaim`](Self::reclaim).
#[derive(Debug)]
pub struct SharedChunk {
    // Goes before the chunk whose memory it is.
    store: Box<dyn Store>,
    chunk: Chunk,
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
    fn of(error: &MemoryError) -> Option<Self> {
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

/// How many places are tried for one chunk.
const MOST_PLACES: usize = 32;

impl Chunk {
    fn store(mut self) -> Result<(Box<dyn Store>, Chunk), NotMapped> {
        let mut places = 1;
        loop {
            let made = match self.region().memory() {
                Some(memory) => memory.store(Claim(self.range())),
                None => Err(MemoryError::Simulated { region: self.region().to_string() }),
            };
            let error = match made {
                Ok(store) => return Ok((store, self)),
                Err(error) => error,
            };
            let Some(unusable) = Unusable::of(&error).filter(|_| places < MOST_PLACES) else {
                return Err(NotMapped { chunk: self, error });
            };
            self = match self.elsewhere(&unusable) {
                Ok(moved) => moved,
                Err(chunk) => return Err(NotMapped { chunk, error }),
            };
            places += 1;
        }
    }

    /// The chunk as bytes, all zero.
    ///
    /// When a process still holds memory of its place that it was given before, or has given that
    /// memory up, the chunk moves to another place of the same size and alignment: of its region,
    /// or, if a device asked for it by name, of another region that the map has for that device. So
    /// look at the [start](MappedChunk::start) afterwards. What can't be had is set aside: its
    /// region serves from elsewhere until that memory can be had again.
    ///
    /// # Errors
    ///
    /// [`NotMapped`], with the chunk, when its region has no memory, the system has no more, or
    /// there is no other place.
    pub fn map(self) -> Result<MappedChunk, NotMapped> {
        let (mut store, chunk) = self.store()?;
        match store.map() {
            Ok(()) => Ok(MappedChunk { store, chunk }),
            Err(error) => {
                drop(store);
                Err(NotMapped { chunk, error })
            }
        }
    }

    /// The chunk as memory for another process, all zero. It moves as with [`map`](Self::map).
    ///
    /// # Errors
    ///
    /// The same.
    pub fn share(self) -> Result<SharedChunk, NotMapped> {
        let (store, chunk) = self.store()?;
        Ok(SharedChunk { store, chunk })
    }
}

impl NotMapped {
    /// Whether memory of the same size can be had from another region: it is the state of this
    /// region's memory that is in the way.
    pub fn may_be_elsewhere(&self) -> bool {
        Unusable::of(&self.error).is_some()
    }
}

impl MappedChunk {
    /// Its address as the device sees it. It is physical memory's if the region's [`Backing`] says
    /// so.
    pub fn start(&self) -> DmaAddr {
        self.chunk.start()
    }

    /// The chunk.
    pub fn chunk(&self) -> &Chunk {
        &self.chunk
    }

    /// Makes it memory for another process, with what was written to it.
    pub fn share(self) -> SharedChunk {
        SharedChunk { store: self.store, chunk: self.chunk }
    }
}

impl Deref for MappedChunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.store.bytes()
    }
}

impl DerefMut for MappedChunk {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.store.bytes_mut()
    }
}

impl SharedChunk {
    /// Its address as the device sees it.
    pub fn start(&self) -> DmaAddr {
        self.chunk.start()
    }

    /// The chunk.
    pub fn chunk(&self) -> &Chunk {
        &self.chunk
    }

    /// Files for another process, which make up the chunk in this order. Their number is known
    /// ([`len`](ExactSizeIterator::len)) before any is opened.
    ///
    /// Dropping the chunk frees it, so pieces of a chunk that nothing holds do not compile:
    ///
    /// ```compile_fail,E0716
    /// # fn other_process(_: cma_framework::memory::Piece<'_>) {}
    /// # fn share(frame: cma_framework::MappedChunk) -> Result<(), cma_framework::MemoryError> {
    /// let pieces = frame.share().pieces()?; // The chunk is dropped here.
    /// for piece in pieces {
    ///     other_process(piece?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// ```
    /// # fn other_process(_: cma_framework::memory::Piece<'_>) {}
    /// # fn share(frame: cma_framework::MappedChunk) -> Result<(), cma_framework::MemoryError> {
    /// let frame = frame.share();
    /// for piece in frame.pieces()? {
    ///     other_process(piece?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`MemoryError::Granule`] when the chunk shares a piece of memory with others that can't be
    /// divided.
    pub fn pieces(&self) -> Result<Pieces<'_>, MemoryError> {
        let left = 0..self.store.pieces()?;
        Ok(Pieces { store: &*self.store, left })
    }

    /// The chunk, if nobody else holds its memory any more. A chunk that is dropped while somebody
    /// does is free at once. If its memory can't be given to the next chunk there, that chunk moves
    /// to another place ([`Chunk::share`]).
    ///
    /// # Errors
    ///
    /// Itself, while a descriptor or a mapping of it is held elsewhere.
    pub fn reclaim(self) -> Result<Chunk, SharedChunk> {
        if self.store.held() { Err(self) } else { Ok(self.chunk) }
    }
}
