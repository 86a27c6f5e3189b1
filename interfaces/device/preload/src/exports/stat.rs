//! `stat` in all its forms, on the path and on an open file. Both return the status of the server's
//! socket, changed into that of a character device.

use super::failed;
use super::query::failed_on_device;
use crate::device_file::device_file;
use crate::path::stands_for_device;
use crate::{real, server};
use rustix::io::Errno;
use std::ffi::{c_char, c_int, c_uint};

/// The device number: major 10 (misc), and minor 255 (`MISC_DYNAMIC_MINOR`), which no device has.
const NUMBER: (c_uint, c_uint) = (10, 255);

/// The device's mode, from that of the server's socket.
fn mode(of_socket: u32) -> u32 {
    let writes = of_socket & 0o222;
    libc::S_IFCHR | writes << 1 | writes
}

fn is_socket(mode: u32) -> bool {
    mode & libc::S_IFMT == libc::S_IFSOCK
}

/// Changes the status of a socket into that of the device.
///
/// # Safety
///
/// The kernel must have filled in the structure.
unsafe fn become_device(found: *mut libc::stat) {
    // SAFETY: the kernel has written it, whatever its alignment.
    let mut status = unsafe { found.read_unaligned() };
    (status.st_mode, status.st_rdev) = (mode(status.st_mode), libc::makedev(NUMBER.0, NUMBER.1));
    (status.st_size, status.st_blocks, status.st_nlink) = (0, 0, 1);
    // SAFETY: as in the read.
    unsafe { found.write_unaligned(status) };
}

/// The same for `statx`.
///
/// # Safety
///
/// The kernel must have filled in the structure.
unsafe fn become_device_x(found: *mut libc::statx) {
    // SAFETY: the kernel has written it, whatever its alignment.
    let mut status = unsafe { found.read_unaligned() };
    status.stx_mode = mode(status.stx_mode.into()) as u16;
    (status.stx_rdev_major, status.stx_rdev_minor) = NUMBER;
    (status.stx_size, status.stx_blocks, status.stx_nlink) = (0, 0, 1);
    // SAFETY: as in the read.
    unsafe { found.write_unaligned(status) };
}

/// Writes the status of the device.
unsafe fn stat_device(found: *mut libc::stat) -> c_int {
    // SAFETY: the server's path ends with a zero; the kernel checks `found`.
    let result = unsafe { real::fstatat(libc::AT_FDCWD, server::path().as_ptr(), found, 0) };
    if result == 0 {
        // SAFETY: the kernel has filled it in.
        unsafe { become_device(found) };
    }
    result
}

unsafe fn stat_any(
    folder: c_int,
    path: *const c_char,
    found: *mut libc::stat,
    flags: c_int,
) -> c_int {
    // SAFETY: the caller's arguments, unchanged.
    let result = unsafe { real::fstatat(folder, path, found, flags) };
    if result == 0 {
        // SAFETY: the kernel has read the path.
        if unsafe { is_of_file(path, flags) } {
            // SAFETY: the kernel has filled it in.
            unsafe { stat_file(folder, found) };
        }
        return 0;
    }
    // SAFETY: the call has failed.
    if unsafe { failed_on_device(folder, path) } {
        // SAFETY: the kernel checks `found`.
        return unsafe { stat_device(found) };
    }
    result
}

/// Whether a call with a path is one on the descriptor (`AT_EMPTY_PATH`).
unsafe fn is_of_file(path: *const c_char, flags: c_int) -> bool {
    // SAFETY: the kernel has read the path, if there is one.
    flags & libc::AT_EMPTY_PATH != 0 && (path.is_null() || unsafe { *path } == 0)
}

/// After a successful call on a descriptor: if it is an open file of the device, writes the status
/// of the device.
///
/// # Safety
///
/// The kernel must have filled in the structure.
unsafe fn stat_file(descriptor: c_int, found: *mut libc::stat) {
    // SAFETY: the kernel has written it, whatever its alignment.
    let mode = unsafe { found.read_unaligned() }.st_mode;
    if !is_socket(mode) || !is_of_device(descriptor) {
        return;
    }
    // SAFETY: the kernel checks `found`. The permissions of the open file's own socket say nothing;
    // those of the server's socket count.
    if unsafe { stat_device(found) } != 0 {
        // SAFETY: the kernel filled it in before.
        unsafe { become_device(found) };
    }
}

/// Whether a descriptor that is a socket is an open file of the device, or stands for its path.
fn is_of_device(descriptor: c_int) -> bool {
    device_file(descriptor).is_some() || {
        if descriptor < 0 {
            return false;
        }
        // SAFETY: it is only passed to `fstat`, which fails if it isn't open.
        let socket = unsafe { rustix::fd::BorrowedFd::borrow_raw(descriptor) };
        rustix::fs::fstat(socket).is_ok_and(|status| stands_for_device(descriptor, &status))
    }
}

