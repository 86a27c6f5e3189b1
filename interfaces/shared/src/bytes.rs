//! A part of a chunk that other processes have, too, as bytes and as words.

use crate::copy;
use crate::mapping::{FilePart, MapError, Mapping};
use std::fmt;
use std::ops::{Deref, Range};
use std::os::fd::AsFd;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32};

/// Bytes that other processes, and devices, may read and write at any time.
///
/// They are mapped as long as any part of them exists. A mapping keeps the memory, not the chunk:
/// the chunk is freed as if it were not mapped.
///
/// With huge pages, an access to a page that another process punched out of its file
/// (`fallocate(2)`) kills this process (`SIGBUS`) if the pool has no page for it.
pub struct SharedBytes(Part);

/// Words that other processes may read and write at any time: positions and flags of a ring, or
/// futexes (`futex(2)` without `FUTEX_PRIVATE_FLAG`).
///
/// They are mapped as long as any part of them exists, as [`SharedBytes`] are.
pub struct SharedWords(Part);

/// A range of a mapping that no other part has.
struct Part {
    mapping: Arc<Mapping>,
    range: Range<usize>,
}

impl Part {
    fn start(&self) -> *mut u8 {
        self.mapping.start().wrapping_add(self.range.start)
    }

    /// The addresses in this process.
    fn fmt(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{name}({:p}, {} bytes)", self.start(), self.range.len())
    }
}

impl SharedBytes {
    /// Maps a chunk of `len` bytes: `parts` in their order. Each part is taken when the one before
    /// is mapped, and its file may be closed afterwards.
    ///
    /// # Errors
    ///
    /// [`MapError`], and the errors of `parts`.
    pub fn map<F, E>(
        len: u64,
        parts: impl IntoIterator<Item = Result<FilePart<F>, E>>,
    ) -> Result<Self, E>
    where
        F: AsFd,
        E: From<MapError>,
    {
        let mapping = Arc::new(Mapping::new(len, parts)?);
        Ok(SharedBytes(Part { range: 0..mapping.len(), mapping }))
    }

    /// The first `at` bytes, and the others.
    ///
    /// # Panics
    ///
    /// When there are fewer bytes.
    pub fn split_at(self, at: usize) -> (SharedBytes, SharedBytes) {
        let Part { mapping, range } = self.0;
        assert!(at <= range.len(), "byte {at} is not within {} bytes", range.len());
        let middle = range.start + at;
        let first = Part { mapping: mapping.clone(), range: range.start..middle };
        (SharedBytes(first), SharedBytes(Part { mapping, range: middle..range.end }))
    }

    /// The same memory as words, in this machine's byte order.
    ///
    /// # Panics
    ///
    /// When the bytes don't begin and end at multiples of 4 from the chunk's start.
    pub fn into_words(self) -> SharedWords {
        let Range { start, end } = self.0.range;
        assert!(
            start.is_multiple_of(WORD) && end.is_multiple_of(WORD),
            "bytes {start} to {end} of a chunk are not whole words of {WORD} bytes"
        );
        SharedWords(self.0)
    }

    /// Copies the bytes from `offset` on into `to`. What another process writes meanwhile is copied
    /// in part.
    ///
    /// # Panics
    ///
    /// When there are fewer bytes.
    pub fn read(&self, offset: usize, to: &mut [u8]) {
        copy::load(self.within(offset, to.len()), to);
    }

    /// Copies `from` to the bytes from `offset` on. Another process that reads them meanwhile sees
    /// some of the new ones.
    ///
    /// # Panics
    ///
    /// When there are fewer bytes.
    pub fn write(&self, offset: usize, from: &[u8]) {
        copy::store(from, self.within(offset, from.len()));
    }

    fn within(&self, offset: usize, len: usize) -> &[AtomicU8] {
        let bytes: &[AtomicU8] = self;
        match offset.checked_add(len).and_then(|end| bytes.get(offset..end)) {
            Some(bytes) => bytes,
            None => panic!("{len} bytes at {offset} are not within {} bytes", bytes.len()),
        }
    }

    /// The address in this process, for C code and for the kernel (`io_uring`, VFIO).
    pub fn as_ptr(&self) -> *mut u8 {
        self.0.start()
    }

    /// The bytes as a plain slice.
    ///
    /// # Safety
    ///
    /// As long as the slice exists, nothing writes to these bytes: no other process, no device, no
    /// thread of this process by the atomics of `self`. A lock that all of them respect, or the
    /// positions of a ring, are a reason; that no other process has a descriptor any more is none
    /// (see the [crate]).
    pub unsafe fn as_slice(&self) -> &[u8] {
        // SAFETY: mapped and initialised (files start as zero) as long as `self` is borrowed. The
        // caller guarantees the rest.
        unsafe { slice::from_raw_parts(self.0.start(), self.0.range.len()) }
    }

    /// The bytes as a plain slice for writing.
    ///
    /// # Safety
    ///
    /// As long as the slice exists, nothing else reads or writes these bytes, as with
    /// [`as_slice`](Self::as_slice).
    pub unsafe fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and no other part of the mapping has these bytes.
        unsafe { slice::from_raw_parts_mut(self.0.start(), self.0.range.len()) }
    }
}

impl Deref for SharedBytes {
    type Target = [AtomicU8];

    fn deref(&self) -> &[AtomicU8] {
        // SAFETY: mapped, writable and initialised as long as `self` is borrowed. The other access
        // of this process is by slices whose callers exclude this one.
        unsafe { slice::from_raw_parts(self.0.start().cast(), self.0.range.len()) }
    }
}

impl Deref for SharedWords {
    type Target = [AtomicU32];

    fn deref(&self) -> &[AtomicU32] {
        // SAFETY: mapped, writable and initialised as long as `self` is borrowed, and accessed by
        // this process as words alone. `into_words` has checked that the range is of whole words
        // from the start of a page.
        unsafe { slice::from_raw_parts(self.0.start().cast(), self.0.range.len() / WORD) }
    }
}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt("SharedBytes", f)
    }
}

impl fmt::Debug for SharedWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt("SharedWords", f)
    }
}

const WORD: usize = size_of::<AtomicU32>();
