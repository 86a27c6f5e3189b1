//! Mapped memory: the one place that calls `mmap`.

use crate::refusal::refused;
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

// SAFETY: it owns its range of addresses, which every thread sees alike. Reaching the bytes is
// `bytes`' and `bytes_mut`'s, which leave it to their callers to keep threads apart.
unsafe impl Send for Mapping {}

// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// The first `len` bytes of `file`, shared with everybody who has it mapped.
    pub(crate) fn of(file: impl AsFd, len: usize) -> Result<Self, MemoryError> {
        // SAFETY: the kernel chooses addresses where nothing is.
        let start = unsafe { mmap(ptr::null_mut(), len, READ_WRITE, MapFlags::SHARED, file, 0) };
        Ok(Mapping::owning(start.map_err(refused("mmap"))?, len))
    }

    /// `len` addresses from a multiple of `step` on, with nothing behind them. Both are multiples
    /// of the machine's page.
    pub(crate) fn of_nothing(len: usize, step: usize) -> Result<Self, MemoryError> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: the kernel chooses addresses where nothing is.
        let wide =
            unsafe { mmap_anonymous(ptr::null_mut(), len + step, ProtFlags::empty(), flags) };
        let wide = Mapping::owning(wide.map_err(refused("mmap"))?, len + step);
        let before = wide.address().next_multiple_of(step) - wide.address();
        let (before, rest) = wide.split(before);
        let (mapping, behind) = rest.split(len);
        drop((before, behind));
        Ok(mapping)
    }

    /// Puts the first bytes of `file` at `place`, which is a part of this mapping made of whole
    /// pages of that file.
    pub(crate) fn place(
        &mut self,
        place: Range<usize>,
        file: impl AsFd,
    ) -> Result<(), MemoryError> {
        // SAFETY: no reference into it exists, as `self` is borrowed exclusively.
        unsafe { self.replace(place, file) }
    }

    /// The same while other parts are in use.
    ///
    /// # Safety
    ///
    /// No byte of `place` is borrowed.
    pub(crate) unsafe fn replace(
        &self,
        place: Range<usize>,
        file: impl AsFd,
    ) -> Result<(), MemoryError> {
        let at = self.pointer(&place).as_ptr();
        // SAFETY: what is replaced is this mapping's own; that no reference into it exists is the
        // caller's word.
        let placed = unsafe {
            mmap(at.cast(), place.len(), READ_WRITE, MapFlags::SHARED | MapFlags::FIXED, file, 0)
        };
        placed.map(|_| ()).map_err(refused("mmap"))
    }

    /// Sees to it that every page of `part` is there, so that touching it can't fail.
    pub(crate) fn populate(&self, part: Range<usize>) -> Result<(), MemoryError> {
        let at = self.pointer(&part).as_ptr();
        // SAFETY: it changes no byte: pages that are there stay as they are.
        unsafe { madvise(at.cast(), part.len(), Advice::LinuxPopulateWrite) }
            .map_err(refused("madvise"))
    }

    /// Where it starts in this process's address space.
    pub(crate) fn address(&self) -> usize {
        self.start.addr().get()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// A part of it.
    ///
    /// # Safety
    ///
    /// Files are mapped throughout `part` and keep their pages, and nobody writes to it, as long as
    /// the bytes are borrowed.
    pub(crate) unsafe fn bytes(&self, part: Range<usize>) -> &[u8] {
        // SAFETY: `pointer` has checked that the part lies in this mapping; the rest is the
        // caller's word.
        unsafe { std::slice::from_raw_parts(self.pointer(&part).as_ptr(), part.len()) }
    }

    /// A part of it, to be written to.
    ///
    /// # Safety
    ///
    /// Files are mapped throughout `part` and keep their pages, and nobody else reads or writes it,
    /// as long as the bytes are borrowed.
    #[allow(
        clippy::mut_from_ref,
        reason = "the owners of different parts share the mapping; that they are different is the caller's word"
    )]
    pub(crate) unsafe fn bytes_mut(&self, part: Range<usize>) -> &mut [u8] {
        // SAFETY: `pointer` has checked that the part lies in this mapping; the rest is the
        // caller's word.
        unsafe { std::slice::from_raw_parts_mut(self.pointer(&part).as_ptr(), part.len()) }
    }

    /// Where `part` starts.
    fn pointer(&self, part: &Range<usize>) -> NonNull<u8> {
        assert!(
            part.start <= part.end && part.end <= self.len,
            "{part:?} is no part of {} bytes",
            self.len
        );
        // SAFETY: the start of a part of the mapping is in it or one past its end.
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
            // SAFETY: the range is this mapping's own, and bytes of it are borrowed from it.
            let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
            debug_assert!(unmapped.is_ok(), "{unmapped:?}");
        }
    }
}

const READ_WRITE: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);
