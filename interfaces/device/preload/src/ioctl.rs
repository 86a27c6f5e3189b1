//! The device's ioctl (specification section 8).

use crate::device_file::DeviceFile;
use crate::server::{ServerConnection, pause};
use crate::user_memory;
use cma_device_protocol::Request;
use cma_device_protocol::ioctl::{self, ALLOC, BYTES, IoctlError};
use rustix::io::Errno;
use std::ffi::c_void;
use std::time::{Duration, Instant};

/// Time limit for another request that allocates for the same file, or whose process was killed.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// Executes the ioctl with number `request` on an open file.
pub(crate) fn control(file: DeviceFile, request: u32, argument: *mut c_void) -> Result<(), Errno> {
    if request != ALLOC {
        return Err(Errno::NOTTY);
    } else if argument.is_null() {
        return Err(Errno::INVAL);
    }
    let structure: [u8; BYTES] = user_memory::read(argument)?;
    let alloc = ioctl::read(&structure);
    if alloc == Err(IoctlError::Magic) {
        return Err(Errno::NOTTY);
    } else if file.had_chunk() {
        // The specification wants this error before those of the arguments.
        return Err(Errno::BADFD);
    }
    let alloc = alloc.map_err(|_| Errno::INVAL)?;
    let request = Request::AllocFile {
        file: file.number,
        from: alloc.from(),
        size: alloc.size,
        alignment: alloc.alignment,
    };
    let mut connection = ServerConnection::new()?;
    let deadline = Instant::now() + BUSY_TIMEOUT;
    let chunk = loop {
        match connection.chunk(&request)? {
            Ok((chunk, _)) => break chunk,
            // Another thread or process has allocated the file's chunk since the check.
            Err(Errno::BADFD | Errno::BUSY) if file.had_chunk() => return Err(Errno::BADFD),
            // Another thread or process is about to keep the chunk in the file, or was killed
            // before it could.
            Err(Errno::BADFD | Errno::BUSY) if Instant::now() < deadline => pause(),
            Err(errno) => return Err(errno),
        }
    };
    // An error from here on closes the connection, and the server frees the chunk.
    user_memory::write(argument.wrapping_byte_add(alloc.start_at), &chunk.start.to_ne_bytes())?;
    file.keep(connection.as_fd())
}
