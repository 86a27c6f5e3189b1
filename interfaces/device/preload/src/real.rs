//! The functions that this library stands before.

use crate::device::look_for_lines;
use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::mem::transmute;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A function of the library that is next in line.
pub(crate) struct Real {
    name: &'static CStr,
    found: AtomicPtr<c_void>,
}

impl Real {
    const fn new(name: &'static CStr) -> Self {
        Real { name, found: AtomicPtr::new(null_mut()) }
    }

    /// Looks for it. This may take memory from the heap, which an allocator that is just starting doesn't have.
    fn find(&self) -> *mut c_void {
        // SAFETY: the name ends with a zero.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        self.found.store(found, Ordering::Release);
        found
    }

    /// Where it is, if that is known.
    fn found(&self) -> Option<*mut c_void> {
        Some(self.found.load(Ordering::Acquire)).filter(|found| !found.is_null())
    }
}

/// Functions of the C library, each with the system call that stands in for it until it was looked for, or where there is none.
macro_rules! next_in_line {
    ($($real:ident, $name:literal: fn $function:ident($($argument:ident: $type:ty),*) -> $result:ty, or $call:expr;)*) => {
        $(
            static $real: Real = Real::new($name);

            pub(crate) unsafe fn $function($($argument: $type),*) -> $result {
                let Some(found) = $real.found() else {
                    // SAFETY: the caller's arguments, as the C library would hand them on.
                    let result: c_long = unsafe { libc::syscall($call, $($argument),*) };
                    return result as $result;
                };
                type Function = unsafe extern "C-unwind" fn($($type),*) -> $result;
                // SAFETY: the C library's function is of this type; one with a variable number of arguments is called in the same way.
                let function = unsafe { transmute::<*mut c_void, Function>(found) };
                // SAFETY: the caller's arguments, as they are.
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

next_in_line! {
    OPENAT, c"openat": fn openat_in(folder: c_int, path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int,
        or libc::SYS_openat;
    IOCTL, c"ioctl": fn ioctl(file: c_int, request: c_ulong, argument: *mut c_void) -> c_int,
        or libc::SYS_ioctl;
    MMAP, c"mmap64": fn mmap(
        address: *mut c_void, len: usize, protection: c_int, flags: c_int, file: c_int, offset: libc::off64_t
    ) -> *mut c_void, or libc::SYS_mmap;
    FACCESSAT, c"faccessat": fn faccessat(folder: c_int, path: *const c_char, wanted: c_int, flags: c_int) -> c_int,
        or libc::SYS_faccessat;
    FSTAT, c"fstat64": fn fstat(file: c_int, found: *mut libc::stat) -> c_int,
        or libc::SYS_fstat;
    FSTATAT, c"fstatat64": fn fstatat(folder: c_int, path: *const c_char, found: *mut libc::stat, flags: c_int) -> c_int,
        or libc::SYS_newfstatat;
    STATX, c"statx": fn statx(
        folder: c_int, path: *const c_char, flags: c_int, mask: c_uint, found: *mut libc::statx
    ) -> c_int, or libc::SYS_statx;
    GETXATTR, c"getxattr": fn getxattr(
        path: *const c_char, name: *const c_char, value: *mut c_void, room: usize
    ) -> isize, or libc::SYS_getxattr;
    LGETXATTR, c"lgetxattr": fn lgetxattr(
        path: *const c_char, name: *const c_char, value: *mut c_void, room: usize
    ) -> isize, or libc::SYS_lgetxattr;
    LISTXATTR, c"listxattr": fn listxattr(path: *const c_char, names: *mut c_char, room: usize) -> isize,
        or libc::SYS_listxattr;
    LLISTXATTR, c"llistxattr": fn llistxattr(path: *const c_char, names: *mut c_char, room: usize) -> isize,
        or libc::SYS_llistxattr;
    READ, c"read": fn read(file: c_int, bytes: *mut c_void, count: usize) -> isize,
        or libc::SYS_read;
    READ_CHK, c"__read_chk": fn read_chk(file: c_int, bytes: *mut c_void, count: usize, room: usize) -> isize,
        or libc::SYS_read;
    WRITE, c"write": fn write(file: c_int, bytes: *const c_void, count: usize) -> isize,
        or libc::SYS_write;
    READV, c"readv": fn readv(file: c_int, parts: *const libc::iovec, count: c_int) -> isize,
        or libc::SYS_readv;
    WRITEV, c"writev": fn writev(file: c_int, parts: *const libc::iovec, count: c_int) -> isize,
        or libc::SYS_writev;
    PREAD, c"pread64": fn pread(file: c_int, bytes: *mut c_void, count: usize, at: libc::off64_t) -> isize,
        or libc::SYS_pread64;
    PWRITE, c"pwrite64": fn pwrite(file: c_int, bytes: *const c_void, count: usize, at: libc::off64_t) -> isize,
        or libc::SYS_pwrite64;
}

/// What the dynamic linker calls before the program starts.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: [extern "C" fn(); 2] = [find_all, look_for_lines];

static OPEN: Real = Real::new(c"open");
pub(crate) static FOPEN: Real = Real::new(c"fopen");
pub(crate) static FOPEN64: Real = Real::new(c"fopen64");
pub(crate) static FREOPEN: Real = Real::new(c"freopen");
pub(crate) static FREOPEN64: Real = Real::new(c"freopen64");

type Open = unsafe extern "C-unwind" fn(*const c_char, c_int, libc::mode_t) -> c_int;
type OpenFile = unsafe extern "C-unwind" fn(*const c_char, *const c_char) -> *mut libc::FILE;
type OpenFileAgain =
    unsafe extern "C-unwind" fn(*const c_char, *const c_char, *mut libc::FILE) -> *mut libc::FILE;

/// `openat`, and `open` where there is no folder.
pub(crate) unsafe fn openat(folder: c_int, path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int {
    match OPEN.found() {
        Some(found) if folder == libc::AT_FDCWD => {
            // SAFETY: the C library's `open` is of this type; one with a variable number of arguments is called in the same way.
            let open = unsafe { transmute::<*mut c_void, Open>(found) };
            // SAFETY: the caller's arguments, as they are.
            unsafe { open(path, flags, mode) }
        }
        // SAFETY: the caller's arguments, as they are.
        _ => unsafe { openat_in(folder, path, flags, mode) },
    }
}

pub(crate) unsafe fn fopen(which: &Real, path: *const c_char, mode: *const c_char) -> *mut libc::FILE {
    let found = which.found().unwrap_or_else(|| which.find());
    if found.is_null() {
        return null_mut();
    }
    // SAFETY: the C library's `fopen` and `fopen64` are of this type.
    let fopen = unsafe { transmute::<*mut c_void, OpenFile>(found) };
    // SAFETY: the caller's arguments, as they are.
    unsafe { fopen(path, mode) }
}

pub(crate) unsafe fn freopen(
    which: &Real,
    path: *const c_char,
    mode: *const c_char,
    file: *mut libc::FILE,
) -> *mut libc::FILE {
    let found = which.found().unwrap_or_else(|| which.find());
    if found.is_null() {
        return null_mut();
    }
    // SAFETY: the C library's `freopen` and `freopen64` are of this type.
    let freopen = unsafe { transmute::<*mut c_void, OpenFileAgain>(found) };
    // SAFETY: the caller's arguments, as they are.
    unsafe { freopen(path, mode, file) }
}
