//! A chunk in a client's hands.

use crate::accounts::Charge;
use crate::refusal::Refusal;
use cma_device_protocol::{Chunk as Answered, Extent, MAX_DESCRIPTORS};
use cma_framework::memory::NotMapped;
use cma_framework::{Chunk, DmaAddr, MemoryError, SharedChunk};
use rustix::fd::OwnedFd;

/// A chunk that a client has, and what it is charged for it.
#[derive(Debug)]
pub(crate) struct Lease {
    // Goes before the charge, which is for it.
    held: Held,
    /// What mappings of it have to be multiples of, in bytes.
    granule: u64,
    charge: Charge,
}

#[derive(Debug)]
enum Held {
    Memory(SharedChunk),
    /// A region that has no memory.
    Addresses(Chunk),
}

impl Lease {
    /// Makes a chunk memory for others, if its region has any.
    ///
    /// # Errors
    ///
    /// That the chunk is larger than what its user may have. Within, the chunk, when its memory
    /// can't be had at any place of its region.
    pub(crate) fn new(chunk: Chunk, charge: Charge) -> Result<Result<Self, NotMapped>, Refusal> {
        let held = match chunk.share() {
            Ok(shared) => Held::Memory(shared),
            Err(NotMapped { chunk, error: MemoryError::Simulated { .. } }) => {
                Held::Addresses(chunk)
            }
            Err(refused) => return Ok(Err(refused)),
        };
        let mut lease = Lease { held, granule: 0, charge };
        // It may have moved to another region.
        let chunk = lease.chunk();
        let granule = chunk.region().backing().map_or(0, |backing| backing.granule.bytes());
        lease.charge.placed(chunk.start().get(), chunk.size())?;
        lease.granule = granule;
        Ok(Ok(lease))
    }

    /// Where the chunk is. It may have moved when it became memory.
    pub(crate) fn start(&self) -> DmaAddr {
        self.chunk().start()
    }

    /// The chunk.
    pub(crate) fn chunk(&self) -> &Chunk {
        match &self.held {
            Held::Memory(shared) => shared.chunk(),
            Held::Addresses(chunk) => chunk,
        }
    }

    /// What a client is told of it, without its memory.
    pub(crate) fn answer(&self) -> Answered {
        let (start, size) = (self.chunk().start().get(), self.chunk().size());
        Answered {
            start,
            size,
            granule: self.granule,
            pieces: 0,
            first: 0,
            extents: Default::default(),
        }
    }

    /// What a client is told of it, and the files of its memory from piece number `first` on, as
    /// many as go with one message. No other piece is opened. The client has to keep the lease.
    pub(crate) fn answer_with_memory(
        &self,
        first: u64,
    ) -> Result<(Answered, Vec<OwnedFd>), Refusal> {
        let mut answer = Answered { first, ..self.answer() };
        let Held::Memory(shared) = &self.held else { return Ok((answer, Vec::new())) };
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

    /// Frees the chunk, if nobody holds its memory.
    pub(crate) fn reclaim(self) -> Result<(), Lease> {
        let Lease { held, granule, charge } = self;
        match held {
            Held::Addresses(chunk) => drop(chunk),
            Held::Memory(shared) => match shared.reclaim() {
                Ok(chunk) => drop(chunk),
                Err(shared) => return Err(Lease { held: Held::Memory(shared), granule, charge }),
            },
        }
        Ok(())
    }

    /// Its connection is gone, its memory isn't.
    pub(crate) fn leave_behind(&self) {
        self.charge.left_behind();
    }
}
