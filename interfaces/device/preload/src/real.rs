//! The C library's functions that this library interposes.

use crate::device_file::find_inherited_files;
use crate::notice::remember_standard_error;
use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::mem::transmute;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A function of the next library in the lookup order (`RTLD_NEXT`).
pub(crate) struct NextFunction {
    name: &'static CStr,
    found: AtomicPtr<c_void>,
}

impl NextFunction {
    const fn new(name: &'static CStr) -> Self {
        NextFunction { name, found: AtomicPtr::new(null_mut()) }
    }

    /// Looks it up. `dlsym` may allocate on the heap, which is not possible while the program's
    /// memory allocator is initialising.
    fn find(&self) -> *mut c_void {
        // SAFETY: the name ends with a zero.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        self.found.store(found, Ordering::Release);
        found
    }

    /// The address, if it was looked up before.
    fn found(&self) -> Option<*mut c_void> {
        Some(self.found.load(Ordering::Acquire)).filter(|found| !found.is_null())
    }
}

/// Functions of the C library, each with the system call that replaces it before it is looked up or
/// where it doesn't exist.
macro_rules! with_system_call {
    ($($real:ident, $name:literal: fn $function:ident($($argument:ident: $type:ty),*) -> $result:ty, else $call:expr;)*) => {
        $(
            static $real: NextFunction = NextFunction::new($name);

            pub(crate) unsafe fn $function($($argument: $type),*) -> $result {
                let Some(found) = $real.found() else {
                    // SAFETY: the caller's arguments, as the C library would pass them.
                    let result: c_long = unsafe { libc::syscall($call, $($argument),*) };
                    return result as $result;
                };
                type Function = unsafe extern "C-unwind" fn($($type),*) -> $result;
                // SAFETY: this is the type of the C library's function; variadic functions have the
                // same calling convention.
                let function = unsafe { transmute::<*mut c_void, Function>(found) };
                // SAFETY: the caller's arguments, unchanged.
                unsafe { function($($argument),*) }
            }
        )*

        extern "C" fn find_all() {
            for real in [$(&$real,)* &OPEN, &FOPEN, &FOPEN64, &FREOPEN, &FREOPEN64] {
                real.find();
            }
        }
    };
}

