//! Contiguous memory from a server: what a process asks that has no framework of its own.
//!
//! The calls are those of the framework. Each chunk is a connection to the server, as each open
//! file of `/dev/cma` has at most one; when it is dropped, or its process ends however it ends, the
//! chunk is free.
//!
//! ```no_run
//! use cma_client::Client;
//!
//! let client = Client::connect("/run/cma.sock")?;
//! let mut frame = client.alloc("camera", Some("frame"), 3_133_440, 64 << 10)?.map()?;
//! frame[..4].copy_from_slice(b"NV12");
//! println!("for the device it is at {:#x}", frame.start());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`mod@line`] and [`pieces`] are what this stands on. They take no memory from the heap and no
//! lock, so that a library that is loaded into any program can use them.

mod chunk;
mod client;
mod error;
pub mod line;
mod mapping;
pub mod pieces;

pub use chunk::{MappedChunk, NotMapped, Piece, RemoteChunk, SharedChunk};
pub use client::Client;
pub use error::Error;

pub use cma_device_protocol::{Info, Listed};
