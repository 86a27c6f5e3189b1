//! `read`, `write` and the other calls that transfer bytes, which the device doesn't support.
//!
//! The kernel refuses all of them on an open file. These functions return the errno that it has for
//! a driver without them: `EBADF` when the access mode doesn't allow the call, else `EINVAL`.

use super::set_errno;
use crate::device_file::{DeviceFile, device_file_if_any};
use crate::real;
use rustix::io::Errno;
use std::ffi::{c_int, c_uint, c_void};

/// The kernel's error for a file whose driver has no such function. The access mode is checked
/// first.
fn fail(is_allowed: bool) -> isize {
    set_errno(if is_allowed { Errno::INVAL } else { Errno::BADF });
    -1
}

fn refuse_read(file: DeviceFile) -> isize {
    fail(file.access.reads())
}

pub(super) fn refuse_write(file: DeviceFile) -> isize {
    fail(file.access.writes())
}

/// Functions that fail on an open file of the device, each with the function for other files.
macro_rules! refusing {
    ($($refusal:ident: fn $name:ident($($argument:ident: $type:ty),*), $real:ident($($handed_on:ident),*);)*) => { $(
        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name(descriptor: c_int, $($argument: $type),*) -> isize {
            match device_file_if_any(descriptor) {
                Some(file) => $refusal(file),
                // SAFETY: the caller's arguments, unchanged.
                None => unsafe { real::$real(descriptor, $($handed_on),*) },
            }
        }
    )* };
}

refusing! {
    refuse_read: fn read(bytes: *mut c_void, count: usize), read(bytes, count);
    refuse_read: fn __read_chk(bytes: *mut c_void, count: usize, size: usize), read_chk(bytes, count, size);
    refuse_read: fn readv(parts: *const libc::iovec, count: c_int), readv(parts, count);
    refuse_read: fn pread(bytes: *mut c_void, count: usize, at: libc::off_t), pread(bytes, count, at);
    refuse_read: fn pread64(bytes: *mut c_void, count: usize, at: libc::off64_t), pread(bytes, count, at);
    refuse_read: fn __pread_chk(bytes: *mut c_void, count: usize, at: libc::off_t, size: usize),
        pread_chk(bytes, count, at, size);
    refuse_read: fn __pread64_chk(bytes: *mut c_void, count: usize, at: libc::off64_t, size: usize),
        pread_chk(bytes, count, at, size);
    refuse_read: fn preadv(parts: *const libc::iovec, count: c_int, at: libc::off_t), preadv(parts, count, at);
    refuse_read: fn preadv64(parts: *const libc::iovec, count: c_int, at: libc::off64_t), preadv(parts, count, at);
    refuse_read: fn preadv2(parts: *const libc::iovec, count: c_int, at: libc::off_t, flags: c_int),
        preadv2(parts, count, at, flags);
    refuse_read: fn preadv64v2(parts: *const libc::iovec, count: c_int, at: libc::off64_t, flags: c_int),
        preadv2(parts, count, at, flags);
    refuse_write: fn write(bytes: *const c_void, count: usize), write(bytes, count);
    refuse_write: fn writev(parts: *const libc::iovec, count: c_int), writev(parts, count);
    refuse_write: fn pwrite(bytes: *const c_void, count: usize, at: libc::off_t), pwrite(bytes, count, at);
    refuse_write: fn pwrite64(bytes: *const c_void, count: usize, at: libc::off64_t), pwrite(bytes, count, at);
    refuse_write: fn pwritev(parts: *const libc::iovec, count: c_int, at: libc::off_t), pwritev(parts, count, at);
    refuse_write: fn pwritev64(parts: *const libc::iovec, count: c_int, at: libc::off64_t), pwritev(parts, count, at);
    refuse_write: fn pwritev2(parts: *const libc::iovec, count: c_int, at: libc::off_t, flags: c_int),
        pwritev2(parts, count, at, flags);
    refuse_write: fn pwritev64v2(parts: *const libc::iovec, count: c_int, at: libc::off64_t, flags: c_int),
        pwritev2(parts, count, at, flags);
}

/// The error of a call that reads from one file and writes to another, if one of them is an open
/// file of the device.
fn refuse_transfer(from: c_int, to: c_int) -> Option<isize> {
    device_file_if_any(from).map(refuse_read).or_else(|| device_file_if_any(to).map(refuse_write))
}

macro_rules! sendfiles {
    ($($name:ident: $offset:ty;)*) => { $(
        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name(to: c_int, from: c_int, at: *mut $offset, count: usize) -> isize {
            // SAFETY: the caller's arguments, unchanged.
            refuse_transfer(from, to).unwrap_or_else(|| unsafe { real::sendfile(to, from, at, count) })
        }
    )* };
}

sendfiles! {
    sendfile: libc::off_t;
    sendfile64: libc::off64_t;
}

/// Calls that move bytes from one file to another.
macro_rules! moves {
    ($($name:ident;)*) => { $(
        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name(
            from: c_int,
            from_at: *mut libc::off64_t,
            to: c_int,
            to_at: *mut libc::off64_t,
            count: usize,
            flags: c_uint,
        ) -> isize {
            // SAFETY: the caller's arguments, unchanged.
            refuse_transfer(from, to).unwrap_or_else(|| unsafe { real::$name(from, from_at, to, to_at, count, flags) })
        }
    )* };
}

moves! {
    copy_file_range;
    splice;
}
