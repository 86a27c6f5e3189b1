//! An open file of the device: its representation, and how a descriptor is recognised as one.
//!
//! It is an unconnected Unix stream socket. So the kernel itself refuses every read (`EINVAL`, as
//! for a driver without a read function) and every write (`ENOTCONN`), also those of direct system
//! calls, and no data reach any process.
//!
//! A filter program is attached to the socket. It filters nothing: its constants mark the socket as
//! an open file of the device and hold the access mode and the file number. The kernel keeps the
//! program with the socket, allows no change to it (`SO_LOCK_FILTER`), and shows it only to
//! processes that have a descriptor.
//!
//! The connection on which the server allocated the file's chunk is kept inside the socket, too.
//! The socket listens, and a connection that is never accepted carries the descriptor of the
//! server's connection in its queue. With the last reference to the socket the kernel drops the
//! queue, which closes the server's connection, and the server frees the chunk.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, RawDir, open};
use rustix::io::{Errno, IoSlice};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketAddrUnix,
    SocketFlags, SocketType, bind, connect, getsockname, listen, sendmsg, shutdown, socket_with,
};
use rustix::rand::{GetRandomFlags, getrandom};
use std::ffi::{c_int, c_void};
use std::mem::{MaybeUninit, size_of};
use std::sync::atomic::{AtomicBool, Ordering};

/// The first constant of the filter: the magic number of the device (specification section 8) plus
/// a version.
const MAGIC: u32 = cma_device_protocol::MAGIC + 3;

/// Magic, access mode, four words of the file number, and an instruction that accepts every packet.
const INSTRUCTIONS: usize = 7;

/// Length of the socket's queue. One connection is queued; a process that guesses the socket's name
/// while it listens can add others, which have no effect.
const BACKLOG: c_int = 64;

/// The access mode of `open`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AccessMode {
    Read,
    Write,
    Both,
    /// For the ioctl alone (the access mode 3 of Linux).
    Neither,
}

impl AccessMode {
    pub(crate) fn of(flags: c_int) -> AccessMode {
        match flags & libc::O_ACCMODE {
            libc::O_RDONLY => AccessMode::Read,
            libc::O_WRONLY => AccessMode::Write,
            libc::O_RDWR => AccessMode::Both,
            _ => AccessMode::Neither,
        }
    }

    pub(crate) fn reads(self) -> bool {
        matches!(self, AccessMode::Read | AccessMode::Both)
    }

    pub(crate) fn writes(self) -> bool {
        matches!(self, AccessMode::Write | AccessMode::Both)
    }

    fn from_word(word: u32) -> Option<AccessMode> {
        [AccessMode::Read, AccessMode::Write, AccessMode::Both, AccessMode::Neither]
            .into_iter()
            .find(|is| *is as u32 == word)
    }
}

/// An open file of the device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeviceFile {
    descriptor: BorrowedFd<'static>,
    pub(crate) access: AccessMode,
    /// The file number.
    pub(crate) number: u128,
}

/// The open file that `descriptor` refers to, if it is one. `descriptor` may be any number.
/// Preserves errno.
pub(crate) fn device_file(descriptor: c_int) -> Option<DeviceFile> {
    if descriptor < 0 {
        return None;
    }
    // SAFETY: the caller uses it for the length of a call on that descriptor, during which the
    // program keeps it open; if it isn't open, system calls on it fail.
    let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let [magic, access, number @ .., _] = constants(descriptor)?;
    let access = AccessMode::from_word(access).filter(|_| magic == MAGIC)?;
    note_device_file();
    Some(DeviceFile {
        descriptor,
        access,
        number: number.iter().fold(0, |so_far, word| so_far << 32 | u128::from(*word)),
    })
}

/// Whether this process may have open files of the device. It saves other programs a system call at
/// each `read` and `write`. It is only a hint and never becomes false again.
static FILES: AtomicBool = AtomicBool::new(false);

fn note_device_file() {
    FILES.store(true, Ordering::Relaxed);
}

/// As [`device_file`], for frequent calls. A file that was received through a socket is not
/// recognised before another call has used it.
pub(crate) fn device_file_if_any(descriptor: c_int) -> Option<DeviceFile> {
    if FILES.load(Ordering::Relaxed) { device_file(descriptor) } else { None }
}

/// Looks for open files of the device among the inherited descriptors.
pub(crate) extern "C" fn find_inherited_files() {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(folder) = open(c"/proc/self/fd", flags, Mode::empty()) else {
        return note_device_file();
    };
    let mut buffer = [MaybeUninit::uninit(); 2048];
    let mut files = RawDir::new(folder.as_fd(), &mut buffer);
    while let Some(Ok(entry)) = files.next() {
        let number = entry.file_name().to_str().ok().and_then(|number| number.parse().ok());
        if number.is_some_and(|number| device_file(number).is_some()) {
            return;
        }
    }
}

