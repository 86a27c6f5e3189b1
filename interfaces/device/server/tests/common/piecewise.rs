//! Memory in many pieces, as huge pages can be: a file for each 64 KiB.

use super::banks;
use cma_framework::memory::{Backing, Claim, Contiguity, Memory, MemoryError, Piece, Store};
use cma_framework::reserve::{Banks, ReserveError, ReserveRequest, Reserved, Reserver};
use cma_framework::{Alignment, Pages};
use rustix::fs::{
    MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create, open,
};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The size of a piece in bytes.
pub const PIECE: u64 = 64 << 10;

/// A reserver whose regions have such memory.
pub struct PiecewiseMemory {
    banks: Banks,
    /// Number of pieces that were opened for clients.
    pub opened: Arc<AtomicUsize>,
}

impl PiecewiseMemory {
    pub fn new() -> Self {
        PiecewiseMemory { banks: banks(), opened: Arc::default() }
    }
}

impl Reserver for PiecewiseMemory {
    fn reserve(&mut self, request: &ReserveRequest) -> Result<Reserved, ReserveError> {
        let alignment = Alignment::new(PIECE).unwrap().max(request.alignment);
        let range = self.banks.place(&ReserveRequest { alignment, ..request.clone() })?;
        Ok(Reserved { range, memory: Some(Box::new(PiecewiseRegion(self.opened.clone()))) })
    }
}

#[derive(Debug)]
struct PiecewiseRegion(Arc<AtomicUsize>);

// SAFETY: each store has its own files.
unsafe impl Memory for PiecewiseRegion {
    fn backing(&self) -> Backing {
        Backing { kind: "pieces", contiguity: Contiguity::No, granule: Pages::covering(PIECE) }
    }

    fn store(&self, claim: Claim) -> Result<Box<dyn Store>, MemoryError> {
        let range = claim.range();
        assert!(
            range.start().get().is_multiple_of(PIECE) && range.bytes().is_multiple_of(PIECE),
            "{range}"
        );
        let files = (0..range.bytes() / PIECE).map(|_| file()).collect();
        Ok(Box::new(PieceFiles { files, opened: self.0.clone() }))
    }
}

#[derive(Debug)]
struct PieceFiles {
    files: Vec<OwnedFd>,
    opened: Arc<AtomicUsize>,
}

fn file() -> OwnedFd {
    let file = memfd_create("piece", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&file, PIECE).unwrap();
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).unwrap();
    again(&file)
}

fn again(file: &OwnedFd) -> OwnedFd {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

impl Store for PieceFiles {
    fn map(&mut self) -> Result<(), MemoryError> {
        unreachable!("a server maps no chunk")
    }

    fn bytes(&self) -> &[u8] {
        &[]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut []
    }

    fn pieces(&self) -> Result<usize, MemoryError> {
        Ok(self.files.len())
    }

    fn piece(&self, index: usize) -> Result<Piece<'_>, MemoryError> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        Ok(Piece::new(again(&self.files[index]), 0, PIECE))
    }

    fn held(&self) -> bool {
        // The kernel grants a lease only on a file that no other process has open.
        let lease = |file: &OwnedFd, kind: libc::c_int| {
            // SAFETY: the command takes an integer and touches no memory.
            unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) == 0 }
        };
        !self.files.iter().all(|file| lease(file, libc::F_WRLCK) && lease(file, libc::F_UNLCK))
    }
}
