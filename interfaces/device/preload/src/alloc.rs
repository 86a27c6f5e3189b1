//! The device's ioctl (specification section 8).

use crate::turn::Turn;
use crate::user;
use cma_client::line::{NoAnswer, ask, question};
use cma_device_protocol::ioctl::{self, ALLOC, BYTES, Wrong};
use cma_device_protocol::{Answer, Request};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use std::ffi::c_void;

/// What a driver does with the ioctl number `request` on an open file.
pub(crate) fn control(line: BorrowedFd<'_>, request: u32, argument: *mut c_void) -> Result<(), Errno> {
    if request != ALLOC {
        return Err(Errno::NOTTY);
    } else if argument.is_null() {
        return Err(Errno::INVAL);
    }
    let structure: [u8; BYTES] = user::read(argument)?;
    let asked = ioctl::read(&structure);
    if asked == Err(Wrong::Magic) {
        return Err(Errno::NOTTY);
    }
    let _turn = Turn::take(line)?;
    let asked = match asked {
        Ok(asked) => asked,
        // Whose ioctl it is has been seen. A file that has a chunk says so before it looks at what is asked for.
        Err(_) if has_chunk(line)? => return Err(Errno::BADFD),
        Err(_) => return Err(Errno::INVAL),
    };
    let request =
        Request::Alloc { from: asked.from(), size: asked.size, alignment: asked.alignment, memory: false };
    let start = chunk_of(line, &request)??;
    let place = argument.wrapping_byte_add(asked.start_at);
    user::write(place, &start.to_ne_bytes()).inspect_err(|_| {
        // Nobody would know of it.
        let _ = chunk_of(line, &Request::Free);
    })
}

fn has_chunk(line: BorrowedFd<'_>) -> Result<bool, Errno> {
    // Behind its last piece, so that none comes with the answer.
    Ok(chunk_of(line, &Request::Chunk { first: u64::MAX })?.is_ok())
}

/// The start of the chunk that is the answer to `request`, or the errno that is.
fn chunk_of(line: BorrowedFd<'_>, request: &Request<'_>) -> Result<Result<u64, Errno>, Errno> {
    let question = question(request).map_err(|_| Errno::INVAL)?;
    let answered = ask(line, &question).map_err(NoAnswer::errno)?;
    match answered.answer().map_err(NoAnswer::errno)? {
        Answer::Chunk(chunk) => Ok(Ok(chunk.start)),
        Answer::Refused { errno, .. } => Ok(Err(Errno::from_raw_os_error(errno))),
        _ => Ok(Err(Errno::PROTO)),
    }
}
