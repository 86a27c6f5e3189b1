//! The journal of a device server, which the next server reads.
//!
//! Mutation seldom finds a right checksum, so each input is also tested with its checksums
//! repaired.

use super::{grammar, is_one_line, variant};
use crate::{Form, Outcome, Target};
use cma_journal::{
    Answered, Change, Configuration, ConnectionNumber, Contents, Journal, OpenError, Record,
    Region, SetAside, Span, Version, Waiting, words_for,
};
use proptest::prelude::*;

pub(super) const TARGET: Target = Target {
    name: "journal",
    about: "journals of the device server, damaged ones and those of an older version",
    form: Form::Binary,
    generate,
    dictionary: include_str!("../../dictionary/journal.dict"),
    check,
};

fn record() -> impl Strategy<Value = Record> {
    let name = || grammar("[a-z]{0,9}");
    prop_oneof![
        (name(), 1..1_u64 << 40, prop::option::of(name())).prop_filter_map(
            "a region has a size",
            |(name, size, allocator)| {
                let (range, params) = (Span::new(0, size)?, String::new());
                let memory = Some("memfd".to_owned());
                Some(Record::Region(Region { name: Some(name), range, allocator, params, memory }))
            }
        ),
        any::<[u64; 4]>().prop_map(|[connection, id, order, deadline]| {
            let connection = ConnectionNumber(connection);
            Record::Waiting(Waiting { connection, id, order, deadline })
        }),
        any::<u64>().prop_map(|id| {
            let (connection, answer) = (ConnectionNumber(1), vec![9; 512]);
            Record::Answered(Answered { connection, id, answer })
        }),
        grammar("[a-z=;,]{0,900}")
            .prop_map(|text| Record::Configuration(Configuration { name: "map".into(), text })),
        any::<bool>().prop_filter_map("a page", |lost| {
            Span::new(1 << 30, 4096).map(|range| Record::SetAside(SetAside { range, lost }))
        }),
    ]
}

fn generate() -> BoxedStrategy<Vec<u8>> {
    let flips = prop_oneof![
        3 => Just(Vec::new()),
        2 => prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ];
    (1..5_u32, any::<bool>(), prop::collection::vec(record(), 0..4), flips)
        .prop_map(|(slots, older, records, flips)| {
            let version = if older { Version::V1 } else { Version::CURRENT };
            let words = vec![0; words_for(slots).unwrap_or_default()];
            let Ok(mut journal) = Journal::create(words, version) else {
                panic!("a journal of {slots} slots")
            };
            for record in records {
                // What doesn't fit is left out.
                let _ = journal.commit(Change::new().put(record));
            }
            let mut bytes = bytes_of(journal.words());
            for (place, value) in flips {
                let place = place.index(bytes.len());
                bytes[place] = value;
            }
            bytes
        })
        .boxed()
}

fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn check(input: &[u8]) -> Outcome {
    let mut words: Vec<u32> = input
        .chunks(4)
        .map(|bytes| {
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            u32::from_ne_bytes(word)
        })
        .collect();
    let outcome = check_words(&words);
    repair(&mut words);
    let repaired = check_words(&words);
    Outcome { class: format!("{}, repaired {}", outcome.class, repaired.class), ..outcome }
}

fn check_words(words: &Vec<u32>) -> Outcome {
    let contents = match Contents::read(words) {
        Ok(contents) => contents,
        Err(error) => {
            is_one_line(&error.to_string());
            assert_eq!(Journal::open(words.clone()).map(drop), Err(OpenError::Read(error)));
            return Outcome::refused(format!("none {}", variant(&error)));
        }
    };
    contents.damage.iter().for_each(|damage| is_one_line(&damage.to_string()));
    is_written_anew(words.len(), &contents);
    match Journal::open(words.clone()) {
        Ok((journal, records)) => {
            assert_eq!((&records, &contents.damage), (&contents.records, &Vec::new()));
            is_continued(journal, &contents);
            Outcome::accepted(format!("{} records", records.len()))
        }
        Err(OpenError::Older(version)) => {
            assert_eq!((version, &contents.damage), (contents.version, &Vec::new()));
            Outcome::accepted(format!("{} older records", contents.records.len()))
        }
        Err(OpenError::Damaged(damage)) => {
            assert_eq!(damage, contents.damage);
            Outcome::refused(format!("damaged {}", variant(&damage[0])))
        }
        Err(error) => panic!("a journal that can be read is not opened: {error}"),
    }
}

/// What is intact fits into a new journal of the same size, and is read from it as it was.
fn is_written_anew(words: usize, contents: &Contents) {
    let records = || contents.records.iter().map(|(_, record)| record.clone());
    match Journal::create_with(vec![0; words], Version::CURRENT, records()) {
        Ok((journal, _)) => match Journal::open(journal.into_words()) {
            Ok((_, read)) => assert!(read.into_iter().map(|(_, record)| record).eq(records())),
            Err(error) => panic!("a new journal is not opened: {error}"),
        },
        // A part may have less than it has room for, which no journal that was written has.
        Err(error) => is_one_line(&error.to_string()),
    }
}

/// A journal that was opened is what was read, and all its slots become free.
fn is_continued(mut journal: Journal<Vec<u32>>, contents: &Contents) {
    assert_eq!(
        Contents::read(journal.words()).map(|read| read.records).as_ref(),
        Ok(&contents.records)
    );
    let mut change = Change::new();
    contents.records.iter().for_each(|(id, _)| {
        change.remove(*id);
    });
    assert_eq!(journal.commit(&change), Ok(Vec::new()));
    let free = journal.free_slots();
    match Journal::open(journal.into_words()) {
        Ok((journal, records)) => assert_eq!((journal.free_slots(), records), (free, Vec::new())),
        Err(error) => panic!("an empty journal is not opened: {error}"),
    }
}

/// Makes the checksums of a journal of up to 4096 slots right: the layout is in the documentation
/// of `cma_journal`.
fn repair(words: &mut [u32]) {
    const LOG: usize = 19;
    const ENTRY: usize = 8;
    const SLOT: usize = 160;
    let Some(slots) = words.len().checked_sub(LOG).map(|left| left / (ENTRY + SLOT)) else {
        return;
    };
    words[1] = checksum([words[0], words[2], words[3], words[4]]);
    let first = LOG + slots * ENTRY;
    for (slot, words) in (0..).zip(words[first..].chunks_exact_mut(SLOT)) {
        let (head, content) = words.split_at_mut(7);
        let bytes = bytes_of(content);
        head[5] = if head[0] == 0 { 0 } else { crc(&bytes[..bytes.len().min(head[4] as usize)]) };
        head[6] = checksum([slot].into_iter().chain(head[..6].iter().copied()));
    }
    for entry in words[LOG..first].chunks_exact_mut(ENTRY) {
        entry[7] = checksum(entry[..7].iter().copied());
    }
    let count = words[17];
    let end = (LOG + (count as usize).saturating_mul(ENTRY)).min(first);
    words[18] = checksum([count].into_iter().chain(words[LOG..end].iter().copied()));
}

fn checksum(words: impl IntoIterator<Item = u32>) -> u32 {
    crc(&words.into_iter().flat_map(u32::to_ne_bytes).collect::<Vec<u8>>())
}

fn crc(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}
