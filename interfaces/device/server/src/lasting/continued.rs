//! The journal that a server continues: that of the server before it, or a new one with the same
//! records.

use super::error::RecoverError;
use super::found::FoundJournal;
use super::records::JournalWords;
use cma_framework::{AllocatorState, Region};
use cma_journal::{
    Change, Chunk, FileError, Journal, OpenError, Record, RecordId, Span, Version, create_file,
    words_for,
};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The most records that are removed in one change.
const MAX_REMOVED: usize = 1000;

/// The journal that goes on.
pub(super) struct Continued {
    pub(super) journal: Journal<JournalWords>,
    /// The number of its file.
    pub(super) number: u32,
    /// Its file, if it is a new journal.
    pub(super) file: Option<OwnedFd>,
    pub(super) ids: Ids,
}

/// The ids of records in the journal that goes on, by those in the one before. They are the same if
/// that goes on.
pub(super) struct Ids(Option<BTreeMap<RecordId, RecordId>>);

impl Ids {
    /// `None` for a record that has ended.
    pub(super) fn now(&self, id: RecordId) -> Option<RecordId> {
        match &self.0 {
            Some(ids) => ids.get(&id).copied(),
            None => Some(id),
        }
    }
}

impl Continued {
    /// Continues a journal, or makes a new one of its records, except for those that have `ended`,
    /// if it is damaged, too small or of another version. The number of a new one is that after the
    /// `newest`.
    pub(super) fn of(
        found: Option<FoundJournal>,
        newest: Option<u32>,
        slots: u32,
        ended: &BTreeSet<RecordId>,
        map: &dyn Fn(BorrowedFd<'_>) -> Result<JournalWords, FileError>,
    ) -> Result<Self, RecoverError> {
        let mut kept = Vec::new();
        if let Some(FoundJournal { number, words, read }) = found {
            let has_room = words_for(slots).is_some_and(|needed| needed <= words.len());
            if has_room {
                match Journal::open(words) {
                    Ok((journal, _)) => {
                        return Ok(Continued { journal, number, file: None, ids: Ids(None) });
                    }
                    Err(OpenError::Read(_) | OpenError::Older(_) | OpenError::Damaged(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let records = read.map(|contents| contents.records).unwrap_or_default();
            kept = records.into_iter().filter(|(id, _)| !ended.contains(id)).collect();
        }
        let number = newest.map_or(1, |newest| newest.saturating_add(1));
        let file = create_file(slots)?;
        let (old, records): (Vec<_>, Vec<_>) = kept.into_iter().unzip();
        let (journal, new) = Journal::create_with(map(file.as_fd())?, Version::CURRENT, records)?;
        let ids = Ids(Some(old.into_iter().zip(new).collect()));
        Ok(Continued { journal, number, file: Some(file), ids })
    }

    /// Records a chunk whose record was lost.
    pub(super) fn record(&mut self, chunk: &Chunk) -> Result<RecordId, RecoverError> {
        let mut change = Change::new();
        change.put(Record::Chunk(chunk.clone()));
        let ids = self.commit(&change)?;
        ids.first().copied().ok_or_else(|| not_recorded("nothing was recorded"))
    }

    /// Removes records, by their ids in the journal before.
    pub(super) fn remove_all(
        &mut self,
        ids: impl Iterator<Item = RecordId>,
    ) -> Result<(), RecoverError> {
        let ids: Vec<_> = ids.filter_map(|id| self.ids.now(id)).collect();
        for ids in ids.chunks(MAX_REMOVED) {
            let mut change = Change::new();
            for id in ids {
                change.remove(*id);
            }
            self.commit(&change)?;
        }
        Ok(())
    }

    /// Records the regions of this server in place of those that are `recorded`, by their ids in
    /// the journal before.
    pub(super) fn record_regions(
        &mut self,
        recorded: Vec<(RecordId, cma_journal::Region)>,
        regions: &[Region],
    ) -> Result<(), RecoverError> {
        let recorded = recorded.into_iter();
        let recorded = recorded.filter_map(|(id, region)| Some((self.ids.now(id)?, region)));
        let mut recorded: Vec<_> = recorded.collect();
        let mut change = Change::new();
        for now in regions.iter().filter_map(record_of) {
            match recorded.iter().position(|(_, region)| *region == now) {
                Some(at) => {
                    recorded.swap_remove(at);
                }
                None => {
                    change.put(Record::Region(now));
                }
            }
        }
        for (id, _) in &recorded {
            change.remove(*id);
        }
        self.commit(&change).map(drop)
    }

    fn commit(&mut self, change: &Change) -> Result<Vec<RecordId>, RecoverError> {
        self.journal.commit(change).map_err(not_recorded)
    }
}

/// What is recorded of a region. No bank ends at the top of the address space, so each has a range.
fn record_of(region: &Region) -> Option<cma_journal::Region> {
    let range = region.range();
    Some(cma_journal::Region {
        name: region.name().map(String::from),
        range: Span::new(range.start().get(), range.bytes())?,
        allocator: match region.allocator() {
            AllocatorState::Attached(name) => name,
            _ => None,
        },
        params: String::new(),
        memory: region.backing().map(|backing| backing.kind.to_string()),
    })
}

fn not_recorded(error: impl fmt::Display) -> RecoverError {
    RecoverError::NotKept(format!("the journal can't be continued: {error}"))
}

/// The records of regions.
pub(super) fn recorded_regions(
    records: &[(RecordId, Record)],
) -> Vec<(RecordId, cma_journal::Region)> {
    let regions = records.iter().filter_map(|(id, record)| match record {
        Record::Region(region) => Some((*id, region.clone())),
        _ => None,
    });
    regions.collect()
}
