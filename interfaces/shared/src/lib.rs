//! Memory that other processes have at the same time, as a type.
//!
//! [`SharedBytes::map`] maps the files that make up a chunk, one behind the other: those of a
//! framework in this process (`cma_memory::map_shared`), those of a server (`SharedChunk::map` of
//! the crate `cma-client`), or descriptors that another process sent.
//!
//! Another process may write to such memory at any time, and the compiler assumes that nobody
//! changes what a `&[u8]` points to, or sees what a `&mut [u8]` points to. So these bytes are no
//! slice of `u8`:
//!
//! - [`SharedBytes`] is a slice of `AtomicU8`. [`read`](SharedBytes::read) and
//!   [`write`](SharedBytes::write) copy whole frames in and out.
//! - [`SharedWords`] is a slice of `AtomicU32`, for positions, flags and futexes. No part of a
//!   chunk is both, because Rust defines no result for atomic accesses of different sizes that
//!   overlap and are not ordered. [`split_at`](SharedBytes::split_at) cuts a chunk into parts.
//! - [`SharedBytes::as_slice`] and [`as_mut_slice`](SharedBytes::as_mut_slice) are `unsafe`: the
//!   caller knows who has the bytes, by a lock or by the positions of a ring.
//!
//! Two mappings of one chunk in a process are as those of two processes.
//!
//! No check makes plain slices safe. A process that had the descriptor can keep pages pinned, in a
//! pipe or as buffers of `io_uring`, and have the kernel write to them after it closed and unmapped
//! everything. The kernel reports such pins nowhere.
//!
//! ```
//! use cma_shared::{FilePart, MapError, SharedBytes};
//! use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
//! use std::sync::atomic::Ordering;
//!
//! let file = memfd_create("chunk", MemfdFlags::ALLOW_SEALING)?; // or what a socket delivered
//! ftruncate(&file, 16 << 10)?;
//! fcntl_add_seals(&file, SealFlags::SHRINK)?;
//!
//! let part = FilePart { file: &file, offset: 0, len: 16 << 10 };
//! let (head, frames) = SharedBytes::map(16 << 10, [Ok::<_, MapError>(part)])?.split_at(4096);
//! let head = head.into_words();
//! frames.write(0, b"NV12");
//! head[0].store(1, Ordering::Release); // another process that loads 1 with Acquire sees "NV12"
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bytes;
mod copy;
mod mapping;

pub use bytes::{SharedBytes, SharedWords};
pub use mapping::{FilePart, MapError};
