//! A chunk as a process beside its owner sees it.

use crate::machine::Window;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The memory of a chunk, through a descriptor of a program that has it. As long as this exists,
/// the chunk is not freed.
pub(crate) struct Seen {
    file: String,
    window: Window,
    offset: usize,
    inode: u64,
}

impl Seen {
    /// The `bytes` at `offset` of a file of a process, as `/proc/PID/fd/FD`.
    pub(crate) fn of(file: &str, offset: usize, bytes: usize) -> Seen {
        let open = File::options().read(true).write(true).open(file);
        let open = open.unwrap_or_else(|error| panic!("{file}: {error}"));
        let inode = open.metadata().unwrap().ino();
        let window = Window::onto(open, (offset + bytes) as u64);
        Seen { file: file.to_string(), window, offset, inode }
    }

    /// The path by which any process of this user opens it.
    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    /// The folder in `/proc` of the process whose file it is.
    pub(crate) fn process(&self) -> &Path {
        Path::new(&self.file).ancestors().nth(2).unwrap()
    }

    /// The number of the file's inode.
    pub(crate) fn inode(&self) -> u64 {
        self.inode
    }

    pub(crate) fn read(&self, at: usize, len: usize) -> Vec<u8> {
        (at..at + len).map(|at| self.window.read(self.offset + at)).collect()
    }

    pub(crate) fn write(&self, at: usize, bytes: &[u8]) {
        for (index, byte) in bytes.iter().enumerate() {
            self.window.write(self.offset + at + index, *byte);
        }
    }
}

/// FNV-1a of 64 bits (RFC 9923), over `bytes` after those that gave `hash`.
pub(crate) fn hashed(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

pub(crate) const EMPTY_HASH: u64 = 0xcbf2_9ce4_8422_2325;
