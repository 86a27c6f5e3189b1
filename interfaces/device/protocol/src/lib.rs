//! The messages between a client and the server of the test device (specification section 8).
//!
//! A connection is a `SOCK_SEQPACKET` Unix socket. Like an open file of `/dev/cma` it has at most
//! one chunk, which lives as long as any process has a descriptor of the connection. A client sends
//! a [`Request`], the server sends one [`Answer`], then the client may send the next request. Each
//! is one [`Message`] of [`MESSAGE_BYTES`] bytes. A chunk's memory comes with an answer, as
//! descriptors (`SCM_RIGHTS`). Numbers are in the host's byte order, because both ends are on one
//! machine. `PROTOCOL.md` has the layouts.
//!
//! No function here allocates on the heap, so that a library that is loaded into any program can be
//! a client. [`ioctl`] decodes the structure that C programs pass to `/dev/cma`.
//!
//! ```
//! use cma_device_protocol::{Answer, ChunkRequest, Message, Request, RegionSelector};
//!
//! let from = RegionSelector::Device { device: "camera", kind: "frame" };
//! let request = Request::Alloc { from, chunk: ChunkRequest::new(4096), memory: true };
//! let message = Message::request(7, &request)?;
//! assert_eq!(message.as_request(), Ok((7, request)));
//!
//! let message = Message::refusal(7, 28, "full");
//! assert_eq!(message.as_answer(), Ok((7, Answer::Refused { errno: 28, reason: "full" })));
//! # Ok::<(), cma_device_protocol::NamesTooLong>(())
//! ```

#![forbid(unsafe_code)]

mod answer;
mod bytes;
mod chunk_request;
pub mod ioctl;
mod malformed;
mod message;
mod request;
pub mod wire;

pub use answer::{
    Answer, ChunkAnswer, Extent, InfoAnswer, ListedChunk, MAX_ATTRIBUTE_BYTES, MAX_EXTENTS,
    MAX_LISTED, TextAnswer,
};
pub use chunk_request::ChunkRequest;
pub use malformed::{MAGIC, MESSAGE_BYTES, Malformed, VERSION};
pub use message::Message;
pub use request::{MAX_TEXT, NamesTooLong, RegionSelector, Request};
pub use wire::MAX_DESCRIPTORS;
