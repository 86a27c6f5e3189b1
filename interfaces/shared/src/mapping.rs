//! Files mapped one behind the other.

use rustix::fs::{SealFlags, fcntl_get_seals, fstat, fstatfs};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use rustix::param::page_size;
use std::ffi::c_void;
use std::io;
use std::os::fd::AsFd;
use std::ptr;

/// A part of a chunk's memory: the `len` bytes at byte `offset` of a file. Both are multiples of
/// the file's page.
#[derive(Clone, Copy, Debug)]
pub struct FilePart<F> {
    /// The file, open for reading and writing.
    pub file: F,
    /// The offset in the file, in bytes.
    pub offset: u64,
    /// The length in bytes.
    pub len: u64,
}

impl<F: AsFd> FilePart<F> {
    /// Checks that the part can be mapped safely: that an access to it can't end beyond its file,
    /// now or later, and that the kernel maps no more than it. It is number `index` of its chunk,
    /// from 0. Returns the file's page in bytes, or the machine's if that is larger.
    ///
    /// # Errors
    ///
    /// [`MapError`], except [`MapError::Length`].
    pub fn check(&self, index: usize) -> Result<usize, MapError> {
        let FilePart { ref file, offset, len } = *self;
        let seals = match fcntl_get_seals(file) {
            // The file is of a kind that has no seals.
            Err(Errno::INVAL) => SealFlags::empty(),
            seals => seals.map_err(system("fcntl(F_GET_SEALS)"))?,
        };
        if !seals.contains(SealFlags::SHRINK) {
            return Err(MapError::NotSealed { index });
        }
        let stat = fstat(file).map_err(system("fstat"))?;
        let (end, size) = (offset.saturating_add(len), stat.st_size as u64);
        if end > size {
            return Err(MapError::TooShort { index, end, size });
        }
        // Files with seals are in memory, and the block of their file system is the page.
        let page = fstatfs(file).map_err(system("fstatfs"))?.f_bsize as u64;
        if !offset.is_multiple_of(page) || !len.is_multiple_of(page) {
            return Err(MapError::NotWholePages { index, offset, len, page });
        }
        // The block of a file of huge pages is its page.
        Ok((stat.st_blksize as usize).max(page_size()).next_power_of_two())
    }
}

/// Why files can't be mapped. Nothing is mapped then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// Who has the file can shrink it, and an access beyond its end would kill this process
    /// (`SIGBUS`).
    #[error("part {index} of the chunk is a file that is not sealed against shrinking")]
    NotSealed {
        /// The number of the part, from 0.
        index: usize,
    },
    /// The part is not within its file.
    #[error("part {index} of the chunk ends at byte {end} of a file of {size} bytes")]
    TooShort {
        /// The number of the part, from 0.
        index: usize,
        /// The end of the part in its file, in bytes.
        end: u64,
        /// The size of the file in bytes.
        size: u64,
    },
    /// The part does not start and end at pages of its file. The kernel maps whole pages, and would
    /// map more than the part.
    #[error(
        "part {index} of the chunk, {len} bytes at byte {offset}, is not whole pages of {page} bytes"
    )]
    NotWholePages {
        /// The number of the part, from 0.
        index: usize,
        /// The offset of the part in its file, in bytes.
        offset: u64,
        /// The length of the part in bytes.
        len: u64,
        /// The size of the file's pages in bytes.
        page: u64,
    },
    /// The parts are shorter or longer than the chunk.
    #[error("the parts of a chunk of {expected} bytes have {found} bytes")]
    Length {
        /// The size of the chunk in bytes.
        expected: u64,
        /// The size of the parts up to the one that exceeds it, or of all.
        found: u64,
    },
    /// A system call failed.
    #[error("{call}: {source}")]
    System {
        /// The call.
        call: &'static str,
        /// Its error.
        source: io::Error,
    },
}

fn system(call: &'static str) -> impl Fn(Errno) -> MapError {
    move |errno| MapError::System { call, source: errno.into() }
}

/// A range of this process's addresses at which files are mapped, until it is dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: *mut c_void,
    len: usize,
}

// SAFETY: it owns its range of addresses, which is the same for every thread, and gives access to
// the bytes by pointers alone.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `parts`, which have `len` bytes together. Each is taken when the one before is mapped,
    /// so no more than two descriptors need to be open.
    pub(crate) fn new<F, E>(
        len: u64,
        parts: impl IntoIterator<Item = Result<FilePart<F>, E>>,
    ) -> Result<Self, E>
    where
        F: AsFd,
        E: From<MapError>,
    {
        let mut parts = parts.into_iter().enumerate();
        let mut found = 0_u64;
        let mut mapping: Option<Mapping> = None;
        for (index, part) in &mut parts {
            let part = part?;
            let page = part.check(index)?;
            let FilePart { file, offset, len: part_len } = part;
            let at = found;
            found = found.saturating_add(part_len);
            if found > len {
                return Err(MapError::Length { expected: len, found }.into());
            }
            let whole = match mapping.take() {
                Some(whole) => whole,
                None => Mapping::reserve(len, page)?,
            };
            let start = whole.start.wrapping_byte_add(at as usize);
            let flags = MapFlags::SHARED | MapFlags::FIXED;
            // SAFETY: the range lies in the reservation, which nothing else uses.
            unsafe { mmap(start, part_len as usize, READ_WRITE, flags, &file, offset) }
                .map_err(system("mmap"))?;
            mapping = Some(whole);
        }
        match mapping {
            Some(whole) if found == len => Ok(whole),
            _ => Err(MapError::Length { expected: len, found }.into()),
        }
    }

    /// Reserves `len` addresses from a multiple of `page` on.
    fn reserve(len: u64, page: usize) -> Result<Self, MapError> {
        let too_long = || system("mmap")(Errno::NOMEM);
        let len = usize::try_from(len).map_err(|_| too_long())?;
        let space = len.checked_add(page).ok_or_else(too_long)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: the kernel chooses unused addresses.
        let found = unsafe { mmap_anonymous(ptr::null_mut(), space, ProtFlags::empty(), flags) }
            .map_err(system("mmap"))?;
        let before = found.addr().next_multiple_of(page) - found.addr();
        let start = found.wrapping_byte_add(before);
        drop(Mapping { start: found, len: before });
        drop(Mapping { start: start.wrapping_byte_add(len), len: space - before - len });
        Ok(Mapping { start, len })
    }

    pub(crate) fn start(&self) -> *mut u8 {
        self.start.cast()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: the range is this mapping's, and no borrow of its bytes outlives it.
            let _ = unsafe { munmap(self.start, self.len) };
        }
    }
}

const READ_WRITE: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);
