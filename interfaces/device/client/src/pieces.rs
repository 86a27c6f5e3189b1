//! The pieces of memory that make up a chunk, and their mapping as one range.

use crate::error::Error;
use crate::exchange::ExchangeError;
use cma_device_protocol::ChunkAnswer;
use cma_device_protocol::wire::Descriptors;
use cma_shared::FilePart;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use std::ffi::c_void;
use std::ptr;

/// The pieces of a chunk's memory that came with one answer.
#[derive(Debug)]
pub struct PieceBatch {
    chunk: ChunkAnswer,
    descriptors: Descriptors,
}

/// A piece of memory.
#[derive(Clone, Copy, Debug)]
pub struct PieceRef<'b> {
    /// Its file.
    pub file: BorrowedFd<'b>,
    /// Its offset in the file, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
}

impl PieceBatch {
    /// The pieces of an answer to a request for those from number `first` on, after a check that
    /// the answer is consistent.
    ///
    /// # Errors
    ///
    /// [`ExchangeError::Unexpected`] when it isn't.
    pub fn new(
        chunk: ChunkAnswer,
        descriptors: Descriptors,
        first: u64,
    ) -> Result<Self, ExchangeError> {
        let mut count = 0_u64;
        for extent in &chunk.extents {
            count = count.checked_add(extent.count).ok_or(ExchangeError::Unexpected)?;
            let end = extent.offset.checked_add(extent.len).ok_or(ExchangeError::Unexpected)?;
            if end > i64::MAX as u64 || extent.len == 0 {
                return Err(ExchangeError::Unexpected);
            }
        }
        // At least one piece of those that remain, so that a caller that fetches all terminates.
        let count_is_right = match chunk.pieces {
            0 => count == 0,
            pieces => count > 0 && chunk.first.checked_add(count).is_some_and(|end| end <= pieces),
        };
        let is_consistent = count_is_right
            && count == descriptors.len() as u64
            && chunk.first == first
            && (chunk.granule == 0 || chunk.granule.is_power_of_two());
        if is_consistent {
            Ok(PieceBatch { chunk, descriptors })
        } else {
            Err(ExchangeError::Unexpected)
        }
    }

    /// The answer.
    pub fn chunk(&self) -> &ChunkAnswer {
        &self.chunk
    }

    /// The pieces, in order.
    pub fn pieces(&self) -> impl Iterator<Item = PieceRef<'_>> {
        let places = self.chunk.extents.iter();
        let places =
            places.flat_map(|extent| (0..extent.count).map(|_| (extent.offset, extent.len)));
        self.descriptors.iter().zip(places).map(|(file, (offset, len))| PieceRef {
            file: file.as_fd(),
            offset,
            len,
        })
    }

    /// Checks that every piece can be mapped safely: its file is long enough and sealed against
    /// shrinking, because an access beyond the end of a file kills the process (`SIGBUS`), and the
    /// piece is whole pages of it, because the kernel would map more than the piece.
    ///
    /// # Errors
    ///
    /// [`Error::Unmappable`].
    pub fn check_mappable(&self) -> Result<(), Error> {
        for (index, PieceRef { file, offset, len }) in
            (self.chunk.first as usize..).zip(self.pieces())
        {
            FilePart { file, offset, len }.check(index)?;
        }
        Ok(())
    }

    /// The pieces' files, in order, each with the offset and length of the piece in bytes.
    pub(crate) fn into_pieces(self) -> impl Iterator<Item = (OwnedFd, u64, u64)> {
        let places = self.chunk.extents.into_iter();
        let places =
            places.flat_map(|extent| (0..extent.count).map(move |_| (extent.offset, extent.len)));
        self.descriptors.into_iter().zip(places).map(|(file, (offset, len))| (file, offset, len))
    }

    /// The number of the piece after the last one here; `None` when this is the last batch.
    pub fn next(&self) -> Option<u64> {
        let next = self.chunk.first + self.descriptors.len() as u64;
        (next < self.chunk.pieces).then_some(next)
    }
}

/// The part of a chunk to map: the arguments of mmap(2).
#[derive(Clone, Copy, Debug)]
pub struct MapArguments {
    /// The wanted address; only a hint without `MAP_FIXED`.
    pub address: *mut c_void,
    /// The length in bytes; not 0.
    pub len: usize,
    /// The access that the mapping allows.
    pub protection: ProtFlags,
    /// The flags of mmap(2).
    pub flags: MapFlags,
    /// The offset in the chunk, in bytes: whole pages.
    pub offset: u64,
}

impl MapArguments {
    fn end(&self) -> u64 {
        self.offset.saturating_add(self.len as u64)
    }

    fn is_fixed(&self) -> bool {
        self.flags.intersects(MapFlags::FIXED | MapFlags::FIXED_NOREPLACE)
    }
}

