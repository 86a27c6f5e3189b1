//! Where everything is in a journal, in words; see the [crate].

use crate::words::Words;
use crc32fast::Hasher;

pub(crate) const MAGIC: u32 = 0x4a6d_6143;

pub(crate) const MAGIC_AT: usize = 0;
pub(crate) const CHECKSUM_AT: usize = 1;
pub(crate) const VERSION_AT: usize = 2;
pub(crate) const SLOTS_AT: usize = 3;
pub(crate) const LOG_ROOM_AT: usize = 4;
/// On a cache line of its own.
pub(crate) const COMMIT_AT: usize = 16;
pub(crate) const LOG_COUNT_AT: usize = 17;
pub(crate) const LOG_CHECKSUM_AT: usize = 18;
const LOG_AT: usize = 19;

/// The two values of the commit word differ in every byte, so a damaged one is neither.
pub(crate) const IDLE: u32 = 0x1d1e_1d1e;
pub(crate) const COMMITTED: u32 = 0xc0de_c0de;

const HEAD_WORDS: usize = 7;
const CONTENT_WORDS: usize = 153;
const SLOT_WORDS: usize = HEAD_WORDS + CONTENT_WORDS;
const ENTRY_WORDS: usize = 1 + HEAD_WORDS;

/// The bytes of a record that one slot has room for.
pub const PART_BYTES: usize = CONTENT_WORDS * 4;

/// The most slots of a journal.
pub const MAX_SLOTS: u32 = 1 << 20;

/// The most bytes of one record.
pub const MAX_RECORD_BYTES: usize = 1 << 20;

/// The most entries of a log. A record of [`MAX_RECORD_BYTES`] is replaced by its successor in one
/// change: twice 1714 parts.
const MAX_LOG: u32 = 4096;

/// The most bytes of a journal's file, which consists of whole pages of up to 64 KiB.
pub(crate) const MAX_BYTES: u64 = (4
    * (LOG_AT + MAX_LOG as usize * ENTRY_WORDS + MAX_SLOTS as usize * SLOT_WORDS) as u64)
    .next_multiple_of(64 << 10);

const _: () = assert!(2 * MAX_RECORD_BYTES.div_ceil(PART_BYTES) <= MAX_LOG as usize);
const _: () = assert!(MAX_RECORD_BYTES.div_ceil(PART_BYTES) <= u16::MAX as usize);

/// A version of the records. The layout of the file is the same in all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// Memory that is set aside has no [`lost`](crate::SetAside::lost); it is read as `false`, and
    /// the next check of that memory finds it out.
    V1,
    /// All that [`Record`](crate::Record) has.
    V2,
}

impl Version {
    /// The version that this crate writes unless it is told another one.
    pub const CURRENT: Version = Version::V2;

    /// Its number in the file.
    pub const fn number(self) -> u32 {
        match self {
            Version::V1 => 1,
            Version::V2 => 2,
        }
    }

    /// The version of that number; `None` for one that this crate doesn't know.
    pub const fn from_number(number: u32) -> Option<Version> {
        match number {
            1 => Some(Version::V1),
            2 => Some(Version::V2),
            _ => None,
        }
    }
}

/// The number of words of a journal with that many slots; `None` for 0 slots or more than
/// [`MAX_SLOTS`].
pub fn words_for(slots: u32) -> Option<usize> {
    Layout::new(slots).map(Layout::words)
}

/// Where the log and the slots of one journal are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) slots: u32,
    /// The number of entries for which the log has room.
    pub(crate) log_room: u32,
}

impl Layout {
    pub(crate) fn new(slots: u32) -> Option<Self> {
        // A change has an entry for each slot at most.
        let log_room = slots.min(MAX_LOG);
        (1..=MAX_SLOTS).contains(&slots).then_some(Layout { slots, log_room })
    }

    /// The layout of a journal that has that many words.
    pub(crate) fn of_words(words: usize) -> Option<Self> {
        let of = |fixed: usize, each: usize| {
            let slots = words.checked_sub(fixed)? / each;
            Layout::new(u32::try_from(slots).ok()?).filter(|layout| layout.words() == words)
        };
        let longest_log = MAX_LOG as usize * ENTRY_WORDS;
        of(LOG_AT, ENTRY_WORDS + SLOT_WORDS).or_else(|| of(LOG_AT + longest_log, SLOT_WORDS))
    }

