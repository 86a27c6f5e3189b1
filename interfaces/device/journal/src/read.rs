//! Reading a journal that may be damaged, unfinished or of another version.

use crate::codec;
use crate::damage::Damage;
use crate::layout::{
    self, CHECKSUM_AT, COMMIT_AT, COMMITTED, Head, IDLE, LOG_CHECKSUM_AT, LOG_COUNT_AT,
    LOG_ROOM_AT, Layout, MAGIC, MAGIC_AT, PART_BYTES, SLOTS_AT, VERSION_AT, Version,
};
use crate::record::{Kind, Record, RecordId};
use crate::words::Words;
use std::collections::{BTreeMap, HashMap};

/// Ids from here on are damage: no journal counts so far.
const END_OF_IDS: u64 = 1 << 63;

/// Why memory is no journal that this version can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A journal never has this size.
    #[error("{words} words of 4 bytes are no journal: none has this size")]
    Size {
        /// The number of words.
        words: usize,
    },
    /// The first word is 0: the process that created the journal ended before it was complete.
    /// Nothing was recorded then.
    #[error("the creation of the journal was not completed; nothing is recorded in it")]
    Unfinished,
    /// The first word is neither 0 nor that of a journal.
    #[error("the memory is no journal: it begins with {found:#010x} and not {MAGIC:#010x}")]
    NoJournal {
        /// The first word.
        found: u32,
    },
    /// The checksum of the first words is wrong.
    #[error(
        "the first {} bytes of the journal are damaged, so its version and size are unknown and no \
         record can be read",
        4 * (LOG_ROOM_AT + 1)
    )]
    Header,
    /// The version is not known.
    #[error(
        "the journal has version {found}, and this program knows versions 1 to {}; start a program \
         that is as new as the one that wrote it",
        Version::CURRENT.number()
    )]
    Version {
        /// The version of the journal.
        found: u32,
    },
    /// The number of slots doesn't fit the size.
    #[error("a journal of {slots} slots doesn't have {words} words of 4 bytes")]
    Slots {
        /// The number of slots in the journal.
        slots: u32,
        /// The size of the journal.
        words: usize,
    },
}

/// What is recorded in a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Contents {
    /// Its version.
    pub version: Version,
    /// Its records, in ascending order of their ids: in the order in which they were recorded.
    pub records: Vec<(RecordId, Record)>,
    /// What could not be read. Empty for an intact journal.
    pub damage: Vec<Damage>,
    pub(crate) layout: Layout,
    pub(crate) slots: SlotTable,
    /// The heads of a committed change.
    pub(crate) log: Vec<(u32, Head)>,
}

/// Which slots are free, and which have the parts of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlotTable {
    /// In descending order.
    pub(crate) free: Vec<u32>,
    /// In the order of the parts.
    pub(crate) live: BTreeMap<RecordId, Vec<u32>>,
}

impl Contents {
    /// Reads a journal and changes nothing. What is damaged is left out of the records and is
    /// reported.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when no record can be read.
    pub fn read(words: &impl Words) -> Result<Self, ReadError> {
        let (layout, version) = header(words)?;
        let mut damage = Vec::new();
        let log = log(words, layout).unwrap_or_else(|found| {
            damage.push(found);
            Vec::new()
        });
        let parts = parts(words, layout, &log, &mut damage);
        let mut slots = SlotTable { free: parts.free, live: BTreeMap::new() };
        let mut records = Vec::new();
        for (id, found) in parts.by_record {
            match record(words, layout, version, id, &found) {
                Ok(record) => {
                    records.push((id, record));
                    slots.live.insert(id, found.iter().map(|(slot, _)| *slot).collect());
                }
                // The damage of its slots is reported where it is found.
                Err(None) => {}
                Err(Some(lost)) => damage.push(lost),
            }
        }
        Ok(Contents { version, records, damage, layout, slots, log })
    }
}

