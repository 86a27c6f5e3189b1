//! Stands in for `/dev/cma` (specification section 8) in programs that know nothing of it: with
//! `LD_PRELOAD=libcma_dev_preload.so` a C program that was written against the device runs
//! unchanged, and its chunks come from a server.
//!
//! The server listens at the path in `CMA_SOCKET`, or at `/run/cma.sock`. Without one, opening the
//! device fails with `ENODEV`, and the library says once on standard error how to name one. Where
//! the machine has a `/dev/cma` of its own, programs get that.
//!
//! # What an open file is
//!
//! The descriptor that `open("/dev/cma")` returns is a socket that is connected to nothing (see the
//! module `file`). The kernel refuses every read and write of it with the errno that it has for a
//! driver without those functions, or one that this library makes so. It carries what the library
//! has to know: what it was opened for, and a random number under which the server knows the file.
//! Inside it is kept the connection on which the server allocated the chunk. So the library has no
//! table that could be wrong: the kernel counts the references over `dup`, `fork`, `exec`,
//! `close_range` and descriptors that are sent through sockets, and closes the connection with the
//! last one, as it ends a driver's file.
//!
//! Each `ioctl` and `mmap` asks the server on a connection of its own, which no other thread or
//! process has. So there is no lock, and a process that is stopped or killed while it asks keeps
//! nobody waiting. A file without a chunk takes no connection.
//!
//! Of all that a program does with paths and descriptors only these are looked at:
//!
//! | call | does |
//! | --- | --- |
//! | `open`, `openat`, `creat`, `fopen`, `freopen`, with their `64`, `__*` and `__*_2` forms | when the file system has no such file: whether it is the device, also by a symbolic link, by `/proc/self/fd`, and with `O_PATH` |
//! | `access`, `faccessat`, `euidaccess`, `eaccess`; `stat`, `lstat`, `fstatat`, `statx`, with their `64` and `__x*` forms; `getxattr`, `listxattr` and their `l*` forms; `readlink`, `readlinkat`; `truncate` | likewise: whether `open` would find it. A character device, for whom the server's socket lets in |
//! | `fstat` and the others, on a descriptor that is a socket | on an open file: the same |
//! | `ioctl` | on an open file: the one ioctl, in both layouts (see [`cma_device_protocol::ioctl`] for how they are told apart) |
//! | `mmap`, `mmap64` | on an open file: maps the chunk or a part of it, for what it was opened for |
//! | `read`, `readv`, `pread`, `preadv`, `preadv2`, `write`, `writev`, `pwrite`, `pwritev`, `pwritev2`, `sendfile`, `splice`, `copy_file_range` | on an open file: `EINVAL`, as of a driver that has none of it, or `EBADF` when it was not opened for that. Open files are looked for when the program has begun with one, opened one, or used one |
//! | `fflush`, `fclose`, `fwrite`, `fputs`, `fputc`, `putc` and their `_unlocked` forms | when they fail on an open file: the errno is the same `EINVAL` or `EBADF` |
//!
//! A slash behind the device's path is `ENOTDIR`. No call takes memory from the heap, but for what
//! `fopen` takes. The functions of the C library are looked up when this library is initialised;
//! who calls before gets the system call itself.
//!
//! # What is not as with a driver
//!
//! - The calls are seen when they go through the C library: not those of a program that is linked
//!   statically or makes them itself, nor those that the C library makes for itself. On an open
//!   file these fail, too, and do no harm; a write by such a call is `ENOTCONN`.
//! - `ioctl` and `mmap` connect to the server's socket. A process that can't reach the socket any
//!   more, because it gave up the right to or changed its root after it opened the file, gets
//!   `EACCES` or `ENODEV`. So does one in another container that was sent the descriptor.
//! - `ioctl` takes three descriptors while it works, and `mmap` one and those of the chunk's
//!   memory. A process that forks in one thread while another allocates may hand the connection of
//!   that chunk to the child. Then the chunk is freed when the child ends or becomes another
//!   program.
//! - When the user has as many connections to the server as one may have, `ioctl` fails with
//!   `EDQUOT`. Files that have a chunk can still be mapped. When the server is restarted, the
//!   chunks of open files are lost: `mmap` fails with `ENODEV`, and what is mapped stays mapped.
//! - A folder doesn't list the device, `/proc` shows an open file as the socket that it is, and
//!   calls that change a path (`chmod`, `unlink`, `rename`) don't find it.
//! - `F_GETFL` says `O_RDWR` of every open file, `poll` doesn't wait, and `mprotect` lets one write
//!   to a shared mapping of a file that was opened for reading.
//! - Memory in huge pages is mapped in whole ones, and `munmap` of less is `EINVAL`, as for every
//!   mapping of such pages.

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
    // SAFETY: every thread has one.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: and it is this thread's alone.
    unsafe { *place = errno.raw_os_error() };
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// What `work` returns; errno stays what it was.
fn preserving_errno<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: every thread has one.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: and it is this thread's alone.
    let errno = unsafe { *place };
    let done = work();
    // SAFETY: as above.
    unsafe { *place = errno };
    done
}
