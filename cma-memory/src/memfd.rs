//! Ordinary memory: a file of its own for each chunk.

use crate::addresses::{Addresses, ReservedRange};
use crate::label;
use crate::mapping::Mapping;
use crate::sealed::SealedFile;
use cma_framework::memory::{Backing, Claim, Contiguity, LastingFile, Memory, Piece, Store};
use cma_framework::reserve::{ReserveError, ReserveRequest, Reserved, Reserver};
use cma_framework::{MemoryError, Pages};
use rustix::fs::MemfdFlags;
use std::os::fd::{AsFd, OwnedFd};

/// Gives regions ordinary memory, at addresses of a board's banks.
///
/// A region takes no memory until a chunk of it is mapped or shared, and written to. Each chunk is
/// a sealed file of its own in memory, so it starts as zero, and a process that gets it reaches no
/// other chunk.
///
/// ```
/// use cma_framework::Cma;
/// use cma_framework::config::{Bank, Growth};
/// use cma_framework::loader::Plugin;
/// use cma_framework::reserve::Banks;
/// use cma_memory::Memfd;
///
/// let cma = Cma::new();
/// cma.command_line(Some("frames=64M"), Some("*=frames"))?;
/// let banks = Banks::new(&[Bank::new(0x4000_0000, 1 << 30)], Growth::Up);
/// cma.early_regions_reserve(&mut Memfd::new(banks));
/// cma.initialise();
/// cma.allocator_register(Plugin::built_in::<cma_best_fit::BestFit>())?;
///
/// let mut frame = cma.alloc("camera", None, 3_133_440, 64 << 10)?.map()?;
/// frame[..4].copy_from_slice(b"NV12");
/// assert_eq!(frame.len(), frame.chunk().size() as usize);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Memfd(Addresses);

impl Memfd {
    /// Regions at addresses of `addresses`, which may be [`Banks`](cma_framework::reserve::Banks).
    pub fn new(addresses: impl Into<Addresses>) -> Self {
        Memfd(addresses.into())
    }
}

impl Memfd {
    /// The region of that name at these addresses.
    pub(crate) fn region(name: Option<&str>, addresses: ReservedRange) -> Box<dyn Memory> {
        Box::new(MemfdRegion { label: label(name), addresses })
    }
}

impl Reserver for Memfd {
    fn reserve(&mut self, request: &ReserveRequest) -> Result<Reserved, ReserveError> {
        let addresses = self.0.reserve(request)?;
        let range = addresses.range;
        let memory = Memfd::region(request.name.as_deref(), addresses);
        Ok(Reserved { range, memory: Some(memory) })
    }
}

/// A region that makes the memory of each chunk separately.
#[derive(Debug)]
struct MemfdRegion {
    label: String,
    addresses: ReservedRange,
}

// SAFETY: each store has a file of its own; one that is restored is in no other use. Claims for
// other addresses are refused.
unsafe impl Memory for MemfdRegion {
    fn backing(&self) -> Backing {
        Backing { kind: "memfd", contiguity: Contiguity::No, granule: Pages::new(1) }
    }

    fn store(&self, claim: Claim) -> Result<Box<dyn Store>, MemoryError> {
        let range = claim.range();
        if !range.within(self.addresses.range) {
            return Err(MemoryError::Elsewhere { range });
        }
        let len = range.bytes();
        let file = SealedFile::create(&self.label, len, MemfdFlags::empty())?;
        Ok(Box::new(ChunkFile { file, len, mapping: None }))
    }

    fn restore(&self, claim: Claim, files: Vec<OwnedFd>) -> Result<Box<dyn Store>, MemoryError> {
        let range = claim.range();
        if !range.within(self.addresses.range) {
            return Err(MemoryError::Elsewhere { range });
        }
        let refused = |reason: String| MemoryError::NotRestored { range, reason };
        let [file] = <[OwnedFd; 1]>::try_from(files)
            .map_err(|files| refused(format!("it takes 1 file, and {} are given", files.len())))?;
        let len = range.bytes();
        let file = SealedFile::restored(file, &self.label, len, None).map_err(refused)?;
        Ok(Box::new(ChunkFile { file, len, mapping: None }))
    }
}

/// A chunk's memory.
#[derive(Debug)]
struct ChunkFile {
    file: SealedFile,
    len: u64,
    mapping: Option<Mapping>,
}

impl Store for ChunkFile {
    fn map(&mut self) -> Result<(), MemoryError> {
        if self.mapping.is_none() {
            self.mapping = Some(Mapping::of(&self.file, self.len as usize)?);
        }
        Ok(())
    }

    fn bytes(&self) -> &[u8] {
        match &self.mapping {
            // SAFETY: the file's size is sealed. The file is this chunk's alone, and the framework
            // borrows bytes only of chunks that are not shared.
            Some(mapping) => unsafe { mapping.bytes(0..mapping.len()) },
            None => &[],
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match &self.mapping {
            // SAFETY: as above, and `self` is borrowed exclusively.
            Some(mapping) => unsafe { mapping.bytes_mut(0..mapping.len()) },
            None => &mut [],
        }
    }

    fn pieces(&self) -> Result<usize, MemoryError> {
        Ok(1)
    }

    fn piece(&self, _index: usize) -> Result<Piece<'_>, MemoryError> {
        Ok(Piece::new(self.file.reopen()?, 0, self.len))
    }

    fn held(&self) -> bool {
        !self.file.is_exclusive()
    }

    fn lasting(&self) -> Result<Vec<LastingFile<'_>>, MemoryError> {
        Ok(vec![LastingFile { file: self.file.as_fd(), pinned: Vec::new() }])
    }
}
