//! Socket options that rustix doesn't support, or has no fitting type for.

use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::{self, Errno};
use rustix::net::sockopt::set_socket_send_buffer_size;
use std::ffi::c_int;
use std::mem::size_of;

/// `SO_PEERGROUPS` of `asm-generic/socket.h`.
const PEER_GROUPS: c_int = 59;

/// `SO_PASSRIGHTS` of `asm-generic/socket.h`, Linux 6.16.
const PASS_RIGHTS: c_int = 83;

/// The user, group and process at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Credentials {
    /// 0 for a process outside the server's PID namespace.
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Reads a socket option of at most `value.len()` words of 32 bits. Returns the number of words.
fn read_words(socket: BorrowedFd<'_>, option: c_int, value: &mut [u32]) -> io::Result<usize> {
    let mut length = size_of_val(value) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `value`, and the length it wrote to
    // `length`.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if status == 0 { Ok(length as usize / size_of::<u32>()) } else { Err(last_error()) }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// The effective credentials of the other end when it connected.
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<Credentials> {
    let mut words = [0; 3];
    if read_words(socket, libc::SO_PEERCRED, &mut words)? != words.len() {
        return Err(Errno::IO);
    }
    let [pid, uid, gid] = words;
    Ok(Credentials { pid, uid, gid })
}

/// The supplementary groups of the other end when it connected.
pub(crate) fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Box<[u32]>> {
    // More groups than a user ordinarily has; the kernel's limit is 65536.
    let mut capacity = 64;
    loop {
        let mut words = Vec::new();
        words.try_reserve_exact(capacity).map_err(|_| Errno::NOMEM)?;
        words.resize(capacity, 0);
        match read_words(socket, PEER_GROUPS, &mut words) {
            Err(Errno::RANGE) if capacity < 1 << 16 => capacity = 1 << 16,
            Err(error) => return Err(error),
            Ok(count) => {
                words.truncate(count);
                return Ok(words.into());
            }
        }
    }
}

/// Prepares a client's connection.
pub(crate) fn prepare(socket: BorrowedFd<'_>) {
    refuse_descriptors(socket);
    // The kernel's minimum: the socket is writable only when the client has read all answers.
    let _ = set_socket_send_buffer_size(socket, 1);
}

/// Makes the kernel refuse descriptors that are sent to this socket. Kernels before 6.16 can't;
/// there, receiving a message closes them.
pub(crate) fn refuse_descriptors(socket: BorrowedFd<'_>) {
    let off: c_int = 0;
    // SAFETY: the kernel reads one `c_int` at the address of one.
    let _ = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            PASS_RIGHTS,
            (&raw const off).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
}
