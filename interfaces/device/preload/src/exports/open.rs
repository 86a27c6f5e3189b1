//! `open` in all its forms.

use super::{failed, find, last_errno, means_not_found};
use crate::path::DevicePath;
use crate::{real, server};
use rustix::fd::IntoRawFd;
use rustix::io::Errno;
use std::ffi::{c_char, c_int};

/// The flags that `creat` implies.
const CREAT: c_int = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;

/// Whether an open with `O_CREAT` would create a file in the device's place.
pub(super) unsafe fn would_create_device(folder: c_int, path: *const c_char, follow: bool) -> bool {
    // SAFETY: the kernel checks the path.
    let result = unsafe { libc::syscall(libc::SYS_faccessat, folder, path, libc::F_OK) };
    if result == 0 || last_errno() != Errno::NOENT {
        return false;
    }
    // SAFETY: the kernel has read the path. No call creates a path with a slash after it.
    unsafe { find(folder, path, follow) == Some(DevicePath::Device) }
}

pub(super) fn open_device(flags: c_int) -> c_int {
    match server::open(flags) {
        Ok(file) => file.into_raw_fd(),
        Err(errno) => failed(errno),
    }
}

/// Opens a descriptor that stands for the device's path (`O_PATH`): it is opened on the path of the
/// server's socket.
fn open_path(flags: c_int) -> c_int {
    if flags & libc::O_DIRECTORY != 0 {
        return failed(Errno::NOTDIR);
    }
    // SAFETY: the server's path ends with a zero.
    unsafe { real::openat(libc::AT_FDCWD, server::path().as_ptr(), flags & !libc::O_NOFOLLOW, 0) }
}

unsafe fn open_any(folder: c_int, path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int {
    let stands_for_the_path = flags & libc::O_PATH != 0;
    let creates = flags & libc::O_CREAT != 0 && !stands_for_the_path;
    let follow = flags & libc::O_NOFOLLOW == 0;
    // SAFETY: the caller's path, which the kernel checks.
    if creates && unsafe { would_create_device(folder, path, follow) } {
        return open_device(flags);
    }
    // SAFETY: the caller's arguments, unchanged.
    let file = unsafe { real::openat(folder, path, flags, mode) };
    if file >= 0 {
        return file;
    }
    let errno = last_errno();
    // SAFETY: the error means that the kernel has read the path.
    let found = if means_not_found(errno) { unsafe { find(folder, path, follow) } } else { None };
    match found {
        Some(DevicePath::Device) if stands_for_the_path && server::is_present() => open_path(flags),
        Some(DevicePath::Device) if !creates && !stands_for_the_path => open_device(flags),
        Some(DevicePath::WithSlash) if server::is_present() => failed(Errno::NOTDIR),
        _ => failed(errno),
    }
}

/// The forms of `open` without a folder, each with the flags that it adds.
macro_rules! opens {
    ($($name:ident, $adds:expr;)*) => { $(
        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name(path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int {
            // SAFETY: the caller's arguments, unchanged.
            unsafe { open_any(libc::AT_FDCWD, path, flags | $adds, mode) }
        }
    )* };
}

opens! {
    open, 0;
    __open, 0;
    open64, libc::O_LARGEFILE;
    __open64, libc::O_LARGEFILE;
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn openat(
    folder: c_int,
    path: *const c_char,
    flags: c_int,
    mode: libc::mode_t,
) -> c_int {
    // SAFETY: the caller's arguments, unchanged.
    unsafe { open_any(folder, path, flags, mode) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn openat64(
    folder: c_int,
    path: *const c_char,
    flags: c_int,
    mode: libc::mode_t,
) -> c_int {
    // SAFETY: the caller's arguments, unchanged.
    unsafe { open_any(folder, path, flags | libc::O_LARGEFILE, mode) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn creat(path: *const c_char, mode: libc::mode_t) -> c_int {
    // SAFETY: the caller's arguments, unchanged.
    unsafe { open_any(libc::AT_FDCWD, path, CREAT, mode) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn creat64(path: *const c_char, mode: libc::mode_t) -> c_int {
    // SAFETY: the caller's arguments, unchanged.
    unsafe { open_any(libc::AT_FDCWD, path, CREAT | libc::O_LARGEFILE, mode) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn __open_2(path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: the caller's arguments; this form is for flags without `O_CREAT`, so there is no
    // mode.
    unsafe { open_any(libc::AT_FDCWD, path, flags, 0) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn __open64_2(path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: as in `__open_2`.
    unsafe { open_any(libc::AT_FDCWD, path, flags | libc::O_LARGEFILE, 0) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn __openat_2(folder: c_int, path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: as in `__open_2`.
    unsafe { open_any(folder, path, flags, 0) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn __openat64_2(
    folder: c_int,
    path: *const c_char,
    flags: c_int,
) -> c_int {
    // SAFETY: as in `__open_2`.
    unsafe { open_any(folder, path, flags | libc::O_LARGEFILE, 0) }
}
