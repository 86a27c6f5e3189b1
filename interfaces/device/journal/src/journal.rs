//! A journal that is written.

use crate::codec;
use crate::damage::Damage;
use crate::layout::{
    self, CHECKSUM_AT, COMMIT_AT, COMMITTED, Head, IDLE, LOG_CHECKSUM_AT, LOG_COUNT_AT,
    LOG_ROOM_AT, Layout, MAGIC, MAGIC_AT, MAX_RECORD_BYTES, PART_BYTES, SLOTS_AT, VERSION_AT,
    Version,
};
use crate::read::{Contents, ReadError, SlotTable};
use crate::record::{Kind, Record, RecordId};
use crate::words::Words;
use std::collections::BTreeSet;

/// A journal. One process writes it at a time.
#[derive(Debug)]
pub struct Journal<W> {
    words: W,
    layout: Layout,
    version: Version,
    slots: SlotTable,
    next_id: u64,
}

/// Records that are added and removed together: after a crash, all of it is recorded or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    added: Vec<Record>,
    removed: Vec<RecordId>,
}

impl Change {
    /// A change of nothing.
    pub fn new() -> Self {
        Change::default()
    }

    /// Adds a record.
    pub fn put(&mut self, record: Record) -> &mut Self {
        self.added.push(record);
        self
    }

    /// Removes a record.
    pub fn remove(&mut self, id: RecordId) -> &mut Self {
        self.removed.push(id);
        self
    }
}

/// Why a change is refused. Nothing was stored then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// There are not enough free slots. Slots that the change frees don't count: until it is
    /// complete, they have the old state.
    #[error("the journal is full: the change needs {needed} slots, and {free} of {slots} are free")]
    Full {
        /// The number of slots that the change needs.
        needed: usize,
        /// The number of free slots.
        free: usize,
        /// The number of slots of the journal.
        slots: u32,
    },
    /// A record is too long.
    #[error("a {kind} of {bytes} bytes is too long for a journal, which has {MAX_RECORD_BYTES}")]
    RecordTooLong {
        /// The kind of the record.
        kind: Kind,
        /// Its length in bytes.
        bytes: usize,
    },
    /// The change replaces more heads than the log has room for.
    #[error("a change of {heads} slots is too large for the log, which has room for {room}")]
    TooLarge {
        /// The number of slots that the change takes and frees.
        heads: usize,
        /// The number that the log has room for.
        room: u32,
    },
    /// A record that is removed isn't live, or is removed twice.
    #[error(
        "record {id} can't be removed: the journal has none of that id, or it is removed twice"
    )]
    Unknown {
        /// The record.
        id: RecordId,
    },
}

/// Why a journal can't be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// No journal has this size.
    #[error("{words} words of 4 bytes are no size of a journal")]
    Size {
        /// The number of words.
        words: usize,
    },
    /// A record doesn't fit.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

/// Why a journal can't be continued. Nothing was stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It has an older version. Its records can be [read](Contents::read) and
    /// [written](Journal::create_with) to a new journal.
    #[error(
        "the journal has version {}, and this program continues journals of version {}; convert it",
        .0.number(), Version::CURRENT.number()
    )]
    Older(Version),
    /// A part of it is damaged. What is intact can be [read](Contents::read) and
    /// [written](Journal::create_with) to a new journal.
    #[error("the journal is damaged in {} places: {}", .0.len(), first(.0))]
    Damaged(
        /// What is damaged, at least one place.
        Vec<Damage>,
    ),
}

/// The text of the first damage.
fn first(damage: &[Damage]) -> String {
    damage.first().map_or_else(String::new, ToString::to_string)
}

/// The places of a change, before anything is stored.
struct Plan {
    /// The contents by slot.
    contents: Vec<(u32, Vec<u8>)>,
    /// The heads by slot.
    heads: Vec<(u32, Head)>,
    /// The new records with their slots.
    added: Vec<(RecordId, Vec<u32>)>,
}

impl<W: Words> Journal<W> {
    /// Makes an empty journal of all of `words`, whose content doesn't matter.
    ///
    /// # Errors
    ///
    /// [`CreateError::Size`]: the number of words isn't [`words_for`](crate::words_for) some number
    /// of slots.
    pub fn create(words: W, version: Version) -> Result<Self, CreateError> {
        Self::create_with(words, version, []).map(|(journal, _)| journal)
    }

