//! Memory of the program that may not be there: what a driver has `copy_from_user` for.

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::c_void;

/// `BYTES` bytes from `address` on.
///
/// # Errors
///
/// `EFAULT` when they can't be read.
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

/// Writes to `address`.
///
/// # Errors
///
/// `EFAULT` when it can't be written to.
pub(crate) fn write(address: *mut c_void, bytes: &[u8]) -> Result<(), Errno> {
    let here = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let there = libc::iovec { iov_base: address, iov_len: bytes.len() };
    let me = std::process::id() as libc::pid_t;
    // SAFETY: the kernel reads `bytes`, and checks where it writes, which is where the program
    // asked for.
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

/// The same for a process that may not do that, under a filter that takes it for debugging.
fn through_pipe(
    why: Errno,
    from: *const c_void,
    to: *mut c_void,
    bytes: usize,
) -> Result<(), Errno> {
    if !matches!(why, Errno::PERM | Errno::NOSYS) {
        return Err(Errno::FAULT);
    }
    let (out, into): (OwnedFd, OwnedFd) = pipe_with(PipeFlags::CLOEXEC)?;
    // SAFETY: the kernel checks what it reads.
    let written = unsafe { libc::write(into.as_raw_fd(), from, bytes) };
    copied(written, bytes)?;
    // SAFETY: the kernel checks where it writes, which is a buffer of that size or where the
    // program asked for.
    let read = unsafe { libc::read(out.as_raw_fd(), to, bytes) };
    copied(read, bytes)
}
