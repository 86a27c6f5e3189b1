//! Where the server is, whether it is there, and a line to it.

use crate::device::{Access, name};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::ffi::{CStr, c_int};

/// The server's path for who names none.
const SERVER: &CStr = c"/run/cma.sock";

/// The server's path.
pub(crate) fn path() -> &'static CStr {
    // SAFETY: the name ends with a zero. As everywhere in C, nobody may change the environment meanwhile.
    let server = unsafe { libc::getenv(c"CMA_SOCKET".as_ptr()) };
    if server.is_null() {
        return SERVER;
    }
    // SAFETY: the environment has strings that end with a zero, and nobody changes it while one is in use.
    unsafe { CStr::from_ptr(server) }
}

/// Whether opening the device would find it, also if it would then be refused.
///
/// The server isn't disturbed: a socket of another type is told by the kernel that this isn't its type, and that somebody is there. A
/// type alone might be the one of somebody else's socket.
pub(crate) fn is_there() -> bool {
    let Ok(server) = SocketAddrUnix::new(path()) else { return false };
    [SocketType::DGRAM, SocketType::STREAM].into_iter().all(|other| {
        let socket =
            socket_with(AddressFamily::UNIX, other, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None);
        let found = socket.and_then(|socket| connect(&socket, &server));
        matches!(found, Err(Errno::PROTOTYPE | Errno::ACCESS | Errno::PERM))
    })
}

/// Opens the device: a line to the server.
pub(crate) fn open(flags: c_int) -> Result<OwnedFd, Errno> {
    if let Some(why) = no_device_opens_so(flags) {
        return Err(if is_there() { why } else { Errno::NODEV });
    }
    let server = SocketAddrUnix::new(path())?;
    let cloexec = if flags & libc::O_CLOEXEC == 0 { SocketFlags::empty() } else { SocketFlags::CLOEXEC };
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, cloexec, None)?;
    name(&socket, Access::of(flags))?;
    match connect(&socket, &server) {
        Ok(()) => {}
        // Nobody is there, or somebody else: the device doesn't exist.
        Err(Errno::NOENT | Errno::CONNREFUSED | Errno::NOTDIR | Errno::PROTOTYPE) => {
            return Err(Errno::NODEV);
        }
        Err(errno) => return Err(errno),
    }
    if flags & libc::O_NONBLOCK != 0 {
        rustix::io::ioctl_fionbio(&socket, true)?;
    }
    Ok(socket)
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
