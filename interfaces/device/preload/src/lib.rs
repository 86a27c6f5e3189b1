//! Stands in for `/dev/cma` (specification section 8): with `LD_PRELOAD=libcma_dev_preload.so` a C
//! program that was written against the device runs unchanged, and its chunks come from a server.
//!
//! The server listens at the path in `CMA_SOCKET`, or at `/run/cma/cma.sock`. Without a server,
//! opening the device fails with `ENODEV`, and the library prints once on standard error how to
//! name one. On a machine that has a `/dev/cma`, programs get that device.
//!
//! # Open files
//!
//! An *open file* is a file description of the device, to which one or more descriptors refer. The
//! descriptor that `open("/dev/cma")` returns is an unconnected Unix stream socket (see the module
//! `device_file`). It carries the access mode of `open` and a random number, the *file number*,
//! under which the server knows the open file. The connection on which the server allocated the
//! chunk is queued inside the socket.
//!
//! Each `ioctl` and `mmap` opens a connection of its own, sends its requests on it and closes it,
//! except for the connection that allocated the chunk, which the socket keeps.
//!
//! # Invariants
//!
//! 1. The library has no table of descriptors. The kernel counts the references to an open file
//!    over `dup`, `fork`, `exec`, `close_range` and descriptors that are sent through sockets. With
//!    the last one it closes the connection in the socket, and the server frees the chunk, as a
//!    driver does in `release`.
//! 2. The library takes no lock, and no connection is used by two threads or processes. A process
//!    that is stopped or killed during a call delays no other.
//! 3. A file without a chunk has no connection.
//! 4. Calls on other files and paths reach the C library unchanged, with errno. The library acts on
//!    a path only after the kernel reported that no file can be opened there, so a real device has
//!    precedence.
//! 5. No call allocates on the heap, except that the C library's `fopen` does. The C library's
//!    functions are looked up when this library is initialised; an earlier call makes the system
//!    call itself.
//!
//! # Calls
//!
//! | call | effect |
//! | --- | --- |
//! | `open`, `openat`, `creat`, `fopen`, `freopen`, with their `64`, `__*` and `__*_2` forms | if the kernel finds no such file: opens the device, if the path leads to it, also through symbolic links and `/proc/self/fd`, and with `O_PATH` |
//! | `access`, `faccessat`, `euidaccess`, `eaccess`; `stat`, `lstat`, `fstatat`, `statx`, with their `64` and `__x*` forms; `getxattr`, `listxattr` and their `l*` forms; `readlink`, `readlinkat`; `truncate` | likewise: results for a character device, with the permissions of the server's socket |
//! | `fstat` and its other forms, on a socket | if it is an open file: the same results |
//! | `ioctl` | on an open file: the one ioctl of the device, in both layouts (see [`cma_device_protocol::ioctl`]) |
//! | `mmap`, `mmap64` | on an open file: maps the chunk or a part of it, as the access mode allows |
//! | `read`, `readv`, `pread`, `preadv`, `preadv2`, `write`, `writev`, `pwrite`, `pwritev`, `pwritev2`, `sendfile`, `splice`, `copy_file_range` | on an open file: `EINVAL`, as for a driver without these functions, or `EBADF` if the access mode doesn't allow the call. Descriptors are checked only in a process that started with an open file, opened one, or used one |
//! | `fflush`, `fclose`, `fwrite`, `fputs`, `fputc`, `putc` and their `_unlocked` forms | after a failure on an open file: errno is the same `EINVAL` or `EBADF` |
//!
//! A slash after the device's path is `ENOTDIR`.
//!
//! # Differences from a driver
//!
//! - The library intercepts calls to the C library only: not those of statically linked programs,
//!   direct system calls, or calls inside the C library. Made on an open file, these fail, too; a
//!   write fails with `ENOTCONN`.
//! - `ioctl` and `mmap` connect to the server's socket. A process that can't reach the socket any
//!   more, because it dropped privileges or changed its root after it opened the file, gets
//!   `EACCES` or `ENODEV`. So does a process in another container that received the descriptor.
//! - `ioctl` needs three descriptors for the length of the call; `mmap` needs one, and one for each
//!   piece of the chunk's memory. If one thread forks while another allocates, the child may
//!   inherit the connection of that chunk. Then the chunk is freed when the child ends or calls
//!   `exec`.
//! - When the user has all connections that the server allows, `ioctl` fails with `EDQUOT`. Files
//!   that have a chunk can still be mapped. When the server is restarted, the chunks of open files
//!   are lost: `mmap` fails with `ENODEV`, and existing mappings stay.
//! - Directory listings don't show the device, `/proc` shows an open file as a socket, and calls
//!   that change a path (`chmod`, `unlink`, `rename`) don't find it.
//! - `F_GETFL` reports `O_RDWR` for every open file, `poll` doesn't block, and `mprotect` can make
//!   a shared mapping writable although the file was opened for reading.
//! - Memory in huge pages is mapped in whole pages, and `munmap` of a part of one is `EINVAL`, as
//!   for all mappings of huge pages.

#![cfg(target_os = "linux")]

mod device_file;
mod exports;
mod ioctl;
mod mmap;
mod notice;
mod path;
mod real;
mod server;
mod user_memory;

use rustix::io::Errno;

fn set_errno(errno: Errno) {
    // SAFETY: the call has no preconditions.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: the pointer is valid, and errno is this thread's alone.
    unsafe { *place = errno.raw_os_error() };
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Calls `work` and restores errno afterwards.
fn preserving_errno<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: the call has no preconditions.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: the pointer is valid, and errno is this thread's alone.
    let errno = unsafe { *place };
    let done = work();
    // SAFETY: as above.
    unsafe { *place = errno };
    done
}
