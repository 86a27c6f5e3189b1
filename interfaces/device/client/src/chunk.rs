//! A chunk in this process' hands: as an address, as bytes, or as descriptors for others.

use crate::client::ask_for;
use crate::error::Error;
use crate::mapping::Mapping;
use crate::pieces::Batch;
use cma_device_protocol::{Answer, Request};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ops::{Deref, DerefMut};

/// A live chunk of the server's. Dropping it frees it.
///
/// It becomes bytes with [`map`](Self::map), which is for this process alone, or descriptors with
/// [`share`](Self::share), which are for others, too. It is one or the other: bytes that somebody
/// else can change are no Rust slice.
#[must_use = "a chunk that is dropped is freed"]
#[derive(Debug)]
pub struct RemoteChunk {
    /// The first pieces of memory, which came with the chunk. They go before the line does: memory
    /// that is still held isn't free.
    brought: Option<Box<Batch>>,
    line: OwnedFd,
    start: u64,
    size: u64,
    has_memory: bool,
}

/// A chunk whose bytes are this process' to read and write. Dropping it unmaps and frees it.
///
/// A device that is told its [address](Self::start) writes behind the compiler's back: hand the
/// chunk to it and look at the bytes when it is done, as with every DMA buffer.
#[derive(Debug)]
pub struct MappedChunk {
    // Goes before the chunk whose memory it is.
    mapping: Mapping,
    chunk: RemoteChunk,
}

/// A chunk whose memory others may have. Dropping it frees it, once they have let go.
///
/// Its descriptor is the line to the server: a process that has that, too, has a part in the chunk,
/// which lives as long as one of them.
#[derive(Debug)]
pub struct SharedChunk {
    pieces: Vec<Piece>,
    chunk: RemoteChunk,
}

/// A part of a chunk's memory.
#[derive(Debug)]
pub struct Piece {
    /// The file; a descriptor for it can be given to other processes.
    pub file: OwnedFd,
    /// Where in the file it starts, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// A chunk that did not become memory. It is live as before.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct NotMapped {
    /// The chunk.
    pub chunk: RemoteChunk,
    /// Why.
    pub error: Error,
}

impl RemoteChunk {
    /// Asks for one on a line that has none.
    pub(crate) fn ask(line: OwnedFd, request: &Request<'_>) -> Result<Self, Error> {
        let brought = fetch(line.as_fd(), request)?;
        let (start, size) = (brought.chunk().start, brought.chunk().size);
        let has_memory = brought.chunk().granule > 0;
        Ok(RemoteChunk { line, start, size, has_memory, brought: Some(Box::new(brought)) })
    }

    /// The lowest address, as the device sees it.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The size in bytes: what was asked for, rounded up to pages, or to what can be shared.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether there is memory behind its addresses.
    pub fn has_memory(&self) -> bool {
        self.has_memory
    }

    /// The pieces from number `first` on.
    fn pieces(&mut self, first: u64) -> Result<Batch, Error> {
        if !self.has_memory {
            return Err(Error::Simulated);
        }
        match self.brought.take_if(|brought| brought.chunk().first == first) {
            Some(brought) => Ok(*brought),
            None => fetch(self.line.as_fd(), &Request::Chunk { first }),
        }
    }

    /// The chunk as bytes, all zero when it is new.
    ///
    /// # Errors
    ///
    /// [`NotMapped`], with the chunk, when its region has no memory or the system has no more.
    pub fn map(mut self) -> Result<MappedChunk, NotMapped> {
        let mapped =
            self.pieces(0).and_then(|first| Mapping::of(first, |first| self.pieces(first)));
        match mapped {
            Ok(mapping) => Ok(MappedChunk { mapping, chunk: self }),
            Err(error) => Err(NotMapped { chunk: self, error }),
        }
    }

    /// The chunk as memory for other processes, too.
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
                    pieces.extend(batch.into_parts().map(|(file, offset, len)| Piece {
                        file,
                        offset,
                        len,
                    }));
                }
            }
        }
        Ok(SharedChunk { pieces, chunk: self })
    }

    /// Frees the chunk, and returns when it is free. Dropping it leaves that to the server.
    ///
    /// # Errors
    ///
    /// [`Error`]. The chunk is freed as if it were dropped.
    pub fn free(self) -> Result<(), Error> {
        let RemoteChunk { line, brought, .. } = self;
        drop(brought);
        ask_for(line.as_fd(), &Request::Free, |answer, _| {
            matches!(answer, Answer::Freed).then_some(())
        })
    }
}

/// Asks something whose answer is a chunk.
fn fetch(line: BorrowedFd<'_>, request: &Request<'_>) -> Result<Batch, Error> {
    let first = if let Request::Chunk { first } = request { *first } else { 0 };
    let batch = |answer: Answer<'_>, descriptors| match answer {
        Answer::Chunk(chunk) => Batch::new(chunk, descriptors, first).ok(),
        _ => None,
    };
    ask_for(line, request, batch)
}

impl MappedChunk {
    /// Its address as the device sees it.
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

    /// Makes it memory for other processes, too, with what was written to it.
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
    /// Its address as the device sees it.
    pub fn start(&self) -> u64 {
        self.chunk.start
    }

    /// The size in bytes.
    pub fn size(&self) -> u64 {
        self.chunk.size
    }

    /// Its memory: these make up the chunk in this order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }
}

impl AsFd for SharedChunk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.chunk.line.as_fd()
    }
}

impl AsFd for Piece {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
