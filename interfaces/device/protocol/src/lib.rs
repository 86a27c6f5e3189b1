//! What a client and the server of the test device say to each other (specification section 8).
//!
//! A connection is a `SOCK_SEQPACKET` Unix socket, and it is what an open file of `/dev/cma` is: it
//! has at most one chunk, and who holds the last reference to it holds the chunk. A client sends a
//! [`Request`], the server sends one [`Answer`], then comes the next request. Each is one
//! [`Message`] of [`MESSAGE_BYTES`] bytes; a chunk's memory goes beside an answer, as descriptors
//! (`SCM_RIGHTS`). Everything is in the host's byte order: both ends are on one machine.
//! `PROTOCOL.md` has the layouts.
//!
//! Nothing here allocates, so that a client may be a library inside a program that knows nothing of
//! it. [`ioctl`] is the other language such a program speaks: the structure that C programs hand to
//! `/dev/cma`.
//!
//! ```
//! use cma_device_protocol::{Answer, Message, Request, RegionSelector};
//!
//! let asked = Request::Alloc { from: RegionSelector::Device { device: "camera", kind: "frame" }, size: 4096, alignment: 0, memory: true };
//! let message = Message::request(7, &asked)?;
//! assert_eq!(message.as_request(), Ok((7, asked)));
//!
//! let message = Message::refusal(7, 28, "full");
//! assert_eq!(message.as_answer(), Ok((7, Answer::Refused { errno: 28, reason: "full" })));
//! # Ok::<(), cma_device_protocol::NamesTooLong>(())
//! ```

#![forbid(unsafe_code)]

mod answer;
mod bytes;
pub mod ioctl;
mod malformed;
mod message;
mod request;
pub mod wire;

pub use answer::{Answer, ChunkAnswer, Extent, InfoAnswer, ListedChunk, MAX_EXTENTS, MAX_LISTED};
pub use malformed::{MAGIC, MESSAGE_BYTES, Malformed, VERSION};
pub use message::Message;
pub use request::{MAX_TEXT, NamesTooLong, RegionSelector, Request};
pub use wire::MAX_DESCRIPTORS;