    /// The layout of the largest journal in that many words.
    pub(crate) fn within(words: usize) -> Option<Self> {
        let slots = |fixed: usize, each: usize| words.checked_sub(fixed).map(|rest| rest / each);
        let with_short_log = slots(LOG_AT, ENTRY_WORDS + SLOT_WORDS)?;
        let slots = match with_short_log.checked_sub(MAX_LOG as usize) {
            None => with_short_log,
            Some(_) => slots(LOG_AT + MAX_LOG as usize * ENTRY_WORDS, SLOT_WORDS)?,
        };
        Layout::new(u32::try_from(slots).ok()?.min(MAX_SLOTS))
    }

    pub(crate) fn words(self) -> usize {
        self.head(self.slots)
    }

    /// The place of an entry of the log.
    pub(crate) fn entry(self, index: u32) -> usize {
        LOG_AT + index as usize * ENTRY_WORDS
    }

    /// The place of a slot's head.
    pub(crate) fn head(self, slot: u32) -> usize {
        self.entry(self.log_room) + slot as usize * SLOT_WORDS
    }

    /// The place of a slot's content.
    pub(crate) fn content(self, slot: u32) -> usize {
        self.head(slot) + HEAD_WORDS
    }

    /// The checksum of a log with that many entries.
    pub(crate) fn log_checksum(self, words: &impl Words, count: u32) -> u32 {
        let entries = (self.entry(0)..self.entry(count)).map(|at| words.load(at));
        checksum(std::iter::once(count).chain(entries))
    }

    /// The checksum of the first words of a file, which has `version`.
    pub(crate) fn checksum(self, version: u32) -> u32 {
        checksum([MAGIC, version, self.slots, self.log_room])
    }
}

/// The head of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: u32,
    pub(crate) id: u64,
    pub(crate) part: u16,
    pub(crate) parts: u16,
    /// The length of the content in bytes.
    pub(crate) bytes: u32,
    pub(crate) checksum: u32,
}

impl Head {
    pub(crate) const FREE: Head = Head { kind: 0, id: 0, part: 0, parts: 0, bytes: 0, checksum: 0 };

    /// Its words in `slot`.
    pub(crate) fn words(&self, slot: u32) -> [u32; HEAD_WORDS] {
        let (low, high) = (self.id as u32, (self.id >> 32) as u32);
        let parts = u32::from(self.part) | u32::from(self.parts) << 16;
        let [kind, bytes, content] = [self.kind, self.bytes, self.checksum];
        let own = checksum([slot, kind, low, high, parts, bytes, content]);
        [kind, low, high, parts, bytes, content, own]
    }

    /// The head that has these words in `slot`; `None` when its checksum is wrong.
    pub(crate) fn from_words(slot: u32, words: [u32; HEAD_WORDS]) -> Option<Head> {
        let [kind, low, high, parts, bytes, checksum, _] = words;
        let id = u64::from(low) | u64::from(high) << 32;
        let (part, parts) = (parts as u16, (parts >> 16) as u16);
        let head = Head { kind, id, part, parts, bytes, checksum };
        (head.words(slot) == words).then_some(head)
    }
}

/// Loads the head at `at`.
pub(crate) fn load_head(words: &impl Words, at: usize) -> [u32; HEAD_WORDS] {
    std::array::from_fn(|index| words.load(at + index))
}

/// The checksum of words.
pub(crate) fn checksum(words: impl IntoIterator<Item = u32>) -> u32 {
    let mut hasher = Hasher::new();
    words.into_iter().for_each(|word| hasher.update(&word.to_ne_bytes()));
    hasher.finalize()
}

/// The checksum of a content.
pub(crate) fn checksum_of_bytes(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_journal_of_a_file_leaves_no_room_for_one_more_slot() {
        for slots in [1, 2, 7, MAX_LOG - 1, MAX_LOG, MAX_LOG + 1, 3 * MAX_LOG, MAX_SLOTS] {
            let words = words_for(slots).unwrap();
            let within = |words| Layout::within(words).map(|layout| layout.slots);
            assert_eq!(within(words), Some(slots));
            assert_eq!(within(words - 1), Some(slots - 1).filter(|less| *less > 0));
            assert_eq!(within(words + SLOT_WORDS - 1), Some(slots));
        }
        assert_eq!(Layout::within(0), None);
    }
}
