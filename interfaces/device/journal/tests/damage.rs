//! Damage is found, with its place and what is lost by it, and the rest is read.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use cma_journal::{
    Answered, Change, Chunk, ConnectionNumber, Contents, CreateError, Damage, Journal, Kind,
    Limits, OpenError, PART_BYTES, Process, ReadError, Record, RecordId, Region, SetAside, Span,
    Version, Waiting, words_for,
};
use common::{Recorder, configuration, records, replay};

/// The byte at which the commit word begins.
const COMMIT: usize = 64;

fn answered(number: u64) -> Record {
    let connection = ConnectionNumber(number);
    Record::Answered(Answered { connection, id: 7, answer: b"an answer".to_vec() })
}

/// A journal of five slots: a record of two parts, one of one part, a slot that was freed and one
/// that was never used. The last change is complete.
fn idle() -> Vec<u32> {
    let words = vec![0; words_for(5).unwrap()];
    let mut journal = Journal::create(words, Version::CURRENT).unwrap();
    journal.commit(Change::new().put(configuration("x".repeat(PART_BYTES)))).unwrap();
    let id = journal.commit(Change::new().put(answered(1))).unwrap()[0];
    journal.commit(Change::new().put(answered(2)).remove(id)).unwrap();
    journal.into_words()
}

/// The same journal after another change whose process was killed while it replaced heads.
fn committed() -> Vec<u32> {
    let words = idle();
    let (mut journal, live) = Journal::open(words.clone()).unwrap();
    let (id, _) = live[1];
    let (mut recorded, _) = Journal::open(Recorder::new(words.clone())).unwrap();
    recorded.commit(Change::new().put(answered(3)).remove(id)).unwrap();
    journal.commit(Change::new().put(answered(3)).remove(id)).unwrap();
    let after = records(&journal.into_words());
    let mut torn = None;
    let memory = recorded.into_words();
    let count = memory.stores.len();
    replay(words, &memory.stores, |number, words| {
        if number == count - 6 {
            assert_eq!(records(words), after);
            torn = Some(words.clone());
        }
    });
    torn.unwrap()
}

fn flipped(words: &[u32], byte: usize, mask: u8) -> Vec<u32> {
    let mut words = words.to_vec();
    words[byte / 4] ^= u32::from(mask) << (8 * (byte % 4));
    words
}

#[test]
fn every_byte_that_is_flipped_is_found_or_harmless() {
    for words in [idle(), committed()] {
        let intact = records(&words);
        let masks = [0x01, 0x80, 0xff];
        let mut found = 0;
        for byte in 0..words.len() * 4 {
            for mask in masks {
                let damaged = flipped(&words, byte, mask);
                match Contents::read(&damaged) {
                    Ok(contents) if contents.damage.is_empty() => {
                        assert_eq!(contents.records, intact, "byte {byte} with {mask:#04x}");
                        assert!(Journal::open(damaged).is_ok());
                    }
                    Ok(contents) => {
                        found += 1;
                        let open = Journal::open(damaged).map(drop);
                        assert_eq!(open, Err(OpenError::Damaged(contents.damage)));
                    }
                    Err(_) => found += 1,
                }
            }
        }
        assert!(found > 800 * masks.len(), "{found} flips were found");
    }
}

#[test]
fn zeroed_and_exchanged_slots_are_found() {
    let words = idle();
    let slot = |number: usize| words.len() - (5 - number) * 160..words.len() - (4 - number) * 160;
    for number in 0..5 {
        let mut zeroed = words.clone();
        zeroed[slot(number)].fill(0);
        let damage = Contents::read(&zeroed).unwrap().damage;
        let byte = slot(number).start * 4;
        assert_eq!(damage[0], Damage::Head { slot: number as u32, byte });
        let mut copied = words.clone();
        copied.copy_within(slot(number), slot((number + 1) % 5).start);
        assert_ne!(Contents::read(&copied).unwrap().damage, [], "slot {number} in the next");
    }
}

#[test]
fn damage_names_its_place_and_what_is_lost_and_the_rest_is_read() {
    let words = idle();
    let live = records(&words);
    let (lost, kept) = (live[0].0, live[1].clone());
    // Slot 1 has the second part of the first record.
    let byte = (words.len() - 4 * 160 + 7) * 4;
    let contents = Contents::read(&flipped(&words, byte, 1)).unwrap();
    let damage = Damage::Content { slot: 1, byte, kind: Kind::Configuration, id: lost };
    assert_eq!((&contents.records, &contents.damage), (&vec![kept.clone()], &vec![damage.clone()]));
    assert_eq!(
        damage.to_string(),
        format!(
            "the content of slot 1 (byte {byte}) is damaged; record {lost}, a text of the \
             configuration, is lost"
        )
    );

    let contents = Contents::read(&flipped(&words, byte - 28, 1)).unwrap();
    let head = Damage::Head { slot: 1, byte: byte - 28 };
    let (kind, id) = (Kind::Configuration, lost);
    let parts = Damage::Parts { slot: 0, kind, id, parts: 2, found: 1 };
    assert_eq!((&contents.records, &contents.damage), (&vec![kept], &vec![head, parts]));
}

/// The head of the last slot of a journal.
fn last_head(words: &[u32]) -> usize {
    words.len() - 160
}