    /// Makes a journal with these records, and returns their new ids in the same order. Until the
    /// last store it can't be read ([`ReadError::Unfinished`]).
    ///
    /// It converts a journal of another version, continues a damaged one without what is lost, and
    /// changes the number of slots. The old journal stays as it is; whoever holds both replaces the
    /// one by the other.
    ///
    /// # Errors
    ///
    /// As of [`create`](Self::create), and when a record doesn't fit.
    pub fn create_with(
        mut words: W,
        version: Version,
        records: impl IntoIterator<Item = Record>,
    ) -> Result<(Self, Vec<RecordId>), CreateError> {
        let layout = begin(&mut words, version)?;
        let free: Vec<u32> = (0..layout.slots).rev().collect();
        for &slot in &free {
            store_all(&mut words, layout.head(slot), &Head::FREE.words(slot));
        }
        let slots = SlotTable { free, ..SlotTable::default() };
        let mut journal = Journal { words, layout, version, slots, next_id: 1 };
        let mut ids = Vec::new();
        for record in records {
            let change = Change { added: vec![record], removed: Vec::new() };
            ids.extend(journal.commit(&change)?);
        }
        journal.words.store(MAGIC_AT, MAGIC);
        Ok((journal, ids))
    }

    /// Makes a copy of this journal in `words`, with at least as many slots. Records keep their
    /// ids. Until the last store it can't be read ([`ReadError::Unfinished`]). This journal stays
    /// as it is.
    ///
    /// # Errors
    ///
    /// [`CreateError::Size`]: no journal, or only one of fewer slots, has that size.
    pub fn copied_to(&self, mut words: W) -> Result<Self, CreateError> {
        let size = CreateError::Size { words: words.len() };
        if words.len() < self.words.len() {
            return Err(size);
        }
        let layout = begin(&mut words, self.version)?;
        let live: BTreeSet<u32> = self.slots.live.values().flatten().copied().collect();
        for slot in 0..layout.slots {
            let to = layout.head(slot);
            if live.contains(&slot) {
                // The checksums are those of the slot's number and content, wherever it is.
                let from = self.layout.head(slot)..self.layout.head(slot + 1);
                for (from, to) in from.zip(to..) {
                    words.store(to, self.words.load(from));
                }
            } else {
                store_all(&mut words, to, &Head::FREE.words(slot));
            }
        }
        words.store(MAGIC_AT, MAGIC);
        let free = (self.layout.slots..layout.slots).rev().chain(self.slots.free.iter().copied());
        let slots = SlotTable { free: free.collect(), live: self.slots.live.clone() };
        Ok(Journal { words, layout, version: self.version, slots, next_id: self.next_id })
    }

    /// Continues a journal, and completes the change that was committed last. Returns its records
    /// in ascending order of their ids: in the order in which they were recorded.
    ///
    /// # Errors
    ///
    /// [`OpenError`]: it is damaged, or has another version than [`Version::CURRENT`].
    pub fn open(mut words: W) -> Result<(Self, Vec<(RecordId, Record)>), OpenError> {
        let Contents { version, records, damage, layout, slots, log } = Contents::read(&words)?;
        if !damage.is_empty() {
            return Err(OpenError::Damaged(damage));
        }
        if version != Version::CURRENT {
            return Err(OpenError::Older(version));
        }
        carry_out(&mut words, layout, &log);
        let next_id = records.last().map_or(1, |(id, _)| id.0 + 1);
        Ok((Journal { words, layout, version, slots, next_id }, records))
    }

    /// Records a change, and returns the ids of the added records in their order.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]; nothing is stored then.
    pub fn commit(&mut self, change: &Change) -> Result<Vec<RecordId>, ChangeError> {
        let Plan { contents, heads, added } = self.plan(change)?;
        if heads.is_empty() {
            return Ok(Vec::new());
        }
        for (slot, content) in &contents {
            let at = self.layout.content(*slot);
            for (index, bytes) in content.chunks(4).enumerate() {
                let mut word = [0; 4];
                word[..bytes.len()].copy_from_slice(bytes);
                self.words.store(at + index, u32::from_ne_bytes(word));
            }
        }
        for (index, (slot, head)) in (0..).zip(&heads) {
            let at = self.layout.entry(index);
            self.words.store(at, *slot);
            store_all(&mut self.words, at + 1, &head.words(*slot));
        }
        // `plan` has checked that the log has room.
        let count = heads.len() as u32;
        self.words.store(LOG_COUNT_AT, count);
        self.words.store(LOG_CHECKSUM_AT, self.layout.log_checksum(&self.words, count));
        self.words.store(COMMIT_AT, COMMITTED);
        carry_out(&mut self.words, self.layout, &heads);

        let ids = added.iter().map(|(id, _)| *id).collect();
        self.slots.free.truncate(self.slots.free.len() - contents.len());
        for id in &change.removed {
            self.slots.free.extend(self.slots.live.remove(id).unwrap_or_default());
        }
        self.next_id += added.len() as u64;
        self.slots.live.extend(added);
        Ok(ids)
    }

