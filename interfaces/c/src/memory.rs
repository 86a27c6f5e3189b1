//! The memory of a chunk: descriptors of its pieces, and its mapping in this process.
//!
//! C programs get addresses, not slices, and other processes may have the memory too. So every
//! chunk is mapped shared, from the files that other processes get.

use crate::failure::Failure;
use crate::remote::RemoteChunk;
use cma_client::pieces::{MapArguments, PieceBatch, map};
use cma_device_protocol::wire::Descriptors;
use cma_device_protocol::{ChunkAnswer, Extent, MAX_DESCRIPTORS};
use cma_framework::{Chunk, MappedChunk, MemoryError, SharedChunk};
use rustix::fd::OwnedFd;
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::mm::{MapFlags, ProtFlags, munmap};
use std::ffi::c_void;
use std::ptr;

/// A chunk whose memory was used.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Dropped before the chunk.
    mapping: Option<Mapping>,
    chunk: Backed,
}

/// Where the memory comes from.
#[derive(Debug)]
enum Backed {
    Remote(RemoteChunk),
    Shared(SharedChunk),
    /// A chunk of a host that doesn't consist of whole pieces: it can't be shared.
    Private(MappedChunk),
}

/// A piece of memory as a new descriptor.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) file: OwnedFd,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

impl Memory {
    pub(crate) fn remote(chunk: RemoteChunk) -> Self {
        Memory { mapping: None, chunk: Backed::Remote(chunk) }
    }

    /// The memory of a host's chunk. If there is none, the chunk is as before.
    pub(crate) fn of(chunk: Chunk) -> Result<Self, (Chunk, Failure)> {
        let failed = |error: cma_framework::memory::NotMapped| (error.chunk, error.error.into());
        let shared = chunk.share().map_err(failed)?;
        let error = match shared.pieces() {
            Ok(_) => return Ok(Memory { mapping: None, chunk: Backed::Shared(shared) }),
            Err(error) => error,
        };
        match (error, shared.reclaim()) {
            (MemoryError::Granule { .. }, Ok(chunk)) => {
                let mapped = chunk.map().map_err(failed)?;
                Ok(Memory { mapping: None, chunk: Backed::Private(mapped) })
            }
            (error, Ok(chunk)) => Err((chunk, error.into())),
            // No descriptor was given away.
            (_, Err(shared)) => Ok(Memory { mapping: None, chunk: Backed::Shared(shared) }),
        }
    }

    /// Lowest address, size in bytes, and unit of sharing; 0 without memory.
    pub(crate) fn place(&self) -> (u64, u64, u64) {
        match &self.chunk {
            Backed::Remote(chunk) => (chunk.start, chunk.bytes, chunk.granule),
            Backed::Shared(shared) => placed(shared.chunk()),
            Backed::Private(mapped) => placed(mapped.chunk()),
        }
    }

    /// The address of the chunk's memory in this process.
    pub(crate) fn map(&mut self) -> Result<*mut c_void, Failure> {
        if let Backed::Private(mapped) = &mut self.chunk {
            return Ok(mapped.as_mut_ptr().cast());
        }
        if let Some(mapping) = &self.mapping {
            return Ok(mapping.base());
        }
        let (_, bytes, _) = self.place();
        let mapping = Mapping::new(bytes, |first| self.chunk.take_batch(first))?;
        Ok(self.mapping.insert(mapping).base())
    }

    /// Ends the mapping, if there is one. That of a private chunk ends with it.
    pub(crate) fn unmap(&mut self) {
        self.mapping = None;
    }

    /// The number of pieces.
    pub(crate) fn pieces(&mut self) -> Result<u64, Failure> {
        match &mut self.chunk {
            Backed::Remote(chunk) if chunk.granule == 0 => Err(cma_client::Error::Simulated.into()),
            Backed::Remote(chunk) => Ok(chunk.pieces),
            Backed::Shared(shared) => Ok(shared.pieces()?.len() as u64),
            Backed::Private(mapped) => Err(private(mapped)),
        }
    }

