//! The functions for mappings and memory files.

use crate::device::{Requester, device, requester};
use crate::{log, real};
use cma_record_log::Event;
use rustix::fd::BorrowedFd;
use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering};

/// The caller's address is not known here: a seventh argument has no register.
const UNKNOWN: usize = 0;

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn mmap(
    address: *mut c_void,
    length: usize,
    protection: c_int,
    flags: c_int,
    file: c_int,
    offset: i64,
) -> *mut c_void {
    let memory = recorded_memory(length, protection, flags, file);
    let replaces_range = flags & libc::MAP_FIXED != 0 && log::at_least() != usize::MAX;
    if memory.is_none() && replaces_range {
        unmaps(address, length);
    }
    // SAFETY: the caller's arguments.
    let mapped = unsafe { real::mmap(address, length, protection, flags, file, offset) };
    let Some(mapped) = mapped else {
        // Nothing is recorded before the functions are known.
        // SAFETY: the caller's arguments, as the C library would pass them.
        let place = unsafe {
            libc::syscall(libc::SYS_mmap, address, length, protection, flags, file, offset)
        };
        return place as *mut c_void;
    };
    if let Some(file) = memory.filter(|_| mapped != libc::MAP_FAILED) {
        match requester(UNKNOWN) {
            Requester::Device(by) => {
                let (address, length) = (mapped as u64, length as u64);
                log::write(&Event::Map { address, length, by, replaces: 0, file });
            }
            Requester::Allocator if replaces_range => unmaps(mapped, length),
            Requester::Allocator => {}
        }
    }
    mapped
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn mmap64(
    address: *mut c_void,
    length: usize,
    protection: c_int,
    flags: c_int,
    file: c_int,
    offset: i64,
) -> *mut c_void {
    // SAFETY: the caller's arguments.
    unsafe { mmap(address, length, protection, flags, file, offset) }
}

/// Whether a mapping is recorded: the key of its memory file, 0 for anonymous memory.
fn recorded_memory(length: usize, protection: c_int, flags: c_int, file: c_int) -> Option<u64> {
    if length < log::at_least() || protection == libc::PROT_NONE {
        None
    } else if flags & libc::MAP_ANONYMOUS != 0 {
        Some(0)
    } else {
        memory_file(file).map(|(key, _)| key)
    }
}

/// Records that a range is unmapped. The kernel rounds its length up to pages.
fn unmaps(address: *mut c_void, length: usize) {
    log::write(&Event::Unmap { address: address as u64, length: length as u64 });
}

/// A range that `munmap` refuses is not unmapped.
fn is_range(address: *mut c_void, length: usize) -> bool {
    length != 0 && (address as usize).is_multiple_of(rustix::param::page_size())
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn munmap(address: *mut c_void, length: usize) -> c_int {
    if log::at_least() != usize::MAX && is_range(address, length) {
        unmaps(address, length);
    }
    // SAFETY: the caller's arguments.
    match unsafe { real::munmap(address, length) } {
        Some(result) => result,
        #[allow(clippy::cast_possible_truncation, reason = "the result is 0 or -1")]
        // SAFETY: the caller's arguments, as the C library would pass them.
        None => unsafe { libc::syscall(libc::SYS_munmap, address, length) as c_int },
    }
}

/// The new address is an argument only with `MREMAP_FIXED`; the register has any value otherwise.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn mremap(
    old: *mut c_void,
    old_length: usize,
    length: usize,
    flags: c_int,
    new: *mut c_void,
) -> *mut c_void {
    // The old range stays with MREMAP_DONTUNMAP, and with the length 0, which duplicates it.
    let moves = flags & libc::MREMAP_DONTUNMAP == 0
        && is_range(old, old_length)
        && log::at_least() != usize::MAX;
    if flags & libc::MREMAP_FIXED != 0 && moves {
        unmaps(new, length);
    }
    let begun = if moves {
        log::write(&Event::Begin { address: old as u64, length: old_length as u64 })
    } else {
        0
    };
    // SAFETY: the caller's arguments.
    let mapped = unsafe { real::mremap(old, old_length, length, flags, new) };
    let Some(mapped) = mapped else {
        // SAFETY: the caller's arguments, as the C library would pass them.
        let place = unsafe { libc::syscall(libc::SYS_mremap, old, old_length, length, flags, new) };
        return place as *mut c_void;
    };
    if begun != 0 {
        if mapped == libc::MAP_FAILED {
            log::write(&Event::Settle { begun, kept: true });
        } else {
            let (address, length, by) = (mapped as u64, length as u64, device(UNKNOWN));
            log::write(&Event::Map { address, length, by, replaces: begun, file: 0 });
        }
    }
    mapped
}

/// The place of a descriptor in the table of memory files.
fn place(file: c_int) -> Option<&'static AtomicU64> {
    log::process()?.files.get(usize::try_from(file).ok()?)
}

