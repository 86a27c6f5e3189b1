//! Access to memory of the program that may not be mapped, as with the kernel's `copy_from_user`.

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::c_void;

/// Reads `BYTES` bytes from `address`.
///
/// # Errors
///
/// `EFAULT` when they are not readable.
pub(crate) fn read<const BYTES: usize>(address: *const c_void) -> Result<[u8; BYTES], Errno> {
    let mut bytes = [0; BYTES];
    let here = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: BYTES };
    let there = libc::iovec { iov_base: address.cast_mut(), iov_len: BYTES };
    let me = std::process::id() as libc::pid_t;
    // SAFETY: the kernel writes at most `BYTES` bytes to `bytes`, and checks what it reads.
    let read = unsafe { libc::process_vm_readv(me, &raw const here, 1, &raw const there, 1, 0) };
    copied(read, BYTES)
        .or_else(|errno| through_pipe(errno, address, bytes.as_mut_ptr().cast(), BYTES))?;
    Ok(bytes)
}

/// Writes `bytes` to `address`.
///
/// # Errors
///
/// `EFAULT` when the address is not writable.
pub(crate) fn write(address: *mut c_void, bytes: &[u8]) -> Result<(), Errno> {
    let here = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let there = libc::iovec { iov_base: address, iov_len: bytes.len() };
    let me = std::process::id() as libc::pid_t;
    // SAFETY: the kernel reads `bytes`, and checks the address, which the program passed for this
    // purpose.
    let written =
        unsafe { libc::process_vm_writev(me, &raw const here, 1, &raw const there, 1, 0) };
    copied(written, bytes.len())
        .or_else(|errno| through_pipe(errno, bytes.as_ptr().cast(), address, bytes.len()))
}

fn copied(count: isize, wanted: usize) -> Result<(), Errno> {
    match count {
        -1 => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::FAULT)),
        count if count as usize == wanted => Ok(()),
        _ => Err(Errno::FAULT),
    }
}

/// Copies through a pipe, for processes whose seccomp filter refuses `process_vm_readv`.
fn through_pipe(
    errno: Errno,
    from: *const c_void,
    to: *mut c_void,
    bytes: usize,
) -> Result<(), Errno> {
    if !matches!(errno, Errno::PERM | Errno::NOSYS) {
        return Err(Errno::FAULT);
    }
    let (out, into): (OwnedFd, OwnedFd) = pipe_with(PipeFlags::CLOEXEC)?;
    // SAFETY: the kernel checks the address.
    let written = unsafe { libc::write(into.as_raw_fd(), from, bytes) };
    copied(written, bytes)?;
    // SAFETY: the kernel checks the address, which is a buffer of that size or was passed by the
    // program for this purpose.
    let read = unsafe { libc::read(out.as_raw_fd(), to, bytes) };
    copied(read, bytes)
}
