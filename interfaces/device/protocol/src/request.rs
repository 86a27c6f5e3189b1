//! The requests of a client.

use crate::bytes::{Reader, Writer};
use crate::chunk_request::{CHUNK_REQUEST_BYTES, ChunkRequest, LIMIT_FLAGS};
use crate::malformed::{HEAD, MESSAGE_BYTES, Malformed};
use crate::message::Message;
use std::time::Duration;

const ALLOC: u16 = 1;
const FREE: u16 = 2;
const CHUNK: u16 = 3;
const INFO: u16 = 4;
const LIST: u16 = 5;
const ALLOC_FILE: u16 = 6;
const CHUNK_OF_FILE: u16 = 7;
const ATTRIBUTE: u16 = 8;

/// The longest text of a request, in bytes: device and type together, or a list of regions. The
/// largest request decides, [`Request::Alloc`]. The path of an attribute has the same limit.
pub const MAX_TEXT: usize = MESSAGE_BYTES - HEAD - CHUNK_REQUEST_BYTES - FLAGS - SOURCE_HEAD;

/// The size of the flags of a [`Request::Alloc`], and of the zero after them.
const FLAGS: usize = 8;

/// The flag of a [`Request::Alloc`] whose answer brings memory; the others are those of its limits.
const MEMORY: u32 = 1;

/// The size of a [`RegionSelector`] without its texts.
const SOURCE_HEAD: usize = 8;

/// A request of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'m> {
    /// Allocate a chunk for this connection, which must have none. The answer is
    /// [`Answer::Chunk`](crate::Answer::Chunk).
    Alloc {
        /// The regions that may serve the request.
        from: RegionSelector<'m>,
        /// The chunk. While there is no room, the request waits as long as it says.
        chunk: ChunkRequest,
        /// Whether the answer brings the first descriptors of the memory.
        memory: bool,
    },
    /// Free the connection's chunk. The answer is [`Answer::Freed`](crate::Answer::Freed).
    Free,
    /// Query the connection's chunk, and the descriptors of its memory from piece number `first`
    /// on. The answer is [`Answer::Chunk`](crate::Answer::Chunk).
    Chunk {
        /// The number of the first piece.
        first: u64,
    },
    /// Query the totals of regions. The answer is [`Answer::Info`](crate::Answer::Info).
    Info(RegionSelector<'m>),
    /// List the chunks of the client's user, in the order of their numbers. The answer is
    /// [`Answer::Listed`](crate::Answer::Listed).
    List {
        /// The list starts after this number; 0 for all.
        after: u64,
    },
    /// Allocate a chunk for an open file. The connection keeps it, and any connection can query it
    /// with [`Request::ChunkOfFile`] and the file number. The answer is
    /// [`Answer::Chunk`](crate::Answer::Chunk), without memory.
    AllocFile {
        /// The file number: random, because every client that knows it gets the memory.
        file: u128,
        /// The regions that may serve the request.
        from: RegionSelector<'m>,
        /// The size in bytes.
        size: u64,
        /// The alignment in bytes; 0 for a page.
        alignment: u64,
    },
    /// Query the chunk of an open file, and the descriptors of its memory from piece number `first`
    /// on. The answer is [`Answer::Chunk`](crate::Answer::Chunk).
    ChunkOfFile {
        /// The file number.
        file: u128,
        /// The number of the first piece.
        first: u64,
    },
    /// Read the attribute at `path`, or list the folder there, as the framework's `Attributes`
    /// have it. The server allows it to root and to the user that it runs as. The answer is
    /// [`Answer::Text`](crate::Answer::Text).
    Attribute {
        /// The path, without `/` at either end; empty for the root folder.
        path: &'m str,
    },
}

/// Selects regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionSelector<'m> {
    /// The regions that the map has for a device and a type.
    Device {
        /// The device's name.
        device: &'m str,
        /// The type; empty for `common`.
        kind: &'m str,
    },
    /// The regions of this list, `a,b|c`: groups separated by commas, which are tried in order. In
    /// a group of several the region that fits best serves.
    Regions(&'m str),
}

/// The names of a request are longer than a message allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the names have {bytes} bytes; a request has room for {MAX_TEXT}")]
pub struct NamesTooLong {
    /// Their length in bytes.
    pub bytes: usize,
}

impl Request<'_> {
    /// How long the server may wait before it answers, besides the time that it works.
    pub fn wait(&self) -> Duration {
        match self {
            Request::Alloc { chunk, .. } => chunk.wait.unwrap_or_default(),
            _ => Duration::ZERO,
        }
    }
}

