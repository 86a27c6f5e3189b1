//! What is the device: which path, and which descriptor.

use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Stat, statat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, getsockname, socket_with,
};
use rustix::rand::{GetRandomFlags, getrandom};
use std::ffi::{CStr, c_int};

const FOLDER: &CStr = c"/dev";
const NAME: &[u8] = b"cma";
const PATH: &[u8] = b"/dev/cma";

/// The server's path for who names none.
const SERVER: &CStr = c"/run/cma.sock";

/// How the name starts that each line is bound to, in the abstract namespace of Unix sockets. A letter follows that says what the file was
/// opened for.
const BOUND: &[u8] = b"cma-device/1/";

/// What a file was opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    Both,
}

impl Access {
    fn of(flags: c_int) -> Self {
        match flags & libc::O_ACCMODE {
            libc::O_RDONLY => Access::Read,
            libc::O_WRONLY => Access::Write,
            _ => Access::Both,
        }
    }

    fn letter(self) -> u8 {
        match self {
            Access::Read => b'r',
            Access::Write => b'w',
            Access::Both => b'b',
        }
    }

    fn by(letter: u8) -> Option<Self> {
        [Access::Read, Access::Write, Access::Both].into_iter().find(|access| access.letter() == letter)
    }
}

/// Whether `path`, seen from `folder`, is the device's: also by another way into `/dev`.
pub(crate) fn is_device(folder: BorrowedFd<'_>, path: &CStr) -> bool {
    let path = path.to_bytes();
    let Some(parent) = path.strip_suffix(NAME) else { return false };
    if path == PATH {
        return true;
    }
    let mut buffer = [0; 256];
    let parent = match (parent, buffer.get_mut(..parent.len() + 1)) {
        ([], _) => c".",
        ([.., b'/'], Some(place)) => {
            place[..parent.len()].copy_from_slice(parent);
            CStr::from_bytes_until_nul(place).unwrap_or(c"")
        }
        _ => return false,
    };
    let is_folder = |found: Stat, dev: Stat| (found.st_dev, found.st_ino) == (dev.st_dev, dev.st_ino);
    let found = statat(folder, parent, AtFlags::empty());
    found.is_ok_and(|found| statat(CWD, FOLDER, AtFlags::empty()).is_ok_and(|dev| is_folder(found, dev)))
}

/// `file` as a line to the server, if it is one, and what it was opened for. It may be any number at all.
pub(crate) fn line(file: c_int) -> Option<(BorrowedFd<'static>, Access)> {
    if file < 0 {
        return None;
    }
    // SAFETY: it is used for the length of a call on it, by which the program says that it is open; if it isn't, so says the kernel.
    let file = unsafe { BorrowedFd::borrow_raw(file) };
    let name = SocketAddrUnix::try_from(getsockname(file).ok()?).ok()?;
    let access = Access::by(*name.abstract_name()?.strip_prefix(BOUND)?.first()?)?;
    Some((file, access))
}

/// Whether there is a server, without which there is no device.
pub(crate) fn is_there() -> bool {
    connected(SocketFlags::CLOEXEC, Access::Read).is_ok()
}

/// Opens the device: a line to the server.
pub(crate) fn open(flags: c_int) -> Result<OwnedFd, Errno> {
    let cloexec = if flags & libc::O_CLOEXEC == 0 { SocketFlags::empty() } else { SocketFlags::CLOEXEC };
    let line = connected(cloexec, Access::of(flags))?;
    // The device is there, and is no folder.
    if flags & libc::O_CREAT != 0 && flags & libc::O_EXCL != 0 {
        return Err(Errno::EXIST);
    } else if flags & libc::O_DIRECTORY != 0 {
        return Err(Errno::NOTDIR);
    } else if flags & libc::O_NONBLOCK != 0 {
        rustix::io::ioctl_fionbio(&line, true)?;
    }
    Ok(line)
}

fn connected(cloexec: SocketFlags, access: Access) -> Result<OwnedFd, Errno> {
    // SAFETY: the name ends with a zero. As everywhere in C, nobody may change the environment meanwhile.
    let server = unsafe { libc::getenv(c"CMA_SOCKET".as_ptr()) };
    let server = if server.is_null() {
        SERVER
    } else {
        // SAFETY: the environment has strings that end with a zero.
        unsafe { CStr::from_ptr(server) }
    };
    let server = SocketAddrUnix::new(server)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, cloexec, None)?;
    name(&socket, access)?;
    match connect(&socket, &server) {
        Ok(()) => Ok(socket),
        // Nobody is there, or somebody else: the device doesn't exist.
        Err(Errno::NOENT | Errno::CONNREFUSED | Errno::NOTDIR | Errno::PROTOTYPE) => Err(Errno::NODEV),
        Err(errno) => Err(errno),
    }
}

/// Gives a line a name that nobody else has.
fn name(socket: &OwnedFd, access: Access) -> Result<(), Errno> {
    loop {
        let mut number = [0; 8];
        getrandom(&mut number, GetRandomFlags::empty())?;
        let mut name = [access.letter(); BOUND.len() + 1 + 16];
        name[..BOUND.len()].copy_from_slice(BOUND);
        let rest = &mut name[BOUND.len() + 1..];
        for (letter, i) in rest.iter_mut().zip(0..) {
            *letter = b"0123456789abcdef"[usize::from(number[i / 2] >> (4 * (i % 2)) & 15)];
        }
        match bind(socket, &SocketAddrUnix::new_abstract_name(&name)?) {
            Err(Errno::ADDRINUSE) => {}
            done => return done,
        }
    }
}
