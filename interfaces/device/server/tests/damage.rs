//! What a server finds that it can't continue, and what can't outlive it: it stops, or refuses, and
//! nothing is lost.

#![allow(clippy::print_stdout, reason = "a skipped test prints why")]

mod common;
mod lasting;

use cma_client::AttributeText;
use cma_device_protocol::{Answer, ChunkRequest, MAX_TEXT, RegionSelector, Request};
use cma_journal::{
    Change, Contents, Journal, Mapped, Record, SetAside, Span, Version, Words, create_file,
};
use cma_keeper::{Keeper, KeeperProcess, Name};
use common::{MIB, RawConnection, alloc, eventually};
use lasting::{Kept, Options, serve_if_started};
use rustix::fd::OwnedFd;
use rustix::io::{pread, pwrite};
use std::time::Duration;

#[test]
#[ignore = "the server; other tests start it"]
fn server_process() {
    serve_if_started();
}

/// The text of the answer to a request, and its files.
fn ask(connection: &RawConnection, id: u64, request: &Request<'_>) -> (String, Vec<OwnedFd>) {
    connection.send(id, request);
    // A server that was killed may have sent the last answer before its successor does.
    let (message, files) = loop {
        let (message, files) = connection.receive_with_descriptors().unwrap();
        if message.id() >= id {
            break (message, files);
        }
    };
    assert_eq!(message.id(), id);
    let text = match message.as_answer().unwrap().1 {
        Answer::Refused { errno, reason } => format!("errno {errno}: {reason}"),
        other => format!("{other:?}"),
    };
    (text, files.into_iter().collect())
}

fn is_refused_with(errno: i32, answer: &(String, Vec<OwnedFd>)) -> bool {
    answer.0.starts_with(&format!("errno {errno}:"))
}

/// A server with a chunk, which has the bytes `bytes`, that was killed.
fn killed_with_a_chunk(options: Options) -> (Kept, RawConnection, Vec<OwnedFd>) {
    let mut kept = Kept::started(options);
    let connection = kept.connection();
    let (_, files) = ask(&connection, 1, &alloc("camera", MIB));
    pwrite(&files[0], b"bytes", 0).unwrap();
    kept.kill();
    (kept, connection, files)
}

/// The journal of that number.
fn journal_of(keeper: &mut KeeperProcess, number: u32) -> OwnedFd {
    let name = Name::new(format!("journal-{number}")).unwrap();
    let taken = Keeper::take(keeper).unwrap();
    taken.into_iter().find(|(found, _)| *found == name).unwrap().1
}

/// Starts a server that has to stop, and checks that it has changed nothing. Returns why it did.
fn refusal(kept: &mut Kept) -> String {
    let journal = |kept: &mut Kept| {
        kept.as_server(|keeper| {
            let words = Mapped::new(journal_of(keeper, 1)).unwrap();
            (0..words.len()).map(|at| words.load(at)).collect::<Vec<_>>()
        })
    };
    let before = (kept.names(), journal(kept));
    kept.start();
    assert_eq!(kept.wait().code(), Some(3));
    assert!(before == (kept.names(), journal(kept)), "the server has changed something");
    kept.error().unwrap()
}

/// Checks that the connection and its chunk go on.
fn goes_on(kept: &mut Kept, connection: &RawConnection, files: Vec<OwnedFd>) {
    kept.start();
    assert_eq!(kept.error(), None);
    let (_, again) = ask(connection, 2, &Request::Chunk { first: 0 });
    let mut bytes = [0; 5];
    pread(&again[0], &mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"bytes");
    drop((files, again));
    assert_eq!(ask(connection, 3, &Request::Free).0, "Freed");
}