    /// Chooses the slots of a change: the last of the free ones.
    fn plan(&self, change: &Change) -> Result<Plan, ChangeError> {
        let mut plan = Plan { contents: Vec::new(), heads: Vec::new(), added: Vec::new() };
        let mut free = self.slots.free.iter().rev();
        let mut needed = 0;
        for (id, record) in (self.next_id..).map(RecordId).zip(&change.added) {
            let kind = record.kind();
            let bytes = codec::encode(record, self.version);
            if bytes.len() > MAX_RECORD_BYTES {
                return Err(ChangeError::RecordTooLong { kind, bytes: bytes.len() });
            }
            // No record is empty, and the longest has fewer parts than 16 bits count.
            let parts = bytes.len().div_ceil(PART_BYTES) as u16;
            needed += usize::from(parts);
            let slots: Vec<u32> = free.by_ref().take(parts.into()).copied().collect();
            for ((&slot, content), part) in slots.iter().zip(bytes.chunks(PART_BYTES)).zip(0..) {
                let (length, checksum) = (content.len(), layout::checksum_of_bytes(content));
                let (kind, id, bytes) = (kind.number(), id.0, length as u32);
                plan.heads.push((slot, Head { kind, id, part, parts, bytes, checksum }));
                plan.contents.push((slot, content.to_vec()));
            }
            plan.added.push((id, slots));
        }
        let (free, slots) = (self.slots.free.len(), self.layout.slots);
        if needed > free {
            return Err(ChangeError::Full { needed, free, slots });
        }
        let mut removed = BTreeSet::new();
        for id in &change.removed {
            let slots = self.slots.live.get(id).filter(|_| removed.insert(*id));
            let slots = slots.ok_or(ChangeError::Unknown { id: *id })?;
            plan.heads.extend(slots.iter().map(|slot| (*slot, Head::FREE)));
        }
        let (heads, room) = (plan.heads.len(), self.layout.log_room);
        if heads > room as usize {
            return Err(ChangeError::TooLarge { heads, room });
        }
        Ok(plan)
    }

    /// The number of free slots. A record takes one for each [`PART_BYTES`] of its content.
    pub fn free_slots(&self) -> usize {
        self.slots.free.len()
    }

    /// The number of live records.
    pub fn records(&self) -> usize {
        self.slots.live.len()
    }

    /// The version that it writes.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The memory.
    pub fn words(&self) -> &W {
        &self.words
    }

    /// The memory, without the journal.
    pub fn into_words(self) -> W {
        self.words
    }
}

/// Stores the first words of a journal, except that it is complete.
fn begin(words: &mut impl Words, version: Version) -> Result<Layout, CreateError> {
    let size = CreateError::Size { words: words.len() };
    let layout = Layout::of_words(words.len()).ok_or(size)?;
    words.store(MAGIC_AT, 0);
    words.store(VERSION_AT, version.number());
    words.store(SLOTS_AT, layout.slots);
    words.store(LOG_ROOM_AT, layout.log_room);
    words.store(CHECKSUM_AT, layout.checksum(version.number()));
    words.store(COMMIT_AT, IDLE);
    Ok(layout)
}

/// Stores the heads of a committed change, and that it is carried out.
fn carry_out(words: &mut impl Words, layout: Layout, heads: &[(u32, Head)]) {
    for (slot, head) in heads {
        store_all(words, layout.head(*slot), &head.words(*slot));
    }
    words.store(COMMIT_AT, IDLE);
}

fn store_all(words: &mut impl Words, at: usize, values: &[u32]) {
    values.iter().enumerate().for_each(|(index, value)| words.store(at + index, *value));
}
