//! `fopen` and `freopen`.

use super::open::{open_device, would_create_device};
use super::{find, last_errno, means_not_found, set_errno};
use crate::path::DevicePath;
use crate::{real, server};
use rustix::io::Errno;
use std::ffi::{CStr, c_char, c_int};
use std::ptr::null_mut;

/// The flags of `open` for a mode.
///
/// # Safety
///
/// The mode must be a string that ends with a zero.
unsafe fn flags_of(mode: *const c_char) -> c_int {
    // SAFETY: the caller vouches for it.
    let letters = unsafe { CStr::from_ptr(mode) }.to_bytes();
    // A comma starts the name of a character set.
    let letters = letters.split(|letter| *letter == b',').next().unwrap_or_default();
    let has = |letter, flag| if letters.contains(&letter) { flag } else { 0 };
    let (alone, creates) = match letters.first() {
        Some(b'w') => (libc::O_WRONLY, libc::O_CREAT | libc::O_TRUNC),
        Some(b'a') => (libc::O_WRONLY, libc::O_CREAT | libc::O_APPEND),
        _ => (libc::O_RDONLY, 0),
    };
    let access = if letters.contains(&b'+') { libc::O_RDWR } else { alone };
    access | creates | has(b'x', libc::O_EXCL) | has(b'e', libc::O_CLOEXEC)
}

unsafe fn fopen_any(
    which: &real::NextFunction,
    path: *const c_char,
    mode: *const c_char,
) -> *mut libc::FILE {
    // SAFETY: the caller's mode.
    let flags = unsafe { flags_of(mode) };
    let creates = flags & libc::O_CREAT != 0;
    // SAFETY: the caller's path, which the kernel checks.
    let to_be = creates && unsafe { would_create_device(libc::AT_FDCWD, path, true) };
    if !to_be {
        // SAFETY: the caller's arguments, unchanged.
        let file = unsafe { real::fopen(which, path, mode) };
        if !file.is_null() || creates {
            return file;
        }
        let errno = last_errno();
        // SAFETY: the error means that the kernel has read the path.
        match means_not_found(errno).then(|| unsafe { find(libc::AT_FDCWD, path, true) }).flatten()
        {
            Some(DevicePath::Device) => {}
            found => {
                let is_folder = found.is_some() && server::is_present();
                set_errno(if is_folder { Errno::NOTDIR } else { errno });
                return file;
            }
        }
    }
    let open = open_device(flags);
    if open < 0 {
        return null_mut();
    }
    // SAFETY: the descriptor is open, and the stream owns it from now on.
    let file = unsafe { libc::fdopen(open, mode) };
    if file.is_null() {
        let errno = last_errno();
        // SAFETY: no stream owns the descriptor.
        unsafe { libc::close(open) };
        set_errno(errno);
    }
    file
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn fopen(path: *const c_char, mode: *const c_char) -> *mut libc::FILE {
    // SAFETY: the caller's arguments, unchanged.
    unsafe { fopen_any(&real::FOPEN, path, mode) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn fopen64(path: *const c_char, mode: *const c_char) -> *mut libc::FILE {
    // SAFETY: the caller's arguments, unchanged.
    unsafe { fopen_any(&real::FOPEN64, path, mode) }
}

/// Reopens the stream on `/dev/null`, so that the C library sets it up, and then replaces the file
/// behind its descriptor.
unsafe fn freopen_any(
    which: &real::NextFunction,
    path: *const c_char,
    mode: *const c_char,
    file: *mut libc::FILE,
) -> *mut libc::FILE {
    // SAFETY: the caller's path, which the kernel checks. A null path only changes the stream's
    // mode.
    if path.is_null() || !unsafe { would_create_device(libc::AT_FDCWD, path, true) } {
        // SAFETY: the caller's arguments, unchanged.
        return unsafe { real::freopen(which, path, mode, file) };
    }
    // SAFETY: the caller's mode.
    let flags = unsafe { flags_of(mode) };
    let open = open_device(flags);
    if open < 0 {
        let errno = last_errno();
        // SAFETY: the caller's stream and mode. No file has the empty path, so this fails, and
        // closes the stream as every failed `freopen` does.
        unsafe { real::freopen(which, c"".as_ptr(), mode, file) };
        set_errno(errno);
        return null_mut();
    }
    // SAFETY: the caller's stream and mode.
    let file = unsafe { real::freopen(which, c"/dev/null".as_ptr(), mode, file) };
    let mut errno = (file.is_null()).then(last_errno);
    if errno.is_none() {
        // SAFETY: the stream is open.
        let number = unsafe { libc::fileno(file) };
        // SAFETY: the descriptor is the stream's, and the file that it refers to is not in use.
        let moved = unsafe { libc::dup3(open, number, flags & libc::O_CLOEXEC) };
        errno = (moved < 0).then(last_errno);
    }
    // SAFETY: no stream owns this descriptor.
    unsafe { libc::close(open) };
    let Some(errno) = errno else { return file };
    set_errno(errno);
    null_mut()
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn freopen(
    path: *const c_char,
    mode: *const c_char,
    file: *mut libc::FILE,
) -> *mut libc::FILE {
    // SAFETY: the caller's arguments, unchanged.
    unsafe { freopen_any(&real::FREOPEN, path, mode, file) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn freopen64(
    path: *const c_char,
    mode: *const c_char,
    file: *mut libc::FILE,
) -> *mut libc::FILE {
    // SAFETY: the caller's arguments, unchanged.
    unsafe { freopen_any(&real::FREOPEN64, path, mode, file) }
}