/// Damages the record of the one chunk.
fn damage_a_chunk(kept: &mut Kept) {
    kept.as_server(|keeper| {
        let mut words = Mapped::new(journal_of(keeper, 1)).unwrap();
        let (_, record) = Contents::read(&words)
            .unwrap()
            .records
            .into_iter()
            .find(|(_, record)| matches!(record, Record::Chunk(_)))
            .unwrap();
        let Record::Chunk(chunk) = record else { unreachable!() };
        // A word of its content is that of its place.
        let start = chunk.range.start() as u32;
        let at = (0..words.len()).find(|at| words.load(*at) == start && words.load(*at + 1) == 0);
        let at = at.unwrap();
        let next = (at + 1..words.len()).find(|at| words.load(*at) == start);
        for at in [Some(at), next].into_iter().flatten() {
            words.store(at, start + 1);
        }
    });
}

#[test]
fn a_damaged_journal_stops_the_server_and_the_rest_can_go_on() {
    let (mut kept, connection, files) = killed_with_a_chunk(Options::default());
    damage_a_chunk(&mut kept);
    let error = refusal(&mut kept);
    assert!(error.contains("chunk") && error.contains("--discard damaged"), "{error}");
    assert_eq!(refusal(&mut kept), error);

    kept.options.discard = "damaged".into();
    kept.start();
    assert_eq!(kept.error(), None);
    // The client has no chunk any more, but its memory is nobody else's as long as it has it.
    assert!(is_refused_with(77, &ask(&connection, 2, &Request::Free)));
    let other = kept.connection();
    assert!(is_refused_with(12, &ask(&other, 1, &alloc("camera", 16 * MIB))));
    drop(files);
    let mut id = 1;
    eventually("the memory is free", || {
        id += 1;
        !is_refused_with(12, &ask(&other, id, &alloc("camera", 16 * MIB)))
    });
    kept.hand_over();
    kept.options.discard = String::new();
    kept.start();
    assert_eq!(kept.error(), None);
}

/// The checksum of the first words, which have the same meaning in all versions.
fn checksum(words: &[u32]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    words.iter().for_each(|word| hasher.update(&word.to_ne_bytes()));
    hasher.finalize()
}

#[test]
fn a_newer_journal_is_refused_with_both_versions_and_kept() {
    let (mut kept, connection, files) = killed_with_a_chunk(Options::default());
    let set_version = |kept: &mut Kept, version: u32| {
        kept.as_server(|keeper| {
            let mut words = Mapped::new(journal_of(keeper, 1)).unwrap();
            words.store(2, version);
            let first = [words.load(0), version, words.load(3), words.load(4)];
            words.store(1, checksum(&first));
        });
    };
    set_version(&mut kept, 77);
    for discard in ["", "damaged"] {
        kept.options.discard = discard.into();
        let error = refusal(&mut kept);
        let known = format!("versions 1 to {}", Version::CURRENT.number());
        assert!(error.contains("version 77") && error.contains(&known), "{error}");
    }
    set_version(&mut kept, Version::CURRENT.number());
    goes_on(&mut kept, &connection, files);
}

#[test]
fn an_older_journal_is_converted_and_so_is_one_that_is_too_small() {
    let (mut kept, connection, files) = killed_with_a_chunk(Options::default());
    kept.as_server(|keeper| {
        let words = Mapped::new(journal_of(keeper, 1)).unwrap();
        let records = Contents::read(&words).unwrap().records.into_iter().map(|(_, record)| record);
        let older = create_file(2000).unwrap();
        Journal::create_with(Mapped::new(&older).unwrap(), Version::V1, records).unwrap();
        keeper.put(&Name::new("journal-2").unwrap(), &older).unwrap();
    });
    kept.start();
    assert_eq!(kept.error(), None);
    kept.kill();
    assert!(kept.names().contains(&"journal-3".to_string()), "{:?}", kept.names());
    assert!(!kept.names().iter().any(|name| name == "journal-1" || name == "journal-2"));
    kept.options.limits = "connections=400,user-connections=400".into();
    goes_on(&mut kept, &connection, files);
    kept.hand_over();
    assert!(kept.names().contains(&"journal-4".to_string()), "{:?}", kept.names());
}

