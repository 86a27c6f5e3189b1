//! The device's mmap (specification section 8).

use crate::device::Line;
use crate::turn::Turn;
use cma_client::line::{NoAnswer, ask, question};
use cma_client::pieces::{Batch, Window, map};
use cma_device_protocol::{Answer, Request};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::mm::ProtFlags;
use std::ffi::{c_int, c_void};

/// Maps the part of the line's chunk that `window` says.
///
/// # Safety
///
/// As of mmap(2).
pub(crate) unsafe fn mmap(line: Line, window: &Window) -> Result<*mut c_void, Errno> {
    // SAFETY: this one takes no pointer and always has an answer.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    if window.len == 0 || !window.offset.is_multiple_of(page as u64) {
        return Err(Errno::INVAL);
    }
    let len = window.len.checked_next_multiple_of(page).ok_or(Errno::NOMEM)?;
    may(line, window)?;
    let line = line.file;
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

/// What the kernel looks at before it asks a driver: whether the file was opened for that. The memory's own descriptors are for everything.
fn may(line: Line, window: &Window) -> Result<(), Errno> {
    let is_shared = match (window.flags.bits() & libc::MAP_TYPE as u32) as c_int {
        libc::MAP_SHARED | libc::MAP_SHARED_VALIDATE => true,
        libc::MAP_PRIVATE => false,
        _ => return Err(Errno::INVAL),
    };
    let writes = is_shared && window.protection.contains(ProtFlags::WRITE);
    if !line.access.reads() || writes && !line.access.writes() { Err(Errno::ACCESS) } else { Ok(()) }
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
