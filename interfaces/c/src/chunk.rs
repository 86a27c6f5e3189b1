//! Chunks, of a server or of a host.

use crate::border::{Grows, border, place, write_struct};
use crate::failure::Failure;
use crate::handles::{Loan, Object, Table};
use crate::memory::{Memory, Piece, placed};
use crate::remote::RemoteChunk;
use cma_framework::Chunk;
use rustix::fd::IntoRawFd;
use std::ffi::{c_int, c_void};
use std::mem::{MaybeUninit, offset_of};
use std::ptr;

/// A live chunk.
///
/// Any thread may use it. Two calls at once with the same chunk are safe; one of them may fail with
/// -EBUSY while the other maps, shares or frees it. A chunk of a server belongs to the process that
/// allocated it: after a fork, the child may use the mapping and descriptors of it, no handle.
pub struct cma_chunk(());

/// What a handle of a chunk is for.
#[derive(Debug)]
pub(crate) enum ChunkObject {
    /// A chunk of a host whose memory was not used.
    Placed(Chunk),
    WithMemory(Box<Memory>),
}

impl Object for cma_chunk {
    type Value = ChunkObject;
    const KIND: u8 = 1;
    const NAME: &'static str = "chunk";

    fn table() -> &'static Table<Self> {
        static CHUNKS: Table<cma_chunk> = Table::new();
        &CHUNKS
    }
}

impl From<RemoteChunk> for ChunkObject {
    fn from(chunk: RemoteChunk) -> Self {
        ChunkObject::WithMemory(Box::new(Memory::remote(chunk)))
    }
}

/// Gives the program a handle of a new chunk. If there is no handle left, the chunk is freed.
#[inline(always)]
pub(crate) fn hand_over(
    made: Result<impl Into<ChunkObject>, impl Into<Failure>>,
    to: &mut MaybeUninit<*mut cma_chunk>,
) -> Result<(), Failure> {
    if let Err(error) = made {
        return Err(error.into());
    }
    // The chunk is moved once: when its place is known.
    let place = cma_chunk::table().vacant()?;
    if let Ok(chunk) = made {
        to.write(place.fill(chunk.into()));
    }
    Ok(())
}

impl From<Chunk> for ChunkObject {
    #[inline]
    fn from(chunk: Chunk) -> Self {
        ChunkObject::Placed(chunk)
    }
}

/// Uses the memory of a chunk.
fn with_memory<R>(
    chunk: *mut cma_chunk,
    use_it: impl FnOnce(&mut Memory) -> Result<R, Failure>,
) -> Result<R, Failure> {
    let loan = cma_chunk::table().borrow(chunk).map_err(Failure::handle::<cma_chunk>)?;
    loan.change(|object| {
        let mut memory = match object {
            ChunkObject::WithMemory(memory) => memory,
            ChunkObject::Placed(chunk) => match Memory::of(chunk) {
                Ok(memory) => Box::new(memory),
                Err((chunk, failure)) => return (Some(ChunkObject::Placed(chunk)), Err(failure)),
            },
        };
        let result = use_it(&mut memory);
        (Some(ChunkObject::WithMemory(memory)), result)
    })
}

/// Place and memory of a chunk. Set "size" before the call.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct cma_chunk_info {
    /// sizeof(struct cma_chunk_info).
    pub size: u32,
    /// 1 if the chunk has memory, 0 if it has addresses alone.
    pub has_memory: u32,
    /// The lowest address, as the device sees it. A chunk of a host moves at the first call that
    /// uses its memory if a process still holds memory of its place, so read the address after it.
    pub start: u64,
    /// The size in bytes: the requested one, rounded up.
    pub bytes: u64,
    /// The unit in which the region's memory is shared, in bytes; 0 without memory.
    pub granule_bytes: u64,
}

// SAFETY: numbers, the size first.
unsafe impl Grows for cma_chunk_info {
    const NAME: &'static str = "cma_chunk_info";
    const LEAST: usize = offset_of!(cma_chunk_info, bytes);
}

/// A piece of a chunk's memory: "bytes" bytes at "offset" of a file. Set "size" before the call.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct cma_piece {
    /// sizeof(struct cma_piece).
    pub size: u32,
    /// A new descriptor of the file. The caller closes it. It is closed by exec.
    pub fd: c_int,
    /// The offset in the file, in bytes.
    pub offset: u64,
    /// The length in bytes.
    pub bytes: u64,
}

// SAFETY: numbers, the size first.
unsafe impl Grows for cma_piece {
    const NAME: &'static str = "cma_piece";
    const LEAST: usize = size_of::<cma_piece>();
}

/// Reads place and kind of a chunk.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cma_chunk_info(chunk: *mut cma_chunk, info: *mut cma_chunk_info) -> c_int {
    border("cma_chunk_info", || {
        let read = || {
            let place = cma_chunk::table().with(chunk, |object| match object {
                ChunkObject::Placed(chunk) => placed(chunk),
                ChunkObject::WithMemory(memory) => memory.place(),
            });
            let (start, bytes, granule_bytes) = place.map_err(Failure::handle::<cma_chunk>)?;
            let has_memory = u32::from(granule_bytes > 0);
            Ok(cma_chunk_info { size: 0, has_memory, start, bytes, granule_bytes })
        };
        // SAFETY: a structure of the caller.
        unsafe { write_struct(info, read) }
    })
}

