//! The server's answers.

use crate::bytes::{Reader, Writer};
use crate::malformed::Malformed;
use crate::message::Message;
use arrayvec::ArrayVec;

const REFUSED: u16 = 0x8000;
const CHUNK: u16 = 0x8001;
const FREED: u16 = 0x8002;
const INFO: u16 = 0x8003;
const LISTED: u16 = 0x8004;
const TEXT: u16 = 0x8005;

/// The most [`Extent`]s in one answer.
pub const MAX_EXTENTS: usize = 18;

/// The most [`ListedChunk`]s in one answer.
pub const MAX_LISTED: usize = 15;

/// The longest text that an [`Answer::Text`] describes, in bytes.
pub const MAX_ATTRIBUTE_BYTES: u64 = 64 << 20;

/// An answer of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<'m> {
    /// The request is refused. Nothing has changed.
    Refused {
        /// The errno of the specification.
        errno: i32,
        /// The reason, for people.
        reason: &'m str,
    },
    /// The chunk of the connection or open file. The message brings as many descriptors as the
    /// extents count.
    Chunk(ChunkAnswer),
    /// The connection's chunk is freed.
    Freed,
    /// The totals of the regions.
    Info(InfoAnswer),
    /// Chunks of the client's user, and whether more of them follow.
    Listed(ArrayVec<ListedChunk, MAX_LISTED>, bool),
    /// The text of an attribute, or the list of a folder. The message brings one descriptor: a
    /// sealed file that begins with the text.
    Text(TextAnswer),
}

/// A text in a file of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextAnswer {
    /// Its length in bytes, at most [`MAX_ATTRIBUTE_BYTES`].
    pub bytes: u64,
    /// Whether the path is a folder: then the text has a line for each of its entries, `name` for
    /// an attribute, `name/` for a folder and `name -> target` for a link. No name contains white
    /// space or `/`.
    pub is_folder: bool,
}

/// The chunk of a connection or open file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkAnswer {
    /// The lowest address, as the device sees it.
    pub start: u64,
    /// The size in bytes.
    pub size: u64,
    /// The unit of mappings in bytes: they start and end at multiples of it. 0 when the chunk has
    /// addresses but no memory.
    pub granule: u64,
    /// The number of pieces that make up the memory, when the answer brings descriptors; else 0.
    pub pieces: u64,
    /// The number of the first piece in this answer.
    pub first: u64,
    /// The places of this answer's pieces in their files.
    pub extents: ArrayVec<Extent, MAX_EXTENTS>,
}

/// The places of `count` consecutive pieces, each in a file of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The number of pieces.
    pub count: u64,
    /// The offset of each piece in its file, in bytes.
    pub offset: u64,
    /// The length of each piece in bytes.
    pub len: u64,
}

/// The totals of the regions that may serve a request, as the framework's `DeviceInfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InfoAnswer {
    /// The number of the lowest page of any region.
    pub first_page: u64,
    /// The number of pages from there to the end of the highest region.
    pub span_pages: u64,
    /// The sum of the regions' sizes in bytes.
    pub total_bytes: u64,
    /// The sum of the regions' free space in bytes.
    pub free_bytes: u64,
    /// The number of regions.
    pub regions: u64,
    /// The unit of the sizes of their chunks, in bytes.
    pub granule_bytes: u64,
}

/// A chunk in the list of a user's chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedChunk {
    /// Its number; later chunks have higher ones.
    pub number: u64,
    /// The lowest address, as the device sees it.
    pub start: u64,
    /// The size in bytes.
    pub size: u64,
    /// The process that allocated it; 0 if the server can't see that process.
    pub pid: u32,
    /// Whether its connection is closed while a process still holds its memory.
    pub left_behind: bool,
}

impl Message {
    /// A refusal. A reason that doesn't fit is truncated.
    pub fn refusal(id: u64, errno: i32, reason: &str) -> Message {
        let mut message = Message::empty(REFUSED, id);
        let body = &mut Writer::new(message.body());
        // An errno is between 1 and 4095.
        body.u32(errno as u32);
        let reason = &reason[..reason.floor_char_boundary(body.remaining() - 2)];
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
            Answer::Text(_) => TEXT,
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
            Answer::Text(text) => {
                body.u64(text.bytes);
                body.u32(text.is_folder.into());
            }
        }
        message
    }

    /// Decodes an answer, with the id of the request.
    ///
    /// # Errors
    ///
    /// [`Malformed`].
    pub fn as_answer(&self) -> Result<(u64, Answer<'_>), Malformed> {
        let (kind, mut body) = self.open()?;
        let answer = match kind {
            REFUSED => {
                let (errno, length) = (body.u32()?, body.u16()?);
                // The kernel's errnos end at 4095. A client must not pass another number to its
                // program.
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
            TEXT => {
                let (bytes, is_folder) = (body.u64()?, body.flag()?);
                if bytes > MAX_ATTRIBUTE_BYTES {
                    return Err(Malformed::Count);
                }
                Answer::Text(TextAnswer { bytes, is_folder })
            }
            kind => return Err(Malformed::Kind { kind }),
        };
        body.end()?;
        Ok((self.id(), answer))
    }
}

/// Reads `count` items, if at most `N` of them.
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
