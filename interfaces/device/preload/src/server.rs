//! The server: its path, whether it is present, opening the device, and requests for chunks.

use crate::notice;
use cma_client::exchange::{
    ANSWER_TIMEOUT, ExchangeError, Reply, connect as connect_to_server, exchange, request_message,
};
use cma_device_protocol::wire::Descriptors;
use cma_device_protocol::{Answer, ChunkAnswer, Request};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::thread::Timespec;
use std::ffi::{CStr, c_int};
use std::time::{Duration, Instant};

/// Time limit for a connection slot of the user. Other threads and processes of the user take one
/// for the length of each call.
const SLOT_TIMEOUT: Duration = Duration::from_secs(2);

/// The server's path.
pub(crate) fn path() -> &'static CStr {
    // SAFETY: the name ends with a zero. As always in C, no thread may change the environment
    // meanwhile.
    let server = unsafe { libc::getenv(c"CMA_SOCKET".as_ptr()) };
    if server.is_null() {
        return cma_client::DEFAULT_SOCKET;
    }
    // SAFETY: the strings of the environment end with a zero, and no thread may change them while
    // one is in use.
    unsafe { CStr::from_ptr(server) }
}

/// Whether there is a server, and this process may connect to it: `ENODEV` if there is none.
///
/// The server doesn't notice. A connect from a socket of another type fails with `EPROTOTYPE` if a
/// process listens there. Two other types are tried, because a listener of one of them, which is
/// no server, accepts connections from sockets of its own type only.
fn find() -> Result<(), Errno> {
    let server = SocketAddrUnix::new(path()).map_err(|_| Errno::NODEV)?;
    for other in [SocketType::DGRAM, SocketType::STREAM] {
        let socket = socket_with(
            AddressFamily::UNIX,
            other,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        match connect(&socket, &server) {
            Err(Errno::PROTOTYPE) => {}
            Err(errno @ (Errno::ACCESS | Errno::PERM)) => return Err(errno),
            _ => return Err(Errno::NODEV),
        }
    }
    Ok(())
}

/// Whether the device is present, also if this process may not open it.
pub(crate) fn is_present() -> bool {
    matches!(find(), Ok(()) | Err(Errno::ACCESS | Errno::PERM))
}

/// Opens the device. The server takes no part before a chunk is allocated.
pub(crate) fn open(flags: c_int) -> Result<OwnedFd, Errno> {
    let found = find();
    if found == Err(Errno::NODEV) {
        notice::no_server(path());
    }
    match refusal_of_flags(flags) {
        Some(errno) if found != Err(Errno::NODEV) => Err(errno),
        _ => found.and_then(|()| crate::device_file::make(flags)),
    }
}

/// The kernel's error for flags that don't fit an existing device.
fn refusal_of_flags(flags: c_int) -> Option<Errno> {
    let (creates, is_folder) = (flags & libc::O_CREAT != 0, flags & libc::O_DIRECTORY != 0);
    match (creates, is_folder) {
        (true, true) => Some(Errno::INVAL),
        (true, false) if flags & libc::O_EXCL != 0 => Some(Errno::EXIST),
        (false, true) => Some(Errno::NOTDIR),
        _ => None,
    }
}

/// A connection to the server that no other thread or process uses.
#[derive(Debug)]
pub(crate) struct ServerConnection(OwnedFd);

impl ServerConnection {
    pub(crate) fn new() -> Result<Self, Errno> {
        let server = SocketAddrUnix::new(path()).map_err(|_| Errno::NODEV)?;
        match connect_to_server(&server) {
            Ok(socket) => Ok(ServerConnection(socket)),
            // No process listens there, or one that is no server: the device doesn't exist.
            Err(Errno::NOENT | Errno::CONNREFUSED | Errno::NOTDIR | Errno::PROTOTYPE) => {
                Err(Errno::NODEV)
            }
            // The server accepts no connections.
            Err(Errno::AGAIN) => Err(Errno::TIMEDOUT),
            Err(errno) => Err(errno),
        }
    }

    /// Sends `request`. The inner result is the server's answer: the chunk with its descriptors, or
    /// the errno of a refusal.
    pub(crate) fn chunk(
        &mut self,
        request: &Request<'_>,
    ) -> Result<Result<(ChunkAnswer, Descriptors), Errno>, Errno> {
        let deadline = Instant::now() + SLOT_TIMEOUT;
        loop {
            let message = request_message(request).map_err(|_| Errno::INVAL)?;
            let mut reply: Reply =
                exchange(self.0.as_fd(), &message, request.wait()).map_err(ExchangeError::errno)?;
            let descriptors = std::mem::take(&mut reply.descriptors);
            match reply.answer().map_err(ExchangeError::errno)? {
                Answer::Chunk(chunk) => return Ok(Ok((chunk, descriptors))),
                Answer::Refused { errno, .. } => {
                    let errno = Errno::from_raw_os_error(errno);
                    let has_no_slot =
                        reply.is_last() && matches!(errno, Errno::DQUOT | Errno::USERS);
                    if !has_no_slot || Instant::now() > deadline {
                        return Ok(Err(errno));
                    }
                    pause();
                    *self = ServerConnection::new()?;
                }
                _ => return Err(Errno::PROTO),
            }
        }
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits a millisecond before a retry.
pub(crate) fn pause() {
    let _ = rustix::thread::nanosleep(&Timespec { tv_sec: 0, tv_nsec: 1_000_000 });
}

const _: () = assert!(SLOT_TIMEOUT.as_secs() < ANSWER_TIMEOUT.as_secs());
