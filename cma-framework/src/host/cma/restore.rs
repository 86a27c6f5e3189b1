//! Bringing chunks of a process that has ended back into a framework.

use super::Cma;
use super::request::in_whole_pieces;
use crate::core::books::{Holder, Process};
use crate::core::memory::MemoryError;
use crate::core::moment::Moment;
use crate::host::memory::{NotMapped, SharedChunk};
use crate::host::region::{AllocatorState, Chunk, NotBooked, Region};
use crate::vocabulary::ChunkRequest;
use crate::vocabulary::errors::{InvalidRequest, Misplacement, Stuck};
use cma_api::{Asker, PageRange};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// A live chunk as the books of a process had it that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredChunk {
    /// Its place.
    pub range: PageRange,
    /// The request that it serves, as made or as its region got it. Its size, in whole pages or in
    /// whole pieces of the region's memory, is that of `range`. The `wait` has no effect.
    pub request: ChunkRequest,
    /// Device and type of the request; `None` when it named regions.
    pub device: Option<(Arc<str>, Arc<str>)>,
    /// The process that has it, if a front end noted one.
    pub process: Option<Process>,
    /// When it was allocated, as `CLOCK_MONOTONIC` counts: the time since the system started.
    /// `None` if unknown.
    pub since: Option<Duration>,
}

/// A chunk that was restored.
#[derive(Debug)]
#[must_use = "a chunk that is dropped is freed"]
pub enum WithMemory {
    /// With its bytes, which other processes may have.
    Shared(SharedChunk),
    /// Of a region that is addresses alone.
    AddressesOnly(Chunk),
}

impl WithMemory {
    /// The chunk.
    pub fn chunk(&self) -> &Chunk {
        match self {
            WithMemory::Shared(shared) => shared.chunk(),
            WithMemory::AddressesOnly(chunk) => chunk,
        }
    }
}

/// The state of a region after all its chunks were restored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restoration {
    /// Its allocator, or what it waits for.
    pub allocator: AllocatorState,
    /// Why that is another one than its choice ([`Region::stand_in`]).
    pub stand_in: Option<Arc<str>>,
    /// The parts whose memory was not found. They are set aside.
    pub missing: Vec<PageRange>,
}

