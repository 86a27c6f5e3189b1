//! Writing to the log.

use cma_record_log::{
    BY_THREAD, Event, FILE_BYTES, FIXED_WORDS, MAGIC, NOT_WATCHED, PATH_VARIABLE, READY_STEP,
    SLOTS, Stamp, header, process_word, slot_word,
};
use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate, fstat, open, stat};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use std::ffi::{CStr, c_char};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// The smallest size that is recorded; the largest number while nothing is.
static AT_LEAST: AtomicUsize = AtomicUsize::new(usize::MAX);
/// The same for blocks of the heap, which are not recorded if their sizes can't be asked for.
static HEAP_AT_LEAST: AtomicUsize = AtomicUsize::new(usize::MAX);
/// The log's words, or null.
static WORDS: AtomicPtr<AtomicU64> = AtomicPtr::new(null_mut());
/// What belongs to one process, or null.
static PROCESS: AtomicPtr<Process> = AtomicPtr::new(null_mut());
/// Whether devices are named after threads.
static BY_THREADS: AtomicBool = AtomicBool::new(false);

/// Descriptors of memory files that are recorded.
const FILES: usize = 4096;

/// What a child of `fork` does not inherit: all zeros there.
#[repr(C)]
pub(crate) struct Process {
    /// Its number; 0 before its first event.
    number: AtomicU32,
    /// Its process id.
    pid: AtomicU32,
    /// The key of the memory file that each descriptor referred to when it was created, or 0.
    pub(crate) files: [AtomicU64; FILES],
}

/// The path of the log, as `CMA_RECORD=path` with a zero at the end.
static ENTRY: Entry = Entry([const { AtomicU8Cell::new() }; ENTRY_BYTES]);

const ENTRY_BYTES: usize = 4096 + 16;

/// A byte that is written once, when the library starts.
#[repr(transparent)]
struct AtomicU8Cell(std::sync::atomic::AtomicU8);

impl AtomicU8Cell {
    const fn new() -> Self {
        AtomicU8Cell(std::sync::atomic::AtomicU8::new(0))
    }
}

struct Entry([AtomicU8Cell; ENTRY_BYTES]);

/// The log's variable as an entry of an environment; `None` if there is no log.
pub(crate) fn entry() -> Option<&'static CStr> {
    if WORDS.load(Ordering::Acquire).is_null() {
        return None;
    }
    // SAFETY: the text was written before the log was set, it is not changed again, and a zero
    // follows it.
    Some(unsafe { CStr::from_ptr(ENTRY.0.as_ptr().cast::<c_char>()) })
}

/// Keeps the entry for children, because the program may change its environment. `None` if it is
/// too long.
fn keep_entry(path: &CStr) -> Option<()> {
    let name = PATH_VARIABLE.bytes().chain([b'=']);
    let bytes = name.chain(path.to_bytes_with_nul().iter().copied());
    let mut places = ENTRY.0.iter();
    for byte in bytes {
        places.next()?.0.store(byte, Ordering::Relaxed);
    }
    Some(())
}

/// The smallest size that is recorded.
#[inline]
pub(crate) fn at_least() -> usize {
    AT_LEAST.load(Ordering::Relaxed)
}

/// The smallest size of blocks of the heap that is recorded.
#[inline]
pub(crate) fn heap_at_least() -> usize {
    HEAP_AT_LEAST.load(Ordering::Relaxed)
}

/// Whether devices are named after threads.
pub(crate) fn by_threads() -> bool {
    BY_THREADS.load(Ordering::Relaxed)
}

/// What belongs to this process, if there is a log.
pub(crate) fn process() -> Option<&'static Process> {
    // SAFETY: it is null or the mapping of `start`, which is never unmapped.
    unsafe { PROCESS.load(Ordering::Acquire).as_ref() }
}

/// Opens the log that the environment names. On any failure nothing is recorded. `has_sizes`:
/// whether the program's allocator tells the sizes of blocks.
pub(crate) fn start(has_sizes: bool) {
    let _ = open_log(has_sizes);
}

