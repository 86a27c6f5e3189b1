//! The functions that this library stands before.

use crate::looks;
use std::ffi::{CStr, c_char, c_int, c_long, c_ulong, c_void};
use std::mem::transmute;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

pub(crate) type Open = unsafe extern "C-unwind" fn(*const c_char, c_int, ...) -> c_int;
pub(crate) type OpenAt = unsafe extern "C-unwind" fn(c_int, *const c_char, c_int, ...) -> c_int;
pub(crate) type OpenFile = unsafe extern "C-unwind" fn(*const c_char, *const c_char) -> *mut libc::FILE;
pub(crate) type OpenAgain =
    unsafe extern "C-unwind" fn(*const c_char, *const c_char, *mut libc::FILE) -> *mut libc::FILE;
pub(crate) type Ioctl = unsafe extern "C-unwind" fn(c_int, c_ulong, ...) -> c_int;
pub(crate) type Mmap =
    unsafe extern "C-unwind" fn(*mut c_void, usize, c_int, c_int, c_int, libc::off64_t) -> *mut c_void;

/// A function of the library that is next in line.
pub(crate) struct Real {
    name: &'static CStr,
    found: AtomicPtr<c_void>,
}

pub(crate) static OPEN: Real = Real::new(c"open");
pub(crate) static OPENAT: Real = Real::new(c"openat");
pub(crate) static FOPEN: Real = Real::new(c"fopen");
pub(crate) static FOPEN64: Real = Real::new(c"fopen64");
pub(crate) static FREOPEN: Real = Real::new(c"freopen");
pub(crate) static FREOPEN64: Real = Real::new(c"freopen64");
pub(crate) static IOCTL: Real = Real::new(c"ioctl");
pub(crate) static MMAP: Real = Real::new(c"mmap64");

impl Real {
    pub(crate) const fn new(name: &'static CStr) -> Self {
        Real { name, found: AtomicPtr::new(null_mut()) }
    }

    /// Looks for it. This may take memory from the heap, which an allocator that is just starting doesn't have.
    fn find(&self) -> *mut c_void {
        // SAFETY: the name ends with a zero.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        self.found.store(found, Ordering::Release);
        found
    }

    /// Where it is; nowhere, if there is none of that name.
    pub(crate) fn place(&self) -> *mut c_void {
        self.found().unwrap_or_else(|| self.find())
    }

    /// Where it is, if that is known.
    fn found(&self) -> Option<*mut c_void> {
        Some(self.found.load(Ordering::Acquire)).filter(|found| !found.is_null())
    }
}

extern "C" fn find_all() {
    let opening = [&OPEN, &OPENAT, &FOPEN, &FOPEN64, &FREOPEN, &FREOPEN64, &IOCTL, &MMAP];
    for real in opening.into_iter().chain(looks::REAL) {
        real.find();
    }
}

/// What the dynamic linker calls before the program starts.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = find_all;

/// `openat`, and `open` where there is no folder.
pub(crate) unsafe fn openat(folder: c_int, path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int {
    let (open, openat) = (OPEN.found(), OPENAT.found());
    match (open, openat) {
        (Some(open), _) if folder == libc::AT_FDCWD => {
            // SAFETY: the C library's `open` is of this type.
            let open = unsafe { transmute::<*mut c_void, Open>(open) };
            // SAFETY: the caller's arguments, as they are.
            unsafe { open(path, flags, mode) }
        }
        (_, Some(openat)) => {
            // SAFETY: the C library's `openat` is of this type.
            let openat = unsafe { transmute::<*mut c_void, OpenAt>(openat) };
            // SAFETY: the caller's arguments, as they are.
            unsafe { openat(folder, path, flags, mode) }
        }
        // SAFETY: the caller's arguments, as the C library would hand them on.
        _ => unsafe { libc::syscall(libc::SYS_openat, folder, path, flags, mode) as c_int },
    }
}

pub(crate) unsafe fn fopen(which: &Real, path: *const c_char, mode: *const c_char) -> *mut libc::FILE {
    let found = which.place();
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
    stream: *mut libc::FILE,
) -> *mut libc::FILE {
    let found = which.place();
    if found.is_null() {
        return null_mut();
    }
    // SAFETY: the C library's `freopen` and `freopen64` are of this type.
    let freopen = unsafe { transmute::<*mut c_void, OpenAgain>(found) };
    // SAFETY: the caller's arguments, as they are.
    unsafe { freopen(path, mode, stream) }
}

pub(crate) unsafe fn ioctl(file: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    match IOCTL.found() {
        Some(found) => {
            // SAFETY: the C library's `ioctl` is of this type.
            let ioctl = unsafe { transmute::<*mut c_void, Ioctl>(found) };
            // SAFETY: the caller's arguments, as they are.
            unsafe { ioctl(file, request, argument) }
        }
        // SAFETY: the caller's arguments, as the C library would hand them on.
        None => unsafe { libc::syscall(libc::SYS_ioctl, file, request, argument) as c_int },
    }
}

pub(crate) unsafe fn mmap(
    address: *mut c_void,
    len: usize,
    protection: c_int,
    flags: c_int,
    file: c_int,
    offset: libc::off64_t,
) -> *mut c_void {
    match MMAP.found() {
        Some(found) => {
            // SAFETY: the C library's `mmap64` is of this type.
            let mmap = unsafe { transmute::<*mut c_void, Mmap>(found) };
            // SAFETY: the caller's arguments, as they are.
            unsafe { mmap(address, len, protection, flags, file, offset) }
        }
        None => {
            // SAFETY: the caller's arguments, as the C library would hand them on.
            let mapped: c_long =
                unsafe { libc::syscall(libc::SYS_mmap, address, len, protection, flags, file, offset) };
            mapped as *mut c_void
        }
    }
}
