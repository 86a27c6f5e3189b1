//! Chunks that this process maps while other processes have them.

use cma_framework::{MemoryError, SharedChunk};
use cma_shared::{FilePart, MapError, SharedBytes};

/// Why a shared chunk can't be mapped. Nothing is mapped then.
#[derive(Debug, thiserror::Error)]
pub enum MapSharedError {
    /// Its files can't be opened.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Its files can't be mapped.
    #[error(transparent)]
    Map(#[from] MapError),
}

/// The bytes of a chunk that other processes have, or get, too.
///
/// The mapping keeps the memory and not the chunk. While it exists,
/// [`reclaim`](SharedChunk::reclaim) returns the chunk unchanged, as when another process has a
/// mapping. When the chunk is dropped, it is freed at once, the mapping remains valid, and the next
/// chunk at its place gets other memory.
///
/// ```
/// # use cma_framework::Cma;
/// # use std::sync::atomic::Ordering;
/// # fn capture(cma: &Cma) -> Result<(), Box<dyn std::error::Error>> {
/// let ring = cma.alloc("camera", None, 16 << 20, 0)?.share()?;
/// let (head, frames) = cma_memory::map_shared(&ring)?.split_at(4096);
/// let head = head.into_words();
/// for file in ring.pieces()? {
///     // to another process
/// #   let _ = file;
/// }
/// frames.write(0, b"NV12");
/// head[0].store(1, Ordering::Release);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`MapSharedError`].
pub fn map_shared(chunk: &SharedChunk) -> Result<SharedBytes, MapSharedError> {
    let parts = chunk.pieces()?.map(|piece| {
        let piece = piece?;
        let (offset, len) = (piece.offset, piece.len);
        Ok::<_, MapSharedError>(FilePart { file: piece, offset, len })
    });
    SharedBytes::map(chunk.chunk().range().bytes(), parts)
}
