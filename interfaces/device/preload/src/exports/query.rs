//! Calls that query a path: `access` in all its forms, extended attributes, of which the device has
//! none (`ls -l` reads them), and calls for other kinds of file.
//!
//! The permissions of the server's socket decide who can open the device: a user who may write to
//! the socket may read and write the device.

use super::{failed, find, last_errno, means_not_found};
use crate::path::DevicePath;
use crate::{real, server};
use rustix::io::Errno;
use std::ffi::{c_char, c_int, c_void};

/// Whether a call failed only because the kernel doesn't have the device, which this library
/// provides. If not, errno is preserved, or becomes `ENOTDIR` if the path is that of the device
/// with a slash after it.
///
/// # Safety
///
/// A system call with this path must just have failed.
pub(super) unsafe fn failed_on_device(folder: c_int, path: *const c_char) -> bool {
    let errno = last_errno();
    // Calls that don't follow symbolic links succeed on a link, so this one may follow them.
    // SAFETY: the error means that the kernel has read the path.
    let found = if means_not_found(errno) { unsafe { find(folder, path, true) } } else { None };
    match found.filter(|_| server::is_present()) {
        Some(DevicePath::Device) => return true,
        Some(DevicePath::WithSlash) => failed(Errno::NOTDIR),
        None => failed(errno),
    };
    false
}

unsafe fn access_any(folder: c_int, path: *const c_char, wanted: c_int, flags: c_int) -> c_int {
    // SAFETY: the caller's arguments, unchanged.
    let result = unsafe { real::faccessat(folder, path, wanted, flags) };
    // SAFETY: the call has failed.
    if result == 0 || !unsafe { failed_on_device(folder, path) } {
        return result;
    } else if wanted & libc::X_OK != 0 {
        return failed(Errno::ACCESS);
    }
    let wanted = if wanted == libc::F_OK { libc::F_OK } else { libc::W_OK };
    // SAFETY: the server's path ends with a zero.
    unsafe {
        real::faccessat(libc::AT_FDCWD, server::path().as_ptr(), wanted, flags & libc::AT_EACCESS)
    }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn access(path: *const c_char, wanted: c_int) -> c_int {
    // SAFETY: the caller's arguments, unchanged.
    unsafe { access_any(libc::AT_FDCWD, path, wanted, 0) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn faccessat(
    folder: c_int,
    path: *const c_char,
    wanted: c_int,
    flags: c_int,
) -> c_int {
    // SAFETY: the caller's arguments, unchanged.
    unsafe { access_any(folder, path, wanted, flags) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn euidaccess(path: *const c_char, wanted: c_int) -> c_int {
    // SAFETY: the caller's arguments, unchanged.
    unsafe { access_any(libc::AT_FDCWD, path, wanted, libc::AT_EACCESS) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn eaccess(path: *const c_char, wanted: c_int) -> c_int {
    // SAFETY: the caller's arguments, unchanged.
    unsafe { access_any(libc::AT_FDCWD, path, wanted, libc::AT_EACCESS) }
}

/// Calls for extended attributes, each with its result on the device.
macro_rules! attributes {
    ($($answer:expr => fn $name:ident($path:ident, $($argument:ident: $type:ty),*);)*) => { $(
        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name($path: *const c_char, $($argument: $type),*) -> isize {
            // SAFETY: the caller's arguments, unchanged.
            let result = unsafe { real::$name($path, $($argument),*) };
            // SAFETY: the call has failed.
            if result < 0 && unsafe { failed_on_device(libc::AT_FDCWD, $path) } { $answer } else { result }
        }
    )* };
}

attributes! {
    failed(Errno::NODATA) as isize => fn getxattr(path, name: *const c_char, value: *mut c_void, size: usize);
    failed(Errno::NODATA) as isize => fn lgetxattr(path, name: *const c_char, value: *mut c_void, size: usize);
    0 => fn listxattr(path, names: *mut c_char, size: usize);
    0 => fn llistxattr(path, names: *mut c_char, size: usize);
}

/// The result of `readlink`: the device is no symbolic link.
unsafe fn readlink_in(folder: c_int, path: *const c_char, result: isize) -> isize {
    // SAFETY: the call has failed.
    if result < 0 && unsafe { failed_on_device(folder, path) } {
        failed(Errno::INVAL) as isize
    } else {
        result
    }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn readlink(
    path: *const c_char,
    target: *mut c_char,
    size: usize,
) -> isize {
    // SAFETY: the caller's arguments, unchanged.
    unsafe { readlinkat(libc::AT_FDCWD, path, target, size) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn __readlink_chk(
    path: *const c_char,
    target: *mut c_char,
    size: usize,
    has: usize,
) -> isize {
    // SAFETY: the caller's arguments, unchanged.
    unsafe { __readlinkat_chk(libc::AT_FDCWD, path, target, size, has) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn readlinkat(
    folder: c_int,
    path: *const c_char,
    target: *mut c_char,
    size: usize,
) -> isize {
    // SAFETY: the caller's arguments, unchanged.
    let result = unsafe { real::readlinkat(folder, path, target, size) };
    // SAFETY: the kernel has read the path.
    unsafe { readlink_in(folder, path, result) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn __readlinkat_chk(
    folder: c_int,
    path: *const c_char,
    target: *mut c_char,
    size: usize,
    has: usize,
) -> isize {
    // SAFETY: the caller's arguments, unchanged.
    let result = unsafe { real::readlinkat_chk(folder, path, target, size, has) };
    // SAFETY: the kernel has read the path.
    unsafe { readlink_in(folder, path, result) }
}

/// The result of `truncate`: the device has no length.
unsafe fn truncated(path: *const c_char, done: c_int) -> c_int {
    // SAFETY: the call has failed.
    if done < 0 && unsafe { failed_on_device(libc::AT_FDCWD, path) } {
        failed(Errno::INVAL)
    } else {
        done
    }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn truncate(path: *const c_char, length: libc::off_t) -> c_int {
    // SAFETY: the caller's arguments, unchanged.
    let done = unsafe { real::truncate(path, length) };
    // SAFETY: the kernel has read the path.
    unsafe { truncated(path, done) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn truncate64(path: *const c_char, length: libc::off64_t) -> c_int {
    // SAFETY: the caller's arguments, unchanged.
    let done = unsafe { real::truncate(path, length) };
    // SAFETY: the kernel has read the path.
    unsafe { truncated(path, done) }
}