/// Maps the whole chunk for reading and writing, also if it consists of several pieces. The memory
/// of a new chunk is zero. A chunk is mapped once: later calls return the same address. The mapping
/// ends when the chunk is unmapped or freed. -ENODEV or -EINVAL if the chunk has addresses alone.
#[unsafe(no_mangle)]
pub extern "C" fn cma_chunk_map(
    chunk: *mut cma_chunk,
    address: Option<&mut MaybeUninit<*mut c_void>>,
) -> c_int {
    border("cma_chunk_map", || {
        let out = place(address, "address")?;
        out.write(ptr::null_mut());
        out.write(with_memory(chunk, Memory::map)?);
        Ok(())
    })
}

/// Unmaps the chunk. The content stays. Nothing may use the address any more. Does nothing if the
/// chunk is not mapped.
#[unsafe(no_mangle)]
pub extern "C" fn cma_chunk_unmap(chunk: *mut cma_chunk) -> c_int {
    border("cma_chunk_unmap", || {
        let mut object = cma_chunk::table().borrow(chunk).map_err(Failure::handle::<cma_chunk>)?;
        if let ChunkObject::WithMemory(memory) = &mut *object {
            memory.unmap();
        }
        Ok(())
    })
}

/// One descriptor for the whole chunk, for another process, an mmap of the program's own, or a
/// registration with a driver. The chunk begins at byte "offset" of the file; "offset" may be NULL
/// for a caller that takes only chunks that begin at 0, and gets -EOPNOTSUPP else. The caller
/// closes the descriptor; exec does, too. -EOPNOTSUPP if the chunk consists of several pieces.
///
/// The memory may be used through the descriptor, and by those who got it, after the chunk is
/// freed; its address is not theirs any more then.
#[unsafe(no_mangle)]
pub extern "C" fn cma_chunk_descriptor(
    chunk: *mut cma_chunk,
    fd: Option<&mut MaybeUninit<c_int>>,
    offset: Option<&mut MaybeUninit<u64>>,
) -> c_int {
    border("cma_chunk_descriptor", || {
        let fd = place(fd, "descriptor")?;
        fd.write(-1);
        let piece = with_memory(chunk, |memory| match memory.pieces()? {
            1 => memory.piece(0),
            pieces => Err(Failure::new(
                libc::EOPNOTSUPP,
                format!("the chunk consists of {pieces} pieces: use cma_chunk_piece"),
            )),
        })?;
        match offset {
            Some(offset) => {
                offset.write(piece.offset);
            }
            None if piece.offset != 0 => {
                let text = format!("the chunk begins at byte {} of its file", piece.offset);
                return Err(Failure::new(libc::EOPNOTSUPP, text));
            }
            None => {}
        }
        fd.write(piece.file.into_raw_fd());
        Ok(())
    })
}

/// The number of pieces that make up the chunk's memory.
#[unsafe(no_mangle)]
pub extern "C" fn cma_chunk_piece_count(
    chunk: *mut cma_chunk,
    count: Option<&mut MaybeUninit<u64>>,
) -> c_int {
    border("cma_chunk_piece_count", || {
        place(count, "count")?.write(with_memory(chunk, Memory::pieces)?);
        Ok(())
    })
}

/// Piece number "index" of the chunk, from 0 on in the order of addresses. -EINVAL if there is none
/// of that number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cma_chunk_piece(
    chunk: *mut cma_chunk,
    index: u64,
    piece: *mut cma_piece,
) -> c_int {
    border("cma_chunk_piece", || {
        let open = || {
            let Piece { file, offset, bytes } = with_memory(chunk, |memory| {
                let count = memory.pieces()?;
                if index >= count {
                    let text = format!("there is no piece {index}; the chunk has {count}");
                    return Err(Failure::invalid(text));
                }
                memory.piece(index)
            })?;
            Ok(cma_piece { size: 0, fd: file.into_raw_fd(), offset, bytes })
        };
        // SAFETY: a structure of the caller.
        unsafe { write_struct(piece, open) }
    })
}

#[cold]
fn free_with_memory(chunk: Loan<cma_chunk>) {
    chunk.change(|object| {
        if let ChunkObject::WithMemory(mut memory) = object {
            memory.free();
        }
        (None, ())
    });
}

/// Unmaps and frees the chunk, and ends the handle. For a chunk of a server the call returns when
/// the server has answered. If another process still holds memory of the chunk, or this one has a
/// descriptor or a mapping of its own, a server frees the chunk when nobody has any more; a host
/// frees it at once, and the next chunk there gets another place.
///
/// -EINVAL for a handle that is none, -EBUSY while another call uses the chunk. Otherwise 0.
#[unsafe(no_mangle)]
pub extern "C" fn cma_chunk_free(chunk: *mut cma_chunk) -> c_int {
    border("cma_chunk_free", || {
        let object = cma_chunk::table().borrow(chunk).map_err(Failure::handle::<cma_chunk>)?;
        match &*object {
            ChunkObject::Placed(_) => object.end(),
            ChunkObject::WithMemory(_) => free_with_memory(object),
        }
        Ok(())
    })
}
