//! The functions that a program finds here in place of the C library's.
//!
//! Those with a variable number of arguments are declared with as many as they can have: on Linux, arguments are passed the same way, and
//! what nobody passed is handed on unread. A thread that is cancelled while it waits in one of them unwinds through it.

use crate::{alloc, device, real, view};
use cma_client::pieces::Window;
use rustix::fd::{BorrowedFd, IntoRawFd};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use std::ffi::{CStr, c_char, c_int, c_ulong, c_void};
use std::ptr::null_mut;

pub(crate) fn set_errno(errno: Errno) {
    // SAFETY: every thread has one.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: and it is this thread's alone.
    unsafe { *place = errno.raw_os_error() };
}

pub(crate) fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Whether a path that the kernel has looked at is the device's.
///
/// # Safety
///
/// The kernel must have read the path: it may be any address at all before.
pub(crate) unsafe fn is_device(folder: c_int, path: *const c_char) -> bool {
    let folder = match folder {
        libc::AT_FDCWD => CWD,
        // Only a path that starts at the root does without a folder.
        folder if folder < 0 => CWD,
        // SAFETY: it is used for the length of this call; if it isn't open, so says the kernel.
        folder => unsafe { BorrowedFd::borrow_raw(folder) },
    };
    // SAFETY: it was read up to the zero that ends it.
    device::is_device(folder, unsafe { CStr::from_ptr(path) })
}

/// Whether an open that would make a file is one of the device.
unsafe fn is_device_to_be(folder: c_int, path: *const c_char) -> bool {
    // SAFETY: the kernel looks at the path, wherever that is.
    let looked = unsafe { libc::syscall(libc::SYS_faccessat, folder, path, libc::F_OK) };
    // SAFETY: the kernel has read it.
    looked != 0 && last_errno() == Errno::NOENT && unsafe { is_device(folder, path) }
}

fn open_device(flags: c_int) -> c_int {
    match device::open(flags) {
        Ok(line) => line.into_raw_fd(),
        Err(errno) => {
            set_errno(errno);
            -1
        }
    }
}

