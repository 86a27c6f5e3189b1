//! What the server answers.

use crate::bytes::{Reader, Writer};
use crate::malformed::Malformed;
use crate::message::Message;
use arrayvec::ArrayVec;

const REFUSED: u16 = 0x8000;
const CHUNK: u16 = 0x8001;
const FREED: u16 = 0x8002;
const INFO: u16 = 0x8003;
const LISTED: u16 = 0x8004;

/// How many [`Extent`]s an answer has room for.
pub const MAX_EXTENTS: usize = 18;

/// How many [`ListedChunk`] chunks an answer has room for.
pub const MAX_LISTED: usize = 15;

/// What the server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<'m> {
    /// No. Nothing has changed.
    Refused {
        /// The errno of the specification.
        errno: i32,
        /// Why, for people.
        reason: &'m str,
    },
    /// The connection's chunk. As many descriptors as its extents say come beside it.
    Chunk(ChunkAnswer),
    /// The connection's chunk is freed.
    Freed,
    /// What the regions amount to.
    Info(InfoAnswer),
    /// Chunks of the client's user, and whether there are more behind them.
    Listed(ArrayVec<ListedChunk, MAX_LISTED>, bool),
}

/// A connection's chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkAnswer {
    /// The lowest address, as the device sees it.
    pub start: u64,
    /// The size in bytes.
    pub size: u64,
    /// What mappings of it have to start and end at multiples of, in bytes; 0 when there are
    /// addresses and no memory.
    pub granule: u64,
    /// Of how many pieces the memory is, when the answer brings descriptors; else 0.
    pub pieces: u64,
    /// The number of the first piece that the answer brings.
    pub first: u64,
    /// Where in their files the pieces are that it brings.
    pub extents: ArrayVec<Extent, MAX_EXTENTS>,
}

/// Where pieces of memory are in their files: `count` pieces one behind the other, each of a file
/// of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// How many.
    pub count: u64,
    /// Where in its file each starts, in bytes.
    pub offset: u64,
    /// How long each is, in bytes.
    pub len: u64,
}

/// What the regions open to a device amount to, as the framework's `Info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InfoAnswer {
    /// The number of the lowest page of any of them.
    pub first_page: u64,
    /// How many pages it is from there to the end of the highest.
    pub span_pages: u64,
    /// Their sizes in bytes, together.
    pub total_bytes: u64,
    /// Their free space in bytes, together.
    pub free_bytes: u64,
    /// How many they are.
    pub regions: u64,
    /// What the sizes of their chunks are multiples of, in bytes.
    pub granule_bytes: u64,
}

/// A chunk among those of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedChunk {
    /// Its number; a later chunk has a higher one.
    pub number: u64,
    /// The lowest address, as the device sees it.
    pub start: u64,
    /// The size in bytes.
    pub size: u64,
    /// The process that asked for it; 0 for one that the server can't see.
    pub pid: u32,
    /// Whether its connection is gone and somebody still holds its memory.
    pub left_behind: bool,
}

impl Message {
    /// A refusal. Words that don't fit are cut.
    pub fn refusal(id: u64, errno: i32, reason: &str) -> Message {
        let mut message = Message::empty(REFUSED, id);
        let body = &mut Writer::new(message.body());
        // An errno is a small number above 0.
        body.u32(errno as u32);
        let reason = &reason[..reason.floor_char_boundary(body.room() - 2)];
        body.u16(reason.len() as u16);
        body.text(reason);
        message
    }

    /// An answer to the request with that id.
    pub fn answer(id: u64, answer: &Answer<'_>) -> Message {
        let kind = match answer {
            Answer::Refused { errno, reason } => return Message::refusal(id, *errno, reason),
            Answer::Chunk(_) => CHUNK,
            Answer::Freed => FREED,
            Answer::Info(_) => INFO,
            Answer::Listed(..) => LISTED,
        };
        let mut message = Message::empty(kind, id);
        let body = &mut Writer::new(message.body());
        match answer {
            Answer::Refused { .. } | Answer::Freed => {}
            Answer::Chunk(chunk) => {
                body.u64s([chunk.start, chunk.size, chunk.granule, chunk.pieces, chunk.first]);
                body.u64(chunk.extents.len() as u64);
                for extent in &chunk.extents {
                    body.u64s([extent.count, extent.offset, extent.len]);
                }
            }
            Answer::Info(info) => {
                let InfoAnswer {
                    first_page,
                    span_pages,
                    total_bytes,
                    free_bytes,
                    regions,
                    granule_bytes,
                } = *info;
                body.u64s([
                    first_page,
                    span_pages,
                    total_bytes,
                    free_bytes,
                    regions,
                    granule_bytes,
                ]);
            }
            Answer::Listed(chunks, more) => {
                body.u32((*more).into());
                body.u32(chunks.len() as u32);
                for chunk in chunks {
                    body.u64s([chunk.number, chunk.start, chunk.size]);
                    body.u32(chunk.pid);
                    body.u32(chunk.left_behind.into());
                }
            }
        }
        message
    }

    /// The answer that this is, with the id of the request.
    ///
    /// # Errors
    ///
    /// [`Malformed`].
    pub fn as_answer(&self) -> Result<(u64, Answer<'_>), Malformed> {
        let (kind, mut body) = self.open()?;
        let answer = match kind {
            REFUSED => {
                let (errno, length) = (body.u32()?, body.u16()?);
                // The kernel's errnos end at 4095; a program is never told anything else.
                let errno = i32::try_from(errno).ok().filter(|errno| (1..4096).contains(errno));
                Answer::Refused {
                    errno: errno.ok_or(Malformed::Count)?,
                    reason: body.text(length)?,
                }
            }
            CHUNK => {
                let [start, size, granule, pieces, first, count] = body.u64s()?;
                let extents = several(&mut body, count, |body| {
                    let [count, offset, len] = body.u64s()?;
                    Ok(Extent { count, offset, len })
                })?;
                Answer::Chunk(ChunkAnswer { start, size, granule, pieces, first, extents })
            }
            FREED => Answer::Freed,
            INFO => {
                let [first_page, span_pages, total_bytes, free_bytes, regions, granule_bytes] =
                    body.u64s()?;
                Answer::Info(InfoAnswer {
                    first_page,
                    span_pages,
                    total_bytes,
                    free_bytes,
                    regions,
                    granule_bytes,
                })
            }
            LISTED => {
                let (more, count) = (body.flag()?, body.u32()?);
                let chunks = several(&mut body, count.into(), |body| {
                    let [number, start, size] = body.u64s()?;
                    Ok(ListedChunk {
                        number,
                        start,
                        size,
                        pid: body.u32()?,
                        left_behind: body.flag()?,
                    })
                })?;
                Answer::Listed(chunks, more)
            }
            kind => return Err(Malformed::Kind { kind }),
        };
        body.end()?;
        Ok((self.id(), answer))
    }
}

/// `count` things, if there can be so many.
fn several<'m, T, const N: usize>(
    body: &mut Reader<'m>,
    count: u64,
    mut one: impl FnMut(&mut Reader<'m>) -> Result<T, Malformed>,
) -> Result<ArrayVec<T, N>, Malformed> {
    if count > N as u64 {
        return Err(Malformed::Count);
    }
    (0..count).map(|_| one(body)).collect()
}
