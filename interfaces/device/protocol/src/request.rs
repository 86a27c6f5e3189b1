//! What a client asks.

use crate::bytes::{Reader, Writer};
use crate::malformed::{HEAD, MESSAGE_BYTES, Malformed};
use crate::message::Message;

const ALLOC: u16 = 1;
const FREE: u16 = 2;
const CHUNK: u16 = 3;
const INFO: u16 = 4;
const LIST: u16 = 5;
const ALLOC_FILE: u16 = 6;
const CHUNK_OF_FILE: u16 = 7;

/// The longest text of a request, in bytes: device and type together, or a list of regions.
pub const MAX_TEXT: usize = MESSAGE_BYTES - HEAD - SOURCE_HEAD - 24;

/// What stands before the text of a [`RegionSelector`].
const SOURCE_HEAD: usize = 8;

/// How much less text a [`Request::AllocFile`] has room for: the file's number, in place of two
/// numbers of a [`Request::Alloc`].
const FILE_TEXT_LESS: usize = 8;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'m> {
    /// A chunk for this connection, which must have none. The answer is
    /// [`Answer::Chunk`](crate::Answer::Chunk).
    Alloc {
        /// Where it may come from.
        from: RegionSelector<'m>,
        /// The size in bytes.
        size: u64,
        /// The alignment in bytes; 0 for a page.
        alignment: u64,
        /// Whether the answer is to bring the first descriptors of its memory.
        memory: bool,
    },
    /// That the connection's chunk is freed. The answer is [`Answer::Freed`](crate::Answer::Freed).
    Free,
    /// What chunk the connection has, and the descriptors of its memory from piece number `first`
    /// on. The answer is [`Answer::Chunk`](crate::Answer::Chunk).
    Chunk {
        /// The number of the first piece that is wanted.
        first: u64,
    },
    /// What the regions amount to. The answer is [`Answer::Info`](crate::Answer::Info).
    Info(RegionSelector<'m>),
    /// The chunks of the client's user, in the order of their numbers. The answer is
    /// [`Answer::Listed`](crate::Answer::Listed).
    List {
        /// Only those with a higher number; 0 for all.
        after: u64,
    },
    /// A chunk for an open file: the connection keeps it, and every connection that knows the
    /// file's number may ask for it with [`Request::ChunkOfFile`]. The answer is
    /// [`Answer::Chunk`](crate::Answer::Chunk), without memory.
    AllocFile {
        /// The file's number: random, because whoever knows it gets the memory.
        file: u128,
        /// Where the chunk may come from; the names have room for 8 bytes less than [`MAX_TEXT`].
        from: RegionSelector<'m>,
        /// The size in bytes.
        size: u64,
        /// The alignment in bytes; 0 for a page.
        alignment: u64,
    },
    /// What chunk an open file has, and the descriptors of its memory from piece number `first` on.
    /// The answer is [`Answer::Chunk`](crate::Answer::Chunk).
    ChunkOfFile {
        /// The file's number.
        file: u128,
        /// The number of the first piece that is wanted.
        first: u64,
    },
}

/// Which regions are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionSelector<'m> {
    /// Those that the map has for a device and a type.
    Device {
        /// The device's name.
        device: &'m str,
        /// The type; empty for `common`.
        kind: &'m str,
    },
    /// Those of a list of names, separated by commas.
    Regions(&'m str),
}

/// A text that is longer than a message has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the names have {bytes} bytes; the request has room for {room}")]
pub struct NamesTooLong {
    /// Its length in bytes.
    pub bytes: usize,
    /// The room for it, in bytes.
    pub room: usize,
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
        // Both are no longer than `MAX_TEXT`.
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
    /// A request. The answer will have the same `id`.
    ///
    /// # Errors
    ///
    /// [`NamesTooLong`] when the names don't fit.
    pub fn request(id: u64, request: &Request<'_>) -> Result<Message, NamesTooLong> {
        let text = match request {
            Request::Alloc { from, .. } | Request::Info(from) => Some((from.bytes(), MAX_TEXT)),
            Request::AllocFile { from, .. } => Some((from.bytes(), MAX_TEXT - FILE_TEXT_LESS)),
            _ => None,
        };
        if let Some((bytes, room)) = text
            && bytes > room
        {
            return Err(NamesTooLong { bytes, room });
        }
        let kind = match request {
            Request::Alloc { .. } => ALLOC,
            Request::Free => FREE,
            Request::Chunk { .. } => CHUNK,
            Request::Info(_) => INFO,
            Request::List { .. } => LIST,
            Request::AllocFile { .. } => ALLOC_FILE,
            Request::ChunkOfFile { .. } => CHUNK_OF_FILE,
        };
        let mut message = Message::empty(kind, id);
        let body = &mut Writer::new(message.body());
        match request {
            Request::Alloc { from, size, alignment, memory } => {
                body.u64(*size);
                body.u64(*alignment);
                body.u32((*memory).into());
                body.u32(0);
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
        }
        Ok(message)
    }

    /// The request that this is, with its id.
    ///
    /// # Errors
    ///
    /// [`Malformed`].
    pub fn as_request(&self) -> Result<(u64, Request<'_>), Malformed> {
        let (kind, mut body) = self.open()?;
        let request = match kind {
            ALLOC => {
                let (size, alignment, memory) = (body.u64()?, body.u64()?, body.flag()?);
                if body.u32()? != 0 {
                    return Err(Malformed::LeftOver);
                }
                Request::Alloc { from: RegionSelector::read(&mut body)?, size, alignment, memory }
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
            kind => return Err(Malformed::Kind { kind }),
        };
        body.end()?;
        Ok((self.id(), request))
    }
}