with_system_call! {
    OPENAT, c"openat": fn openat_in(folder: c_int, path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int,
        else libc::SYS_openat;
    IOCTL, c"ioctl": fn ioctl(file: c_int, request: c_ulong, argument: *mut c_void) -> c_int,
        else libc::SYS_ioctl;
    MMAP, c"mmap64": fn mmap(
        address: *mut c_void, len: usize, protection: c_int, flags: c_int, file: c_int, offset: libc::off64_t
    ) -> *mut c_void, else libc::SYS_mmap;
    FACCESSAT, c"faccessat": fn faccessat(folder: c_int, path: *const c_char, wanted: c_int, flags: c_int) -> c_int,
        else libc::SYS_faccessat;
    FSTAT, c"fstat64": fn fstat(file: c_int, found: *mut libc::stat) -> c_int,
        else libc::SYS_fstat;
    FSTATAT, c"fstatat64": fn fstatat(folder: c_int, path: *const c_char, found: *mut libc::stat, flags: c_int) -> c_int,
        else libc::SYS_newfstatat;
    STATX, c"statx": fn statx(
        folder: c_int, path: *const c_char, flags: c_int, mask: c_uint, found: *mut libc::statx
    ) -> c_int, else libc::SYS_statx;
    GETXATTR, c"getxattr": fn getxattr(
        path: *const c_char, name: *const c_char, value: *mut c_void, size: usize
    ) -> isize, else libc::SYS_getxattr;
    LGETXATTR, c"lgetxattr": fn lgetxattr(
        path: *const c_char, name: *const c_char, value: *mut c_void, size: usize
    ) -> isize, else libc::SYS_lgetxattr;
    LISTXATTR, c"listxattr": fn listxattr(path: *const c_char, names: *mut c_char, size: usize) -> isize,
        else libc::SYS_listxattr;
    LLISTXATTR, c"llistxattr": fn llistxattr(path: *const c_char, names: *mut c_char, size: usize) -> isize,
        else libc::SYS_llistxattr;
    READ, c"read": fn read(file: c_int, bytes: *mut c_void, count: usize) -> isize,
        else libc::SYS_read;
    READ_CHK, c"__read_chk": fn read_chk(file: c_int, bytes: *mut c_void, count: usize, size: usize) -> isize,
        else libc::SYS_read;
    WRITE, c"write": fn write(file: c_int, bytes: *const c_void, count: usize) -> isize,
        else libc::SYS_write;
    READV, c"readv": fn readv(file: c_int, parts: *const libc::iovec, count: c_int) -> isize,
        else libc::SYS_readv;
    WRITEV, c"writev": fn writev(file: c_int, parts: *const libc::iovec, count: c_int) -> isize,
        else libc::SYS_writev;
    PREAD, c"pread64": fn pread(file: c_int, bytes: *mut c_void, count: usize, at: libc::off64_t) -> isize,
        else libc::SYS_pread64;
    PWRITE, c"pwrite64": fn pwrite(file: c_int, bytes: *const c_void, count: usize, at: libc::off64_t) -> isize,
        else libc::SYS_pwrite64;
    PREAD_CHK, c"__pread64_chk": fn pread_chk(
        file: c_int, bytes: *mut c_void, count: usize, at: libc::off64_t, size: usize
    ) -> isize, else libc::SYS_pread64;
    PREADV, c"preadv64": fn preadv(file: c_int, parts: *const libc::iovec, count: c_int, at: libc::off64_t) -> isize,
        else libc::SYS_preadv;
    PWRITEV, c"pwritev64": fn pwritev(
        file: c_int, parts: *const libc::iovec, count: c_int, at: libc::off64_t
    ) -> isize, else libc::SYS_pwritev;
    PREADV2, c"preadv64v2": fn preadv2(
        file: c_int, parts: *const libc::iovec, count: c_int, at: libc::off64_t, flags: c_int
    ) -> isize, else NO_SYSTEM_CALL;
    PWRITEV2, c"pwritev64v2": fn pwritev2(
        file: c_int, parts: *const libc::iovec, count: c_int, at: libc::off64_t, flags: c_int
    ) -> isize, else NO_SYSTEM_CALL;
    SENDFILE, c"sendfile64": fn sendfile(to: c_int, from: c_int, at: *mut libc::off64_t, count: usize) -> isize,
        else libc::SYS_sendfile;
    COPY_FILE_RANGE, c"copy_file_range": fn copy_file_range(
        from: c_int, from_at: *mut libc::off64_t, to: c_int, to_at: *mut libc::off64_t, count: usize, flags: c_uint
    ) -> isize, else libc::SYS_copy_file_range;
    SPLICE, c"splice": fn splice(
        from: c_int, from_at: *mut libc::off64_t, to: c_int, to_at: *mut libc::off64_t, count: usize, flags: c_uint
    ) -> isize, else libc::SYS_splice;
    READLINKAT, c"readlinkat": fn readlinkat(
        folder: c_int, path: *const c_char, target: *mut c_char, size: usize
    ) -> isize, else libc::SYS_readlinkat;
    READLINKAT_CHK, c"__readlinkat_chk": fn readlinkat_chk(
        folder: c_int, path: *const c_char, target: *mut c_char, size: usize, has: usize
    ) -> isize, else libc::SYS_readlinkat;
    TRUNCATE, c"truncate64": fn truncate(path: *const c_char, length: libc::off64_t) -> c_int,
        else libc::SYS_truncate;
}

/// A system call number that doesn't exist (`ENOSYS`), for functions whose system call takes other
/// arguments.
const NO_SYSTEM_CALL: c_long = -1;

/// The C library's stream functions, for which there is no system call, each with its result where
/// the function doesn't exist.
macro_rules! stream_functions {
    ($($real:ident, $name:literal: fn $function:ident($($argument:ident: $type:ty),*) -> $result:ty, else $none:expr;)*) => {
        $(
            static $real: NextFunction = NextFunction::new($name);

            pub(crate) unsafe fn $function($($argument: $type),*) -> $result {
                let found = $real.found().unwrap_or_else(|| $real.find());
                if found.is_null() {
                    return $none;
                }
                type Function = unsafe extern "C-unwind" fn($($type),*) -> $result;
                // SAFETY: this is the type of the C library's function.
                let function = unsafe { transmute::<*mut c_void, Function>(found) };
                // SAFETY: the caller's arguments, unchanged.
                unsafe { function($($argument),*) }
            }
        )*

        extern "C" fn find_streams() {
            for real in [$(&$real,)*] {
                real.find();
            }
        }
    };
}

stream_functions! {
    FFLUSH, c"fflush": fn fflush(stream: *mut libc::FILE) -> c_int, else libc::EOF;
    FFLUSH_UNLOCKED, c"fflush_unlocked": fn fflush_unlocked(stream: *mut libc::FILE) -> c_int, else libc::EOF;
    FCLOSE, c"fclose": fn fclose(stream: *mut libc::FILE) -> c_int, else libc::EOF;
    FWRITE, c"fwrite": fn fwrite(bytes: *const c_void, size: usize, count: usize, stream: *mut libc::FILE) -> usize, else 0;
    FWRITE_UNLOCKED, c"fwrite_unlocked": fn fwrite_unlocked(
        bytes: *const c_void, size: usize, count: usize, stream: *mut libc::FILE
    ) -> usize, else 0;
    FPUTS, c"fputs": fn fputs(text: *const c_char, stream: *mut libc::FILE) -> c_int, else libc::EOF;
    FPUTS_UNLOCKED, c"fputs_unlocked": fn fputs_unlocked(text: *const c_char, stream: *mut libc::FILE) -> c_int, else libc::EOF;
    FPUTC, c"fputc": fn fputc(letter: c_int, stream: *mut libc::FILE) -> c_int, else libc::EOF;
    FPUTC_UNLOCKED, c"fputc_unlocked": fn fputc_unlocked(letter: c_int, stream: *mut libc::FILE) -> c_int, else libc::EOF;
    PUTC, c"putc": fn putc(letter: c_int, stream: *mut libc::FILE) -> c_int, else libc::EOF;
    PUTC_UNLOCKED, c"putc_unlocked": fn putc_unlocked(letter: c_int, stream: *mut libc::FILE) -> c_int, else libc::EOF;
    OVERFLOW, c"__overflow": fn __overflow(stream: *mut libc::FILE, letter: c_int) -> c_int, else libc::EOF;
}

/// Called by the dynamic linker before the program starts.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: [extern "C" fn(); 4] =
    [find_all, find_streams, remember_standard_error, find_inherited_files];

static OPEN: NextFunction = NextFunction::new(c"open");
pub(crate) static FOPEN: NextFunction = NextFunction::new(c"fopen");
pub(crate) static FOPEN64: NextFunction = NextFunction::new(c"fopen64");
pub(crate) static FREOPEN: NextFunction = NextFunction::new(c"freopen");
pub(crate) static FREOPEN64: NextFunction = NextFunction::new(c"freopen64");

type OpenFn = unsafe extern "C-unwind" fn(*const c_char, c_int, libc::mode_t) -> c_int;
type FopenFn = unsafe extern "C-unwind" fn(*const c_char, *const c_char) -> *mut libc::FILE;
type FreopenFn =
    unsafe extern "C-unwind" fn(*const c_char, *const c_char, *mut libc::FILE) -> *mut libc::FILE;

/// Calls `open` for `AT_FDCWD`, else `openat`.
pub(crate) unsafe fn openat(
    folder: c_int,
    path: *const c_char,
    flags: c_int,
    mode: libc::mode_t,
) -> c_int {
    match OPEN.found() {
        Some(found) if folder == libc::AT_FDCWD => {
            // SAFETY: this is the type of the C library's `open`; variadic functions have the same
            // calling convention.
            let open = unsafe { transmute::<*mut c_void, OpenFn>(found) };
            // SAFETY: the caller's arguments, unchanged.
            unsafe { open(path, flags, mode) }
        }
        // SAFETY: the caller's arguments, unchanged.
        _ => unsafe { openat_in(folder, path, flags, mode) },
    }
}

pub(crate) unsafe fn fopen(
    which: &NextFunction,
    path: *const c_char,
    mode: *const c_char,
) -> *mut libc::FILE {
    let found = which.found().unwrap_or_else(|| which.find());
    if found.is_null() {
        return null_mut();
    }
    // SAFETY: this is the type of the C library's `fopen` and `fopen64`.
    let fopen = unsafe { transmute::<*mut c_void, FopenFn>(found) };
    // SAFETY: the caller's arguments, unchanged.
    unsafe { fopen(path, mode) }
}

pub(crate) unsafe fn freopen(
    which: &NextFunction,
    path: *const c_char,
    mode: *const c_char,
    file: *mut libc::FILE,
) -> *mut libc::FILE {
    let found = which.found().unwrap_or_else(|| which.find());
    if found.is_null() {
        return null_mut();
    }
    // SAFETY: this is the type of the C library's `freopen` and `freopen64`.
    let freopen = unsafe { transmute::<*mut c_void, FreopenFn>(found) };
    // SAFETY: the caller's arguments, unchanged.
    unsafe { freopen(path, mode, file) }
}
