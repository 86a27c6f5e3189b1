//! Mapped memory: the only place that calls `mmap`.

use crate::system::system_error;
use cma_framework::MemoryError;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use std::ops::Range;
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};

/// A range of this process's addresses, mapped until it is dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: it owns its range of addresses, which is the same for every thread. The bytes are only
// accessed through `bytes` and `bytes_mut`, whose callers keep threads apart.
unsafe impl Send for Mapping {}

// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of `file`, shared with other mappings of it.
    pub(crate) fn of(file: impl AsFd, len: usize) -> Result<Self, MemoryError> {
        // SAFETY: the kernel chooses unused addresses.
        let start = unsafe { mmap(ptr::null_mut(), len, READ_WRITE, MapFlags::SHARED, file, 0) };
        Ok(Mapping::owning(start.map_err(system_error("mmap"))?, len))
    }

    /// Maps `len` bytes of `file`, which has huge pages, from byte `offset` on. Takes no page out
    /// of the pool.
    pub(crate) fn of_huge_pages(
        file: impl AsFd,
        offset: u64,
        len: usize,
    ) -> Result<Self, MemoryError> {
        // SAFETY: the kernel chooses unused addresses.
        let start = unsafe { mmap(ptr::null_mut(), len, READ_WRITE, ON_USE, file, offset) };
        Ok(Mapping::owning(start.map_err(system_error("mmap"))?, len))
    }

    /// Reserves `len` addresses from a multiple of `step` on, without memory. Both are multiples of
    /// the machine's page.
    pub(crate) fn reserved(len: usize, step: usize) -> Result<Self, MemoryError> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: the kernel chooses unused addresses.
        let wide =
            unsafe { mmap_anonymous(ptr::null_mut(), len + step, ProtFlags::empty(), flags) };
        let wide = Mapping::owning(wide.map_err(system_error("mmap"))?, len + step);
        let before = wide.address().next_multiple_of(step) - wide.address();
        let (before, rest) = wide.split(before);
        let (mapping, after) = rest.split(len);
        drop((before, after));
        Ok(mapping)
    }

    /// Maps `file`, which has huge pages, from byte `offset` on at `place`, a part of this mapping
    /// that consists of whole huge pages. Takes no page out of the pool.
    ///
    /// # Safety
    ///
    /// No byte of `place` is borrowed.
    pub(crate) unsafe fn replace(
        &self,
        place: Range<usize>,
        file: impl AsFd,
        offset: u64,
    ) -> Result<(), MemoryError> {
        let (at, flags) = (self.pointer(&place).as_ptr(), ON_USE | MapFlags::FIXED);
        // SAFETY: the replaced addresses belong to this mapping; the caller guarantees that no
        // reference into them exists.
        let placed = unsafe { mmap(at.cast(), place.len(), READ_WRITE, flags, file, offset) };
        placed.map(|_| ()).map_err(system_error("mmap"))
    }

    /// Allocates every page of `part`, so that access to it can't fail.
    pub(crate) fn populate(&self, part: Range<usize>) -> Result<(), MemoryError> {
        let at = self.pointer(&part).as_ptr();
        // SAFETY: it changes no byte: present pages stay as they are.
        unsafe { madvise(at.cast(), part.len(), Advice::LinuxPopulateWrite) }
            .map_err(system_error("madvise"))
    }

    /// Its start in this process's address space.
    pub(crate) fn address(&self) -> usize {
        self.start.addr().get()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The bytes of `part`.
    ///
    /// # Safety
    ///
    /// Files are mapped throughout `part` and keep their pages, and nothing writes to it, as long
    /// as the bytes are borrowed.
    pub(crate) unsafe fn bytes(&self, part: Range<usize>) -> &[u8] {
        // SAFETY: `pointer` has checked that the part lies in this mapping; the caller guarantees
        // the rest.
        unsafe { std::slice::from_raw_parts(self.pointer(&part).as_ptr(), part.len()) }
    }

    /// The bytes of `part`, for writing.
    ///
    /// # Safety
    ///
    /// Files are mapped throughout `part` and keep their pages, and nothing else reads or writes
    /// it, as long as the bytes are borrowed.
    #[allow(
        clippy::mut_from_ref,
        reason = "the owners of different parts share the mapping; the caller guarantees that parts don't overlap"
    )]
    pub(crate) unsafe fn bytes_mut(&self, part: Range<usize>) -> &mut [u8] {
        // SAFETY: `pointer` has checked that the part lies in this mapping; the caller guarantees
        // the rest.
        unsafe { std::slice::from_raw_parts_mut(self.pointer(&part).as_ptr(), part.len()) }
    }

    /// The start of `part`.
    fn pointer(&self, part: &Range<usize>) -> NonNull<u8> {
        assert!(
            part.start <= part.end && part.end <= self.len,
            "{part:?} is not within {} bytes",
            self.len
        );
        // SAFETY: the start of a part is within the mapping or one past its end.
        unsafe { self.start.add(part.start) }
    }

    fn owning(start: *mut std::ffi::c_void, len: usize) -> Self {
        let start =
            NonNull::new(start.cast()).unwrap_or_else(|| unreachable!("page 0 is never chosen"));
        Mapping { start, len }
    }

    /// The first `at` bytes, and the others.
    fn split(self, at: usize) -> (Self, Self) {
        let upper = Mapping { start: self.pointer(&(at..at)), len: self.len - at };
        let lower = Mapping { start: self.start, len: at };
        std::mem::forget(self);
        (lower, upper)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: the range belongs to this mapping, whose borrows have all ended.
            let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
            debug_assert!(unmapped.is_ok(), "{unmapped:?}");
        }
    }
}

const READ_WRITE: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

/// A mapping whose pages are taken out of the pool when they are used, and not reserved before.
const ON_USE: MapFlags = MapFlags::SHARED.union(MapFlags::NORESERVE);
