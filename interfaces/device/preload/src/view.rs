//! The device's mmap (specification section 8).

use crate::device::Access;
use crate::turn::Turn;
use cma_client::line::{NoAnswer, ask, question};
use cma_client::pieces::{Batch, Window, map};
use cma_device_protocol::{Answer, Request};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::mm::ProtFlags;
use std::ffi::c_void;

/// Maps the part of the line's chunk that `window` says, as far as the line was opened for that.
///
/// # Safety
///
/// As of mmap(2).
pub(crate) unsafe fn mmap(
    line: BorrowedFd<'_>,
    access: Access,
    window: &Window,
) -> Result<*mut c_void, Errno> {
    // SAFETY: this one takes no pointer and always has an answer.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    let kind = window.flags.bits() & libc::MAP_TYPE as u32;
    if window.len == 0 || !window.offset.is_multiple_of(page as u64) || kind == 0 {
        return Err(Errno::INVAL);
    }
    // As the kernel has it: what others are to see takes a file that may be written to, and every mapping reads.
    let writes = window.protection.contains(ProtFlags::WRITE) && kind != libc::MAP_PRIVATE as u32;
    if access == Access::Write || access == Access::Read && writes {
        return Err(Errno::ACCESS);
    }
    let len = window.len.checked_next_multiple_of(page).ok_or(Errno::NOMEM)?;
    let _turn = Turn::take(line)?;
    let first = pieces(line, 0)?;
    if first.chunk().size.checked_sub(window.offset).is_none_or(|left| len as u64 > left || left == 0) {
        return Err(Errno::NOSPC);
    } else if first.chunk().granule == 0 {
        return Err(Errno::NODEV);
    }
    // SAFETY: the caller answers for the address.
    unsafe { map(first, |first| pieces(line, first), &Window { len, ..*window }) }
}

/// The pieces of the line's chunk from number `first` on.
fn pieces(line: BorrowedFd<'_>, first: u64) -> Result<Batch, Errno> {
    let question = question(&Request::Chunk { first }).map_err(|_| Errno::INVAL)?;
    let mut answered = ask(line, &question).map_err(NoAnswer::errno)?;
    let descriptors = std::mem::take(&mut answered.descriptors);
    match answered.answer().map_err(NoAnswer::errno)? {
        Answer::Chunk(chunk) => Batch::new(chunk, descriptors, first).map_err(NoAnswer::errno),
        Answer::Refused { errno, .. } => Err(Errno::from_raw_os_error(errno)),
        _ => Err(Errno::PROTO),
    }
}
