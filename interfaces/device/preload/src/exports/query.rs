//! Looking before one opens: `access` in all its forms, attributes, of which there are none (`ls
//! -l` asks for them), and what only other kinds of file have.
//!
//! What one may do with the device is asked of the server's socket, whose permissions decide who
//! can open it: who may write to it may read and write the device.

use super::{failed, find, last_errno, means_not_found};
use crate::path::DevicePath;
use crate::{real, server};
use rustix::io::Errno;
use std::ffi::{c_char, c_int, c_void};

/// Whether a look at a path that failed was one at the device, which is there. Otherwise errno
/// stays what it was, or is `ENOTDIR` for the device as a folder.
///
/// # Safety
///
/// A function of the kernel's that was given the path must just have failed.
pub(super) unsafe fn is_of_missing_device(folder: c_int, path: *const c_char) -> bool {
    let why = last_errno();
    // SAFETY: that is what the kernel says when it has read the path.
    // Calls that look at a symbolic link itself don't fail where there is one.
    // SAFETY: that is what the kernel says when it has read the path.
    let found = if means_not_found(why) { unsafe { find(folder, path, true) } } else { None };
    match found.filter(|_| server::is_present()) {
        Some(DevicePath::Device) => return true,
        Some(DevicePath::WithSlash) => failed(Errno::NOTDIR),
        None => failed(why),
    };
    false
}

unsafe fn access_any(folder: c_int, path: *const c_char, wanted: c_int, flags: c_int) -> c_int {
    // SAFETY: the caller's arguments, as they are.
    let looked = unsafe { real::faccessat(folder, path, wanted, flags) };
    // SAFETY: it has failed.
    if looked == 0 || !unsafe { is_of_missing_device(folder, path) } {
        return looked;
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
    // SAFETY: the caller's arguments, as they are.
    unsafe { access_any(libc::AT_FDCWD, path, wanted, 0) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn faccessat(
    folder: c_int,
    path: *const c_char,
    wanted: c_int,
    flags: c_int,
) -> c_int {
    // SAFETY: the caller's arguments, as they are.
    unsafe { access_any(folder, path, wanted, flags) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn euidaccess(path: *const c_char, wanted: c_int) -> c_int {
    // SAFETY: the caller's arguments, as they are.
    unsafe { access_any(libc::AT_FDCWD, path, wanted, libc::AT_EACCESS) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn eaccess(path: *const c_char, wanted: c_int) -> c_int {
    // SAFETY: the caller's arguments, as they are.
    unsafe { access_any(libc::AT_FDCWD, path, wanted, libc::AT_EACCESS) }
}

/// Attributes of a path: each function's answer where there are none.
macro_rules! attributes {
    ($($answer:expr => fn $name:ident($path:ident, $($argument:ident: $type:ty),*);)*) => { $(
        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name($path: *const c_char, $($argument: $type),*) -> isize {
            // SAFETY: the caller's arguments, as they are.
            let looked = unsafe { real::$name($path, $($argument),*) };
            // SAFETY: it has failed.
            if looked < 0 && unsafe { is_of_missing_device(libc::AT_FDCWD, $path) } { $answer } else { looked }
        }
    )* };
}

attributes! {
    failed(Errno::NODATA) as isize => fn getxattr(path, name: *const c_char, value: *mut c_void, room: usize);
    failed(Errno::NODATA) as isize => fn lgetxattr(path, name: *const c_char, value: *mut c_void, room: usize);
    0 => fn listxattr(path, names: *mut c_char, room: usize);
    0 => fn llistxattr(path, names: *mut c_char, room: usize);
}

/// The device is no symbolic link.
unsafe fn readlink_in(folder: c_int, path: *const c_char, looked: isize) -> isize {
    // SAFETY: it has failed.
    if looked < 0 && unsafe { is_of_missing_device(folder, path) } {
        failed(Errno::INVAL) as isize
    } else {
        looked
    }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn readlink(
    path: *const c_char,
    target: *mut c_char,
    room: usize,
) -> isize {
    // SAFETY: the caller's arguments, as they are.
    unsafe { readlinkat(libc::AT_FDCWD, path, target, room) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn __readlink_chk(
    path: *const c_char,
    target: *mut c_char,
    room: usize,
    has: usize,
) -> isize {
    // SAFETY: the caller's arguments, as they are.
    unsafe { __readlinkat_chk(libc::AT_FDCWD, path, target, room, has) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn readlinkat(
    folder: c_int,
    path: *const c_char,
    target: *mut c_char,
    room: usize,
) -> isize {
    // SAFETY: the caller's arguments, as they are.
    let looked = unsafe { real::readlinkat(folder, path, target, room) };
    // SAFETY: the kernel has taken them.
    unsafe { readlink_in(folder, path, looked) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn __readlinkat_chk(
    folder: c_int,
    path: *const c_char,
    target: *mut c_char,
    room: usize,
    has: usize,
) -> isize {
    // SAFETY: the caller's arguments, as they are.
    let looked = unsafe { real::readlinkat_chk(folder, path, target, room, has) };
    // SAFETY: the kernel has taken them.
    unsafe { readlink_in(folder, path, looked) }
}

/// Nor a file that has a length.
unsafe fn truncated(path: *const c_char, done: c_int) -> c_int {
    // SAFETY: it has failed.
    if done < 0 && unsafe { is_of_missing_device(libc::AT_FDCWD, path) } {
        failed(Errno::INVAL)
    } else {
        done
    }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn truncate(path: *const c_char, length: libc::off_t) -> c_int {
    // SAFETY: the caller's arguments, as they are.
    let done = unsafe { real::truncate(path, length) };
    // SAFETY: the kernel has taken the path.
    unsafe { truncated(path, done) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn truncate64(path: *const c_char, length: libc::off64_t) -> c_int {
    // SAFETY: the caller's arguments, as they are.
    let done = unsafe { real::truncate(path, length) };
    // SAFETY: the kernel has taken the path.
    unsafe { truncated(path, done) }
}
