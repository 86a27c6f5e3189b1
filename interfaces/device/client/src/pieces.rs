//! The pieces of memory that make up a chunk, and how they become one mapping.

use crate::line::NoAnswer;
use cma_device_protocol::Chunk;
use cma_device_protocol::wire::Descriptors;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use std::ffi::c_void;
use std::ptr;

/// Pieces of a chunk's memory, as many as came with one answer.
#[derive(Debug)]
pub struct Batch {
    chunk: Chunk,
    descriptors: Descriptors,
}

/// A piece of memory.
#[derive(Clone, Copy, Debug)]
pub struct Part<'b> {
    /// Its file.
    pub file: BorrowedFd<'b>,
    /// Where in the file it starts, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
}

impl Batch {
    /// What came as an answer to who asked for the pieces from number `first` on, if it makes
    /// sense.
    ///
    /// # Errors
    ///
    /// [`NoAnswer::Other`] when it doesn't.
    pub fn new(chunk: Chunk, descriptors: Descriptors, first: u64) -> Result<Self, NoAnswer> {
        let mut count = 0_u64;
        for extent in &chunk.extents {
            count = count.checked_add(extent.count).ok_or(NoAnswer::Other)?;
            let end = extent.offset.checked_add(extent.len).ok_or(NoAnswer::Other)?;
            if end > i64::MAX as u64 || extent.len == 0 {
                return Err(NoAnswer::Other);
            }
        }
        // Where there are pieces one comes at least, so that who asks on comes to an end.
        let all_there = match chunk.pieces {
            0 => count == 0,
            pieces => count > 0 && chunk.first.checked_add(count).is_some_and(|end| end <= pieces),
        };
        let sound = all_there
            && count == descriptors.len() as u64
            && chunk.first == first
            && (chunk.granule == 0 || chunk.granule.is_power_of_two());
        if sound { Ok(Batch { chunk, descriptors }) } else { Err(NoAnswer::Other) }
    }

    /// What the answer said.
    pub fn chunk(&self) -> &Chunk {
        &self.chunk
    }

    /// The pieces, in order.
    pub fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let places = self.chunk.extents.iter();
        let places =
            places.flat_map(|extent| (0..extent.count).map(|_| (extent.offset, extent.len)));
        self.descriptors.iter().zip(places).map(|(file, (offset, len))| Part {
            file: file.as_fd(),
            offset,
            len,
        })
    }

    /// The pieces' files, in order, with their places: offset and length in bytes.
    pub(crate) fn into_parts(self) -> impl Iterator<Item = (OwnedFd, u64, u64)> {
        let places = self.chunk.extents.into_iter();
        let places =
            places.flat_map(|extent| (0..extent.count).map(move |_| (extent.offset, extent.len)));
        self.descriptors.into_iter().zip(places).map(|(file, (offset, len))| (file, offset, len))
    }

    /// The number of the piece behind the last one here; `None` when there is none.
    pub fn next(&self) -> Option<u64> {
        let next = self.chunk.first + self.descriptors.len() as u64;
        (next < self.chunk.pieces).then_some(next)
    }
}

/// A part of a chunk that is to be mapped: the arguments of mmap(2).
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Where one would like it, or with `MAP_FIXED` has to have it.
    pub address: *mut c_void,
    /// Its length in bytes; not 0.
    pub len: usize,
    /// What may be done with it.
    pub protection: ProtFlags,
    /// How.
    pub flags: MapFlags,
    /// Where in the chunk it starts, in bytes: whole pages.
    pub offset: u64,
}

impl Window {
    fn end(&self) -> u64 {
        self.offset.saturating_add(self.len as u64)
    }

    fn is_fixed(&self) -> bool {
        self.flags.intersects(MapFlags::FIXED | MapFlags::FIXED_NOREPLACE)
    }
}