    /// Piece number `index`, which exists.
    pub(crate) fn piece(&mut self, index: u64) -> Result<Piece, Failure> {
        match &mut self.chunk {
            Backed::Remote(chunk) => {
                let batch = chunk.batch(index)?;
                let piece = batch.pieces().nth((index - batch.chunk().first) as usize);
                let piece = piece.ok_or_else(|| Failure::invalid("there is no such piece"))?;
                let file = fcntl_dupfd_cloexec(piece.file, 0)
                    .map_err(|errno| Failure::system("fcntl(F_DUPFD_CLOEXEC)", &errno.into()))?;
                Ok(Piece { file, offset: piece.offset, bytes: piece.len })
            }
            Backed::Shared(shared) => {
                let piece = shared.pieces()?.nth(usize::try_from(index).unwrap_or(usize::MAX));
                let piece = piece.ok_or_else(|| Failure::invalid("there is no such piece"))??;
                let (offset, bytes) = (piece.offset, piece.len);
                // The caller keeps the handle as long as the memory is the chunk's alone.
                Ok(Piece { file: piece.into_file(), offset, bytes })
            }
            Backed::Private(mapped) => Err(private(mapped)),
        }
    }

    /// Unmaps the chunk, and frees it if it is a server's. A host's is freed when it is dropped.
    pub(crate) fn free(&mut self) {
        self.unmap();
        if let Backed::Remote(chunk) = &mut self.chunk {
            chunk.free();
        }
    }
}

/// Place and unit of sharing of a host's chunk.
pub(crate) fn placed(chunk: &Chunk) -> (u64, u64, u64) {
    let backing = chunk.region().backing();
    (chunk.start().get(), chunk.size(), backing.map_or(0, |backing| backing.granule.bytes()))
}

fn private(mapped: &MappedChunk) -> Failure {
    let (start, bytes, granule) = placed(mapped.chunk());
    Failure::invalid(format!(
        "the chunk at {start:#x} of {bytes} bytes can't be given to another process: its region's \
         memory is shared in units of {granule} bytes; request it with CMA_REQUEST_SHARE"
    ))
}

impl Backed {
    fn take_batch(&mut self, first: u64) -> Result<PieceBatch, Failure> {
        match self {
            Backed::Remote(chunk) => chunk.take_batch(first),
            Backed::Shared(shared) => local_batch(shared, first),
            Backed::Private(mapped) => Err(private(mapped)),
        }
    }
}

/// The pieces of a host's chunk from number `first` on, as a server would send them.
fn local_batch(shared: &SharedChunk, first: u64) -> Result<PieceBatch, Failure> {
    let pieces = shared.pieces()?;
    let (count, (start, size, granule)) = (pieces.len() as u64, placed(shared.chunk()));
    let mut answer =
        ChunkAnswer { start, size, granule, pieces: count, first, extents: Default::default() };
    let mut descriptors = Descriptors::new();
    for piece in pieces.skip(usize::try_from(first).unwrap_or(usize::MAX)).take(MAX_DESCRIPTORS) {
        let piece = piece?;
        let (offset, len) = (piece.offset, piece.len);
        let is_full = answer.extents.is_full();
        match answer.extents.last_mut() {
            Some(last) if (last.offset, last.len) == (offset, len) => last.count += 1,
            _ if is_full => break,
            _ => answer.extents.push(Extent { count: 1, offset, len }),
        }
        descriptors.push(piece.into_file());
    }
    PieceBatch::new(answer, descriptors, first)
        .map_err(|error| cma_client::Error::from(error).into())
}

/// A chunk's memory in this process.
#[derive(Debug)]
struct Mapping {
    /// Its address. A number: what the program has there is its own.
    base: usize,
    bytes: usize,
}

impl Mapping {
    /// Maps `bytes` bytes whose pieces `fetch` returns, from a number on.
    fn new(
        bytes: u64,
        mut fetch: impl FnMut(u64) -> Result<PieceBatch, Failure>,
    ) -> Result<Self, Failure> {
        let failed = |errno: Errno| Failure::system("mmap", &errno.into());
        let len = usize::try_from(bytes).map_err(|_| failed(Errno::NOMEM))?;
        let whole = MapArguments {
            address: ptr::null_mut(),
            len,
            protection: ProtFlags::READ | ProtFlags::WRITE,
            flags: MapFlags::SHARED,
            offset: 0,
        };
        let mut not_fetched = None;
        let first = fetch(0)?;
        let fetch = |first| {
            fetch(first).map_err(|failure| {
                not_fetched = Some(failure);
                Errno::IO
            })
        };
        // SAFETY: the kernel chooses the address.
        match unsafe { map(first, fetch, &whole) } {
            Ok(base) => Ok(Mapping { base: base.expose_provenance(), bytes: len }),
            Err(errno) => Err(not_fetched.unwrap_or_else(|| failed(errno))),
        }
    }

    fn base(&self) -> *mut c_void {
        ptr::with_exposed_provenance_mut(self.base)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped here, and nothing in this process but the program's own pointers
        // leads there: it has freed or unmapped the chunk.
        let _ = unsafe { munmap(self.base(), self.bytes) };
    }
}
