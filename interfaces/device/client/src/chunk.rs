//! A chunk of this process: as an address, as bytes, or as descriptors for other processes.

use crate::call::call;
use crate::error::Error;
use crate::mapping::Mapping;
use crate::pieces::PieceBatch;
use cma_device_protocol::wire::Descriptors;
use cma_device_protocol::{Answer, Request};
use cma_shared::{FilePart, SharedBytes};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ops::{Deref, DerefMut};

/// A live chunk. Dropping it frees it.
///
/// [`map`](Self::map) turns it into bytes for this process alone, [`share`](Self::share) into
/// descriptors that other processes may have. It can't be both: bytes that another process can
/// change can't be a Rust slice. [`SharedChunk::map`] is what they can be.
#[must_use = "a chunk that is dropped is freed"]
#[derive(Debug)]
pub struct RemoteChunk {
    /// The first pieces of memory, which came with the chunk. Dropped before the connection: the
    /// server frees no memory that a process still holds.
    first_pieces: Option<Box<PieceBatch>>,
    connection: OwnedFd,
    start: u64,
    size: u64,
    has_memory: bool,
}

/// A chunk whose bytes this process alone reads and writes. Dropping it unmaps and frees it.
///
/// The compiler doesn't know of a device that writes to its [address](Self::start). As with every
/// DMA buffer, access the bytes only while the device doesn't.
#[derive(Debug)]
pub struct MappedChunk {
    // Dropped before the chunk whose memory it maps.
    mapping: Mapping,
    chunk: RemoteChunk,
}

/// A chunk whose memory other processes may have. Dropping it frees it as soon as no process holds
/// its memory.
///
/// Its descriptor is the connection to the server. The chunk lives as long as any process has that
/// descriptor.
#[derive(Debug)]
pub struct SharedChunk {
    pieces: Vec<Piece>,
    chunk: RemoteChunk,
}

/// A part of a chunk's memory.
#[derive(Debug)]
pub struct Piece {
    /// The file, whose descriptor can be sent to other processes.
    pub file: OwnedFd,
    /// Its offset in the file, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// The chunk could not be mapped or shared. It is live as before.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct NotMapped {
    /// The chunk.
    pub chunk: RemoteChunk,
    /// The reason.
    pub error: Error,
}

impl RemoteChunk {
    /// Allocates a chunk on a connection that has none.
    pub(crate) fn alloc(connection: OwnedFd, request: &Request<'_>) -> Result<Self, Error> {
        let first_pieces = fetch(connection.as_fd(), request)?;
        Ok(RemoteChunk::new(connection, first_pieces))
    }

    /// The chunk that came with its first pieces on a connection.
    pub(crate) fn new(connection: OwnedFd, first_pieces: PieceBatch) -> Self {
        let (start, size) = (first_pieces.chunk().start, first_pieces.chunk().size);
        let has_memory = first_pieces.chunk().granule > 0;
        let first_pieces = Some(Box::new(first_pieces));
        RemoteChunk { connection, start, size, has_memory, first_pieces }
    }

    /// The lowest address, as the device sees it.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The size in bytes: the requested one, rounded up to pages, or to the unit of sharing.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether the chunk has memory, not addresses alone.
    pub fn has_memory(&self) -> bool {
        self.has_memory
    }

    /// The pieces from number `first` on.
    fn pieces(&mut self, first: u64) -> Result<PieceBatch, Error> {
        if !self.has_memory {
            return Err(Error::Simulated);
        }
        match self.first_pieces.take_if(|pieces| pieces.chunk().first == first) {
            Some(pieces) => Ok(*pieces),
            None => fetch(self.connection.as_fd(), &Request::Chunk { first }),
        }
    }

    /// The chunk as bytes, all zero when it is new.
    ///
    /// # Errors
    ///
    /// [`NotMapped`], with the chunk, when its region has no memory or the system can't map it.
    pub fn map(mut self) -> Result<MappedChunk, NotMapped> {
        let mapped =
            self.pieces(0).and_then(|first| Mapping::new(first, |first| self.pieces(first)));
        match mapped {
            Ok(mapping) => Ok(MappedChunk { mapping, chunk: self }),
            Err(error) => Err(NotMapped { chunk: self, error }),
        }
    }

