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
    let _turn = Turn::take(line)?;
    let structure: Result<[u8; BYTES], Errno> = user::read(argument);
    let asked = structure.as_ref().map_err(|errno| *errno).and_then(|structure| {
        ioctl::read(structure).map_err(|wrong| match wrong {
            Wrong::Magic => Errno::NOTTY,
            Wrong::Invalid => Errno::INVAL,
        })
    });
    let asked = match asked {
        Ok(asked) => asked,
        // A file that has a chunk says so, whatever else is wrong.
        Err(_) if has_chunk(line)? => return Err(Errno::BADFD),
        Err(errno) => return Err(errno),
    };
    let request =
        Request::Alloc { from: asked.from, size: asked.size, alignment: asked.alignment, memory: false };
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
