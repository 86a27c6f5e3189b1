//! A chunk in a client's hands.

use crate::accounts::Charge;
use crate::refusal::Refusal;
use cma_device_protocol::{Chunk as Answered, Extent, MAX_DESCRIPTORS, MAX_EXTENTS};
use cma_framework::memory::{NotMapped, Piece};
use cma_framework::{Chunk, MemoryError, SharedChunk};

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
    /// The chunk, when its memory can't be had.
    pub(crate) fn new(chunk: Chunk, charge: Charge) -> Result<Self, NotMapped> {
        let granule = chunk.region().backing().map_or(0, |backing| backing.granule.bytes());
        let held = match chunk.share() {
            Ok(shared) => Held::Memory(shared),
            Err(NotMapped { chunk, error: MemoryError::Simulated { .. } }) => Held::Addresses(chunk),
            Err(refused) => return Err(refused),
        };
        let lease = Lease { held, granule, charge };
        lease.charge.placed(lease.chunk().start().get());
        Ok(lease)
    }

    fn chunk(&self) -> &Chunk {
        match &self.held {
            Held::Memory(shared) => shared.chunk(),
            Held::Addresses(chunk) => chunk,
        }
    }

    /// What a client is told of it, without its memory.
    pub(crate) fn answer(&self) -> Answered {
        let (start, size) = (self.chunk().start().get(), self.chunk().size());
        Answered { start, size, granule: self.granule, pieces: 0, first: 0, extents: Default::default() }
    }

    /// What a client is told of it, and the memory from piece number `first` on, as much as goes with one message.
    pub(crate) fn answer_with_memory(&self, first: u64) -> Result<(Answered, Vec<Piece>), Refusal> {
        let mut answer = Answered { first, ..self.answer() };
        let Held::Memory(shared) = &self.held else { return Ok((answer, Vec::new())) };
        let mut pieces = shared.pieces()?;
        answer.pieces = pieces.len() as u64;
        pieces.drain(..pieces.len().min(usize::try_from(first).unwrap_or(usize::MAX)));
        pieces.truncate(MAX_DESCRIPTORS);
        let alike = |one: &Piece, next: &Piece| (one.offset, one.len) == (next.offset, next.len);
        let extent =
            |run: &[Piece]| Extent { count: run.len() as u64, offset: run[0].offset, len: run[0].len };
        answer.extents = pieces.chunk_by(alike).take(MAX_EXTENTS).map(extent).collect();
        let described = answer.extents.iter().map(|extent| extent.count as usize).sum();
        pieces.truncate(described);
        Ok((answer, pieces))
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