/// Creates an open file.
pub(crate) fn make(flags: c_int) -> Result<OwnedFd, Errno> {
    note_device_file();
    let mut number = [0; 16];
    getrandom(&mut number, GetRandomFlags::empty())?;
    let [a, b, c, d] =
        [0, 4, 8, 12].map(|at| u32::from_ne_bytes([0, 1, 2, 3].map(|i| number[at + i])));
    let socket_flags =
        [(libc::O_CLOEXEC, SocketFlags::CLOEXEC), (libc::O_NONBLOCK, SocketFlags::NONBLOCK)];
    let wanted =
        socket_flags.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, flag)| *flag).collect();
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, wanted, None)?;
    attach(&socket, [MAGIC, AccessMode::of(flags) as u32, a, b, c, d])?;
    Ok(socket)
}

impl DeviceFile {
    /// Whether the file has, or had, a chunk.
    pub(crate) fn had_chunk(&self) -> bool {
        let mut polled = [PollFd::new(&self.descriptor, PollFlags::RDHUP)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let _ = poll(&mut polled, Some(&now));
        polled[0].revents().contains(PollFlags::RDHUP)
    }

    /// Keeps the connection that has the chunk inside the file. If the process is killed meanwhile,
    /// the connection closes and the file has no chunk.
    pub(crate) fn keep(&self, connection: BorrowedFd<'_>) -> Result<(), Errno> {
        match bind(self.descriptor, &SocketAddrUnix::new_unnamed()) {
            // `EINVAL` means that the socket has a name already: a process was killed between this
            // call and the next ones.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
        listen(self.descriptor, BACKLOG)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let carrier = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&carrier, &getsockname(self.descriptor)?)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        let descriptors = [connection];
        beside.push(SendAncillaryMessage::ScmRights(&descriptors));
        match sendmsg(&carrier, &[IoSlice::new(&[0])], &mut beside, SendFlags::NOSIGNAL) {
            Ok(_) => {}
            // The user has as many descriptors in flight as the kernel allows: one for each chunk.
            Err(Errno::TOOMANYREFS) => return Err(Errno::MFILE),
            Err(errno) => return Err(errno),
        }
        // From now on connections are refused, and `had_chunk` returns true.
        shutdown(self.descriptor, Shutdown::Read)
    }
}

/// Attaches a filter with these constants to a socket, permanently.
fn attach(socket: &OwnedFd, constants: [u32; INSTRUCTIONS - 1]) -> Result<(), Errno> {
    let instruction = |code: u32, k| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    // The filter accepts every packet.
    let mut program = [instruction(libc::BPF_RET | libc::BPF_K, u32::MAX); INSTRUCTIONS];
    for (place, constant) in program.iter_mut().zip(constants) {
        *place = instruction(libc::BPF_LD | libc::BPF_IMM, constant);
    }
    let program = libc::sock_fprog { len: INSTRUCTIONS as u16, filter: program.as_mut_ptr() };
    set_option(socket, libc::SO_ATTACH_FILTER, &program)?;
    set_option::<c_int>(socket, libc::SO_LOCK_FILTER, &1)
}

fn set_option<T>(socket: &OwnedFd, option: c_int, value: &T) -> Result<(), Errno> {
    let (place, length) = ((&raw const *value).cast::<c_void>(), size_of::<T>() as libc::socklen_t);
    // SAFETY: the kernel reads a value of the option's type, and for a filter the instructions that
    // it points to.
    let set =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, place, length) };
    if set == 0 { Ok(()) } else { Err(crate::last_errno()) }
}

/// The constants of the filter that is attached to a descriptor, if that is a socket and the filter
/// has as many instructions as ours.
fn constants(descriptor: BorrowedFd<'_>) -> Option<[u32; INSTRUCTIONS]> {
    let mut program = [libc::sock_filter { code: 0, jt: 0, jf: 0, k: 0 }; INSTRUCTIONS];
    // The unit of this option's length is the instruction.
    let mut length = INSTRUCTIONS as libc::socklen_t;
    let (number, place) = (descriptor.as_raw_fd(), program.as_mut_ptr().cast::<c_void>());
    let got = crate::preserving_errno(|| {
        // SAFETY: the kernel writes at most that many instructions, or, where the option has
        // another meaning, fewer bytes than they occupy.
        unsafe { libc::getsockopt(number, libc::SOL_SOCKET, SO_GET_FILTER, place, &raw mut length) }
    });
    (got == 0 && length as usize == INSTRUCTIONS).then(|| program.map(|instruction| instruction.k))
}

/// `SO_GET_FILTER` of `asm-generic/socket.h`.
const SO_GET_FILTER: c_int = libc::SO_ATTACH_FILTER;
