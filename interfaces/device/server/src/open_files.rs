//! The chunks of open files, by file number.
//!
//! An open file of the preload library is shared by processes that don't know of each other. None
//! of them keeps a connection on which another could receive its answers: each query is made on a
//! new connection and names the file by its number. The chunk belongs to the connection that
//! allocated it. The file itself keeps that connection open, so it ends with the last reference to
//! the file.

use crate::error_reply::ErrorReply;
use crate::lease::Lease;
use parking_lot::Mutex;
use rustix::io::Errno;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// A file's chunk; `None` until it is allocated.
type FileChunk = Arc<Mutex<Option<Lease>>>;

/// All open files that have a chunk or whose chunk is being allocated.
#[derive(Debug, Default)]
pub(crate) struct OpenFiles {
    chunks: Mutex<HashMap<u128, FileChunk>>,
}

/// A file's number, reserved until this is dropped.
#[derive(Debug)]
pub(crate) struct OpenFile {
    files: Arc<OpenFiles>,
    number: u128,
    chunk: FileChunk,
}

impl OpenFiles {
    /// Reserves `number` before its chunk is allocated.
    ///
    /// # Errors
    ///
    /// `EBADFD` when the file has a chunk, `EBUSY` when another request is allocating one.
    pub(crate) fn reserve(self: &Arc<Self>, number: u128) -> Result<OpenFile, ErrorReply> {
        match self.chunks.lock().entry(number) {
            // A locked entry has a chunk, which a query is reading. Waiting for the query here
            // would block the whole table.
            Entry::Occupied(entry)
                if entry.get().try_lock().is_none_or(|chunk| chunk.is_some()) =>
            {
                Err(ErrorReply::has_chunk())
            }
            Entry::Occupied(_) => Err(ErrorReply::new(
                Errno::BUSY,
                "another request is allocating a chunk for this file; try again",
            )),
            Entry::Vacant(entry) => {
                let chunk = FileChunk::default();
                entry.insert(chunk.clone());
                Ok(OpenFile { files: self.clone(), number, chunk })
            }
        }
    }

    /// Calls `read` with a file's chunk, which isn't freed meanwhile.
    ///
    /// # Errors
    ///
    /// `EBADFD` when the file has no chunk, or the error of `read`.
    pub(crate) fn with_chunk<T>(
        &self,
        number: u128,
        read: impl FnOnce(&Lease) -> Result<T, ErrorReply>,
    ) -> Result<T, ErrorReply> {
        let chunk = self.chunks.lock().get(&number).cloned();
        let chunk = chunk.as_ref().ok_or_else(ErrorReply::no_chunk)?.lock();
        read(chunk.as_ref().ok_or_else(ErrorReply::no_chunk)?)
    }
}

impl OpenFile {
    pub(crate) fn number(&self) -> u128 {
        self.number
    }

    /// Makes `lease` the file's chunk.
    pub(crate) fn set_chunk(&self, lease: Lease) {
        *self.chunk.lock() = Some(lease);
    }

    /// Closes the file. Returns its chunk, which no other connection can query any more.
    pub(crate) fn close(self) -> Option<Lease> {
        self.chunk.lock().take()
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.files.chunks.lock().remove(&self.number);
    }
}
