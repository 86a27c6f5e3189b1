//! The device's mmap (specification section 8).

use crate::device_file::DeviceFile;
use crate::server::ServerConnection;
use cma_client::exchange::ExchangeError;
use cma_client::pieces::{MapArguments, PieceBatch, map};
use cma_device_protocol::Request;
use rustix::io::Errno;
use rustix::mm::ProtFlags;
use std::ffi::{c_int, c_void};

/// Maps the part `wanted` of the file's chunk.
///
/// # Safety
///
/// As of mmap(2).
pub(crate) unsafe fn mmap(file: DeviceFile, wanted: &MapArguments) -> Result<*mut c_void, Errno> {
    // SAFETY: the call takes no pointer, and `_SC_PAGESIZE` always has a value.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    if wanted.len == 0 || !wanted.offset.is_multiple_of(page as u64) {
        return Err(Errno::INVAL);
    }
    let len = wanted.len.checked_next_multiple_of(page).ok_or(Errno::NOMEM)?;
    check_access(file, wanted)?;
    let mut connection = ServerConnection::new()?;
    let first = pieces(&mut connection, file, 0)?;
    if first
        .chunk()
        .size
        .checked_sub(wanted.offset)
        .is_none_or(|left| len as u64 > left || left == 0)
    {
        return Err(Errno::NOSPC);
    } else if first.chunk().granule == 0 {
        return Err(Errno::NODEV);
    }
    let wanted = MapArguments { len, ..*wanted };
    // SAFETY: the caller vouches for the address.
    unsafe { map(first, |first| pieces(&mut connection, file, first), &wanted) }
}

/// The kernel's check before it calls a driver: whether the file was opened for this access. The
/// descriptors of the memory itself allow every access.
fn check_access(file: DeviceFile, wanted: &MapArguments) -> Result<(), Errno> {
    let is_shared = match (wanted.flags.bits() & libc::MAP_TYPE as u32) as c_int {
        libc::MAP_SHARED | libc::MAP_SHARED_VALIDATE => true,
        libc::MAP_PRIVATE => false,
        _ => return Err(Errno::INVAL),
    };
    let writes = is_shared && wanted.protection.contains(ProtFlags::WRITE);
    if !file.access.reads() || writes && !file.access.writes() {
        Err(Errno::ACCESS)
    } else {
        Ok(())
    }
}

/// The pieces of the file's chunk from number `first` on.
fn pieces(
    connection: &mut ServerConnection,
    file: DeviceFile,
    first: u64,
) -> Result<PieceBatch, Errno> {
    match connection.chunk(&Request::ChunkOfFile { file: file.number, first })? {
        Ok((chunk, descriptors)) => {
            PieceBatch::new(chunk, descriptors, first).map_err(ExchangeError::errno)
        }
        // The server that had the chunk has ended, and this is a later one.
        Err(Errno::BADFD) if file.had_chunk() => Err(Errno::NODEV),
        Err(errno) => Err(errno),
    }
}
