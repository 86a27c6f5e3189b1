//! The functions of the heap.
//!
//! An exported function adds the address that it returns to as a further argument, and jumps to the
//! function that does the work.

use crate::real::{first_block, first_bytes_from, is_first_block};
use crate::{device, log, real};
use cma_record_log::Event;
use std::ffi::{c_int, c_void};
use std::ptr::{copy_nonoverlapping, null_mut};

/// Exports functions, each of which jumps to one that has the caller's address as a further
/// argument, in this register.
macro_rules! with_caller {
    ($($name:ident($($type:ty),*) -> $result:ty, $x86:literal, $arm:literal, $inner:path;)*) => {
        $(
            #[cfg(target_arch = "x86_64")]
            #[unsafe(no_mangle)]
            #[unsafe(naked)]
            unsafe extern "C-unwind" fn $name($(_: $type),*) -> $result {
                core::arch::naked_asm!(
                    concat!("mov ", $x86, ", [rsp]"),
                    "jmp {inner}",
                    inner = sym $inner,
                )
            }

            #[cfg(target_arch = "aarch64")]
            #[unsafe(no_mangle)]
            #[unsafe(naked)]
            unsafe extern "C-unwind" fn $name($(_: $type),*) -> $result {
                core::arch::naked_asm!(
                    concat!("mov ", $arm, ", x30"),
                    "b {inner}",
                    inner = sym $inner,
                )
            }
        )*
    };
}

