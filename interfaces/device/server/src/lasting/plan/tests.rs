use super::*;
use cma_journal::{ConnectionNumber, Journal, Limits, Process, Region, Span, Version, words_for};

const BASE: u64 = 0x4000_0000;
const MIB: u64 = 1 << 20;

fn region(name: &str, start: u64, memory: &str) -> Record {
    Record::Region(Region {
        name: Some(name.into()),
        range: Span::new(start, 16 * MIB).unwrap(),
        allocator: None,
        params: String::new(),
        memory: Some(memory.into()).filter(|memory: &String| !memory.is_empty()),
    })
}

fn chunk(start: u64, size: u64, connection: Option<u64>) -> Record {
    Record::Chunk(Chunk {
        range: Span::new(start, size).unwrap(),
        request: Limits { size, ..Limits::default() },
        device: None,
        process: Process { uid: 1, pid: 2, name: "client".into() },
        since: 0,
        connection: connection.map(ConnectionNumber),
        file: None,
    })
}

fn answered(connection: u64) -> Record {
    Record::Answered(Answered { connection: ConnectionNumber(connection), id: 1, answer: vec![] })
}

fn waiting(connection: u64) -> Record {
    let connection = ConnectionNumber(connection);
    Record::Waiting(Waiting { connection, id: 1, order: 0, deadline: 0 })
}

/// Records with the ids that a journal gives them.
fn recorded(records: &[Record]) -> Vec<(RecordId, Record)> {
    let words = vec![0; words_for(100).unwrap()];
    let records = records.iter().cloned();
    let (journal, _) = Journal::create_with(words, Version::CURRENT, records).unwrap();
    Journal::open(journal.into_words()).unwrap().1
}

/// The plan for a server with the region `ram`.
fn planned(records: &[Record], stored: &[Stored], discard: &Discard) -> Result<Plan, String> {
    let ram = recorded_regions(&recorded(&[region("ram", BASE, "memfd")]));
    let stored = stored.iter().copied().collect();
    plan(&recorded(records), &stored, &ram, Vec::new(), discard).map_err(|error| error.to_string())
}

fn lost(discard: &str) -> Discard {
    Discard { damaged: discard == "damaged", regions: vec![discard.into()] }
}

#[test]
fn what_is_recorded_and_stored_goes_on_and_what_is_only_one_of_both_ends() {
    let records = [
        region("ram", BASE, "memfd"),
        chunk(BASE, MIB, Some(7)),
        chunk(BASE + MIB, MIB, None),
        answered(7),
        answered(8),
        waiting(9),
    ];
    let stored = [
        Stored::Connection(7),
        Stored::Connection(9),
        Stored::Connection(10),
        Stored::Chunk(BASE, 0),
        Stored::Chunk(BASE + MIB, 0),
        Stored::Chunk(BASE + MIB, 1),
        Stored::Chunk(BASE + 9 * MIB, 0),
        Stored::Listener,
    ];
    let plan = planned(&records, &stored, &Discard::default()).unwrap();
    let chunks = plan.chunks.iter().map(|chunk| (chunk.range.start().get(), chunk.files));
    assert_eq!(chunks.collect::<Vec<_>>(), [(BASE, 1), (BASE + MIB, 2)]);
    assert_eq!(plan.connections.keys().collect::<Vec<_>>(), [&7, &9, &10]);
    assert!(plan.connections[&7].answered.is_some() && plan.connections[&9].waiting.is_some());
    assert_eq!(plan.ended.len(), 1, "the answer of a connection that has ended");
    assert_eq!(plan.unrecorded, [Stored::Chunk(BASE + 9 * MIB, 0)]);
    assert!(plan.released.is_empty());
    assert!(plan.orphans.is_empty());
}

#[test]
fn contradictions_stop_the_server_unless_they_may_be_lost() {
    let files = [0, 1, 2, 20].map(|mib| Stored::Chunk(BASE + mib * MIB, 0));
    for (what, records) in [
        ("no recorded region", vec![chunk(BASE + 20 * MIB, MIB, None)]),
        ("no recorded region", vec![chunk(BASE + 1, MIB, None)]),
        ("no memory", vec![chunk(BASE + 3 * MIB, MIB, None)]),
        ("overlaps", vec![chunk(BASE, 2 * MIB, None), chunk(BASE + MIB, MIB, None)]),
        ("only one", vec![chunk(BASE, MIB, Some(1)), chunk(BASE + MIB, MIB, Some(1))]),
        ("only one", vec![answered(1), answered(1)]),
        ("waits for one", vec![chunk(BASE, MIB, Some(1)), waiting(1)]),
    ] {
        let records = [vec![region("ram", BASE, "memfd")], records].concat();
        let mut stored = files.to_vec();
        stored.push(Stored::Connection(1));
        let error = planned(&records, &stored, &Discard::default()).unwrap_err();
        assert!(error.contains(what) && error.contains("--discard damaged"), "{error}");
        let plan = planned(&records, &stored, &lost("damaged")).unwrap();
        assert!(!plan.ended.is_empty(), "{what}");
        // No memory is closed that a client may have.
        assert_eq!(plan.orphans.len() + plan.chunks.len(), files.len(), "{what}");
        assert!(plan.released.is_empty() && plan.unrecorded.is_empty(), "{what}");
    }
}

#[test]
fn a_region_with_chunks_that_the_configuration_lacks_stops_the_server_unless_it_may_be_lost() {
    let stored = [Stored::Chunk(BASE, 0), Stored::Connection(1)];
    for (other, found) in [
        (region("video", BASE, "memfd"), "no such region"),
        (region("ram", BASE - MIB, "memfd"), "it at 0x40000000"),
        (region("ram", BASE, "hugetlb"), "it with memfd instead of hugetlb"),
    ] {
        let name = match &other {
            Record::Region(region) => region.name.clone().unwrap(),
            _ => unreachable!(),
        };
        let records = [other.clone(), chunk(BASE, MIB, Some(1)), answered(1)];
        let error = planned(&records, &stored, &Discard::default()).unwrap_err();
        assert!(error.contains(found) && error.contains("live chunks: 1"), "{error}");
        assert_eq!(planned(&records, &stored, &lost("other")).unwrap_err(), error);
        let plan = planned(&records, &stored, &lost(&name)).unwrap();
        assert_eq!((plan.ended.len(), plan.chunks.len()), (2, 0));
        assert!(stored.iter().all(|stored| plan.released.contains(stored)));
        // Without chunks the new configuration holds.
        assert!(planned(&[other], &[], &Discard::default()).is_ok());
    }
}