/// Why a chunk was not restored. Nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The region was unregistered, or belongs to another framework.
    #[error("the region is not registered here")]
    Unregistered,
    /// Its allocator doesn't return from a call.
    #[error(transparent)]
    Stuck(Stuck),
    /// No chunk can serve the request.
    #[error("the chunk's request is invalid: {0}")]
    Request(#[from] InvalidRequest),
    /// The chunk can't lie there.
    #[error("the chunk is at {0}")]
    Misplaced(Misplacement),
    /// The region has as many chunks as it can have.
    #[error("too many chunks are live")]
    TooManyChunks,
    /// The region is addresses alone, so it can't have these files, or memory that is set aside.
    #[error("the region is addresses alone: it has no memory to restore")]
    AddressesOnly,
    /// Its memory can't be restored.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

impl From<NotBooked> for RestoreError {
    fn from(why: NotBooked) -> Self {
        match why {
            NotBooked::Unregistered => RestoreError::Unregistered,
            NotBooked::Stuck(stuck) => RestoreError::Stuck(stuck),
            NotBooked::Misplaced(misplacement) => RestoreError::Misplaced(misplacement),
            NotBooked::TooManyChunks => RestoreError::TooManyChunks,
        }
    }
}

impl Cma {
    /// Brings a chunk of a process that has ended back, at its place and with its memory. `files`
    /// are those that [`SharedChunk::lasting`] returned there; none for a region that is addresses
    /// alone.
    ///
    /// All rules of a new placement hold: the chunk lies in the region, within the limits of its
    /// request, and apart from all others. It has its requester, its holder and its age, so
    /// [`owners`](Self::owners) reports the same as before. It is counted as restored and not as
    /// placed: the figures of a region ([`Region::statistics`]) start anew.
    ///
    /// The region may have its allocator already, which adopts the chunk, or get it later. An
    /// allocator that can't adopt the chunk is detached. After the last chunk call
    /// [`finish_restoring`](Self::finish_restoring).
    ///
    /// ```
    /// use cma_framework::restore::{RestoreError, RestoredChunk, WithMemory};
    /// use cma_framework::{Cma, Region};
    /// use std::os::fd::OwnedFd;
    ///
    /// fn recover(
    ///     cma: &Cma,
    ///     region: &Region,
    ///     recorded: Vec<(RestoredChunk, Vec<OwnedFd>)>,
    /// ) -> Result<Vec<WithMemory>, RestoreError> {
    ///     let restored = recorded.into_iter();
    ///     let restored = restored.map(|(chunk, files)| cma.restore_chunk(region, &chunk, files));
    ///     let chunks = restored.collect::<Result<_, _>>()?;
    ///     let state = cma.finish_restoring(region)?;
    ///     println!("{region} is served by {}", state.allocator);
    ///     Ok(chunks)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RestoreError`]; then nothing has changed, and `files` are closed.
    pub fn restore_chunk(
        &self,
        region: &Region,
        chunk: &RestoredChunk,
        files: Vec<OwnedFd>,
    ) -> Result<WithMemory, RestoreError> {
        self.check_own(region)?;
        // An invalid request must not make the framework keep its names.
        chunk.request.check()?;
        let has_memory = region.backing().is_some();
        if !has_memory && !files.is_empty() {
            return Err(RestoreError::AddressesOnly);
        }
        let user = chunk.process.as_ref().map(|process| process.uid);
        let number = |(device, kind): &(Arc<str>, Arc<str>)| self.intern(device, kind, user);
        let asker = chunk.device.as_ref().and_then(number).unwrap_or(Asker::NOBODY);
        let plain = chunk.request.normalised(asker)?;
        let whole = in_whole_pieces(&plain, region).ok();
        let request = whole.filter(|whole| whole.pages() == chunk.range.pages()).unwrap_or(plain);
        let since = chunk.since.map_or(Moment::UNKNOWN, Moment::after_start);
        let holder =
            |process: &Process| Holder { process: process.clone(), device: chunk.device.clone() };
        let holder = chunk.process.as_ref().map(holder);
        let booked = region.restore(&request, chunk.range, since, holder)?;
        if !has_memory {
            return Ok(WithMemory::AddressesOnly(booked));
        }
        match booked.with_restored(files) {
            Ok(shared) => Ok(WithMemory::Shared(shared)),
            Err(NotMapped { chunk, error }) => {
                chunk.undo_restore();
                Err(error.into())
            }
        }
    }

    /// Sets memory of a region aside, as it was in a process that has ended. `lost` tells that the
    /// process that had it returned it to the system; else one still holds it. The region checks it
    /// as usual ([`recover_memory`](Self::recover_memory)).
    ///
    /// # Errors
    ///
    /// [`RestoreError`]; then nothing has changed.
    pub fn restore_set_aside(
        &self,
        region: &Region,
        range: PageRange,
        lost: bool,
    ) -> Result<(), RestoreError> {
        self.check_own(region)?;
        if region.backing().is_none() {
            return Err(RestoreError::AddressesOnly);
        }
        Ok(region.restore_set_aside(range, lost)?)
    }

    /// Ends the restoring of a region's chunks. Memory that was not found is set aside. If chunks
    /// are live, the region's choice is attached and adopts them. When it is not registered or
    /// can't, the first registered allocator that can stands in ([`Region::stand_in`]), without
    /// parameters; the event [`NotAttached`](crate::events::What::NotAttached) has the reason, and
    /// so has the attribute `problem`. When none can, the chunks stay and can be freed, and
    /// requests are refused with the reason.
    ///
    /// # Errors
    ///
    /// [`RestoreError::Unregistered`], [`RestoreError::Stuck`].
    pub fn finish_restoring(&self, region: &Region) -> Result<Restoration, RestoreError> {
        self.check_own(region)?;
        let missing = region.memory().map_or(Vec::new(), |memory| memory.missing());
        let missing = region.finish_restoring(&missing, &*self.0).map_err(RestoreError::Stuck)?;
        let (allocator, stand_in) = (region.allocator(), region.stand_in());
        Ok(Restoration { allocator, stand_in, missing })
    }

    fn check_own(&self, region: &Region) -> Result<(), RestoreError> {
        if region.framework_id() == self.0.id && region.is_registered() {
            Ok(())
        } else {
            Err(RestoreError::Unregistered)
        }
    }
}
