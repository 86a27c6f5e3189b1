//! A chunk that programs inherit.

use crate::machine::{self, Machine, banks, skipped};
use cma_framework::reserve::Reserver;
use cma_framework::{Cma, SharedChunk};
use cma_memory::{Hugetlb, Memfd, SharedBytes, map_shared};
use rustix::io::{FdFlags, fcntl_setfd};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

/// A chunk, its bytes as its owner sees them, and its files, which started programs inherit.
pub(crate) struct TestChunk {
    pub(crate) bytes: SharedBytes,
    files: Vec<(OwnedFd, u64)>,
    // Freed after nothing here has its memory any more.
    pub(crate) shared: SharedChunk,
    pub(crate) cma: Cma,
    // Restored after the region's pages have returned to the pool.
    _machine: Option<Machine>,
}

impl TestChunk {
    /// A chunk of ordinary memory, in one file.
    pub(crate) fn of_memfd(size: u64) -> TestChunk {
        TestChunk::new(size, &mut Memfd::new(banks()), None)
    }

    /// A chunk of huge pages. `None`, and a message, when the machine has too few.
    pub(crate) fn of_huge_pages(size: u64) -> Option<TestChunk> {
        let machine = Machine::with_huge_pages(size / machine::HUGE)?;
        Some(TestChunk::new(size, &mut Hugetlb::new(banks()), Some(machine)))
    }

    fn new(size: u64, reserver: &mut dyn Reserver, machine: Option<Machine>) -> TestChunk {
        let cma = machine::boot(&format!("real={size}"), reserver);
        let shared = cma.alloc("program", None, size, 0).unwrap().share().unwrap();
        let bytes = map_shared(&shared).unwrap();
        let files = shared.pieces().unwrap().map(|piece| {
            let piece = piece.unwrap();
            assert_eq!(piece.offset, 0);
            let (len, file) = (piece.len, piece.into_file());
            fcntl_setfd(&file, FdFlags::empty()).unwrap();
            (file, len)
        });
        let files = files.collect();
        TestChunk { bytes, files, shared, cma, _machine: machine }
    }

    /// Its files for a program: `FD:LENGTH` each.
    pub(crate) fn arguments(&self) -> Vec<String> {
        self.files.iter().map(|(file, len)| format!("{}:{len}", file.as_raw_fd())).collect()
    }

    /// The number of its only file. `None`, and a message, when it is in several.
    pub(crate) fn descriptor(&self) -> Option<i32> {
        match &self.files[..] {
            [(file, _)] => Some(file.as_raw_fd()),
            files => {
                skipped(&format!("the chunk is in {} files, and this takes one", files.len()));
                None
            }
        }
    }

    /// The number of the inode of its first file.
    pub(crate) fn inode(&self) -> u64 {
        File::from(self.files[0].0.try_clone().unwrap()).metadata().unwrap().ino()
    }

    /// The owner's view of a part.
    pub(crate) fn read(&self, offset: usize, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.bytes.read(offset, &mut bytes);
        bytes
    }

    /// Frees it, which takes that no program has its memory any more.
    pub(crate) fn free(self) {
        let TestChunk { bytes, files, shared, cma, _machine } = self;
        let size = bytes.len() as u64;
        drop((bytes, files));
        drop(shared.reclaim().expect("no process has the chunk's memory"));
        assert_eq!(cma.info("program", None).unwrap().free_bytes, size);
    }
}

/// FNV-1a of 64 bits (RFC 9923), over `bytes` after those that gave `hash`.
pub(crate) fn hashed(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

pub(crate) const EMPTY_HASH: u64 = 0xcbf2_9ce4_8422_2325;