unsafe fn fstat_any(descriptor: c_int, found: *mut libc::stat) -> c_int {
    // SAFETY: the caller's arguments, unchanged.
    let result = unsafe { real::fstat(descriptor, found) };
    if result == 0 {
        // SAFETY: the kernel has filled it in.
        unsafe { stat_file(descriptor, found) };
    }
    result
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn statx(
    folder: c_int,
    path: *const c_char,
    flags: c_int,
    mask: c_uint,
    found: *mut libc::statx,
) -> c_int {
    // SAFETY: the caller's arguments, unchanged.
    let result = unsafe { real::statx(folder, path, flags, mask, found) };
    let is_device = if result == 0 {
        // SAFETY: the kernel has read the path.
        let of_file = unsafe { is_of_file(path, flags) };
        // SAFETY: the kernel has written it, whatever its alignment.
        let is = of_file && is_socket(unsafe { found.read_unaligned() }.stx_mode.into());
        is && is_of_device(folder)
    } else {
        // SAFETY: the call has failed.
        unsafe { failed_on_device(folder, path) }
    };
    if !is_device {
        return result;
    }
    let (of_path, server) = (libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW, server::path());
    // SAFETY: the server's path ends with a zero; the kernel checks `found`.
    let at_server =
        unsafe { real::statx(libc::AT_FDCWD, server.as_ptr(), flags & !of_path, mask, found) };
    if at_server == 0 || result == 0 {
        // SAFETY: the kernel has filled it in, in this call or the one before.
        unsafe { become_device_x(found) };
        return 0;
    }
    at_server
}

/// `stat` by its various names, each with the flags for `fstatat`. Programs that were linked
/// against a C library before 2.33 call those with a version of the structure, of which 64-bit
/// Linux has one.
macro_rules! stats {
    ($($name:ident, $versioned:ident, $flags:expr;)*) => { $(
        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name(path: *const c_char, found: *mut libc::stat) -> c_int {
            // SAFETY: the caller's arguments, unchanged.
            unsafe { stat_any(libc::AT_FDCWD, path, found, $flags) }
        }

        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $versioned(version: c_int, path: *const c_char, found: *mut libc::stat) -> c_int {
            if !is_version(version) {
                return failed(Errno::INVAL);
            }
            // SAFETY: the caller's arguments, unchanged.
            unsafe { stat_any(libc::AT_FDCWD, path, found, $flags) }
        }
    )* };
}

stats! {
    stat, __xstat, 0;
    stat64, __xstat64, 0;
    lstat, __lxstat, libc::AT_SYMLINK_NOFOLLOW;
    lstat64, __lxstat64, libc::AT_SYMLINK_NOFOLLOW;
}

/// The same for descriptors and for paths relative to a folder.
macro_rules! stats_of_files {
    ($($of_file:ident, $of_file_versioned:ident, $in_folder:ident, $in_folder_versioned:ident;)*) => { $(
        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $of_file(file: c_int, found: *mut libc::stat) -> c_int {
            // SAFETY: the caller's arguments, unchanged.
            unsafe { fstat_any(file, found) }
        }

        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $of_file_versioned(version: c_int, file: c_int, found: *mut libc::stat) -> c_int {
            if !is_version(version) {
                return failed(Errno::INVAL);
            }
            // SAFETY: the caller's arguments, unchanged.
            unsafe { fstat_any(file, found) }
        }

        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $in_folder(
            folder: c_int, path: *const c_char, found: *mut libc::stat, flags: c_int,
        ) -> c_int {
            // SAFETY: the caller's arguments, unchanged.
            unsafe { stat_any(folder, path, found, flags) }
        }

        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $in_folder_versioned(
            version: c_int, folder: c_int, path: *const c_char, found: *mut libc::stat, flags: c_int,
        ) -> c_int {
            if !is_version(version) {
                return failed(Errno::INVAL);
            }
            // SAFETY: the caller's arguments, unchanged.
            unsafe { stat_any(folder, path, found, flags) }
        }
    )* };
}

stats_of_files! {
    fstat, __fxstat, fstatat, __fxstatat;
    fstat64, __fxstat64, fstatat64, __fxstatat64;
}

/// Whether the C library accepts a version: that of the kernel's structure or of its own, which are
/// the same.
fn is_version(version: c_int) -> bool {
    matches!(version, 0 | 1)
}

const _: () = assert!(size_of::<libc::stat>() == size_of::<libc::stat64>());