/// Maps the part of a chunk that `window` says, which must lie within it. `batch` has the first
/// pieces, `fetch` brings those from a number on.
///
/// Memory of several pieces, and a part that doesn't start at a whole granule, is mapped in whole
/// granules, and a little of the chunk before and behind the window may be mapped with it.
///
/// # Errors
///
/// What the system or `fetch` says; `EINVAL` when the address is fixed and the granule doesn't fit
/// there.
///
/// # Safety
///
/// As of mmap(2): with `MAP_FIXED`, what is mapped there goes.
pub unsafe fn map(
    mut batch: Batch,
    mut fetch: impl FnMut(u64) -> Result<Batch, Errno>,
    window: &Window,
) -> Result<*mut c_void, Errno> {
    let granule = batch.chunk.granule.max(1);
    // All in one piece, and the kernel is asked once.
    if window.offset.is_multiple_of(granule)
        && let Some(part) = batch.parts().next()
        && batch.chunk.first == 0
        && window.end() <= part.len
    {
        let Window { address, len, protection, flags, offset } = *window;
        // SAFETY: the caller answers for the address.
        return unsafe { mmap(address, len, protection, flags, part.file, part.offset + offset) };
    }
    let start = window.offset - window.offset % granule;
    let end =
        window.end().checked_next_multiple_of(granule).ok_or(Errno::INVAL)?.min(batch.chunk.size);
    // SAFETY: the caller answers for a fixed address.
    let place = unsafe { Place::reserve(window, granule, start, end) }?;
    let flags = window.flags.difference(MapFlags::FIXED_NOREPLACE) | MapFlags::FIXED;
    let mut at = 0_u64;
    loop {
        for part in batch.parts() {
            let behind = at.checked_add(part.len).ok_or(Errno::PROTO)?;
            let (from, to) = (at.max(start), behind.min(end));
            if from < to {
                let (address, len) = (place.address(from - start), (to - from) as usize);
                let offset = part.offset + (from - at);
                // SAFETY: the address is in the place that was reserved, or that the caller gave
                // up, and the length doesn't reach beyond it.
                unsafe { mmap(address, len, window.protection, flags, part.file, offset) }?;
            }
            at = behind;
        }
        if at >= end {
            return Ok(place.keep((window.offset - start) as usize));
        }
        batch = fetch(batch.next().ok_or(Errno::PROTO)?)?;
    }
}

/// Addresses that are set aside for a mapping, until it is done.
struct Place {
    base: *mut c_void,
    len: usize,
    /// Whether they are to be given back when the mapping is not done.
    ours: bool,
}

impl Place {
    /// Sets `end - start` bytes aside, at a multiple of `granule` bytes.
    ///
    /// # Safety
    ///
    /// The caller answers for a fixed address.
    unsafe fn reserve(window: &Window, granule: u64, start: u64, end: u64) -> Result<Place, Errno> {
        let (len, granule) = ((end - start) as usize, granule as usize);
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        if window.is_fixed() {
            let whole = start == window.offset && end == window.end();
            if !whole || !(window.address as usize).is_multiple_of(granule) {
                return Err(Errno::INVAL);
            }
            let ours = window.flags.contains(MapFlags::FIXED_NOREPLACE);
            if ours {
                let flags = flags | MapFlags::FIXED_NOREPLACE;
                // SAFETY: nothing that is mapped there goes.
                unsafe { mmap_anonymous(window.address, len, ProtFlags::empty(), flags) }?;
            }
            return Ok(Place { base: window.address, len, ours });
        }
        let room = len.checked_add(granule).ok_or(Errno::NOMEM)?;
        // SAFETY: new addresses, wherever the kernel likes.
        let found = unsafe { mmap_anonymous(window.address, room, ProtFlags::empty(), flags) }?;
        let before = (found as usize).next_multiple_of(granule) - found as usize;
        let base = found.wrapping_byte_add(before);
        if before > 0 {
            // SAFETY: the part of the new addresses before the place.
            unsafe { munmap(found, before) }?;
        }
        let behind = room - before - len;
        if behind > 0 {
            // SAFETY: the part of the new addresses behind the place.
            unsafe { munmap(base.wrapping_byte_add(len), behind) }?;
        }
        Ok(Place { base, len, ours: true })
    }

    fn address(&self, offset: u64) -> *mut c_void {
        self.base.wrapping_byte_add(offset as usize)
    }

    /// The mapping is done: the address of what was asked for.
    fn keep(mut self, offset: usize) -> *mut c_void {
        self.ours = false;
        self.base.wrapping_byte_add(offset)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.ours {
            let base = std::mem::replace(&mut self.base, ptr::null_mut());
            // SAFETY: these addresses were set aside here, and nobody was told of them.
            let _ = unsafe { munmap(base, self.len) };
        }
    }
}
