//! `stat` in all its forms, on the path and on an open file, which say the same: what the server's
//! socket is, but that it is a device.

use super::failed;
use super::query::is_of_missing_device;
use crate::device_file::device_file;
use crate::path::stands_for_device;
use crate::{real, server};
use rustix::io::Errno;
use std::ffi::{c_char, c_int, c_uint};

/// The device's number: a misc device's, with the minor that stands for none in particular, and
/// that therefore nobody else has.
const NUMBER: (c_uint, c_uint) = (10, 255);

/// The device's mode, by the one of the server's socket.
fn mode(of_socket: u32) -> u32 {
    let writes = of_socket & 0o222;
    libc::S_IFCHR | writes << 1 | writes
}

fn is_socket(mode: u32) -> bool {
    mode & libc::S_IFMT == libc::S_IFSOCK
}

/// Makes what was found of a socket the device's.
///
/// # Safety
///
/// The kernel must have filled it in.
unsafe fn become_device(found: *mut libc::stat) {
    // SAFETY: the kernel has written it, wherever it is.
    let mut status = unsafe { found.read_unaligned() };
    (status.st_mode, status.st_rdev) = (mode(status.st_mode), libc::makedev(NUMBER.0, NUMBER.1));
    (status.st_size, status.st_blocks, status.st_nlink) = (0, 0, 1);
    // SAFETY: as above.
    unsafe { found.write_unaligned(status) };
}

/// The same for `statx`.
///
/// # Safety
///
/// The kernel must have filled it in.
unsafe fn become_device_x(found: *mut libc::statx) {
    // SAFETY: the kernel has written it, wherever it is.
    let mut status = unsafe { found.read_unaligned() };
    status.stx_mode = mode(status.stx_mode.into()) as u16;
    (status.stx_rdev_major, status.stx_rdev_minor) = NUMBER;
    (status.stx_size, status.stx_blocks, status.stx_nlink) = (0, 0, 1);
    // SAFETY: as above.
    unsafe { found.write_unaligned(status) };
}

/// What there is to say of the device.
unsafe fn stat_device(found: *mut libc::stat) -> c_int {
    // SAFETY: the server's path ends with a zero; the kernel looks at the place for what it finds.
    let looked = unsafe { real::fstatat(libc::AT_FDCWD, server::path().as_ptr(), found, 0) };
    if looked == 0 {
        // SAFETY: it was filled in.
        unsafe { become_device(found) };
    }
    looked
}

unsafe fn stat_any(
    folder: c_int,
    path: *const c_char,
    found: *mut libc::stat,
    flags: c_int,
) -> c_int {
    // SAFETY: the caller's arguments, as they are.
    let looked = unsafe { real::fstatat(folder, path, found, flags) };
    if looked == 0 {
        // SAFETY: the kernel has taken them.
        if unsafe { is_of_file(path, flags) } {
            // SAFETY: it was filled in.
            unsafe { stat_file(folder, found) };
        }
        return 0;
    }
    // SAFETY: it has failed.
    if unsafe { is_of_missing_device(folder, path) } {
        // SAFETY: the caller's place.
        return unsafe { stat_device(found) };
    }
    looked
}

/// Whether a call with a path is one about the descriptor.
unsafe fn is_of_file(path: *const c_char, flags: c_int) -> bool {
    // SAFETY: the kernel has read the path, if there is one.
    flags & libc::AT_EMPTY_PATH != 0 && (path.is_null() || unsafe { *path } == 0)
}

/// Behind a look at a descriptor: if it is an open file of the device, says what there is to say of
/// that.
///
/// # Safety
///
/// The kernel must have filled it in.
unsafe fn stat_file(descriptor: c_int, found: *mut libc::stat) {
    // SAFETY: the kernel has written it, wherever it is.
    let mode = unsafe { found.read_unaligned() }.st_mode;
    if !is_socket(mode) || !is_of_device(descriptor) {
        return;
    }
    // SAFETY: the caller's place. What was found of an open file itself is of a socket that anybody
    // may write to.
    if unsafe { stat_device(found) } != 0 {
        // SAFETY: it was filled in before.
        unsafe { become_device(found) };
    }
}

