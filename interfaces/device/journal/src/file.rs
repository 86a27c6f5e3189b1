//! The file of a journal, and its mapping.

use crate::layout::{self, Layout, MAX_SLOTS};
use crate::words::Words;
use cma_shared::{FilePart, MapError, SharedBytes, SharedWords};
use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, fstat, ftruncate,
    memfd_create,
};
use rustix::io::Errno;
use rustix::param::page_size;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

/// Why there is no file for a journal, or why it can't be mapped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The number of slots is 0 or exceeds [`MAX_SLOTS`].
    #[error("a journal has 1 to {MAX_SLOTS} slots, not {slots}")]
    Slots {
        /// The number.
        slots: u32,
    },
    /// The file has no size that a journal can have.
    #[error("a file of {bytes} bytes is no journal; the largest has {} bytes", layout::MAX_BYTES)]
    Size {
        /// The size of the file in bytes.
        bytes: u64,
    },
    /// The file can't be mapped.
    #[error("the file of the journal can't be mapped: {0}")]
    Map(#[from] MapError),
    /// A system call failed.
    #[error("{call}: {source}")]
    System {
        /// The call.
        call: &'static str,
        /// Its error.
        source: io::Error,
    },
}

fn system(call: &'static str) -> impl Fn(Errno) -> FileError {
    move |errno| FileError::System { call, source: errno.into() }
}

/// A file in memory for a journal of at least that many slots, of 640 bytes each. It consists of
/// whole pages, has all its memory, and is sealed against growing and shrinking. Its words are 0.
///
/// # Errors
///
/// [`FileError::Slots`], or the error of a system call: there is not enough memory, or no
/// descriptor.
pub fn create_file(slots: u32) -> Result<OwnedFd, FileError> {
    let words = layout::words_for(slots).ok_or(FileError::Slots { slots })?;
    let bytes = (words as u64 * 4).next_multiple_of(page_size() as u64);
    let file = memfd_create("cma:journal", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(system("memfd_create"))?;
    ftruncate(&file, bytes).map_err(system("ftruncate"))?;
    // A store to a page that the kernel can't provide would kill the server (`SIGBUS`).
    fallocate(&file, FallocateFlags::empty(), 0, bytes).map_err(system("fallocate"))?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    fcntl_add_seals(&file, seals).map_err(system("fcntl(F_ADD_SEALS)"))?;
    Ok(file)
}

/// The words of a mapped file, as many as the largest journal in it has. Loads are acquire loads
/// and stores are release stores.
#[derive(Debug)]
pub struct Mapped {
    words: SharedWords,
    len: usize,
}

impl Mapped {
    /// Maps a file that [`create_file`] made. The mapping stays valid without the descriptor.
    ///
    /// # Errors
    ///
    /// [`FileError`], for a file that another program made too.
    pub fn new(file: impl AsFd) -> Result<Self, FileError> {
        let file = file.as_fd();
        let bytes = fstat(file).map_err(system("fstat"))?.st_size as u64;
        let words = usize::try_from(bytes / 4).unwrap_or(usize::MAX);
        let largest = Layout::within(words).filter(|_| bytes <= layout::MAX_BYTES);
        let len = largest.ok_or(FileError::Size { bytes })?.words();
        let part = FilePart { file, offset: 0, len: bytes };
        let bytes = SharedBytes::map(bytes, [Ok::<_, MapError>(part)])?;
        Ok(Mapped { words: bytes.into_words(), len })
    }
}

impl Words for Mapped {
    fn len(&self) -> usize {
        self.len
    }

    fn load(&self, index: usize) -> u32 {
        self.words[index].load(Ordering::Acquire)
    }

    fn store(&mut self, index: usize, word: u32) {
        self.words[index].store(word, Ordering::Release);
    }
}
