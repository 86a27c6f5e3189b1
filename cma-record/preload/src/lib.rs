//! Writes down the big buffers of the program that it is preloaded into.
//!
//! `cma record` starts the program with this library in `LD_PRELOAD` and with the path of a log
//! ([`cma_record_log`]) in the environment. Without a log the library only passes calls on.
//!
//! # Invariants
//!
//! 1. The library takes no lock, keeps no descriptor open, and allocates nothing from the heap. A
//!    thread that is stopped or killed at any place delays no other, and what it wrote is in the
//!    file.
//! 2. A call for a small buffer costs a comparison of its size, and a free asks the allocator for
//!    the size of the block (`malloc_usable_size`), which reads the word before the block. Only
//!    buffers of the size in the log's header or more cost more.
//! 3. The end of a buffer is written before the real call, and its begin after it. Slots are
//!    reserved in one order, so another thread that gets the same address has a later slot.
//! 4. What belongs to one process (its number, its memory files) is in a page that the kernel
//!    clears in a child of `fork` (`MADV_WIPEONFORK`). A child is another process with the first
//!    event that it writes, whatever call created it. A child of `vfork` shares the memory of its
//!    parent until `exec`, and is rightly the same process.
//! 5. The C library's functions are looked up at the first call. Blocks that are requested
//!    meanwhile, also by the look-up itself, come from a small area that is never freed.
//!
//! # Calls
//!
//! | call | effect |
//! | --- | --- |
//! | `malloc`, `calloc`, `realloc`, `reallocarray`, `free`, `aligned_alloc`, `memalign`, `posix_memalign`, `valloc`, `pvalloc` | big blocks are recorded; C++'s `new` calls `malloc` |
//! | `mmap`, `mmap64`, `munmap`, `mremap` | anonymous memory and memory files are recorded; reservations (`PROT_NONE`), mappings of other files, and mappings that the program's allocator makes for its heap are not |
//! | `memfd_create`, `ftruncate`, `ftruncate64`, `close` | a memory file is a buffer from the time it gets its size until its creator has closed and unmapped it |
//! | `execve`, `execv`, `execvp`, `execvpe`, `fexecve`, `posix_spawn`, `posix_spawnp` | an environment from which the program removed this library gets it again |
//! | `_exit`, `_Exit` | the end is recorded |
//!
//! # Limits
//!
//! - Calls inside the C library and system calls are not seen: descriptors of memory files that
//!   are closed by `close_range`, or an `execl` with a changed environment.
//! - A memory file counts once, in the process that created it; descriptors that were duplicated
//!   or sent are not followed. Descriptors from 4096 on are not recorded.
//! - Blocks are not recorded if the program's allocator has no `malloc_usable_size`. The log counts
//!   such processes.
//! - A child that is statically linked or gets privileges (setuid) is not recorded. For a 32-bit
//!   child the loader prints that it ignores the library. A child with another C library than glibc
//!   may not start.
//! - Linux 4.14 or newer; the log needs 513 MiB of the address space of each process.

#![cfg(target_os = "linux")]

mod device;
mod exec;
mod heap;
mod log;
mod mapping;
mod real;