    /// The chunk as memory that other processes may have, too.
    ///
    /// # Errors
    ///
    /// [`NotMapped`], with the chunk, when its region has no memory or this process can have no
    /// more descriptors.
    pub fn share(mut self) -> Result<SharedChunk, NotMapped> {
        let mut pieces = Vec::new();
        let mut next = Some(0);
        while let Some(first) = next {
            match self.pieces(first) {
                Err(error) => return Err(NotMapped { chunk: self, error }),
                Ok(batch) => {
                    next = batch.next();
                    pieces.extend(batch.into_pieces().map(|(file, offset, len)| Piece {
                        file,
                        offset,
                        len,
                    }));
                }
            }
        }
        Ok(SharedChunk { pieces, chunk: self })
    }

    /// Frees the chunk, and returns when it is free. Dropping it closes the connection instead, and
    /// the server frees the chunk later.
    ///
    /// # Errors
    ///
    /// [`Error`]. The chunk is freed as if it were dropped.
    pub fn free(self) -> Result<(), Error> {
        let RemoteChunk { connection, first_pieces, .. } = self;
        drop(first_pieces);
        call(connection.as_fd(), &Request::Free, |answer, _| {
            matches!(answer, Answer::Freed).then_some(())
        })
    }
}

/// Sends a request whose answer is a chunk.
fn fetch(connection: BorrowedFd<'_>, request: &Request<'_>) -> Result<PieceBatch, Error> {
    let first = if let Request::Chunk { first } = request { *first } else { 0 };
    call(connection, request, |answer, descriptors| pieces_from(first, answer, descriptors))
}

/// The first pieces of an answer to a request for a chunk.
pub(crate) fn first_pieces(answer: Answer<'_>, descriptors: Descriptors) -> Option<PieceBatch> {
    pieces_from(0, answer, descriptors)
}

fn pieces_from(first: u64, answer: Answer<'_>, descriptors: Descriptors) -> Option<PieceBatch> {
    match answer {
        Answer::Chunk(chunk) => PieceBatch::new(chunk, descriptors, first).ok(),
        _ => None,
    }
}

impl MappedChunk {
    /// Its address, as the device sees it.
    pub fn start(&self) -> u64 {
        self.chunk.start
    }

    /// Frees the chunk, and returns when it is free.
    ///
    /// # Errors
    ///
    /// [`Error`]. The chunk is freed as if it were dropped.
    pub fn free(self) -> Result<(), Error> {
        drop(self.mapping);
        self.chunk.free()
    }

    /// The chunk, with its content, as memory that other processes may have, too.
    ///
    /// # Errors
    ///
    /// As [`RemoteChunk::share`].
    pub fn share(self) -> Result<SharedChunk, NotMapped> {
        drop(self.mapping);
        self.chunk.share()
    }
}

impl Deref for MappedChunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.mapping
    }
}

impl DerefMut for MappedChunk {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.mapping
    }
}

impl SharedChunk {
    /// Its address, as the device sees it.
    pub fn start(&self) -> u64 {
        self.chunk.start
    }

    /// The size in bytes.
    pub fn size(&self) -> u64 {
        self.chunk.size
    }

    /// Its memory: the pieces, in the order in which they make up the chunk.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Its memory as one piece, for a program that accepts one file. `None` when it is in several:
    /// another user of the machine's pool of huge pages has interfered. Another chunk may be in
    /// one.
    pub fn one_piece(&self) -> Option<&Piece> {
        if let [piece] = &*self.pieces { Some(piece) } else { None }
    }

    /// Its bytes, which other processes may read and write at the same time. The mapping keeps the
    /// memory, and the server frees no memory that a process holds: a chunk that is dropped is
    /// freed when the mapping is, too.
    ///
    /// # Errors
    ///
    /// [`Error::Unmappable`].
    pub fn map(&self) -> Result<SharedBytes, Error> {
        let parts = self.pieces.iter().map(|Piece { file, offset, len }| {
            Ok::<_, Error>(FilePart { file, offset: *offset, len: *len })
        });
        SharedBytes::map(self.chunk.size, parts)
    }
}

impl AsFd for SharedChunk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.chunk.connection.as_fd()
    }
}

impl AsFd for Piece {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