impl RegionSelector<'_> {
    const DEVICE: u32 = 0;
    const REGIONS: u32 = 1;

    fn bytes(&self) -> usize {
        match self {
            RegionSelector::Device { device, kind } => device.len() + kind.len(),
            RegionSelector::Regions(regions) => regions.len(),
        }
    }

    fn write(&self, body: &mut Writer<'_>) {
        let (which, first, second) = match *self {
            RegionSelector::Device { device, kind } => (Self::DEVICE, device, kind),
            RegionSelector::Regions(regions) => (Self::REGIONS, regions, ""),
        };
        body.u32(which);
        // The caller has checked that both fit into `MAX_TEXT`.
        body.u16(first.len() as u16);
        body.u16(second.len() as u16);
        body.text(first);
        body.text(second);
    }
}

impl<'m> RegionSelector<'m> {
    fn read(body: &mut Reader<'m>) -> Result<Self, Malformed> {
        let (which, first, second) = (body.u32()?, body.u16()?, body.u16()?);
        let (first, second) = (body.text(first)?, body.text(second)?);
        match (which, second) {
            (Self::DEVICE, kind) => Ok(RegionSelector::Device { device: first, kind }),
            (Self::REGIONS, "") => Ok(RegionSelector::Regions(first)),
            (Self::REGIONS, _) => Err(Malformed::Count),
            _ => Err(Malformed::Flag),
        }
    }
}

impl Message {
    /// Encodes a request. The answer will have the same `id`.
    ///
    /// # Errors
    ///
    /// [`NamesTooLong`] when the names don't fit.
    pub fn request(id: u64, request: &Request<'_>) -> Result<Message, NamesTooLong> {
        let bytes = match request {
            Request::Alloc { from, .. } | Request::Info(from) | Request::AllocFile { from, .. } => {
                from.bytes()
            }
            Request::Attribute { path } => path.len(),
            _ => 0,
        };
        if bytes > MAX_TEXT {
            return Err(NamesTooLong { bytes });
        }
        let kind = match request {
            Request::Alloc { .. } => ALLOC,
            Request::Free => FREE,
            Request::Chunk { .. } => CHUNK,
            Request::Info(_) => INFO,
            Request::List { .. } => LIST,
            Request::AllocFile { .. } => ALLOC_FILE,
            Request::ChunkOfFile { .. } => CHUNK_OF_FILE,
            Request::Attribute { .. } => ATTRIBUTE,
        };
        let mut message = Message::empty(kind, id);
        let body = &mut Writer::new(message.body());
        match request {
            Request::Alloc { from, chunk, memory } => {
                body.u32(chunk.flags() | if *memory { MEMORY } else { 0 });
                body.u32(0);
                chunk.write(body);
                from.write(body);
            }
            Request::Free => {}
            Request::Chunk { first: number } | Request::List { after: number } => body.u64(*number),
            Request::Info(from) => from.write(body),
            Request::AllocFile { file, from, size, alignment } => {
                body.u128(*file);
                body.u64(*size);
                body.u64(*alignment);
                from.write(body);
            }
            Request::ChunkOfFile { file, first } => {
                body.u128(*file);
                body.u64(*first);
            }
            Request::Attribute { path } => {
                // Checked above.
                body.u16(path.len() as u16);
                body.text(path);
            }
        }
        Ok(message)
    }

    /// Decodes a request, with its id.
    ///
    /// # Errors
    ///
    /// [`Malformed`].
    pub fn as_request(&self) -> Result<(u64, Request<'_>), Malformed> {
        let (kind, mut body) = self.open()?;
        let request = match kind {
            ALLOC => {
                let flags = body.u32()?;
                if flags & !(MEMORY | LIMIT_FLAGS) != 0 {
                    return Err(Malformed::Flag);
                } else if body.u32()? != 0 {
                    return Err(Malformed::LeftOver);
                }
                let chunk = ChunkRequest::read(&mut body, flags)?;
                let memory = flags & MEMORY != 0;
                Request::Alloc { from: RegionSelector::read(&mut body)?, chunk, memory }
            }
            FREE => Request::Free,
            CHUNK => Request::Chunk { first: body.u64()? },
            INFO => Request::Info(RegionSelector::read(&mut body)?),
            LIST => Request::List { after: body.u64()? },
            ALLOC_FILE => {
                let (file, size, alignment) = (body.u128()?, body.u64()?, body.u64()?);
                Request::AllocFile { file, from: RegionSelector::read(&mut body)?, size, alignment }
            }
            CHUNK_OF_FILE => Request::ChunkOfFile { file: body.u128()?, first: body.u64()? },
            ATTRIBUTE => {
                let length = body.u16()?;
                if usize::from(length) > MAX_TEXT {
                    return Err(Malformed::Count);
                }
                Request::Attribute { path: body.text(length)? }
            }
            kind => return Err(Malformed::Kind { kind }),
        };
        body.end()?;
        Ok((self.id(), request))
    }
}
