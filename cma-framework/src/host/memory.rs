//! Chunks as memory.
//!
//! A chunk becomes bytes with [`Chunk::map`], for this process alone, or descriptors with
//! [`Chunk::share`], for other processes. It is never both: a Rust slice must not be changed by
//! another process.

use crate::core::memory::Unusable;
pub use crate::core::memory::{
    Backing, Claim, Contiguity, LastingFile, Memory, MemoryError, Piece, Store,
};
use crate::host::region::Chunk;
use cma_api::DmaAddr;
use std::iter::FusedIterator;
use std::ops::{Deref, DerefMut, Range};
use std::os::fd::OwnedFd;

/// The pieces of a chunk in the order of their addresses. Each is opened as it is iterated; skipped
/// ones ([`Iterator::nth`], [`Iterator::skip`]) are not opened.
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

/// A chunk that could not be mapped or shared. It is live as before.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct NotMapped {
    /// The chunk.
    pub chunk: Chunk,
    /// Why.
    pub error: MemoryError,
}

/// A chunk whose bytes this process can read and write. Dropping it unmaps and frees it.
///
/// A device that gets its [address](Self::start) writes without the compiler's knowledge. As with
/// every DMA buffer, access the bytes only when the device is done.
#[derive(Debug)]
pub struct MappedChunk {
    // Dropped before the chunk is freed.
    store: Box<dyn Store>,
    chunk: Chunk,
}

/// A chunk whose memory other processes may have. Dropping it frees it; see
/// [`reclaim`](Self::reclaim).
#[derive(Debug)]
pub struct SharedChunk {
    // Dropped before the chunk is freed.
    store: Box<dyn Store>,
    chunk: Chunk,
}

/// The most places that are tried for one chunk.
const MAX_PLACES: usize = 32;

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
            let Some(unusable) = Unusable::of(&error).filter(|_| places < MAX_PLACES) else {
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
    /// When a process still holds memory of the chunk's place, or has freed it, the chunk moves to
    /// another place of the same size and alignment: in its region or, if it was allocated for a
    /// device, in another region that the map has for that device. So read the
    /// [start](MappedChunk::start) afterwards. The unusable memory is set aside until it is usable
    /// again.
    ///
    /// # Errors
    ///
    /// [`NotMapped`], with the chunk, when its region has no memory, the system is out of memory,
    /// or there is no other place.
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

    /// The chunk with the memory that it had in a process that has ended.
    pub(crate) fn with_restored(self, files: Vec<OwnedFd>) -> Result<SharedChunk, NotMapped> {
        let restored = match self.region().memory() {
            Some(memory) => memory.restore(Claim::new(self.range()), files),
            None => Err(MemoryError::Simulated { region: self.region().to_string() }),
        };
        match restored {
            Ok(store) => Ok(SharedChunk { store, chunk: self }),
            Err(error) => Err(NotMapped { chunk: self, error }),
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
    /// Whether another region may have memory of the same size: the error concerns the state of
    /// this region's memory.
    pub fn may_be_elsewhere(&self) -> bool {
        Unusable::of(&self.error).is_some()
    }
}

impl MappedChunk {
    /// Its address as the device sees it; the physical address if the region's [`Backing`] is
    /// contiguous.
    pub fn start(&self) -> DmaAddr {
        self.chunk.start()
    }

    /// The chunk.
    pub fn chunk(&self) -> &Chunk {
        &self.chunk
    }

    /// Makes it memory for another process, with its present content.
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

    /// Files for another process, which make up the chunk in this order. Their number
    /// ([`len`](ExactSizeIterator::len)) is known before any is opened.
    ///
    /// Dropping the chunk frees it, so pieces can't outlive the chunk. This does not compile:
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
    /// [`MemoryError::Granule`] when the chunk shares an indivisible piece of memory with other
    /// chunks.
    pub fn pieces(&self) -> Result<Pieces<'_>, MemoryError> {
        let left = 0..self.store.pieces()?;
        Ok(Pieces { store: &*self.store, left })
    }

    /// Files by which [`Cma::restore_chunk`](crate::Cma::restore_chunk) brings the chunk back in
    /// another process, after this one has ended. Give them to the process that keeps them until
    /// then: it doesn't count as one that holds the memory ([`reclaim`](Self::reclaim)), so it has
    /// to close them when the chunk is freed.
    ///
    /// # Errors
    ///
    /// [`MemoryError::NotLasting`] when this kind of memory ends with its process;
    /// [`MemoryError::Granule`] as with [`pieces`](Self::pieces).
    pub fn lasting(&self) -> Result<Vec<LastingFile<'_>>, MemoryError> {
        self.store.lasting()
    }

    /// Whether another process still holds a descriptor or a mapping of its memory, so that
    /// [`reclaim`](Self::reclaim) would not return the chunk.
    pub fn is_held(&self) -> bool {
        self.store.held()
    }

    /// The chunk, if no other process holds its memory any more.
    ///
    /// A shared chunk that is dropped is freed at once, even while a process holds its memory. The
    /// next chunk at its place then moves to another place ([`Chunk::share`]).
    ///
    /// # Errors
    ///
    /// Itself, while another process holds a descriptor or a mapping of it.
    pub fn reclaim(self) -> Result<Chunk, SharedChunk> {
        if self.is_held() { Err(self) } else { Ok(self.chunk) }
    }
}