/// The path in the environment.
fn path() -> Option<&'static CStr> {
    let mut name = [0; 32];
    name.get_mut(..PATH_VARIABLE.len())?.copy_from_slice(PATH_VARIABLE.as_bytes());
    // SAFETY: zeros follow the name. As always in C, no thread may change the environment
    // meanwhile.
    let path = unsafe { libc::getenv(name.as_ptr().cast()) };
    if path.is_null() {
        return None;
    }
    // SAFETY: strings of the environment end with a zero, and stay while the library starts.
    Some(unsafe { CStr::from_ptr(path) })
}

fn open_log(has_sizes: bool) -> Option<()> {
    let path = path()?;
    keep_entry(path)?;
    let file = open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).ok()?;
    if fstat(&file).ok()?.st_size != i64::try_from(FILE_BYTES).ok()? {
        return None;
    }
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at a place that the kernel chooses.
    let mapped = unsafe { mmap(null_mut(), FILE_BYTES, access, MapFlags::SHARED, &file, 0) };
    let log = mapped.ok()?;
    drop(file);
    // SAFETY: a new mapping at a place that the kernel chooses.
    let mapped =
        unsafe { mmap_anonymous(null_mut(), size_of::<Process>(), access, MapFlags::PRIVATE) };
    let page = mapped.ok()?;
    // SAFETY: the range is that mapping; nothing refers to it yet.
    let wiped = unsafe { madvise(page, size_of::<Process>(), Advice::LinuxWipeOnFork) };
    let words = log.cast::<AtomicU64>();
    let word = |index: usize| {
        // SAFETY: the mapping has FILE_BYTES, more than the header, and is never unmapped once it
        // is used.
        unsafe { &*words.wrapping_add(index) }.load(Ordering::Relaxed)
    };
    if wiped.is_err() || word(header::MAGIC) != MAGIC {
        // SAFETY: nothing refers to these mappings.
        let _ = unsafe { munmap(page, size_of::<Process>()) };
        // SAFETY: as above.
        let _ = unsafe { munmap(log, FILE_BYTES) };
        return None;
    }
    // A core file needs no copy of the log. If the kernel doesn't know the advice, it is larger.
    // SAFETY: the advice doesn't change the contents.
    let _ = unsafe { madvise(log, FILE_BYTES, Advice::LinuxDontDump) };
    let at_least = usize::try_from(word(header::AT_LEAST)).unwrap_or(usize::MAX);
    BY_THREADS.store(word(header::NAMING) == BY_THREAD, Ordering::Relaxed);
    PROCESS.store(page.cast(), Ordering::Release);
    WORDS.store(words, Ordering::Release);
    let number = number(log_of(words), process()?);
    if has_sizes {
        HEAP_AT_LEAST.store(at_least, Ordering::Relaxed);
    } else if number != 0 {
        log_of(words).word(header::UNKNOWN_ALLOCATORS).fetch_add(1, Ordering::Relaxed);
    }
    AT_LEAST.store(at_least, Ordering::Relaxed);
    Some(())
}

/// The mapped log.
#[derive(Clone, Copy)]
struct Log(*const AtomicU64);

fn log_of(words: *const AtomicU64) -> Log {
    Log(words)
}

impl Log {
    /// A word. `index` is below `FILE_BYTES / 8`, and the word has space: it is one of the fixed
    /// words, or in a slot that [`make_ready`](Self::make_ready) returned true for.
    fn word(self, index: usize) -> &'static AtomicU64 {
        debug_assert!(index < FILE_BYTES / 8);
        // SAFETY: the index is within the mapping, which is never unmapped.
        unsafe { &*self.0.wrapping_add(index) }
    }

    /// Makes space on the disk for all slots before `end`. False if there is none.
    fn make_ready(self, end: u64) -> bool {
        let ready = self.word(header::READY).load(Ordering::Acquire);
        if end <= ready {
            return true;
        }
        // A failure is final: it would be asked again for each event.
        if self.word(header::FAULT).load(Ordering::Relaxed) != 0 {
            return false;
        }
        let end = end.next_multiple_of(READY_STEP).min(SLOTS);
        // From the page of the first slot without space to that of the last.
        let page = rustix::param::page_size();
        let from = (8 * slot_word(ready)) / page * page;
        let length = 8 * slot_word(end) - from;
        let place = self.0.cast::<u8>().wrapping_add(from).cast_mut().cast();
        // SAFETY: the range is in the mapping, and the advice doesn't change its contents.
        let made = match unsafe { madvise(place, length, Advice::LinuxPopulateWrite) } {
            // Kernels before 5.14 don't know this advice.
            Err(Errno::INVAL) => extend(from as u64, length as u64),
            made => made,
        };
        match made {
            Ok(()) => {
                self.word(header::READY).fetch_max(end, Ordering::AcqRel);
                true
            }
            Err(error) => {
                let errno = u64::from(error.raw_os_error().unsigned_abs());
                self.word(header::FAULT).store(errno, Ordering::Relaxed);
                false
            }
        }
    }
}