#[test]
fn the_number_of_each_kind_is_the_documented_one_and_another_is_no_kind() {
    let span = Span::new(0x4000_0000, 4096).unwrap();
    let connection = ConnectionNumber(1);
    let region = Region {
        name: None,
        range: span,
        allocator: None,
        params: String::new(),
        memory: Some("memfd".into()),
    };
    let chunk = Chunk {
        range: span,
        request: Limits::default(),
        device: None,
        process: Process { uid: 1000, pid: 4711, name: "ffmpeg".into() },
        since: 1,
        connection: None,
        file: None,
    };
    let waiting = Waiting { connection, id: 1, order: 1, deadline: 1 };
    let records = [
        (1, Record::Region(region)),
        (2, Record::Chunk(chunk)),
        (4, Record::Waiting(waiting)),
        (5, answered(1)),
        (6, configuration("x")),
        (7, Record::SetAside(SetAside { range: span, lost: false })),
    ];
    for (number, record) in records {
        let words = vec![0; words_for(1).unwrap()];
        let (journal, _) = Journal::create_with(words, Version::CURRENT, [record]).unwrap();
        let mut words = journal.into_words();
        let at = last_head(&words);
        assert_eq!(words[at], number);
        for kind in [3, 8] {
            words[at] = kind;
            let head = [&[0], &words[at..at + 6]].concat();
            let bytes: Vec<u8> = head.into_iter().flat_map(u32::to_ne_bytes).collect();
            words[at + 6] = crc32fast::hash(&bytes);
            let contents = Contents::read(&words).unwrap();
            assert_eq!(contents.damage, [Damage::Nonsense { slot: 0, byte: at * 4, kind }]);
        }
    }
}

#[test]
fn a_damaged_commit_word_or_log_is_no_state() {
    let contents = Contents::read(&flipped(&idle(), COMMIT, 0x40)).unwrap();
    let damage = Damage::CommitWord { byte: COMMIT, found: 0x1d1e_1d5e };
    assert_eq!(contents.damage, [damage]);
    let contents = Contents::read(&flipped(&committed(), COMMIT + 12, 1)).unwrap();
    assert_eq!(contents.damage[0], Damage::Log { byte: COMMIT + 4 });
}

#[test]
fn what_is_intact_in_a_damaged_journal_continues_in_a_new_one() {
    let words = idle();
    let damaged = flipped(&words, (words.len() - 4 * 160 + 7) * 4, 1);
    let intact = Contents::read(&damaged).unwrap().records;
    let intact: Vec<Record> = intact.into_iter().map(|(_, record)| record).collect();
    let new = vec![0; words_for(9).unwrap()];
    let (journal, _) = Journal::create_with(new, Version::CURRENT, intact).unwrap();
    let (_, live) = Journal::open(journal.into_words()).unwrap();
    assert_eq!(live.into_iter().map(|(_, record)| record).collect::<Vec<_>>(), [answered(2)]);
}

#[test]
fn an_older_version_is_converted_and_a_newer_one_is_refused_with_both_versions() {
    let range = Span::new(0x4000_0000, 4096).unwrap();
    let lost = |lost| Record::SetAside(SetAside { range, lost });
    let words = vec![0; words_for(2).unwrap()];
    let (journal, _) = Journal::create_with(words, Version::V1, [lost(true)]).unwrap();
    let older = journal.into_words();
    let opened = Journal::open(older.clone()).map(drop);
    assert_eq!(opened, Err(OpenError::Older(Version::V1)));
    let text = opened.unwrap_err().to_string();
    assert!(text.contains("version 1") && text.contains("version 2"), "{text}");
    // Version 1 doesn't say whether the memory is lost.
    let live: Vec<Record> = records(&older).into_iter().map(|(_, record)| record).collect();
    assert_eq!(live, [lost(false)]);
    let new = vec![0; words_for(2).unwrap()];
    let (journal, _) = Journal::create_with(new, Version::CURRENT, live).unwrap();
    assert_eq!(records(&journal.into_words()), [(id_of_first(), lost(false))]);

    let mut newer = idle();
    newer[2] = 3;
    let head = [newer[0], newer[2], newer[3], newer[4]].map(u32::to_ne_bytes).concat();
    newer[1] = crc32fast::hash(&head);
    let refused = Contents::read(&newer);
    assert_eq!(refused, Err(ReadError::Version { found: 3 }));
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("version 3") && text.contains("1 to 2"), "{text}");
}

fn id_of_first() -> RecordId {
    records(&idle())[0].0
}

#[test]
fn memory_that_is_no_journal_is_refused() {
    let words = |first| {
        let mut words = idle();
        words[0] = first;
        Contents::read(&words)
    };
    assert_eq!(words(0), Err(ReadError::Unfinished));
    assert_eq!(words(7), Err(ReadError::NoJournal { found: 7 }));
    for size in [0, 1, 100, words_for(5).unwrap() + 1] {
        assert_eq!(Contents::read(&vec![0; size]), Err(ReadError::Size { words: size }));
        let created = Journal::create(vec![0; size], Version::CURRENT).map(drop);
        assert_eq!(created, Err(CreateError::Size { words: size }));
    }
    // Intact, but of another size than its memory.
    let mut longer = idle();
    longer.resize(words_for(6).unwrap(), 0);
    let found = Contents::read(&longer);
    assert_eq!(found, Err(ReadError::Slots { slots: 5, words: longer.len() }));
}
