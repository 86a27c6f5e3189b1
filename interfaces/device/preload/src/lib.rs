//! Stands in for `/dev/cma` (specification section 8) in programs that know nothing of it: with `LD_PRELOAD=libcma_dev_preload.so` a C program that was
//! written against the device runs unchanged, and its chunks come from a server.
//!
//! The server listens at the path in `CMA_SOCKET`, or at `/run/cma.sock`. Without one, opening the device fails with `ENODEV`. Where the
//! machine has a `/dev/cma` of its own, programs get that.
//!
//! # Nothing is kept here
//!
//! The descriptor that `open("/dev/cma")` returns is a line to the server, and that it is one can be seen from itself: it is bound to a name that
//! nothing else has. What chunk it has, and the descriptors of its memory, the server is asked each time. So there is no table that
//! could be wrong: the kernel counts the references over `dup`, `fork`, `exec`, `close_range` and descriptors that are sent through
//! sockets, and hangs up at the last, as it ends a driver's file. Of all that a program does with descriptors only these are looked at:
//!
//! | call | does |
//! | --- | --- |
//! | `open`, `openat`, `creat`, `fopen`, `freopen`, in all their forms | when the file system has no such file: whether it is the device |
//! | `access`, `faccessat`, `stat`, `lstat`, `fstatat`, `statx`, in all their forms | the same: it is a character device that may be read and written, while there is a server |
//! | `ioctl` | on a line: the one ioctl, in both layouts (see [`cma_device_protocol::ioctl`] for how they are told apart) |
//! | `mmap`, `mmap64` | on a line: maps the chunk or a part of it, as far as the file was opened for that |
//!
//! Threads and processes that have the same line take turns (`turn`). No call takes memory from the heap, but for what `fopen` takes. The
//! functions of the C library are looked up when this library is initialised; who calls before gets the system call itself.
//!
//! # What is not as with a driver
//!
//! - `fstat` says that the file is a socket. `read` waits, and `write` ends the connection, where a driver answers `EINVAL`.
//! - The calls are seen when they go through the C library: not those of a program that is linked statically or makes them itself.
//! - Memory in huge pages is mapped in whole ones, and `munmap` of less is `EINVAL`, as for every mapping of such pages.

#![cfg(target_os = "linux")]

mod alloc;
mod device;
mod exports;
mod looks;
mod real;
mod turn;
mod user;
mod view;
