//! Stands in for `/dev/cma` (specification section 8) in programs that know nothing of it: with `LD_PRELOAD=libcma_dev_preload.so` a C program that was
//! written against the device runs unchanged, and its chunks come from a server.
//!
//! The server listens at the path in `CMA_SOCKET`, or at `/run/cma.sock`. Without one, opening the device fails with `ENODEV`. Where the
//! machine has a `/dev/cma` of its own, programs get that.
//!
//! # Nothing is kept here
//!
//! The descriptor that `open("/dev/cma")` returns is a line to the server, and that it is one can be seen from itself: it is bound to a name that
//! nothing else has, which also says whether it was opened for reading, writing or both. What chunk it has, and the descriptors of its memory,
//! the server is asked each time. So there is no table that could be wrong: the kernel counts the references over `dup`, `fork`, `exec`,
//! `close_range` and descriptors that are sent through sockets, and hangs up at the last, as it ends a driver's file. Of all that a
//! program does with paths and descriptors only these are looked at:
//!
//! | call | does |
//! | --- | --- |
//! | `open`, `openat`, `creat`, `fopen`, `freopen`, with their `64`, `__*` and `__*_2` forms | when the file system has no such file: whether it is the device |
//! | `access`, `faccessat`, `euidaccess`, `eaccess`; `stat`, `lstat`, `fstatat`, `statx`, with their `64` and `__x*` forms; `getxattr`, `listxattr` and their `l*` forms | likewise: whether `open` would find it. A character device, for whom the server's socket lets in |
//! | `fstat` and the others, on a descriptor that is a socket | on a line: the same |
//! | `ioctl` | on a line: the one ioctl, in both layouts (see [`cma_device_protocol::ioctl`] for how they are told apart) |
//! | `mmap`, `mmap64` | on a line: maps the chunk or a part of it, for what it was opened for |
//! | `read`, `readv`, `pread`, `write`, `writev`, `pwrite` | on a line: `EINVAL`, as of a driver that has neither. Lines are looked for when the program has begun with one, opened one, or used one |
//!
//! Threads and processes that have the same line take turns (`turn`). No call takes memory from the heap, but for what `fopen` takes. The
//! functions of the C library are looked up when this library is initialised; who calls before gets the system call itself.
//!
//! # What is not as with a driver
//!
//! - The calls are seen when they go through the C library: not those of a program that is linked statically or makes them itself, nor those that
//!   the C library makes for itself. So a `FILE` of the device is good for its `fileno`: `fread` waits, and what `fwrite` has written ends
//!   the connection. So do `send` and what else is for sockets alone; a driver's file has none of it.
//! - A folder doesn't list the device, `/proc` shows a line as the socket that it is, `readlink` and `realpath` don't find it, and `O_PATH` doesn't open it.
//! - `F_GETFL` says `O_RDWR` of every line, and `mprotect` lets one write to a shared mapping of a file that was opened for reading.
//! - Memory in huge pages is mapped in whole ones, and `munmap` of less is `EINVAL`, as for every mapping of such pages.

#![cfg(target_os = "linux")]

mod alloc;
mod device;
mod exports;
mod real;
mod server;
mod turn;
mod user;
mod view;