/// Makes space through a descriptor.
fn extend(from: u64, length: u64) -> Result<(), Errno> {
    let entry = entry().ok_or(Errno::NOENT)?;
    let path = entry.to_bytes_with_nul().get(PATH_VARIABLE.len() + 1..);
    let path = path.and_then(|path| CStr::from_bytes_with_nul(path).ok()).ok_or(Errno::NOENT)?;
    let file = open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    fallocate(&file, FallocateFlags::KEEP_SIZE, from, length)
}

/// The number of this process, which gets one if it has none yet.
fn number(log: Log, process: &Process) -> u32 {
    match process.number.load(Ordering::Acquire) {
        0 => new_number(log, process),
        number => number,
    }
}

#[cold]
fn new_number(log: Log, process: &Process) -> u32 {
    #[allow(clippy::cast_possible_truncation, reason = "the processes of a recording")]
    let number = log.word(header::PROCESSES).fetch_add(1, Ordering::AcqRel) as u32 + 1;
    let taken = process.number.compare_exchange(0, number, Ordering::AcqRel, Ordering::Acquire);
    if let Err(first) = taken {
        // Another thread was earlier. The number stays without a process.
        return first;
    }
    let pid = rustix::process::getpid().as_raw_pid().unsigned_abs();
    process.pid.store(pid, Ordering::Relaxed);
    let namespace = stat(c"/proc/self/ns/pid").map_or(0, |of| of.st_ino);
    if let Some(place) = process_word(number) {
        let is_ours = namespace == log.word(header::NAMESPACE).load(Ordering::Relaxed);
        let pid = if is_ours { u64::from(pid) } else { NOT_WATCHED };
        log.word(place).store(pid, Ordering::Release);
    }
    write_as(log, number, &Event::Start { pid, namespace });
    number
}

/// Writes an event of this process. Returns its slot plus 1, or 0 if it could not be written.
pub(crate) fn write(event: &Event) -> u64 {
    let words = WORDS.load(Ordering::Acquire);
    match process() {
        Some(process) if !words.is_null() => {
            let log = log_of(words);
            let number = number(log, process);
            write_as(log, number, event)
        }
        _ => 0,
    }
}

fn write_as(log: Log, process: u32, event: &Event) -> u64 {
    if log.word(header::STOPPED).load(Ordering::Relaxed) != 0 {
        return 0;
    }
    let stamp = Stamp { process, time_ns: now() };
    let slot = log.word(header::NEXT).fetch_add(1, Ordering::AcqRel);
    if slot >= SLOTS || !log.make_ready(slot + 1) {
        log.word(header::LOST).fetch_add(1, Ordering::Relaxed);
        return 0;
    }
    let first = slot_word(slot);
    let [kind, rest @ ..] = event.encode(stamp);
    for (word, value) in (first + 1..).zip(rest) {
        log.word(word).store(value, Ordering::Relaxed);
    }
    log.word(first).store(kind, Ordering::Release);
    slot + 1
}

/// Records the end of this process, if it recorded anything, and is not a child of `vfork`.
pub(crate) fn end() {
    if is_own_process() {
        write(&Event::End);
    }
}

/// Whether this process recorded anything, and is not a child of `vfork`.
pub(crate) fn is_own_process() -> bool {
    let pid = rustix::process::getpid().as_raw_pid().unsigned_abs();
    process().is_some_and(|process| process.pid.load(Ordering::Relaxed) == pid)
}

/// `CLOCK_MONOTONIC` in nanoseconds.
fn now() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the place is valid. The call doesn't fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.unsigned_abs().wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec.unsigned_abs())
}

const _: () = assert!((FIXED_WORDS * 8).is_multiple_of(4096), "slots begin with a page");
