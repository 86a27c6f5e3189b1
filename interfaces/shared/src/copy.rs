//! Copies of bytes that another process may change meanwhile.
//!
//! The copied bytes are then of any moment, each for itself; the copy has no other effect. A
//! `memcpy` guarantees neither: for the compiler, a race with it has no defined result.

use std::sync::atomic::AtomicU8;

/// Copies `from` to `to`.
pub(crate) fn load(from: &[AtomicU8], to: &mut [u8]) {
    assert_eq!(from.len(), to.len());
    // SAFETY: both are `to.len()` bytes. `to` is borrowed exclusively.
    unsafe { copy(from.as_ptr().cast(), to.as_mut_ptr(), to.len()) }
}

/// Copies `from` to `to`.
pub(crate) fn store(from: &[u8], to: &[AtomicU8]) {
    assert_eq!(from.len(), to.len());
    // SAFETY: both are `to.len()` bytes. Atomics may be written through a shared reference.
    unsafe { copy(from.as_ptr(), to.as_ptr().cast_mut().cast(), to.len()) }
}

/// Copies `len` bytes, each by an access that is atomic and relaxed.
///
/// # Safety
///
/// `from` is readable and `to` is writable for `len` bytes, and no other access to them that is not
/// atomic happens meanwhile, except reads of `from`.
unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    // The processor copies by itself, so the compiler has nothing to assume about: the effect is
    // that of relaxed atomic accesses to the single bytes. For frames of 3 MiB it is five times as
    // fast as a loop of them.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: the instruction reads and writes the ranges that the caller vouches for. The
    // direction flag is clear on entry to `asm!`.
    unsafe {
        std::arch::asm!(
            "rep movsb",
            inout("rcx") len => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags),
        );
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    for index in 0..len {
        use std::sync::atomic::Ordering::Relaxed;
        // SAFETY: within the ranges that the caller vouches for. Reads of a byte that nobody
        // writes may be atomic, too.
        let from = unsafe { AtomicU8::from_ptr(from.add(index).cast_mut()) };
        // SAFETY: as above.
        let to = unsafe { AtomicU8::from_ptr(to.add(index)) };
        to.store(from.load(Relaxed), Relaxed);
    }
}
