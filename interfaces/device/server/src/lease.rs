//! A chunk that a client owns.

use crate::accounts::{Charge, Listing};
use crate::error_reply::ErrorReply;
use crate::lasting::RecordedChunk;
use cma_device_protocol::{ChunkAnswer, Extent, MAX_DESCRIPTORS};
use cma_framework::memory::{LastingFile, NotMapped};
use cma_framework::restore::WithMemory;
use cma_framework::{Chunk, DmaAddr, MemoryError, SharedChunk};
use rustix::fd::OwnedFd;

/// A chunk of a client, and the charge for it.
#[derive(Debug)]
pub(crate) struct Lease {
    // Dropped in this order: the list has no chunk that is free already, and the charge ends when
    // the chunk is free.
    listing: Listing,
    chunk: LeasedChunk,
    /// The unit of its mappings in bytes.
    granule: u64,
    charge: Charge,
    /// Its record, if it outlives the server.
    recorded: Option<Box<RecordedChunk>>,
}

#[derive(Debug)]
enum LeasedChunk {
    WithMemory(SharedChunk),
    /// Of a region without memory.
    AddressesOnly(Chunk),
}

impl Lease {
    /// Makes a chunk's memory available to other processes, if its region has any.
    ///
    /// # Errors
    ///
    /// The outer error: the chunk exceeds the user's limits. The inner error: no place of its
    /// region has usable memory for it; it contains the chunk.
    pub(crate) fn new(chunk: Chunk, charge: Charge) -> Result<Result<Self, NotMapped>, ErrorReply> {
        let leased = match chunk.share() {
            Ok(shared) => LeasedChunk::WithMemory(shared),
            Err(NotMapped { chunk, error: MemoryError::Simulated { .. } }) => {
                LeasedChunk::AddressesOnly(chunk)
            }
            Err(not_shared) => return Ok(Err(not_shared)),
        };
        let listing = charge.listing();
        let mut lease = Lease { listing, chunk: leased, granule: 0, charge, recorded: None };
        // `share` may have moved it to another region.
        let chunk = lease.chunk();
        let granule = chunk.region().backing().map_or(0, |backing| backing.granule.bytes());
        lease.charge.set_placed(chunk.start().get(), chunk.size())?;
        lease.granule = granule;
        Ok(Ok(lease))
    }

    /// A chunk that a server before this one allocated.
    pub(crate) fn of_earlier(chunk: WithMemory, charge: Charge, recorded: RecordedChunk) -> Self {
        let backing = chunk.chunk().region().backing();
        let granule = backing.map_or(0, |backing| backing.granule.bytes());
        let chunk = match chunk {
            WithMemory::Shared(shared) => LeasedChunk::WithMemory(shared),
            WithMemory::AddressesOnly(chunk) => LeasedChunk::AddressesOnly(chunk),
        };
        let (listing, recorded) = (charge.listing(), Some(Box::new(recorded)));
        Lease { listing, chunk, granule, charge, recorded }
    }

    /// The chunk's start, which [`new`](Self::new) may have changed.
    pub(crate) fn start(&self) -> DmaAddr {
        self.chunk().start()
    }

    pub(crate) fn chunk(&self) -> &Chunk {
        match &self.chunk {
            LeasedChunk::WithMemory(shared) => shared.chunk(),
            LeasedChunk::AddressesOnly(chunk) => chunk,
        }
    }

    /// The answer that describes the chunk, without its memory.
    pub(crate) fn answer(&self) -> ChunkAnswer {
        let (start, size) = (self.chunk().start().get(), self.chunk().size());
        ChunkAnswer {
            start,
            size,
            granule: self.granule,
            pieces: 0,
            first: 0,
            extents: Default::default(),
        }
    }

    /// The answer that describes the chunk, and the files of its memory from piece number `first`
    /// on, as many as one message can carry. Only these pieces are opened. Once the answer is sent,
    /// the lease has to live until [`reclaim`](Self::reclaim) succeeds.
    pub(crate) fn answer_with_memory(
        &self,
        first: u64,
    ) -> Result<(ChunkAnswer, Vec<OwnedFd>), ErrorReply> {
        let mut answer = ChunkAnswer { first, ..self.answer() };
        let LeasedChunk::WithMemory(shared) = &self.chunk else { return Ok((answer, Vec::new())) };
        let pieces = shared.pieces()?;
        answer.pieces = pieces.len() as u64;
        let mut files = Vec::with_capacity(MAX_DESCRIPTORS.min(pieces.len()));
        for piece in pieces.skip(usize::try_from(first).unwrap_or(usize::MAX)).take(MAX_DESCRIPTORS)
        {
            let piece = piece?;
            let last = answer.extents.last_mut();
            match last.filter(|last| (last.offset, last.len) == (piece.offset, piece.len)) {
                Some(last) => last.count += 1,
                None => {
                    let extent = Extent { count: 1, offset: piece.offset, len: piece.len };
                    if answer.extents.try_push(extent).is_err() {
                        break;
                    }
                }
            }
            files.push(piece.into_file());
        }
        Ok((answer, files))
    }

    /// Frees the chunk, unless a process holds its memory. Its record ends before.
    ///
    /// # Errors
    ///
    /// The lease, when a process has a descriptor or a mapping.
    pub(crate) fn reclaim(mut self) -> Result<(), Lease> {
        if self.recorded.is_some() {
            if self.is_held() {
                return Err(self);
            }
            if let Some(recorded) = self.take_recorded() {
                recorded.end();
            }
            // It is free whoever has opened its memory since.
            return Ok(());
        }
        let Lease { listing, chunk, granule, charge, .. } = self;
        let chunk = match chunk {
            LeasedChunk::AddressesOnly(chunk) => chunk,
            LeasedChunk::WithMemory(shared) => match shared.reclaim() {
                Ok(chunk) => chunk,
                Err(shared) => {
                    let chunk = LeasedChunk::WithMemory(shared);
                    return Err(Lease { listing, chunk, granule, charge, recorded: None });
                }
            },
        };
        drop(listing);
        drop(chunk);
        Ok(())
    }

    /// Whether a process has a descriptor or a mapping of its memory.
    pub(crate) fn is_held(&self) -> bool {
        match &self.chunk {
            LeasedChunk::WithMemory(shared) => shared.is_held(),
            LeasedChunk::AddressesOnly(_) => false,
        }
    }

    /// The files of its memory that have to outlive the server.
    pub(crate) fn lasting(&self) -> Result<Vec<LastingFile<'_>>, ErrorReply> {
        match &self.chunk {
            LeasedChunk::WithMemory(shared) => Ok(shared.lasting()?),
            LeasedChunk::AddressesOnly(_) => Ok(Vec::new()),
        }
    }

    /// Its record, if it has one.
    pub(crate) fn recorded(&self) -> Option<&RecordedChunk> {
        self.recorded.as_deref()
    }

    pub(crate) fn take_recorded(&mut self) -> Option<RecordedChunk> {
        self.recorded.take().map(|recorded| *recorded)
    }

    pub(crate) fn set_recorded(&mut self, recorded: RecordedChunk) {
        self.recorded = Some(Box::new(recorded));
    }

    /// Records that the connection has ended while a process holds the memory.
    pub(crate) fn set_left_behind(&self) {
        self.charge.set_left_behind();
    }
}