/// The layout and the version of a journal.
fn header(words: &impl Words) -> Result<(Layout, Version), ReadError> {
    let found = words.len();
    let layout = Layout::of_words(found).ok_or(ReadError::Size { words: found })?;
    match words.load(MAGIC_AT) {
        MAGIC => {}
        0 => return Err(ReadError::Unfinished),
        found => return Err(ReadError::NoJournal { found }),
    }
    let [version, slots, log_room] = [VERSION_AT, SLOTS_AT, LOG_ROOM_AT].map(|at| words.load(at));
    let checksum = layout::checksum([MAGIC, version, slots, log_room]);
    if words.load(CHECKSUM_AT) != checksum {
        return Err(ReadError::Header);
    }
    let version = Version::from_number(version).ok_or(ReadError::Version { found: version })?;
    if (Layout { slots, log_room }) != layout {
        return Err(ReadError::Slots { slots, words: found });
    }
    Ok((layout, version))
}

/// The heads of a change that was committed and may not have been carried out.
fn log(words: &impl Words, layout: Layout) -> Result<Vec<(u32, Head)>, Damage> {
    match words.load(COMMIT_AT) {
        IDLE => return Ok(Vec::new()),
        COMMITTED => {}
        found => return Err(Damage::CommitWord { byte: COMMIT_AT * 4, found }),
    }
    let damaged = Damage::Log { byte: LOG_COUNT_AT * 4 };
    let count = words.load(LOG_COUNT_AT);
    if count > layout.log_room || layout.log_checksum(words, count) != words.load(LOG_CHECKSUM_AT) {
        return Err(damaged);
    }
    let entry = |index| {
        let at = layout.entry(index);
        let slot = words.load(at);
        let head = Head::from_words(slot, layout::load_head(words, at + 1))?;
        (slot < layout.slots).then_some((slot, head))
    };
    (0..count).map(entry).collect::<Option<_>>().ok_or(damaged)
}

/// The slots of a journal by what they have.
struct Parts {
    free: Vec<u32>,
    by_record: BTreeMap<RecordId, Vec<(u32, Head)>>,
}

fn parts(
    words: &impl Words,
    layout: Layout,
    log: &[(u32, Head)],
    damage: &mut Vec<Damage>,
) -> Parts {
    let replaced: HashMap<u32, Head> = log.iter().copied().collect();
    let mut parts = Parts { free: Vec::new(), by_record: BTreeMap::new() };
    for slot in 0..layout.slots {
        let at = layout.head(slot);
        let in_place = || Head::from_words(slot, layout::load_head(words, at));
        match replaced.get(&slot).copied().or_else(in_place) {
            None => damage.push(Damage::Head { slot, byte: at * 4 }),
            Some(Head::FREE) => parts.free.push(slot),
            Some(head) if head.makes_sense() => {
                parts.by_record.entry(RecordId(head.id)).or_default().push((slot, head));
            }
            Some(Head { kind, .. }) => damage.push(Damage::Nonsense { slot, byte: at * 4, kind }),
        }
    }
    parts.free.reverse();
    parts.by_record.values_mut().for_each(|found| found.sort_by_key(|(_, head)| head.part));
    parts
}

impl Head {
    /// Whether it may describe a part of a record.
    fn makes_sense(&self) -> bool {
        Kind::from_number(self.kind).is_some()
            && self.id < END_OF_IDS
            && self.part < self.parts
            && self.bytes as usize <= PART_BYTES
    }
}

/// The record whose parts are `found`, in their order.
fn record(
    words: &impl Words,
    layout: Layout,
    version: Version,
    id: RecordId,
    found: &[(u32, Head)],
) -> Result<Record, Option<Damage>> {
    let &(slot, first) = found.first().ok_or(None)?;
    let kind = Kind::from_number(first.kind).ok_or(None)?;
    let complete = found.len() == usize::from(first.parts)
        && found.iter().enumerate().all(|(index, (_, head))| {
            (head.kind, head.parts, usize::from(head.part)) == (first.kind, first.parts, index)
        });
    if !complete {
        let (parts, found) = (first.parts, found.len());
        return Err(Some(Damage::Parts { slot, kind, id, parts, found }));
    }
    let mut content = Vec::new();
    for (slot, head) in found {
        let (at, start) = (layout.content(*slot), content.len());
        let count = head.bytes.div_ceil(4) as usize;
        content.extend((at..at + count).flat_map(|at| words.load(at).to_ne_bytes()));
        content.truncate(start + head.bytes as usize);
        if layout::checksum_of_bytes(&content[start..]) != head.checksum {
            return Err(Some(Damage::Content { slot: *slot, byte: at * 4, kind, id }));
        }
    }
    codec::decode(kind, version, &content)
        .map_err(|why| Some(Damage::Undecodable { slot, kind, id, why }))
}
