//! The functions that a program finds here in place of the C library's.
//!
//! Those with a variable number of arguments are declared with as many as they can have: on Linux,
//! arguments are passed the same way, and what nobody passed is handed on unread. A thread that is
//! cancelled while it waits in one of them unwinds through it.

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

/// What a function that failed with an errno returns.
fn failed(errno: Errno) -> c_int {
    set_errno(errno);
    -1
}

/// What a path that the kernel has looked at is of the device's.
///
/// # Safety
///
/// The kernel must have read the path: it may be any address at all before.
unsafe fn find(folder: c_int, path: *const c_char, follow: bool) -> Option<DevicePath> {
    // Under a filter that refuses a whole call, who asks whether there is one (Rust's library, for
    // one) has no path.
    if path.is_null() {
        return None;
    }
    let folder = match folder {
        libc::AT_FDCWD => CWD,
        // Only a path that starts at the root does without a folder.
        folder if folder < 0 => CWD,
        // SAFETY: it is used for the length of this call; if it isn't open, so says the kernel.
        folder => unsafe { BorrowedFd::borrow_raw(folder) },
    };
    // SAFETY: it was read up to the zero that ends it.
    classify(folder, unsafe { CStr::from_ptr(path) }, follow)
}

/// Whether the kernel has read the path, and found nothing there that can be opened.
fn means_not_found(why: Errno) -> bool {
    matches!(why, Errno::NOENT | Errno::NXIO | Errno::NODEV | Errno::ACCESS | Errno::PERM)
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn ioctl(
    descriptor: c_int,
    request: c_ulong,
    argument: *mut c_void,
) -> c_int {
    // The kernel looks at 32 bits of it. Some it answers itself, for every file.
    let of_kernel =
        matches!(request as u32 as c_ulong, libc::FIOCLEX | libc::FIONCLEX | libc::FIONBIO);
    let Some(open) = device_file(descriptor).filter(|_| !of_kernel) else {
        // SAFETY: the caller's arguments, as they are.
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
        // SAFETY: the caller's arguments, as they are.
        return unsafe { real::mmap(address, len, protection, flags, descriptor, offset) };
    };
    let window = MapArguments {
        address,
        len,
        protection: ProtFlags::from_bits_retain(protection as u32),
        flags: MapFlags::from_bits_retain(flags as u32),
        // What is negative is beyond every chunk.
        offset: offset as u64,
    };
    // SAFETY: the caller answers for the address.
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
    // SAFETY: the caller's arguments, as they are.
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
    // SAFETY: the caller's arguments, as they are.
    unsafe { mmap_any(address, len, protection, flags, descriptor, offset) }
}
