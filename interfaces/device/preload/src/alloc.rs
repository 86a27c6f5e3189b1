//! The device's ioctl (specification section 8).

use crate::file::OpenFile;
use crate::server::{Connection, pause};
use crate::user;
use cma_device_protocol::Request;
use cma_device_protocol::ioctl::{self, ALLOC, BYTES, Wrong};
use rustix::io::Errno;
use std::ffi::c_void;
use std::time::{Duration, Instant};

/// How long another request is waited for that allocates for the same file, or whose process was
/// killed.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a driver does with the ioctl number `request` on an open file.
pub(crate) fn control(file: OpenFile, request: u32, argument: *mut c_void) -> Result<(), Errno> {
    if request != ALLOC {
        return Err(Errno::NOTTY);
    } else if argument.is_null() {
        return Err(Errno::INVAL);
    }
    let structure: [u8; BYTES] = user::read(argument)?;
    let asked = ioctl::read(&structure);
    if asked == Err(Wrong::Magic) {
        return Err(Errno::NOTTY);
    } else if file.had_chunk() {
        // A file that has a chunk says so before it looks at what is asked for.
        return Err(Errno::BADFD);
    }
    let asked = asked.map_err(|_| Errno::INVAL)?;
    let request = Request::AllocFile {
        file: file.number,
        from: asked.from(),
        size: asked.size,
        alignment: asked.alignment,
    };
    let mut connection = Connection::new()?;
    let until = Instant::now() + PATIENCE;
    let chunk = loop {
        match connection.chunk(&request)? {
            Ok((chunk, _)) => break chunk,
            // Another thread or process has given the file a chunk since.
            Err(Errno::BADFD | Errno::BUSY) if file.had_chunk() => return Err(Errno::BADFD),
            // Another thread or process is about to keep the chunk in the file, or was killed
            // before it could.
            Err(Errno::BADFD | Errno::BUSY) if Instant::now() < until => pause(),
            Err(errno) => return Err(errno),
        }
    };
    // What fails from here on closes the connection, and the server frees the chunk.
    user::write(argument.wrapping_byte_add(asked.start_at), &chunk.start.to_ne_bytes())?;
    file.keep(connection.as_fd())
}
