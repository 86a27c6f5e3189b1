//! Records of all kinds, and memory that remembers its stores.

#![allow(dead_code, reason = "each test uses a part")]

use cma_journal::{
    Answered, Chunk, Configuration, ConnectionNumber, Contents, Limits, Process, Record, RecordId,
    Region, SetAside, Span, Version, Waiting, Words,
};
use proptest::prelude::*;

/// Words that remember every store, in order. A prefix of the stores is what a process leaves that
/// is killed.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    words: Vec<u32>,
    pub(crate) stores: Vec<(usize, u32)>,
}

impl Recorder {
    pub(crate) fn new(words: Vec<u32>) -> Self {
        Recorder { words, stores: Vec::new() }
    }
}

/// Calls `check` with the memory after each number of these stores, from 0 on, when it was `words`
/// before. Returns the memory after all of them.
pub(crate) fn replay(
    mut words: Vec<u32>,
    stores: &[(usize, u32)],
    mut check: impl FnMut(usize, &Vec<u32>),
) -> Vec<u32> {
    check(0, &words);
    for (number, (at, word)) in (1..).zip(stores) {
        words[*at] = *word;
        check(number, &words);
    }
    words
}

impl Words for Recorder {
    fn len(&self) -> usize {
        self.words.len()
    }

    fn load(&self, index: usize) -> u32 {
        self.words[index]
    }

    fn store(&mut self, index: usize, word: u32) {
        self.words[index] = word;
        self.stores.push((index, word));
    }
}

impl From<Recorder> for Vec<u32> {
    fn from(recorder: Recorder) -> Self {
        recorder.words
    }
}

/// The records of an intact journal.
pub(crate) fn records(words: &Vec<u32>) -> Vec<(RecordId, Record)> {
    let contents = Contents::read(words).unwrap();
    assert_eq!(contents.damage, [], "an intact journal");
    contents.records
}

/// The record that a journal of that version gives back.
pub(crate) fn as_of(version: Version, record: Record) -> Record {
    match record {
        Record::SetAside(aside) if version == Version::V1 => {
            Record::SetAside(SetAside { lost: false, ..aside })
        }
        record => record,
    }
}

pub(crate) fn configuration(text: impl Into<String>) -> Record {
    Record::Configuration(Configuration { name: "map".into(), text: text.into() })
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(any::<char>(), 0..24).prop_map(String::from_iter)
}

fn span() -> impl Strategy<Value = Span> {
    (any::<u64>(), 1..=1_u64 << 40)
        .prop_filter_map("within the address space", |(start, size)| Span::new(start, size))
}

fn process() -> impl Strategy<Value = Process> {
    (any::<u32>(), any::<u32>(), text()).prop_map(|(uid, pid, name)| Process { uid, pid, name })
}

fn limits() -> impl Strategy<Value = Limits> {
    let limit = || any::<Option<u64>>();
    (any::<(u64, u64)>(), limit(), limit(), limit(), limit()).prop_map(
        |((size, alignment), above, below, boundary, at)| Limits {
            size,
            alignment,
            above,
            below,
            boundary,
            at,
        },
    )
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![prop::collection::vec(any::<u8>(), 0..20), Just(vec![0xa5; 512])]
}

/// Any record. Some take several slots.
pub(crate) fn record() -> impl Strategy<Value = Record> {
    let option = || prop::option::of(text());
    let number = || any::<u64>().prop_map(ConnectionNumber);
    prop_oneof![
        (option(), span(), option(), text(), option()).prop_map(
            |(name, range, allocator, params, memory)| {
                Record::Region(Region { name, range, allocator, params, memory })
            }
        ),
        (
            (span(), limits(), prop::option::of((text(), text())), process()),
            (any::<u64>(), prop::option::of(number()), any::<Option<u128>>()),
        )
            .prop_map(|((range, request, device, process), (since, connection, file))| {
                Record::Chunk(Chunk { range, request, device, process, since, connection, file })
            }),
        (number(), any::<(u64, u64, u64)>()).prop_map(|(connection, (id, order, deadline))| {
            Record::Waiting(Waiting { connection, id, order, deadline })
        }),
        (number(), any::<u64>(), message()).prop_map(|(connection, id, answer)| {
            Record::Answered(Answered { connection, id, answer })
        }),
        (text(), 0..1600_usize, text()).prop_map(|(name, count, end)| {
            let text = "x".repeat(count) + &end;
            Record::Configuration(Configuration { name, text })
        }),
        (span(), any::<bool>())
            .prop_map(|(range, lost)| Record::SetAside(SetAside { range, lost })),
    ]
}

pub(crate) fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V1), Just(Version::V2)]
}
