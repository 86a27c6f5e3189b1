//! The functions that replace the C library's.
//!
//! Variadic functions are declared with all arguments that they can have: on Linux both are passed
//! in the same way, and an argument that the caller did not pass is forwarded unread. The unwinding
//! ABI lets a thread be cancelled while it waits in one of them.

mod open;
mod query;
mod read_write;
mod stat;
mod stdio_open;
mod stdio_write;

use crate::device_file::device_file;
use crate::path::{DevicePath, classify};
use crate::{ioctl, last_errno, mmap, real, set_errno};
use cma_client::pieces::MapArguments;
use rustix::fd::BorrowedFd;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use std::ffi::{CStr, c_char, c_int, c_ulong, c_void};

/// Sets errno and returns -1.
fn failed(errno: Errno) -> c_int {
    set_errno(errno);
    -1
}

/// Whether a path, which the kernel has read, leads to the device.
///
/// # Safety
///
/// The kernel must have read the path: before that it may be any address.
unsafe fn find(folder: c_int, path: *const c_char, follow: bool) -> Option<DevicePath> {
    // If a seccomp filter refuses the whole call, the kernel has not read the path. Rust's standard
    // library probes `statx` in this way, with a null path.
    if path.is_null() {
        return None;
    }
    let folder = match folder {
        libc::AT_FDCWD => CWD,
        // Only an absolute path needs no folder, and so ignores an invalid descriptor.
        folder if folder < 0 => CWD,
        // SAFETY: it is used for the length of this call; if it isn't open, system calls on it
        // fail.
        folder => unsafe { BorrowedFd::borrow_raw(folder) },
    };
    // SAFETY: the kernel has read it up to the terminating zero.
    classify(folder, unsafe { CStr::from_ptr(path) }, follow)
}

/// Whether the error means that the kernel has read the path and found no file there that can be
/// opened.
fn means_not_found(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NXIO | Errno::NODEV | Errno::ACCESS | Errno::PERM)
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn ioctl(
    descriptor: c_int,
    request: c_ulong,
    argument: *mut c_void,
) -> c_int {
    // The kernel uses 32 bits of the number, and executes these ioctls itself for every file.
    let of_kernel =
        matches!(request as u32 as c_ulong, libc::FIOCLEX | libc::FIONCLEX | libc::FIONBIO);
    let Some(open) = device_file(descriptor).filter(|_| !of_kernel) else {
        // SAFETY: the caller's arguments, unchanged.
        return unsafe { real::ioctl(descriptor, request, argument) };
    };
    match ioctl::control(open, request as u32, argument) {
        Ok(()) => 0,
        Err(errno) => failed(errno),
    }
}

unsafe fn mmap_any(
    address: *mut c_void,
    len: usize,
    protection: c_int,
    flags: c_int,
    descriptor: c_int,
    offset: libc::off64_t,
) -> *mut c_void {
    let open = if flags & libc::MAP_ANONYMOUS == 0 { device_file(descriptor) } else { None };
    let Some(open) = open else {
        // SAFETY: the caller's arguments, unchanged.
        return unsafe { real::mmap(address, len, protection, flags, descriptor, offset) };
    };
    let window = MapArguments {
        address,
        len,
        protection: ProtFlags::from_bits_retain(protection as u32),
        flags: MapFlags::from_bits_retain(flags as u32),
        // A negative offset becomes one beyond every chunk.
        offset: offset as u64,
    };
    // SAFETY: the caller vouches for the address.
    match unsafe { mmap::mmap(open, &window) } {
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
    descriptor: c_int,
    offset: libc::off_t,
) -> *mut c_void {
    // SAFETY: the caller's arguments, unchanged.
    unsafe { mmap_any(address, len, protection, flags, descriptor, offset) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn mmap64(
    address: *mut c_void,
    len: usize,
    protection: c_int,
    flags: c_int,
    descriptor: c_int,
    offset: libc::off64_t,
) -> *mut c_void {
    // SAFETY: the caller's arguments, unchanged.
    unsafe { mmap_any(address, len, protection, flags, descriptor, offset) }
}