#[test]
fn a_region_that_the_configuration_lacks_stops_the_server_and_can_be_given_up() {
    let (mut kept, connection, files) = killed_with_a_chunk(Options::default());
    let old = kept.options.clone();
    for (regions, found) in [("video=16M", "no such region"), ("x=1M;ram=16M", "it at 0x40100000")]
    {
        kept.options =
            Options { regions: regions.into(), map: "*=ram,video".into(), ..old.clone() };
        let error = refusal(&mut kept);
        assert!(error.contains("region ram") && error.contains(found), "{error}");
        assert!(error.contains("--discard ram"), "{error}");
    }
    kept.options.discard = "ram".into();
    kept.start();
    assert_eq!(kept.error(), None);
    eventually("its client is disconnected", || connection.is_closed());
    let other = kept.connection();
    let (answer, _) = ask(&other, 1, &alloc("camera", 16 * MIB));
    assert!(answer.starts_with("Chunk"), "{answer}");
    kept.kill();
    let chunks = kept.names().into_iter().filter(|name| name.starts_with("chunk-"));
    assert_eq!(chunks.collect::<Vec<_>>(), ["chunk-40100000"]);
    drop(files);
}

#[test]
fn a_full_journal_refuses_before_anything_changes() {
    let (mut kept, connection, files) = killed_with_a_chunk(Options::default());
    kept.as_server(|keeper| {
        let (mut journal, _) = Journal::open(Mapped::new(journal_of(keeper, 1)).unwrap()).unwrap();
        while journal.free_slots() > 1 {
            let mut change = Change::new();
            let range = Span::new(0, 4096).unwrap();
            change.put(Record::SetAside(SetAside { range, lost: false }));
            journal.commit(&change).unwrap();
        }
    });
    kept.start();
    assert_eq!(kept.error(), None);
    let other = kept.connection();
    for id in 1..3 {
        let refused = ask(&other, id, &alloc("camera", MIB));
        assert!(is_refused_with(12, &refused) && refused.0.contains("the journal is full"));
    }
    // The chunk is still there, and so is its end.
    let (_, again) = ask(&connection, 2, &Request::Chunk { first: 0 });
    assert_eq!(again.len(), 1);
    drop((again, files, connection));
    let names = |kept: &mut Kept| {
        kept.hand_over();
        let names = kept.names();
        kept.start();
        names.into_iter().filter(|name| name.starts_with("chunk-")).count()
    };
    eventually("the chunk is free", || names(&mut kept) == 0);
}

/// The number of free slots of the journal. No server runs.
fn free_slots(kept: &mut Kept) -> usize {
    kept.as_server(|keeper| {
        let words = Mapped::new(journal_of(keeper, 1)).unwrap();
        Journal::open(words).unwrap().0.free_slots()
    })
}

#[test]
fn a_client_takes_two_slots_of_the_journal_at_most_which_has_three_for_each() {
    let limits = "connections=40,user-connections=40,user-chunks=40,chunks=40";
    let mut kept = Kept::started(Options { limits: limits.into(), ..Options::default() });
    kept.kill();
    let empty = free_slots(&mut kept);
    assert!(empty > 3 * 40, "{empty}");
    kept.start();
    // The longest names, because a chunk is recorded with them.
    let (device, kind) = ("d".repeat(MAX_TEXT - 9), "k".repeat(9));
    let request = |size| {
        let from = RegionSelector::Device { device: &device, kind: &kind };
        move |wait| Request::Alloc { from, chunk: ChunkRequest::new(size).wait(wait), memory: true }
    };
    let client = |_| {
        let connection = kept.connection();
        let (answer, files) = ask(&connection, 1, &request(4096)(Duration::ZERO));
        assert!(answer.starts_with("Chunk"), "{answer}");
        (connection, files)
    };
    let mut clients: Vec<_> = (0..24).map(client).collect();
    // One waits after a refusal, instead of having a chunk.
    let (connection, files) = clients.pop().unwrap();
    drop(files);
    assert_eq!(ask(&connection, 2, &Request::Free).0, "Freed");
    let refused = ask(&connection, 3, &request(16 * MIB)(Duration::ZERO));
    assert!(is_refused_with(110, &refused), "{}", refused.0);
    connection.send(4, &request(16 * MIB)(Duration::from_secs(60)));
    clients.push((connection, Vec::new()));
    eventually("one waits", || {
        let waiters = kept.client().attribute("regions/ram/waiters").unwrap();
        matches!(waiters, AttributeText::Text(text) if text.lines().count() == 1)
    });
    kept.kill();
    let (used, most) = (empty - free_slots(&mut kept), 2 * clients.len());
    // The server may have died before it recorded that one waits.
    assert!(used == most || used == most - 1, "{used} slots of {} clients", clients.len());
}