/// The key of the file that a descriptor refers to, never 0.
fn key(file: c_int) -> Option<u64> {
    if file < 0 {
        return None;
    }
    // SAFETY: the descriptor is the caller's, who keeps it open during the call. A wrong one is an
    // error of the call.
    let file = unsafe { BorrowedFd::borrow_raw(file) };
    let found = rustix::fs::fstat(file).ok()?;
    Some((found.st_dev.rotate_left(40) ^ found.st_ino).max(1))
}

/// The memory file that a descriptor refers to, if this process created it, and its place in the
/// table. The descriptor may have been closed and opened again unnoticed.
fn memory_file(file: c_int) -> Option<(u64, &'static AtomicU64)> {
    let place = place(file)?;
    let known = place.load(Ordering::Acquire);
    // A child of `vfork` has descriptors of its own, and the memory of its parent.
    if known == 0 || !log::is_own_process() {
        return None;
    }
    if key(file) == Some(known) {
        return Some((known, place));
    }
    if place.compare_exchange(known, 0, Ordering::AcqRel, Ordering::Acquire).is_ok() {
        log::write(&Event::Close { file: known });
    }
    None
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn memfd_create(name: *const c_char, flags: u32) -> c_int {
    // SAFETY: the caller's arguments.
    let created = unsafe { real::memfd_create(name, flags) };
    let file = created.unwrap_or_else(|| {
        // SAFETY: the caller's arguments, as the C library would pass them.
        let file = unsafe { libc::syscall(libc::SYS_memfd_create, name, flags) };
        c_int::try_from(file).unwrap_or(-1)
    });
    if let (Some(place), Some(key)) = (place(file), key(file)) {
        let before = place.swap(key, Ordering::AcqRel);
        if before != 0 {
            log::write(&Event::Close { file: before });
        }
    }
    file
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn ftruncate64(file: c_int, size: i64) -> c_int {
    // SAFETY: the caller's arguments.
    let result = unsafe { real::ftruncate(file, size) };
    let result = result.unwrap_or_else(|| {
        // SAFETY: the caller's arguments, as the C library would pass them.
        let result = unsafe { libc::syscall(libc::SYS_ftruncate, file, size) };
        c_int::try_from(result).unwrap_or(-1)
    });
    if result == 0
        && let Some((file, _)) = memory_file(file)
    {
        let by = device(UNKNOWN);
        log::write(&Event::Resize { file, size: size.unsigned_abs(), by });
    }
    result
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn ftruncate(file: c_int, size: i64) -> c_int {
    // SAFETY: the caller's arguments.
    unsafe { ftruncate64(file, size) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn close(file: c_int) -> c_int {
    if let Some((key, place)) = memory_file(file)
        && place.compare_exchange(key, 0, Ordering::AcqRel, Ordering::Acquire).is_ok()
    {
        log::write(&Event::Close { file: key });
    }
    // SAFETY: the caller's argument.
    match unsafe { real::close(file) } {
        Some(result) => result,
        #[allow(clippy::cast_possible_truncation, reason = "the result is 0 or -1")]
        // SAFETY: the caller's argument, as the C library would pass it.
        None => unsafe { libc::syscall(libc::SYS_close, file) as c_int },
    }
}
