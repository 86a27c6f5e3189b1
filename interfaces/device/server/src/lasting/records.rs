//! The keeper and the journal of a running server.

use super::keeper::AnyKeeper;
use super::names::Stored;
use crate::error_reply::ErrorReply;
use crate::log;
use cma_journal::{
    Change, Configuration, FileError, Journal, MAX_SLOTS, Record, RecordId, Words, create_file,
    words_for,
};
use cma_keeper::KeeperError;
use parking_lot::Mutex;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The memory of a journal: a mapping, or what a test has in its place.
pub type JournalWords = Box<dyn Words + Send>;

/// Maps the file of a journal.
pub(super) type MapFile = Box<dyn Fn(BorrowedFd<'_>) -> Result<JournalWords, FileError> + Send>;

/// The keeper and the journal. Both locks are held for one operation each. Together they are held
/// only while the journal grows: that of the journal is taken first.
pub(crate) struct Records {
    keeper: Mutex<Box<dyn AnyKeeper>>,
    journal: Mutex<CurrentJournal>,
    /// The place of the next request that waits among all of them.
    next_order: AtomicU64,
    /// Whether the keeper has ended. Nothing outlives the server from then on.
    is_alone: AtomicBool,
    /// Whether it was reported that the keeper can't pin memory.
    has_reported_pins: AtomicBool,
    /// The records of texts that were written to attributes, by path.
    written: Mutex<BTreeMap<String, RecordId>>,
    /// What the keeper has besides connections, chunks and the journal.
    fixed: Vec<Stored>,
}

/// The journal, and what it takes to replace it by a larger one.
pub(super) struct CurrentJournal {
    pub(super) journal: Journal<JournalWords>,
    /// The number of its file.
    pub(super) number: u32,
    pub(super) map: MapFile,
    /// The number of regions.
    pub(super) regions: usize,
}

/// Slots of a journal for each connection: its chunk or its request that waits, its last answer,
/// and one more.
const SLOTS_OF_CONNECTION: u64 = 3;

/// Slots of a journal for what doesn't depend on the number of connections.
const FURTHER_SLOTS: u64 = 512;

/// The slots of a journal for that many connections and regions.
pub(super) fn slots_for(connections: u64, regions: usize) -> u32 {
    SLOTS_OF_CONNECTION
        .saturating_mul(connections)
        .saturating_add(2 * regions as u64 + FURTHER_SLOTS)
        .min(u64::from(MAX_SLOTS)) as u32
}

impl Records {
    pub(super) fn new(
        keeper: Box<dyn AnyKeeper>,
        journal: CurrentJournal,
        next_order: u64,
        written: BTreeMap<String, RecordId>,
        fixed: Vec<Stored>,
    ) -> Self {
        Records {
            keeper: Mutex::new(keeper),
            journal: Mutex::new(journal),
            next_order: AtomicU64::new(next_order),
            is_alone: AtomicBool::new(false),
            has_reported_pins: AtomicBool::new(false),
            written: Mutex::new(written),
            fixed,
        }
    }

    /// Stores a descriptor with the keeper.
    ///
    /// # Errors
    ///
    /// For the client whose request needs it. Nothing is stored then.
    pub(crate) fn keep(
        &self,
        stored: Stored,
        descriptor: BorrowedFd<'_>,
    ) -> Result<(), ErrorReply> {
        if self.is_alone() {
            return Ok(());
        }
        let name = stored.name();
        let put = self.keeper.lock().put(&name, descriptor);
        put.or_else(|error| self.unless_ended(error)).map_err(|error| {
            let errno = match error {
                KeeperError::Refused(errno) | KeeperError::System { errno, .. } => errno,
                KeeperError::Full { .. } => Errno::MFILE,
                _ => Errno::IO,
            };
            let reason = format!("the server can't have {name} outlive it: {error}");
            ErrorReply::new(errno, reason)
        })
    }

    /// Has the keeper pin a part, in bytes, of a file that it has. Where it can't, the memory is
    /// used nevertheless: the next server verifies where it is.
    pub(crate) fn pin(&self, stored: Stored, part: Range<u64>) {
        if self.is_alone() {
            return;
        }
        let pinned = self.keeper.lock().pin(&stored.name(), part.start, part.end - part.start);
        match pinned.or_else(|error| self.unless_ended(error)) {
            // The documentation of the service says so.
            Ok(()) | Err(KeeperError::CanNotPin) => {}
            Err(error) if !self.has_reported_pins.swap(true, Ordering::Relaxed) => {
                log::emit(|| {
                    tracing::warn!(
                        %error,
                        "the keeper doesn't pin the memory of a chunk: while no server runs, the \
                         kernel may move it; further cases are not reported"
                    );
                });
            }
            Err(_) => {}
        }
    }

    /// The most descriptors that the keeper holds, if it has a limit.
    pub(crate) fn room(&self) -> Option<usize> {
        self.keeper.lock().room()
    }

    /// Has the keeper close a descriptor.
    pub(crate) fn release(&self, stored: Stored) {
        if self.is_alone() {
            return;
        }
        let name = stored.name();
        let removed = self.keeper.lock().remove(&name);
        if let Err(error) = removed.or_else(|error| self.unless_ended(error)) {
            // The next server closes it, because no record has it.
            log::emit(|| tracing::error!(%name, %error, "the keeper didn't close a descriptor"));
        }
    }

    /// Goes on without the keeper if that has ended. Returns other errors.
    fn unless_ended(&self, error: KeeperError) -> Result<(), KeeperError> {
        if error != KeeperError::Ended {
            return Err(error);
        }
        self.set_alone();
        Ok(())
    }

    /// Goes on without the keeper, which has ended.
    pub(crate) fn set_alone(&self) {
        if !self.is_alone.swap(true, Ordering::Relaxed) {
            log::emit(|| {
                tracing::error!(
                    "the keeper has ended: the server goes on, and nothing outlives it any more; \
                     start both anew when the clients have ended"
                );
            });
        }
    }

    /// Whether the keeper has ended.
    pub(crate) fn is_alone(&self) -> bool {
        self.is_alone.load(Ordering::Relaxed)
    }

    /// Records a change. Returns the ids of the added records.
    ///
    /// # Errors
    ///
    /// `ENOMEM` for the client whose request needs it. Nothing is recorded then.
    pub(crate) fn commit(&self, change: &Change) -> Result<Vec<RecordId>, ErrorReply> {
        self.journal.lock().journal.commit(change).map_err(|error| {
            let reason = format!("the server can't record this request: {error}");
            ErrorReply::new(Errno::NOMEM, reason)
        })
    }

    /// Makes room for the records of that many connections: a larger journal replaces this one. A
    /// server that finds both can continue either, because nothing is recorded meanwhile.
    ///
    /// # Errors
    ///
    /// The journal is as it was.
    pub(crate) fn make_room(&self, connections: u64) -> Result<(), String> {
        fn text(error: impl fmt::Display) -> String {
            error.to_string()
        }
        let mut current = self.journal.lock();
        let slots = slots_for(connections, current.regions);
        let has_room =
            words_for(slots).is_some_and(|needed| needed <= current.journal.words().len());
        if has_room || self.is_alone() {
            return Ok(());
        }
        let file = create_file(slots).map_err(text)?;
        let words = (current.map)(file.as_fd()).map_err(text)?;
        let journal = current.journal.copied_to(words).map_err(text)?;
        let number = current.number.saturating_add(1);
        self.keep(Stored::Journal(number), file.as_fd()).map_err(|error| error.reason)?;
        let old = std::mem::replace(&mut current.number, number);
        current.journal = journal;
        self.release(Stored::Journal(old));
        Ok(())
    }

    /// Records a text that was written to the attribute at `path`, in place of the one before.
    pub(crate) fn written(&self, path: &str, text: &str) {
        let mut written = self.written.lock();
        let mut change = Change::new();
        let (name, text) = (path.to_string(), text.to_string());
        change.put(Record::Configuration(Configuration { name, text }));
        if let Some(id) = written.get(path) {
            change.remove(*id);
        }
        match self.commit(&change) {
            Ok(ids) => written.extend(ids.first().map(|id| (path.to_string(), *id))),
            Err(error) => log::emit(|| {
                let error = error.reason;
                tracing::error!(
                    path,
                    error,
                    "a text is in force, but the next server won't have it"
                );
            }),
        }
    }

    /// Removes the record of what was written to the attribute at `path`.
    pub(crate) fn forget_written(&self, path: &str) {
        let mut written = self.written.lock();
        let Some(id) = written.remove(path) else { return };
        let mut change = Change::new();
        change.remove(id);
        if let Err(error) = self.commit(&change) {
            log::emit(|| tracing::error!(path, error = error.reason, "a text is still recorded"));
        }
    }

    /// Has the keeper close what is not of a client: the server ends, and nothing of it is left.
    pub(crate) fn end(&self) {
        self.fixed.iter().for_each(|stored| self.release(*stored));
        let number = self.journal.lock().number;
        self.release(Stored::Journal(number));
    }

    /// The place of a request that begins to wait.
    pub(crate) fn next_order(&self) -> u64 {
        self.next_order.fetch_add(1, Ordering::Relaxed)
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("is_alone", &self.is_alone()).finish_non_exhaustive()
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds. It goes on over the end of a server.
pub(crate) fn monotonic_now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
