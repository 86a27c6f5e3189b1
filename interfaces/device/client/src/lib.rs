//! Contiguous memory from a server, for processes without a framework of their own.
//!
//! The calls are those of the framework. Each chunk is a connection to the server, as each open
//! file of `/dev/cma` has at most one chunk. The server frees the chunk when the connection is
//! closed: when the chunk is dropped, or its process ends, however it ends.
//!
//! ```no_run
//! use cma_client::Client;
//!
//! let client = Client::connect("/run/cma.sock")?;
//! let mut frame = client.alloc("camera", Some("frame"), 3_133_440, 64 << 10)?.map()?;
//! frame[..4].copy_from_slice(b"NV12");
//! println!("the device finds it at {:#x}", frame.start());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`mod@exchange`] and [`pieces`] are the layers below. They allocate nothing on the heap and take
//! no lock, so that a library that is loaded into any program can use them.

use std::ffi::CStr;

mod attributes;
mod call;
mod chunk;
mod client;
mod error;
pub mod exchange;
mod mapping;
mod pending;
pub mod pieces;

pub use attributes::{AttributeReader, AttributeText};
pub use chunk::{MappedChunk, NotMapped, Piece, RemoteChunk, SharedChunk};
pub use client::Client;
pub use error::Error;
pub use pending::{Outcome, PendingChunk};

/// The path of the server's socket where nothing names another: that of the service
/// (`service/cma.socket`).
pub const DEFAULT_SOCKET: &CStr = c"/run/cma/cma.sock";

pub use cma_shared::{MapError, SharedBytes};

pub use cma_device_protocol::{ChunkRequest, InfoAnswer, ListedChunk, RegionSelector};

#[cfg(test)]
mod tests {
    #[test]
    fn the_default_socket_is_that_of_the_service() {
        let unit = include_str!("../../../../service/cma.socket");
        let listen =
            format!("\nListenSequentialPacket={}\n", super::DEFAULT_SOCKET.to_str().unwrap());
        assert!(unit.contains(&listen), "{unit}");
    }
}
