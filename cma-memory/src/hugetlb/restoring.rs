//! What a restored region of huge pages knows of its restoring (`restore`), and reports of it.

use cma_framework::memory::Contiguity;
use cma_framework::{DmaAddr, MemoryError};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The delays before the pool is searched again for pages that are not there. The kernel unpins the
/// pages of a process that was killed some milliseconds after its end, on a busy machine some
/// hundred.
pub(super) const UNPINNING: [Duration; 7] = [
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(40),
    Duration::from_millis(80),
    Duration::from_millis(160),
    Duration::from_millis(320),
    Duration::from_millis(640),
];

/// The time after the begin of a restoring in which the process before may still have pages pinned.
const UNPINNED_WITHIN: Duration = Duration::from_secs(5);

/// The state of a region's restoring; the default is that of a region that was made here.
#[derive(Debug, Default)]
pub(super) struct Restoring {
    /// Whether chunks can be restored. Locked while one is, and while the region settles.
    open: Mutex<bool>,
    /// Whether the region differs from one that was made here, so that `notes` are looked up.
    is_special: AtomicBool,
    notes: Mutex<Notes>,
    /// When it began.
    begun: Option<Instant>,
}

/// What is different from a region that was made here. Its lock is taken last.
#[derive(Debug, Default)]
struct Notes {
    /// Whether the region has not settled.
    unsettled: bool,
    /// Why some pages are not pinned.
    unpinned: Option<String>,
    /// Where pages of chunks are instead of their addresses.
    moved: BTreeMap<usize, Moved>,
}

/// A page that the kernel moved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moved {
    /// Its address.
    pub(super) from: DmaAddr,
    /// Where it is.
    pub(super) to: DmaAddr,
}

impl Restoring {
    /// Of a region that is restored, with no chunk yet.
    pub(super) fn begun() -> Self {
        let notes = Notes { unsettled: true, ..Notes::default() };
        let is_special = AtomicBool::new(true);
        let begun = Some(Instant::now());
        Restoring { open: Mutex::new(true), is_special, notes: Mutex::new(notes), begun }
    }

    /// The delays before the pool is searched again for a page that did not return to it: none if
    /// the process that had the region before can't be the reason any more.
    pub(super) fn delays(&self) -> impl Iterator<Item = Duration> {
        let is_recent = self.begun.is_some_and(|begun| begun.elapsed() < UNPINNED_WITHIN);
        UNPINNING.into_iter().filter(move |_| is_recent)
    }

    /// Locked while a chunk is restored, and while the region settles. True before it settles.
    pub(super) fn open(&self) -> MutexGuard<'_, bool> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the region differs from one that was made here.
    pub(super) fn is_special(&self) -> bool {
        self.is_special.load(Ordering::Acquire)
    }

    /// The contiguity of a region whose addresses are known and whose pages are pinned.
    pub(super) fn contiguity(&self) -> Contiguity {
        if !self.is_special() {
            return Contiguity::Verified;
        }
        let notes = self.notes();
        if let Some((index, Moved { from, to })) = notes.moved.first_key_value() {
            let others = match notes.moved.len() - 1 {
                0 => String::new(),
                others => format!(", and {others} more moved"),
            };
            return Contiguity::Moved(format!(
                "huge page {index}, at {from}, is at {to} now{others}"
            ));
        }
        match &notes.unpinned {
            Some(why) => Contiguity::Movable(why.clone()),
            None => Contiguity::Verified,
        }
    }

    /// Notes that page `index` came out of the pool and is at its address.
    pub(super) fn page_returned(&self, index: usize) {
        if self.is_special() {
            self.note(|notes| notes.moved.remove(&index));
        }
    }

    /// Notes that page `index`, which a chunk has, is not at its address.
    pub(super) fn page_moved(&self, index: usize, moved: Moved) {
        self.note(|notes| notes.moved.insert(index, moved));
    }

    /// Notes why a page is not pinned.
    pub(super) fn not_pinned(&self, why: &MemoryError) {
        self.note(|notes| {
            notes.unpinned.get_or_insert_with(|| why.to_string());
        });
    }

    /// Notes that each free page was searched.
    pub(super) fn settled(&self) {
        self.note(|notes| notes.unsettled = false);
    }

    fn note<T>(&self, change: impl FnOnce(&mut Notes) -> T) -> T {
        let mut notes = self.notes();
        let changed = change(&mut notes);
        let Notes { unsettled, unpinned, moved } = &*notes;
        let is_special = *unsettled || unpinned.is_some() || !moved.is_empty();
        self.is_special.store(is_special, Ordering::Release);
        changed
    }
}
