//! What is the device: which path, and which descriptor.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, Stat, open, statat};
use rustix::io::Errno;
use rustix::net::{SocketAddrUnix, bind, getsockname};
use rustix::rand::{GetRandomFlags, getrandom};
use std::ffi::{CStr, c_int};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};

const FOLDER: &CStr = c"/dev";
const NAME: &[u8] = b"cma";
const PATH: &[u8] = b"/dev/cma";

/// How the name starts that each line is bound to, in the abstract namespace of Unix sockets. Behind it come a letter, which says what the
/// file was opened for, and a number.
const BOUND: &[u8] = b"cma-device/2/";

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

/// What a file was opened for: the access mode of `open`.
///
/// A socket is for reading and writing, whatever was asked for, so the line's name says what was. It goes wherever the line goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    Both,
    /// For its ioctl alone (the access mode 3 of Linux).
    Neither,
}

impl Access {
    pub(crate) fn of(flags: c_int) -> Access {
        match flags & libc::O_ACCMODE {
            libc::O_RDONLY => Access::Read,
            libc::O_WRONLY => Access::Write,
            libc::O_RDWR => Access::Both,
            _ => Access::Neither,
        }
    }

    pub(crate) fn reads(self) -> bool {
        matches!(self, Access::Read | Access::Both)
    }

    pub(crate) fn writes(self) -> bool {
        matches!(self, Access::Write | Access::Both)
    }

    fn letter(self) -> u8 {
        match self {
            Access::Read => b'r',
            Access::Write => b'w',
            Access::Both => b'b',
            Access::Neither => b'n',
        }
    }

    fn from_letter(letter: u8) -> Option<Access> {
        [Access::Read, Access::Write, Access::Both, Access::Neither]
            .into_iter()
            .find(|is| is.letter() == letter)
    }
}

/// A line to the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    pub(crate) file: BorrowedFd<'static>,
    pub(crate) access: Access,
}

/// The line that `file` is, if it is one. It may be any number at all.
pub(crate) fn line(file: c_int) -> Option<Line> {
    if file < 0 {
        return None;
    }
    // SAFETY: it is used for the length of a call on it, by which the program says that it is open; if it isn't, so says the kernel.
    let file = unsafe { BorrowedFd::borrow_raw(file) };
    let name = SocketAddrUnix::try_from(getsockname(file).ok()?).ok()?;
    let access = Access::from_letter(*name.abstract_name()?.strip_prefix(BOUND)?.first()?)?;
    expect_lines();
    Some(Line { file, access })
}

/// Whether this process may have lines. Only that spares programs that have nothing to do with the device a question at each `read` and
/// `write`: it is no record of which descriptors are lines, and never becomes false.
static LINES: AtomicBool = AtomicBool::new(false);

fn expect_lines() {
    LINES.store(true, Ordering::Relaxed);
}

/// As [`line`], for calls that come often. A line is not seen that came through a socket, until something else was done with it.
pub(crate) fn line_if_any(file: c_int) -> Option<Line> {
    if LINES.load(Ordering::Relaxed) { line(file) } else { None }
}

/// Looks for lines among the descriptors that the program starts with.
pub(crate) extern "C" fn look_for_lines() {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(folder) = open(c"/proc/self/fd", flags, Mode::empty()) else { return expect_lines() };
    let mut buffer = [MaybeUninit::uninit(); 2048];
    let mut files = RawDir::new(folder.as_fd(), &mut buffer);
    while let Some(Ok(entry)) = files.next() {
        let number = entry.file_name().to_str().ok().and_then(|number| number.parse().ok());
        if number.is_some_and(|number| line(number).is_some()) {
            return;
        }
    }
}

/// Gives a line a name that nobody else has.
pub(crate) fn name(socket: &OwnedFd, access: Access) -> Result<(), Errno> {
    expect_lines();
    loop {
        let mut number = [0; 8];
        getrandom(&mut number, GetRandomFlags::empty())?;
        let mut name = [0; BOUND.len() + 1 + 16];
        let (start, rest) = name.split_at_mut(BOUND.len());
        start.copy_from_slice(BOUND);
        rest[0] = access.letter();
        for (letter, i) in rest[1..].iter_mut().zip(0..) {
            *letter = b"0123456789abcdef"[usize::from(number[i / 2] >> (4 * (i % 2)) & 15)];
        }
        match bind(socket, &SocketAddrUnix::new_abstract_name(&name)?) {
            Err(Errno::ADDRINUSE) => {}
            done => return done,
        }
    }
}
