//! The chunks of open files, by the files' numbers.
//!
//! An open file of the preload library is shared by processes that don't know of each other. None
//! of them keeps a connection that another could read from. Each question is asked on a connection
//! of its own, with the file's number. The chunk belongs to the connection that allocated it. The
//! file itself holds that connection open, so it ends with the last reference to the file.

use crate::lease::Lease;
use crate::refusal::Refusal;
use parking_lot::Mutex;
use rustix::io::Errno;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// A file's chunk; `None` until it is allocated.
type Slot = Arc<Mutex<Option<Lease>>>;

/// All open files that have a chunk or are about to have one.
#[derive(Debug, Default)]
pub(crate) struct Files {
    slots: Mutex<HashMap<u128, Slot>>,
}

/// A file's number in use, until this is dropped.
#[derive(Debug)]
pub(crate) struct OpenFile {
    files: Arc<Files>,
    number: u128,
    slot: Slot,
}

impl Files {
    /// Reserves `number` for a chunk that is about to be allocated.
    ///
    /// # Errors
    ///
    /// `EBADFD` when the file has a chunk, `EBUSY` when another request is allocating one.
    pub(crate) fn claim(self: &Arc<Self>, number: u128) -> Result<OpenFile, Refusal> {
        match self.slots.lock().entry(number) {
            // A slot that is locked is one whose chunk is asked about. Nobody waits for that under
            // this lock.
            Entry::Occupied(slot) if slot.get().try_lock().is_none_or(|chunk| chunk.is_some()) => {
                Err(Refusal::has_chunk())
            }
            Entry::Occupied(_) => Err(Refusal::new(
                Errno::BUSY,
                "another request allocates a chunk for this file; ask again",
            )),
            Entry::Vacant(place) => {
                let slot = Slot::default();
                place.insert(slot.clone());
                Ok(OpenFile { files: self.clone(), number, slot })
            }
        }
    }

    /// What `answer` says of a file's chunk, which isn't freed meanwhile.
    ///
    /// # Errors
    ///
    /// `EBADFD` when the file has none, or what `answer` says.
    pub(crate) fn chunk<T>(
        &self,
        number: u128,
        answer: impl FnOnce(&Lease) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let slot = self.slots.lock().get(&number).cloned();
        let slot = slot.as_ref().ok_or_else(Refusal::no_chunk)?.lock();
        answer(slot.as_ref().ok_or_else(Refusal::no_chunk)?)
    }
}

impl OpenFile {
    /// Gives the file its chunk.
    pub(crate) fn put(&self, lease: Lease) {
        *self.slot.lock() = Some(lease);
    }

    /// The file's chunk, which no other connection finds any more.
    pub(crate) fn close(self) -> Option<Lease> {
        self.slot.lock().take()
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.files.slots.lock().remove(&self.number);
    }
}
