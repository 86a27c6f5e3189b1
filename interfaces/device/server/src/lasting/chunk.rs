//! The record of a chunk, and its files with the keeper.

use super::names::Stored;
use super::records::{Records, monotonic_now};
use crate::error_reply::ErrorReply;
use cma_framework::memory::LastingFile;
use cma_framework::{DmaAddr, SharingRequest};
use cma_journal::{Change, Chunk, ConnectionNumber, Limits, Process, Record, RecordId, Span};
use rustix::io::Errno;
use std::sync::Arc;

/// A chunk that outlives the server.
#[derive(Debug)]
pub(crate) struct RecordedChunk {
    records: Arc<Records>,
    id: RecordId,
    chunk: Chunk,
    /// The number of its files with the keeper.
    files: usize,
}

/// The files of a chunk that the keeper has, and that no record has yet. The keeper closes them
/// when this is dropped.
pub(crate) struct KeptFiles<'r> {
    records: &'r Arc<Records>,
    start: u64,
    files: usize,
}

impl<'r> KeptFiles<'r> {
    /// Stores the files of a chunk's memory with the keeper, which pins what this process has
    /// pinned of them.
    pub(crate) fn of(
        records: &'r Arc<Records>,
        start: u64,
        files: Vec<LastingFile<'_>>,
    ) -> Result<Self, ErrorReply> {
        let mut kept = KeptFiles { records, start, files: 0 };
        for (index, LastingFile { file, pinned }) in files.into_iter().enumerate() {
            let stored = Stored::Chunk(start, index);
            records.keep(stored, file)?;
            kept.files += 1;
            pinned.into_iter().for_each(|part| records.pin(stored, part));
        }
        Ok(kept)
    }

    /// The chunk of these files, which has this record now.
    pub(crate) fn recorded(mut self, id: RecordId, chunk: Chunk) -> RecordedChunk {
        let files = std::mem::take(&mut self.files);
        RecordedChunk { records: self.records.clone(), id, chunk, files }
    }
}

impl Drop for KeptFiles<'_> {
    fn drop(&mut self) {
        (0..self.files).for_each(|file| self.records.release(Stored::Chunk(self.start, file)));
    }
}

/// What is recorded of a chunk.
pub(crate) fn record_of(
    start: u64,
    size: u64,
    request: &SharingRequest,
    connection: ConnectionNumber,
    file: Option<u128>,
) -> Result<Chunk, ErrorReply> {
    let range = Span::new(start, size);
    let range = range.ok_or_else(|| ErrorReply::new(Errno::IO, "the chunk has no place"))?;
    let (wanted, holder) = (request.wanted(), request.holder());
    let process = &holder.process;
    Ok(Chunk {
        range,
        request: Limits {
            size: wanted.size.0,
            alignment: wanted.alignment.0,
            above: wanted.above.map(DmaAddr::get),
            below: wanted.below.map(DmaAddr::get),
            boundary: wanted.boundary.map(|bytes| bytes.0),
            at: wanted.at.map(DmaAddr::get),
        },
        device: holder.device.as_ref().map(|(device, kind)| (device.to_string(), kind.to_string())),
        process: Process { uid: process.uid, pid: process.pid, name: process.name.to_string() },
        since: monotonic_now(),
        connection: Some(connection),
        file,
    })
}

impl RecordedChunk {
    /// A chunk that a server before this one recorded.
    pub(crate) fn of_earlier(
        records: Arc<Records>,
        id: RecordId,
        chunk: Chunk,
        files: usize,
    ) -> Self {
        RecordedChunk { records, id, chunk, files }
    }

    /// The connection that has it; `None` if it was left behind.
    pub(crate) fn connection(&self) -> Option<u64> {
        self.chunk.connection.map(|number| number.0)
    }

    /// The number of the open file whose chunk it is.
    pub(crate) fn file(&self) -> Option<u128> {
        self.chunk.file
    }

    /// User and process of its request.
    pub(crate) fn requester(&self) -> (u32, u32) {
        (self.chunk.process.uid, self.chunk.process.pid)
    }

    /// Has `change` remove the record.
    pub(crate) fn remove_in(&self, change: &mut Change) {
        change.remove(self.id);
    }

    /// Has `change` record the same chunk without a connection.
    pub(crate) fn leave_behind_in(&self, change: &mut Change) {
        let chunk = Chunk { connection: None, file: None, ..self.chunk.clone() };
        change.remove(self.id).put(Record::Chunk(chunk));
    }

    /// The same chunk, which has been left behind, and has this record since then.
    pub(crate) fn left_behind(self, id: RecordId) -> Self {
        RecordedChunk { id, ..self }
    }

    /// Has the keeper close the files. The chunk has no record any more.
    pub(crate) fn release(self) {
        let start = self.chunk.range.start();
        (0..self.files).for_each(|file| self.records.release(Stored::Chunk(start, file)));
    }

    /// Ends the record, and then the files with the keeper. The place of the chunk is free for
    /// others only after that.
    pub(crate) fn end(self) {
        let mut change = Change::new();
        self.remove_in(&mut change);
        match self.records.commit(&change) {
            Ok(_) => self.release(),
            // Nothing is added, so the journal has room.
            Err(error) => crate::log::emit(|| {
                tracing::error!(error = error.reason, "the end of a chunk is not recorded");
            }),
        }
    }
}
