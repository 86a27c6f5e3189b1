//! A running server, from another process: its attributes as texts, and its state as values.
//!
//! A server that has mounted its attributes is read, and written, through the files of the mount.
//! One that serves chunks over a socket is read through the socket, by root and by the user that it
//! runs as. The framework of this process can be read in the same way, so that a program shows both
//! alike.
//!
//! ```no_run
//! use cma_running::Server;
//!
//! let server = Server::connect("/run/cma.sock".as_ref())?;
//! print!("{}", server.read("map")?);
//! for region in server.state()?.regions {
//!     let Some(books) = &region.books else { continue };
//!     println!("{region}: {} bytes free in {} holes", books.free_bytes, region.holes().len());
//! }
//! # Ok::<(), cma_running::Error>(())
//! ```

#![forbid(unsafe_code)]

mod entry;
mod error;
mod lines;
mod mount;
mod read;
mod server;
mod state;

pub use entry::{Entry, EntryKind};
pub use error::Error;
pub use server::Server;
pub use state::{
    AllocatorStatus, Books, ChunkState, FailureState, RegionState, Requester, State, WaiterState,
};