with_caller! {
    malloc(usize) -> *mut c_void, "rsi", "x1", malloc_from;
    calloc(usize, usize) -> *mut c_void, "rdx", "x2", calloc_from;
    realloc(*mut c_void, usize) -> *mut c_void, "rdx", "x2", realloc_from;
    reallocarray(*mut c_void, usize, usize) -> *mut c_void, "rcx", "x3", reallocarray_from;
    memalign(usize, usize) -> *mut c_void, "rdx", "x2", memalign_from;
    aligned_alloc(usize, usize) -> *mut c_void, "rdx", "x2", aligned_alloc_from;
    posix_memalign(*mut *mut c_void, usize, usize) -> c_int, "rcx", "x3", posix_memalign_from;
    valloc(usize) -> *mut c_void, "rsi", "x1", valloc_from;
    pvalloc(usize) -> *mut c_void, "rsi", "x1", pvalloc_from;
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the address of a caller is known on x86_64 and aarch64");

/// Records a block that the program got, if it is big.
#[inline]
fn obtained(block: *mut c_void, size: usize, alignment: usize, caller: usize) {
    if size >= log::heap_at_least() && !block.is_null() {
        record(block, size, alignment, caller, 0);
    }
}

#[cold]
fn record(block: *mut c_void, size: usize, alignment: usize, caller: usize, replaces: u64) {
    // Only a power of two is an alignment; the C library rounds others up.
    let alignment = alignment.checked_next_power_of_two().unwrap_or(1) as u64;
    let by = device::device(caller);
    let (address, size) = (block as u64, (size as u64).max(1));
    log::write(&Event::Allocate { address, size, alignment, by, replaces });
}

/// Whether `block` may be recorded: it has room for a big one.
///
/// # Safety
///
/// It is a live block of the heap.
#[inline]
unsafe fn is_big(block: *mut c_void) -> bool {
    let at_least = log::heap_at_least();
    if at_least == usize::MAX || block.is_null() {
        return false;
    }
    // SAFETY: the caller's block; `malloc_usable_size` is of the same library.
    unsafe { real::usable_size(block) }.is_some_and(|usable| usable >= at_least)
}

unsafe extern "C-unwind" fn malloc_from(size: usize, caller: usize) -> *mut c_void {
    // SAFETY: the caller's argument.
    let Some(block) = (unsafe { real::malloc(size) }) else { return first_block(size, 1) };
    obtained(block, size, 1, caller);
    block
}

unsafe extern "C-unwind" fn calloc_from(count: usize, size: usize, caller: usize) -> *mut c_void {
    let total = count.saturating_mul(size);
    // SAFETY: the caller's arguments.
    let Some(block) = (unsafe { real::calloc(count, size) }) else {
        return first_block(total, 1);
    };
    obtained(block, total, 1, caller);
    block
}

unsafe extern "C-unwind" fn realloc_from(
    block: *mut c_void,
    size: usize,
    caller: usize,
) -> *mut c_void {
    if is_first_block(block) {
        // SAFETY: a request for a new block.
        let new = unsafe { malloc_from(size, caller) };
        if !new.is_null() {
            let bytes = size.min(first_bytes_from(block));
            // SAFETY: the new block has `size` bytes, the rest of the area as many as are copied,
            // and blocks don't overlap. Copying more than the old block had copies zeros, or
            // bytes that the caller must not read.
            unsafe { copy_nonoverlapping(block.cast::<u8>(), new.cast::<u8>(), bytes) };
        }
        return new;
    }
    // SAFETY: the caller's block.
    let begun = if unsafe { is_big(block) } {
        log::write(&Event::Begin { address: block as u64, length: 0 })
    } else {
        0
    };
    // SAFETY: the caller's arguments.
    let Some(new) = (unsafe { real::realloc(block, size) }) else { return first_block(size, 1) };
    if !new.is_null() && size >= log::heap_at_least() {
        record(new, size, 1, caller, begun);
    } else if begun != 0 {
        // Size 0 frees the block.
        log::write(&Event::Settle { begun, kept: new.is_null() && size != 0 });
    }
    new
}

unsafe extern "C-unwind" fn reallocarray_from(
    block: *mut c_void,
    count: usize,
    size: usize,
    caller: usize,
) -> *mut c_void {
    match count.checked_mul(size) {
        // SAFETY: the caller's block, and the size that reallocarray(3) defines.
        Some(total) => unsafe { realloc_from(block, total, caller) },
        None => {
            no_memory();
            null_mut()
        }
    }
}

unsafe extern "C-unwind" fn memalign_from(
    alignment: usize,
    size: usize,
    caller: usize,
) -> *mut c_void {
    // SAFETY: the caller's arguments.
    let Some(block) = (unsafe { real::memalign(alignment, size) }) else {
        return first_aligned(size, alignment);
    };
    obtained(block, size, alignment, caller);
    block
}

unsafe extern "C-unwind" fn aligned_alloc_from(
    alignment: usize,
    size: usize,
    caller: usize,
) -> *mut c_void {
    // SAFETY: the caller's arguments.
    let Some(block) = (unsafe { real::aligned_alloc(alignment, size) }) else {
        return first_aligned(size, alignment);
    };
    obtained(block, size, alignment, caller);
    block
}

unsafe extern "C-unwind" fn posix_memalign_from(
    place: *mut *mut c_void,
    alignment: usize,
    size: usize,
    caller: usize,
) -> c_int {
    // SAFETY: the caller's arguments.
    let Some(error) = (unsafe { real::posix_memalign(place, alignment, size) }) else {
        let block = first_aligned(size, alignment);
        if block.is_null() {
            return libc::ENOMEM;
        }
        // SAFETY: the caller's place for the address.
        unsafe { *place = block };
        return 0;
    };
    if error == 0 && size >= log::heap_at_least() {
        // SAFETY: the call has set it.
        obtained(unsafe { *place }, size, alignment, caller);
    }
    error
}

/// The size of a page, to which `valloc` aligns.
fn page() -> usize {
    rustix::param::page_size()
}

unsafe extern "C-unwind" fn valloc_from(size: usize, caller: usize) -> *mut c_void {
    // SAFETY: the caller's argument.
    let Some(block) = (unsafe { real::valloc(size) }) else { return null_mut() };
    obtained(block, size, page(), caller);
    block
}

unsafe extern "C-unwind" fn pvalloc_from(size: usize, caller: usize) -> *mut c_void {
    // SAFETY: the caller's argument.
    let Some(block) = (unsafe { real::pvalloc(size) }) else { return null_mut() };
    obtained(block, size.checked_next_multiple_of(page()).unwrap_or(size), page(), caller);
    block
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn free(block: *mut c_void) {
    if is_first_block(block) {
        return;
    }
    // SAFETY: the caller's block.
    if unsafe { is_big(block) } {
        log::write(&Event::Free { address: block as u64 });
    }
    // Before the function is known there are no other blocks.
    // SAFETY: the caller's block.
    let _ = unsafe { real::free(block) };
}

/// A first block with an alignment; null if that is no power of two.
fn first_aligned(size: usize, alignment: usize) -> *mut c_void {
    if alignment.is_power_of_two() { first_block(size, alignment) } else { null_mut() }
}

fn no_memory() {
    // SAFETY: the call has no preconditions.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: the pointer is valid, and errno is this thread's alone.
    unsafe { *place = libc::ENOMEM };
}