/// Whether a descriptor that is a socket is an open file of the device, or stands for its path.
fn is_of_device(descriptor: c_int) -> bool {
    device_file(descriptor).is_some() || {
        if descriptor < 0 {
            return false;
        }
        // SAFETY: it is only looked at; if it isn't open, so says the kernel.
        let socket = unsafe { rustix::fd::BorrowedFd::borrow_raw(descriptor) };
        rustix::fs::fstat(socket).is_ok_and(|status| stands_for_device(descriptor, &status))
    }
}

unsafe fn fstat_any(descriptor: c_int, found: *mut libc::stat) -> c_int {
    // SAFETY: the caller's arguments, as they are.
    let looked = unsafe { real::fstat(descriptor, found) };
    if looked == 0 {
        // SAFETY: it was filled in.
        unsafe { stat_file(descriptor, found) };
    }
    looked
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn statx(
    folder: c_int,
    path: *const c_char,
    flags: c_int,
    mask: c_uint,
    found: *mut libc::statx,
) -> c_int {
    // SAFETY: the caller's arguments, as they are.
    let looked = unsafe { real::statx(folder, path, flags, mask, found) };
    let is = if looked == 0 {
        // SAFETY: the kernel has taken them.
        let of_file = unsafe { is_of_file(path, flags) };
        // SAFETY: the kernel has written it, wherever it is.
        let is = of_file && is_socket(unsafe { found.read_unaligned() }.stx_mode.into());
        is && is_of_device(folder)
    } else {
        // SAFETY: it has failed.
        unsafe { is_of_missing_device(folder, path) }
    };
    if !is {
        return looked;
    }
    let (of_path, server) = (libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW, server::path());
    // SAFETY: the server's path ends with a zero; the kernel looks at the place for what it finds.
    let at_server =
        unsafe { real::statx(libc::AT_FDCWD, server.as_ptr(), flags & !of_path, mask, found) };
    if at_server == 0 || looked == 0 {
        // SAFETY: it was filled in, now or before.
        unsafe { become_device_x(found) };
        return 0;
    }
    at_server
}

/// `stat` by its various names, each with what `fstatat` is to do. Programs that were made for a C
/// library before 2.33 use those with a version of the structure, of which Linux with 64 bits has
/// one.
macro_rules! stats {
    ($($name:ident, $versioned:ident, $flags:expr;)*) => { $(
        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name(path: *const c_char, found: *mut libc::stat) -> c_int {
            // SAFETY: the caller's arguments, as they are.
            unsafe { stat_any(libc::AT_FDCWD, path, found, $flags) }
        }

        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $versioned(version: c_int, path: *const c_char, found: *mut libc::stat) -> c_int {
            if !is_version(version) {
                return failed(Errno::INVAL);
            }
            // SAFETY: the caller's arguments, as they are.
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

/// The same of descriptors and of folders.
macro_rules! stats_of_files {
    ($($of_file:ident, $of_file_versioned:ident, $in_folder:ident, $in_folder_versioned:ident;)*) => { $(
        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $of_file(file: c_int, found: *mut libc::stat) -> c_int {
            // SAFETY: the caller's arguments, as they are.
            unsafe { fstat_any(file, found) }
        }

        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $of_file_versioned(version: c_int, file: c_int, found: *mut libc::stat) -> c_int {
            if !is_version(version) {
                return failed(Errno::INVAL);
            }
            // SAFETY: the caller's arguments, as they are.
            unsafe { fstat_any(file, found) }
        }

        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $in_folder(
            folder: c_int, path: *const c_char, found: *mut libc::stat, flags: c_int,
        ) -> c_int {
            // SAFETY: the caller's arguments, as they are.
            unsafe { stat_any(folder, path, found, flags) }
        }

        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $in_folder_versioned(
            version: c_int, folder: c_int, path: *const c_char, found: *mut libc::stat, flags: c_int,
        ) -> c_int {
            if !is_version(version) {
                return failed(Errno::INVAL);
            }
            // SAFETY: the caller's arguments, as they are.
            unsafe { stat_any(folder, path, found, flags) }
        }
    )* };
}

stats_of_files! {
    fstat, __fxstat, fstatat, __fxstatat;
    fstat64, __fxstat64, fstatat64, __fxstatat64;
}

/// Whether it is a version that the C library takes: the kernel's structure, or its own, which is
/// the same.
fn is_version(version: c_int) -> bool {
    matches!(version, 0 | 1)
}

const _: () = assert!(size_of::<libc::stat>() == size_of::<libc::stat64>());
