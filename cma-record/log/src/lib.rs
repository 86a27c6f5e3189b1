//! The *log*: the file in which the preload library of every recorded process writes its events,
//! and which the runner reads. Both sides use this crate, so they agree on each word.
//!
//! The file consists of 64-bit words in the machine's byte order. All processes map it shared, so
//! whatever a process wrote before it was killed stays there. It has
//!
//! 1. the [header], one page;
//! 2. the table of processes: a word for each, by its number ([`process_word`]);
//! 3. [`SLOTS`] slots of [`SLOT_WORDS`] words, an event each. [`header::NEXT`] is the first slot
//!    that no process has reserved. The order of the slots is the order of the events of all
//!    processes.
//!
//! The file is sparse. [`header::READY`] is the first slot that may have no space on the disk yet.
//! A process makes space before it writes, because a write to a mapping without space is a signal.

#![forbid(unsafe_code)]

mod event;

pub use event::{Event, NAME_PART, Stamp};

/// The variable that names the log, for processes that are recorded.
pub const PATH_VARIABLE: &str = "CMA_RECORD";

/// The words of the header.
pub mod header {
    /// [`super::MAGIC`].
    pub const MAGIC: usize = 0;
    /// The size in bytes of the smallest buffers that are recorded.
    pub const AT_LEAST: usize = 1;
    /// What devices are named after: [`super::BY_LIBRARY`] or [`super::BY_THREAD`].
    pub const NAMING: usize = 2;
    /// The inode of the runner's namespace of process ids.
    pub const NAMESPACE: usize = 3;
    /// Nonzero when the recording has ended.
    pub const STOPPED: usize = 4;
    /// The number of the first error of the system (errno) that kept a process from making space.
    pub const FAULT: usize = 5;
    /// The first slot that no process has reserved. Alone in its cache line.
    pub const NEXT: usize = 8;
    /// The first slot that may have no space on the disk. Alone in its cache line.
    pub const READY: usize = 16;
    /// The number of processes so far; they are numbered from 1.
    pub const PROCESSES: usize = 24;
    /// The number of events that found no space.
    pub const LOST: usize = 25;
    /// The number of processes whose memory allocator has no `malloc_usable_size`, so that only
    /// their mappings were recorded.
    pub const UNKNOWN_ALLOCATORS: usize = 26;
}

/// The first word of a log, which changes with its layout.
pub const MAGIC: u64 = u64::from_le_bytes(*b"cmalog01");

/// Devices are named after the libraries that request.
pub const BY_LIBRARY: u64 = 0;
/// Devices are named after the threads that request.
pub const BY_THREAD: u64 = 1;

const HEADER_WORDS: usize = 512;
/// Processes with higher numbers are recorded, but their end is not watched.
const PROCESS_WORDS: usize = 1 << 16;

/// The highest number of a process whose end is watched.
pub const MOST_WATCHED: u32 = PROCESS_WORDS as u32 - 1;

/// The words before the slots. The runner writes them before it starts the program.
pub const FIXED_WORDS: usize = HEADER_WORDS + PROCESS_WORDS;

/// The words of a slot: a cache line.
pub const SLOT_WORDS: usize = 8;

/// The number of slots. A trace has at most 2^22 operations; an operation takes at most two events
/// (the start of a `realloc` and its end are one each, for two operations). The other half is for
/// names, processes, and frees of buffers that a process had before.
pub const SLOTS: u64 = 1 << 23;

/// The slots for which space is made at a time.
pub const READY_STEP: u64 = 1 << 12;

/// The size of the file in bytes.
pub const FILE_BYTES: usize = 8 * (FIXED_WORDS + SLOT_WORDS * SLOTS as usize);

/// The index of the first word of a slot.
pub const fn slot_word(slot: u64) -> usize {
    FIXED_WORDS + SLOT_WORDS * slot as usize
}

/// The index of the word of a process: its process id, 0 before it is known, or [`NOT_WATCHED`].
/// `None` for numbers beyond the table.
pub const fn process_word(number: u32) -> Option<usize> {
    if (number as usize) < PROCESS_WORDS { Some(HEADER_WORDS + number as usize) } else { None }
}

/// In the place of a process id in another namespace than the runner's.
pub const NOT_WATCHED: u64 = u64::MAX;

/// The key of a name: its hash (FNV-1a, 64 bits), never 0.
pub fn name_key(name: &[u8]) -> u64 {
    let hash = name.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash.max(1)
}