unsafe fn open_any(folder: c_int, path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int {
    let makes = flags & libc::O_CREAT != 0;
    // SAFETY: the caller's path, whatever it is.
    if makes && unsafe { is_device_to_be(folder, path) } {
        return open_device(flags);
    }
    // SAFETY: the caller's arguments, as they are.
    let file = unsafe { real::openat(folder, path, flags, mode) };
    if file >= 0 || makes || flags & libc::O_PATH != 0 {
        return file;
    }
    // SAFETY: that is what the kernel says when it has read the path.
    if says_there_is_none(last_errno()) && unsafe { is_device(folder, path) } {
        return open_device(flags);
    }
    -1
}

/// Whether the kernel has read the path, and found nothing there that can be opened.
fn says_there_is_none(why: Errno) -> bool {
    matches!(why, Errno::NOENT | Errno::NXIO | Errno::NODEV | Errno::ACCESS | Errno::PERM)
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn open(path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int {
    // SAFETY: the caller's arguments, as they are.
    unsafe { open_any(libc::AT_FDCWD, path, flags, mode) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn open64(path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int {
    // SAFETY: the caller's arguments, as they are.
    unsafe { open_any(libc::AT_FDCWD, path, flags | libc::O_LARGEFILE, mode) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn creat(path: *const c_char, mode: libc::mode_t) -> c_int {
    // SAFETY: the caller's arguments, as they are.
    unsafe { open_any(libc::AT_FDCWD, path, CREAT, mode) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn creat64(path: *const c_char, mode: libc::mode_t) -> c_int {
    // SAFETY: the caller's arguments, as they are.
    unsafe { open_any(libc::AT_FDCWD, path, CREAT | libc::O_LARGEFILE, mode) }
}

const CREAT: c_int = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn openat(
    folder: c_int,
    path: *const c_char,
    flags: c_int,
    mode: libc::mode_t,
) -> c_int {
    // SAFETY: the caller's arguments, as they are.
    unsafe { open_any(folder, path, flags, mode) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn openat64(
    folder: c_int,
    path: *const c_char,
    flags: c_int,
    mode: libc::mode_t,
) -> c_int {
    // SAFETY: the caller's arguments, as they are.
    unsafe { open_any(folder, path, flags | libc::O_LARGEFILE, mode) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn __open_2(path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: the caller's arguments; these forms are for flags that make no file.
    unsafe { open_any(libc::AT_FDCWD, path, flags, 0) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn __open64_2(path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: as above.
    unsafe { open_any(libc::AT_FDCWD, path, flags | libc::O_LARGEFILE, 0) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn __openat_2(folder: c_int, path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: as above.
    unsafe { open_any(folder, path, flags, 0) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn __openat64_2(folder: c_int, path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: as above.
    unsafe { open_any(folder, path, flags | libc::O_LARGEFILE, 0) }
}

unsafe fn fopen_any(which: &real::Real, path: *const c_char, mode: *const c_char) -> *mut libc::FILE {
    // SAFETY: a mode is a string that ends with a zero.
    let letters = unsafe { CStr::from_ptr(mode) }.to_bytes();
    let makes = matches!(letters.first(), Some(b'w' | b'a'));
    // SAFETY: the caller's path, whatever it is.
    let to_be = makes && unsafe { is_device_to_be(libc::AT_FDCWD, path) };
    if !to_be {
        // SAFETY: the caller's arguments, as they are.
        let file = unsafe { real::fopen(which, path, mode) };
        let may_be = file.is_null() && !makes && says_there_is_none(last_errno());
        // SAFETY: that is what the kernel says when it has read the path.
        if !may_be || !unsafe { is_device(libc::AT_FDCWD, path) } {
            return file;
        }
    }
    let line = open_device(flags_of(letters));
    if line < 0 {
        return null_mut();
    }
    // SAFETY: the line is open, and the file's from now on.
    let file = unsafe { libc::fdopen(line, mode) };
    if file.is_null() {
        let why = last_errno();
        // SAFETY: nobody else has it.
        unsafe { libc::close(line) };
        set_errno(why);
    }
    file
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn fopen(path: *const c_char, mode: *const c_char) -> *mut libc::FILE {
    // SAFETY: the caller's arguments, as they are.
    unsafe { fopen_any(&real::FOPEN, path, mode) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn fopen64(path: *const c_char, mode: *const c_char) -> *mut libc::FILE {
    // SAFETY: the caller's arguments, as they are.
    unsafe { fopen_any(&real::FOPEN64, path, mode) }
}

/// What `open` is told for a mode of `fopen`'s.
fn flags_of(mode: &[u8]) -> c_int {
    let access = match (mode.contains(&b'+'), mode.first()) {
        (true, _) => libc::O_RDWR,
        (false, Some(b'r')) => libc::O_RDONLY,
        (false, _) => libc::O_WRONLY,
    };
    let also = |letter, flag| if mode.contains(&letter) { flag } else { 0 };
    access | also(b'e', libc::O_CLOEXEC) | also(b'x', libc::O_CREAT | libc::O_EXCL)
}

/// A stream goes on with another file; with the device, it does so under the number that it has.
unsafe fn freopen_any(
    which: &real::Real,
    path: *const c_char,
    mode: *const c_char,
    stream: *mut libc::FILE,
) -> *mut libc::FILE {
    // SAFETY: the kernel looks at the path, wherever that is; without one the stream changes its mode alone.
    if path.is_null() || !unsafe { is_device_to_be(libc::AT_FDCWD, path) } {
        // SAFETY: the caller's arguments, as they are.
        return unsafe { real::freopen(which, path, mode, stream) };
    }
    // SAFETY: a mode is a string that ends with a zero.
    let flags = flags_of(unsafe { CStr::from_ptr(mode) }.to_bytes());
    // SAFETY: the caller's stream. What can't be written any more is lost, as with every `freopen`.
    unsafe { libc::fflush(stream) };
    // SAFETY: the caller's stream.
    let number = unsafe { libc::fileno(stream) };
    let line = open_device(flags);
    if number < 0 || line < 0 {
        return null_mut();
    }
    // SAFETY: the number stays the stream's.
    let put = unsafe { libc::dup3(line, number, flags & libc::O_CLOEXEC) };
    // SAFETY: nobody else has it.
    unsafe { libc::close(line) };
    // SAFETY: the caller's stream, which is at the start of its new file.
    unsafe { libc::clearerr(stream) };
    if put < 0 { null_mut() } else { stream }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn freopen(
    path: *const c_char,
    mode: *const c_char,
    stream: *mut libc::FILE,
) -> *mut libc::FILE {
    // SAFETY: the caller's arguments, as they are.
    unsafe { freopen_any(&real::FREOPEN, path, mode, stream) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn freopen64(
    path: *const c_char,
    mode: *const c_char,
    stream: *mut libc::FILE,
) -> *mut libc::FILE {
    // SAFETY: the caller's arguments, as they are.
    unsafe { freopen_any(&real::FREOPEN64, path, mode, stream) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn ioctl(file: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    let Some((line, _)) = device::line(file) else {
        // SAFETY: the caller's arguments, as they are.
        return unsafe { real::ioctl(file, request, argument) };
    };
    // The kernel looks at 32 bits of it.
    match alloc::control(line, request as u32, argument) {
        Ok(()) => 0,
        Err(errno) => {
            set_errno(errno);
            -1
        }
    }
}

unsafe fn mmap_any(
    address: *mut c_void,
    len: usize,
    protection: c_int,
    flags: c_int,
    file: c_int,
    offset: libc::off64_t,
) -> *mut c_void {
    let line = if flags & libc::MAP_ANONYMOUS == 0 { device::line(file) } else { None };
    let Some((line, access)) = line else {
        // SAFETY: the caller's arguments, as they are.
        return unsafe { real::mmap(address, len, protection, flags, file, offset) };
    };
    let window = Window {
        address,
        len,
        protection: ProtFlags::from_bits_retain(protection as u32),
        flags: MapFlags::from_bits_retain(flags as u32),
        // What is negative is beyond every chunk.
        offset: offset as u64,
    };
    // SAFETY: the caller answers for the address.
    match unsafe { view::mmap(line, access, &window) } {
        Ok(mapped) => mapped,
        Err(errno) => {
            set_errno(errno);
            libc::MAP_FAILED
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn mmap(
    address: *mut c_void,
    len: usize,
    protection: c_int,
    flags: c_int,
    file: c_int,
    offset: libc::off_t,
) -> *mut c_void {
    // SAFETY: the caller's arguments, as they are.
    unsafe { mmap_any(address, len, protection, flags, file, offset) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn mmap64(
    address: *mut c_void,
    len: usize,
    protection: c_int,
    flags: c_int,
    file: c_int,
    offset: libc::off64_t,
) -> *mut c_void {
    // SAFETY: the caller's arguments, as they are.
    unsafe { mmap_any(address, len, protection, flags, file, offset) }
}
