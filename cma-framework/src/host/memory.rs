//! Chunks as memory.
//!
//! A chunk becomes bytes with [`Chunk::map`], for this process alone, or descriptors with
//! [`Chunk::share`], for other processes. It is never both: a Rust slice must not be changed by
//! another process.

use crate::core::memory::Unusable;
pub use crate::core::memory::{Backing, Claim, Contiguity, Memory, MemoryError, Piece, Store};
use crate::host::region::Chunk;
use cma_api::DmaAddr;
use std::iter::FusedIterator;
use std::ops::{Deref, DerefMut, Range};

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

/// How many places are tried for one chunk.
const MOST_PLACES: usize = 32;

impl Chunk {
    fn store(mut self) -> Result<(Box<dyn Store>, Chunk), NotMapped> {
        let mut places = 1;
        loop {
            let made = match self.region().memory() {
                Some(memory) => memory.store(Claim::new(self.range())),
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