#[test]
fn a_keeper_without_descriptors_refuses_chunks_and_idle_connections_make_room() {
    let kept = Kept::started(Options { most_puts: Some(3), ..Options::default() });
    // The journal, the listener and one chunk.
    let [first, second] = [(); 2].map(|()| kept.connection());
    let (_, files) = ask(&first, 1, &alloc("camera", MIB));
    for id in 1..4 {
        let refused = ask(&second, id, &alloc("camera", MIB));
        assert!(is_refused_with(24, &refused), "{}", refused.0);
    }
    drop(files);
    assert_eq!(ask(&first, 2, &Request::Free).0, "Freed");
    assert!(!is_refused_with(24, &ask(&second, 4, &alloc("camera", 16 * MIB))));
}

#[test]
fn a_server_that_dies_while_it_loses_damaged_records_loses_nothing_else() {
    let discard = || Options { discard: "damaged".into(), ..Options::default() };
    // They stay, because the end of a connection would take further steps.
    let (mut kept, _connection, _files) = killed_with_a_chunk(Options::default());
    damage_a_chunk(&mut kept);
    kept.options = discard();
    kept.start();
    eventually("the steps of a start are counted", || kept.steps() > 0);
    let steps = kept.steps();
    drop(kept);
    assert!(steps > 4, "{steps}");
    for dies_at in 1..=steps {
        let (mut kept, connection, files) = killed_with_a_chunk(Options::default());
        damage_a_chunk(&mut kept);
        kept.options = Options { dies_at, ..discard() };
        kept.start();
        assert!(kept.has_ended(), "step {dies_at} of {steps}");
        kept.wait();
        kept.options = Options::default();
        kept.start();
        if kept.error().is_some_and(|error| error.contains("--discard damaged")) {
            kept.wait();
            kept.options = discard();
            kept.start();
        }
        assert_eq!(kept.error(), None);
        let other = kept.connection();
        assert!(is_refused_with(12, &ask(&other, 1, &alloc("camera", 16 * MIB))), "{dies_at}");
        assert!(is_refused_with(77, &ask(&connection, 2, &Request::Free)));
        drop(files);
    }
}

#[test]
fn clients_from_before_and_after_the_end_of_the_keeper_are_different_ones() {
    let mut kept = Kept::started(Options::default());
    let before = kept.connection();
    let (_, files) = ask(&before, 1, &alloc("camera", MIB));
    kept.end_keeper();
    let after = [(); 4].map(|()| kept.connection());
    for connection in &after {
        let answer = ask(connection, 1, &alloc("camera", 16 * MIB));
        assert!(is_refused_with(12, &answer), "{}", answer.0);
    }
    assert_eq!(ask(&before, 2, &Request::Chunk { first: 0 }).1.len(), files.len());
    kept.end();
}

#[test]
fn a_server_goes_on_when_its_keeper_has_ended() {
    let mut kept = Kept::started(Options::default());
    let first = kept.connection();
    let (_, files) = ask(&first, 1, &alloc("camera", MIB));
    kept.end_keeper();
    drop(files);
    assert_eq!(ask(&first, 2, &Request::Free).0, "Freed");
    let second = kept.connection();
    let (answer, files) = ask(&second, 1, &alloc("camera", 16 * MIB));
    assert!(answer.starts_with("Chunk"), "{answer}");
    drop((files, second));
    eventually("the chunk of a client that has gone is free", || {
        let third = kept.connection();
        ask(&third, 1, &alloc("camera", 16 * MIB)).0.starts_with("Chunk")
    });
    kept.end();
}
