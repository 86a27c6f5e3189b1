//! The functions that this library stands before, and the time before they are known.

use crate::{device, log};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::transmute;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicUsize, Ordering};

/// A function of the next library in the lookup order (`RTLD_NEXT`).
struct NextFunction {
    name: &'static CStr,
    found: AtomicPtr<c_void>,
}

impl NextFunction {
    const fn new(name: &'static CStr) -> Self {
        NextFunction { name, found: AtomicPtr::new(null_mut()) }
    }

    fn find(&self) {
        // SAFETY: the name ends with a zero.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        self.found.store(found, Ordering::Release);
    }

    /// The address; `None` if there is no such function, or while the functions are looked up.
    #[inline]
    fn found(&self) -> Option<*mut c_void> {
        let found = self.found.load(Ordering::Acquire);
        if !found.is_null() {
            return Some(found);
        }
        start();
        Some(self.found.load(Ordering::Acquire)).filter(|found| !found.is_null())
    }
}

/// Functions, each of which returns `None` where the real one is not known.
macro_rules! next_functions {
    ($($real:ident, $name:literal: fn $function:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(
            static $real: NextFunction = NextFunction::new($name);

            #[inline]
            pub(crate) unsafe fn $function($($argument: $type),*) -> Option<$result> {
                let found = $real.found()?;
                type Function = unsafe extern "C-unwind" fn($($type),*) -> $result;
                // SAFETY: this is the type of the C library's function; variadic functions have the
                // same calling convention.
                let function = unsafe { transmute::<*mut c_void, Function>(found) };
                // SAFETY: the caller's arguments, unchanged.
                Some(unsafe { function($($argument),*) })
            }
        )*

        fn find_all() {
            for real in [$(&$real),*] {
                real.find();
            }
        }
    };
}

type Strings = *const *const c_char;

next_functions! {
    MALLOC, c"malloc": fn malloc(size: usize) -> *mut c_void;
    FREE, c"free": fn free(block: *mut c_void) -> ();
    CALLOC, c"calloc": fn calloc(count: usize, size: usize) -> *mut c_void;
    REALLOC, c"realloc": fn realloc(block: *mut c_void, size: usize) -> *mut c_void;
    MEMALIGN, c"memalign": fn memalign(alignment: usize, size: usize) -> *mut c_void;
    ALIGNED_ALLOC, c"aligned_alloc": fn aligned_alloc(alignment: usize, size: usize) -> *mut c_void;
    POSIX_MEMALIGN, c"posix_memalign": fn posix_memalign(
        place: *mut *mut c_void, alignment: usize, size: usize
    ) -> c_int;
    VALLOC, c"valloc": fn valloc(size: usize) -> *mut c_void;
    PVALLOC, c"pvalloc": fn pvalloc(size: usize) -> *mut c_void;
    USABLE_SIZE, c"malloc_usable_size": fn usable_size(block: *mut c_void) -> usize;
    MMAP, c"mmap64": fn mmap(
        address: *mut c_void, length: usize, protection: c_int, flags: c_int, file: c_int, offset: i64
    ) -> *mut c_void;
    MUNMAP, c"munmap": fn munmap(address: *mut c_void, length: usize) -> c_int;
    MREMAP, c"mremap": fn mremap(
        old: *mut c_void, old_length: usize, length: usize, flags: c_int, new: *mut c_void
    ) -> *mut c_void;
    MEMFD_CREATE, c"memfd_create": fn memfd_create(name: *const c_char, flags: u32) -> c_int;
    FTRUNCATE, c"ftruncate64": fn ftruncate(file: c_int, size: i64) -> c_int;
    CLOSE, c"close": fn close(file: c_int) -> c_int;
    EXECVE, c"execve": fn execve(path: *const c_char, arguments: Strings, environment: Strings) -> c_int;
    EXECVPE, c"execvpe": fn execvpe(file: *const c_char, arguments: Strings, environment: Strings) -> c_int;
    FEXECVE, c"fexecve": fn fexecve(file: c_int, arguments: Strings, environment: Strings) -> c_int;
    POSIX_SPAWN, c"posix_spawn": fn posix_spawn(
        pid: *mut c_int, path: *const c_char, actions: *const c_void, attributes: *const c_void,
        arguments: Strings, environment: Strings
    ) -> c_int;
    POSIX_SPAWNP, c"posix_spawnp": fn posix_spawnp(
        pid: *mut c_int, file: *const c_char, actions: *const c_void, attributes: *const c_void,
        arguments: Strings, environment: Strings
    ) -> c_int;
}

/// Whether the functions were looked up: not yet, meanwhile, or done.
static PROGRESS: AtomicU8 = AtomicU8::new(0);

/// Looks the functions up and opens the log, once. Returns at once while that is happening: the
/// caller is then part of it.
#[cold]
fn start() {
    if PROGRESS.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire).is_err() {
        return;
    }
    find_all();
    device::start();
    let address = |real: &NextFunction| real.found.load(Ordering::Acquire) as usize;
    let has_sizes = device::allocator_is(address(&MALLOC), address(&USABLE_SIZE));
    log::start(has_sizes);
    PROGRESS.store(2, Ordering::Release);
}

/// Every process starts with this, so that it is known also if it never requests a big buffer.
extern "C" fn constructor() {
    start();
}

// SAFETY: the C library calls the functions of this section without needing a result, after it has
// relocated this library.
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = constructor;

extern "C" fn destructor() {
    log::end();
}

// SAFETY: as above, when the process ends.
#[used]
#[unsafe(link_section = ".fini_array")]
static DESTRUCTOR: extern "C" fn() = destructor;

/// Blocks for requests before `malloc` is known. `dlsym` requests a few hundred bytes.
#[repr(align(64))]
struct FirstBlocks([AtomicU8; FIRST_BYTES]);

const FIRST_BYTES: usize = 64 << 10;

static FIRST_BLOCKS: FirstBlocks = FirstBlocks([const { AtomicU8::new(0) }; FIRST_BYTES]);
static FIRST_USED: AtomicUsize = AtomicUsize::new(0);

/// A block of zeros, or null if none is left.
pub(crate) fn first_block(size: usize, alignment: usize) -> *mut c_void {
    let alignment = alignment.max(16);
    let room = size.saturating_add(alignment);
    let start = FIRST_USED.fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
        used.checked_add(room).filter(|end| *end <= FIRST_BYTES)
    });
    let Ok(start) = start else { return null_mut() };
    let base = FIRST_BLOCKS.0.as_ptr();
    let padding = (base as usize + start).next_multiple_of(alignment) - (base as usize + start);
    base.wrapping_add(start + padding).cast_mut().cast()
}

/// Whether `block` came from [`first_block`].
#[inline]
pub(crate) fn is_first_block(block: *mut c_void) -> bool {
    (block as usize).wrapping_sub(FIRST_BLOCKS.0.as_ptr() as usize) < FIRST_BYTES
}

/// The bytes from a first block to the end of its area, all of which may be read.
pub(crate) fn first_bytes_from(block: *mut c_void) -> usize {
    FIRST_BYTES - (block as usize - FIRST_BLOCKS.0.as_ptr() as usize)
}
