//! The device's mmap (specification section 8).

use crate::file::OpenFile;
use crate::server::Connection;
use cma_client::line::NoAnswer;
use cma_client::pieces::{Batch, Window, map};
use cma_device_protocol::Request;
use rustix::io::Errno;
use rustix::mm::ProtFlags;
use std::ffi::{c_int, c_void};

/// Maps the part of the file's chunk that `window` says.
///
/// # Safety
///
/// As of mmap(2).
pub(crate) unsafe fn mmap(file: OpenFile, window: &Window) -> Result<*mut c_void, Errno> {
    // SAFETY: this one takes no pointer and always has an answer.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    if window.len == 0 || !window.offset.is_multiple_of(page as u64) {
        return Err(Errno::INVAL);
    }
    let len = window.len.checked_next_multiple_of(page).ok_or(Errno::NOMEM)?;
    may(file, window)?;
    let mut connection = Connection::new()?;
    let first = pieces(&mut connection, file, 0)?;
    if first
        .chunk()
        .size
        .checked_sub(window.offset)
        .is_none_or(|left| len as u64 > left || left == 0)
    {
        return Err(Errno::NOSPC);
    } else if first.chunk().granule == 0 {
        return Err(Errno::NODEV);
    }
    // SAFETY: the caller answers for the address.
    unsafe { map(first, |first| pieces(&mut connection, file, first), &Window { len, ..*window }) }
}

/// What the kernel looks at before it asks a driver: whether the file was opened for that. The
/// memory's own descriptors are for everything.
fn may(file: OpenFile, window: &Window) -> Result<(), Errno> {
    let is_shared = match (window.flags.bits() & libc::MAP_TYPE as u32) as c_int {
        libc::MAP_SHARED | libc::MAP_SHARED_VALIDATE => true,
        libc::MAP_PRIVATE => false,
        _ => return Err(Errno::INVAL),
    };
    let writes = is_shared && window.protection.contains(ProtFlags::WRITE);
    if !file.access.reads() || writes && !file.access.writes() {
        Err(Errno::ACCESS)
    } else {
        Ok(())
    }
}

/// The pieces of the file's chunk from number `first` on.
fn pieces(connection: &mut Connection, file: OpenFile, first: u64) -> Result<Batch, Errno> {
    match connection.chunk(&Request::ChunkOfFile { file: file.number, first })? {
        Ok((chunk, descriptors)) => Batch::new(chunk, descriptors, first).map_err(NoAnswer::errno),
        // The server that had the chunk is gone, and this is another one.
        Err(Errno::BADFD) if file.had_chunk() => Err(Errno::NODEV),
        Err(errno) => Err(errno),
    }
}
