//! Where the server is, whether it is there, and what it is asked.

use crate::notice;
use cma_client::line::{Answered, NoAnswer, PATIENCE, ask, open as connect_to, question};
use cma_device_protocol::wire::Descriptors;
use cma_device_protocol::{Answer, Chunk, Request};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::thread::Timespec;
use std::ffi::{CStr, c_int};
use std::time::{Duration, Instant};

/// The server's path for who names none.
const SERVER: &CStr = c"/run/cma.sock";

/// How long a place at the server is waited for. Other threads and processes of the user take one
/// for as long as they ask.
const PLACE_PATIENCE: Duration = Duration::from_secs(2);

/// The server's path.
pub(crate) fn path() -> &'static CStr {
    // SAFETY: the name ends with a zero. As everywhere in C, nobody may change the environment
    // meanwhile.
    let server = unsafe { libc::getenv(c"CMA_SOCKET".as_ptr()) };
    if server.is_null() {
        return SERVER;
    }
    // SAFETY: the environment has strings that end with a zero, and nobody changes it while one is
    // in use.
    unsafe { CStr::from_ptr(server) }
}

/// Whether there is a server, and this process may connect to it: `ENODEV` if there is none.
///
/// The server isn't disturbed: a socket of another type is told by the kernel that this isn't its
/// type, and that somebody is there. A type alone might be the one of somebody else's socket.
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

/// Whether opening the device would find it, also if it would then be refused.
pub(crate) fn is_there() -> bool {
    matches!(find(), Ok(()) | Err(Errno::ACCESS | Errno::PERM))
}

/// Opens the device. The server is not told before there is a chunk to allocate.
pub(crate) fn open(flags: c_int) -> Result<OwnedFd, Errno> {
    let found = find();
    if found == Err(Errno::NODEV) {
        notice::no_server();
    }
    match no_device_opens_so(flags) {
        Some(why) if found != Err(Errno::NODEV) => Err(why),
        _ => found.and_then(|()| crate::file::make(flags)),
    }
}

/// What the kernel says to flags that are for something else than a device that exists.
fn no_device_opens_so(flags: c_int) -> Option<Errno> {
    let (makes, is_folder) = (flags & libc::O_CREAT != 0, flags & libc::O_DIRECTORY != 0);
    match (makes, is_folder) {
        (true, true) => Some(Errno::INVAL),
        (true, false) if flags & libc::O_EXCL != 0 => Some(Errno::EXIST),
        (false, true) => Some(Errno::NOTDIR),
        _ => None,
    }
}

/// A connection to the server that no other thread or process has.
#[derive(Debug)]
pub(crate) struct Connection(OwnedFd);

impl Connection {
    /// Connects.
    pub(crate) fn new() -> Result<Self, Errno> {
        let server = SocketAddrUnix::new(path()).map_err(|_| Errno::NODEV)?;
        match connect_to(&server) {
            Ok(socket) => Ok(Connection(socket)),
            // Nobody is there, or somebody else: the device doesn't exist.
            Err(Errno::NOENT | Errno::CONNREFUSED | Errno::NOTDIR | Errno::PROTOTYPE) => {
                Err(Errno::NODEV)
            }
            // It doesn't accept connections.
            Err(Errno::AGAIN) => Err(Errno::TIMEDOUT),
            Err(errno) => Err(errno),
        }
    }

    /// The chunk that is the answer to `request`, with what came beside it, or the errno that is.
    pub(crate) fn chunk(
        &mut self,
        request: &Request<'_>,
    ) -> Result<Result<(Chunk, Descriptors), Errno>, Errno> {
        let until = Instant::now() + PLACE_PATIENCE;
        loop {
            let question = question(request).map_err(|_| Errno::INVAL)?;
            let mut answered: Answered = ask(self.0.as_fd(), &question).map_err(NoAnswer::errno)?;
            let descriptors = std::mem::take(&mut answered.descriptors);
            match answered.answer().map_err(NoAnswer::errno)? {
                Answer::Chunk(chunk) => return Ok(Ok((chunk, descriptors))),
                Answer::Refused { errno, .. } => {
                    let errno = Errno::from_raw_os_error(errno);
                    let has_no_place =
                        answered.is_last() && matches!(errno, Errno::DQUOT | Errno::USERS);
                    if !has_no_place || Instant::now() > until {
                        return Ok(Err(errno));
                    }
                    pause();
                    *self = Connection::new()?;
                }
                _ => return Err(Errno::PROTO),
            }
        }
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits a moment before something is asked again.
pub(crate) fn pause() {
    let _ = rustix::thread::nanosleep(&Timespec { tv_sec: 0, tv_nsec: 1_000_000 });
}

const _: () = assert!(PLACE_PATIENCE.as_secs() < PATIENCE.as_secs());