/// Maps the part `wanted` of a chunk, which must lie within it. `batch` has the first pieces,
/// `fetch` returns those from a number on.
///
/// A part of several pieces, or one that doesn't start at a whole granule, is mapped in whole
/// granules. Then up to a granule of the chunk before and after the part is mapped with it.
///
/// # Errors
///
/// Those of the system and of `fetch`; `EINVAL` when the address is fixed and whole granules can't
/// be mapped there.
///
/// # Safety
///
/// As of mmap(2): with `MAP_FIXED`, mappings at the address are replaced.
pub unsafe fn map(
    mut batch: PieceBatch,
    mut fetch: impl FnMut(u64) -> Result<PieceBatch, Errno>,
    wanted: &MapArguments,
) -> Result<*mut c_void, Errno> {
    let granule = batch.chunk.granule.max(1);
    // The part lies in the first piece: one call is enough.
    if wanted.offset.is_multiple_of(granule)
        && let Some(piece) = batch.pieces().next()
        && batch.chunk.first == 0
        && wanted.end() <= piece.len
    {
        let MapArguments { address, len, protection, flags, offset } = *wanted;
        // SAFETY: the caller vouches for the address.
        return unsafe { mmap(address, len, protection, flags, piece.file, piece.offset + offset) };
    }
    let start = wanted.offset - wanted.offset % granule;
    let end =
        wanted.end().checked_next_multiple_of(granule).ok_or(Errno::INVAL)?.min(batch.chunk.size);
    // SAFETY: the caller vouches for a fixed address.
    let reserved = unsafe { AddressReservation::new(wanted, granule, start, end) }?;
    let flags = wanted.flags.difference(MapFlags::FIXED_NOREPLACE) | MapFlags::FIXED;
    let mut piece_start = 0_u64;
    loop {
        for piece in batch.pieces() {
            let piece_end = piece_start.checked_add(piece.len).ok_or(Errno::PROTO)?;
            let (from, to) = (piece_start.max(start), piece_end.min(end));
            if from < to {
                let (address, len) = (reserved.address(from - start), (to - from) as usize);
                let offset = piece.offset + (from - piece_start);
                // SAFETY: the address and the length lie in the reserved range, or in the range
                // that the caller lets this replace.
                unsafe { mmap(address, len, wanted.protection, flags, piece.file, offset) }?;
            }
            piece_start = piece_end;
        }
        if piece_start >= end {
            return Ok(reserved.keep((wanted.offset - start) as usize));
        }
        batch = fetch(batch.next().ok_or(Errno::PROTO)?)?;
    }
}

/// A range of addresses that is reserved until the mapping is complete.
struct AddressReservation {
    base: *mut c_void,
    len: usize,
    /// Whether to unmap the range when the mapping can't be completed.
    unmap_on_drop: bool,
}

impl AddressReservation {
    /// Reserves `end - start` bytes at a multiple of `granule` bytes.
    ///
    /// # Safety
    ///
    /// The caller vouches for a fixed address.
    unsafe fn new(
        wanted: &MapArguments,
        granule: u64,
        start: u64,
        end: u64,
    ) -> Result<AddressReservation, Errno> {
        let (len, granule) = ((end - start) as usize, granule as usize);
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        if wanted.is_fixed() {
            let is_whole = start == wanted.offset && end == wanted.end();
            if !is_whole || !(wanted.address as usize).is_multiple_of(granule) {
                return Err(Errno::INVAL);
            }
            let unmap_on_drop = wanted.flags.contains(MapFlags::FIXED_NOREPLACE);
            if unmap_on_drop {
                let flags = flags | MapFlags::FIXED_NOREPLACE;
                // SAFETY: this replaces no mapping.
                unsafe { mmap_anonymous(wanted.address, len, ProtFlags::empty(), flags) }?;
            }
            return Ok(AddressReservation { base: wanted.address, len, unmap_on_drop });
        }
        let space = len.checked_add(granule).ok_or(Errno::NOMEM)?;
        // SAFETY: the kernel chooses unused addresses.
        let found = unsafe { mmap_anonymous(wanted.address, space, ProtFlags::empty(), flags) }?;
        let before = (found as usize).next_multiple_of(granule) - found as usize;
        let base = found.wrapping_byte_add(before);
        if before > 0 {
            // SAFETY: the unused head of the range that was just mapped.
            unsafe { munmap(found, before) }?;
        }
        let after = space - before - len;
        if after > 0 {
            // SAFETY: the unused tail of the range that was just mapped.
            unsafe { munmap(base.wrapping_byte_add(len), after) }?;
        }
        Ok(AddressReservation { base, len, unmap_on_drop: true })
    }

    fn address(&self, offset: u64) -> *mut c_void {
        self.base.wrapping_byte_add(offset as usize)
    }

    /// Ends the reservation after the mapping is complete. Returns the address at `offset`.
    fn keep(mut self, offset: usize) -> *mut c_void {
        self.unmap_on_drop = false;
        self.base.wrapping_byte_add(offset)
    }
}

impl Drop for AddressReservation {
    fn drop(&mut self) {
        if self.unmap_on_drop {
            let base = std::mem::replace(&mut self.base, ptr::null_mut());
            // SAFETY: the range was mapped here, and its address was not returned.
            let _ = unsafe { munmap(base, self.len) };
        }
    }
}
