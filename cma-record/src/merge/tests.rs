use super::*;
use cma_record_log::{Stamp, name_key};
use cma_trace::Action;
use proptest::prelude::*;

const PAGE: u64 = 4096;

/// A merge of these events, each with its process and its time in microseconds; slots count from 0.
fn merged(events: &[(u32, u64, Event)], ended: &[(u32, u64)]) -> (Trace, Vec<Loss>) {
    let slots = events.iter().enumerate().map(|(slot, &(process, time_us, event))| Slot {
        slot: slot as u64,
        stamp: Stamp { process, time_ns: 1000 * time_us },
        event,
    });
    let names = names(slots.clone().map(Ok)).unwrap();
    let ended = ended.iter().map(|(process, time_us)| (*process, 1000 * time_us)).collect();
    let mut merge = Merge::new("a test", 4096, PROGRAM, 0, names, &ended);
    slots.for_each(|slot| merge.event(&slot));
    merge.finish()
}

/// The process id of the program.
const PROGRAM: u32 = 70;

/// The operations as `time+size` and `time-size`.
fn operations(trace: &Trace) -> String {
    let mut sizes = Vec::new();
    let words = trace.operations().iter().map(|operation| {
        let time = operation.time_us;
        if let Action::Allocate { size, .. } = operation.action {
            sizes.push(size);
            format!("{time}+{size}")
        } else if let Action::Free { chunk } = operation.action {
            format!("{time}-{}", sizes[chunk as usize])
        } else {
            panic!("{operation:?}")
        }
    });
    Vec::from_iter(words).join(" ")
}

fn start(pid: u32) -> Event {
    Event::Start { pid, namespace: 1 }
}

fn allocate(address: u64, size: u64, replaces: u64) -> Event {
    Event::Allocate { address, size, alignment: 1, by: 0, replaces }
}

fn map(address: u64, length: u64, replaces: u64) -> Event {
    Event::Map { address, length, by: 0, replaces, file: 0 }
}

/// The operations of one process.
fn of_one(events: &[Event]) -> String {
    let events: Vec<_> = events.iter().map(|event| (1, 0, *event)).collect();
    let (trace, losses) = merged(&events, &[]);
    assert_eq!(losses, []);
    operations(&trace).replace("0+", "+").replace("0-", "-")
}

#[test]
fn devices_are_file_names_without_their_versions_that_a_map_can_name() {
    for (name, expected) in [
        ("libavcodec.so.59", "libavcodec"),
        ("libglib-2.0.so.0.7400.6", "libglib-2.0"),
        ("libstdc++.so.6", "libstdc++"),
        ("python3.11", "python3.11"),
        ("plugin.so", "plugin"),
        ("a.sock", "a.sock"),
        (".so", "unknown"),
        ("kworker/0:1", "kworker_0:1"),
        ("a b,c=d;e|f*g?", "a_b_c_d_e_f_g_"),
        ("\u{fc}ber", "\u{fc}ber"),
    ] {
        assert_eq!(device(name.as_bytes()), expected, "{name}");
    }
    assert!(device(&[0xff; 255]).len() <= 255);
}

#[test]
fn a_name_of_several_parts_is_whole_or_unknown() {
    let name = b"a-library-with-a-name-of-more-than-32-bytes.so.1";
    let key = name_key(name);
    let part = |part: u8, bytes: &[u8]| {
        let mut text = [0; NAME_PART];
        text[..bytes.len()].copy_from_slice(bytes);
        (1, 0, Event::Name { key, part, length: 48, text })
    };
    let request =
        (1, 0, Event::Allocate { address: 1, size: 9000, alignment: 1, by: key, replaces: 0 });
    let (first, second) = (part(0, &name[..32]), part(1, &name[32..]));
    let device = |events: &[_]| merged(events, &[]).0.requesters()[0].device.clone();
    let whole = "a-library-with-a-name-of-more-than-32-bytes";
    assert_eq!(device(&[request, second, first, first]), whole);
    assert_eq!(device(&[first, request]), "unknown");
}

#[test]
fn a_replaced_block_ends_after_its_replacement_begins_and_stays_if_the_call_failed() {
    let begin = Event::Begin { address: 1, length: 0 };
    assert_eq!(of_one(&[allocate(1, 8000, 0), begin, allocate(2, 9000, 2)]), "+8000 +9000 -8000");
    // In between, another thread gets the address.
    assert_eq!(
        of_one(&[
            allocate(1, 8000, 0),
            begin,
            allocate(1, 7000, 0),
            allocate(2, 9000, 2),
            Event::Free { address: 1 },
        ]),
        "+8000 +7000 +9000 -8000 -7000"
    );
    let kept = Event::Settle { begun: 2, kept: true };
    let free = Event::Free { address: 1 };
    assert_eq!(of_one(&[allocate(1, 8000, 0), begin, kept, free]), "+8000 -8000");
    let gone = Event::Settle { begun: 2, kept: false };
    assert_eq!(of_one(&[allocate(1, 8000, 0), begin, gone, free]), "+8000 -8000");
}

#[test]
fn ends_of_buffers_that_were_not_recorded_are_ignored() {
    assert_eq!(
        of_one(&[
            Event::Free { address: 1 },
            Event::Begin { address: 1, length: 0 },
            allocate(2, 5000, 2),
            Event::Unmap { address: 0, length: u64::MAX },
            Event::Begin { address: 8 * PAGE, length: PAGE },
            // The range that moved was not recorded.
            map(16 * PAGE, PAGE, 5),
            Event::Close { file: 3 },
        ]),
        "+5000"
    );
}

#[test]
fn a_block_whose_end_was_not_seen_ends_when_its_address_is_used_again() {
    assert_eq!(of_one(&[allocate(1, 5000, 0), allocate(1, 6000, 0)]), "+5000 -5000 +6000");
}

#[test]
fn what_remains_of_a_mapping_is_a_new_buffer_unless_it_is_small() {
    let unmap = |from: u64, pages: u64| Event::Unmap { address: from * PAGE, length: pages * PAGE };
    let whole = map(16 * PAGE, 8 * PAGE, 0);
    assert_eq!(of_one(&[whole, unmap(0, 18)]), "+32768 -32768 +24576");
    assert_eq!(of_one(&[whole, unmap(18, 2)]), "+32768 -32768 +8192 +16384");
    assert_eq!(of_one(&[whole, unmap(18, 100), unmap(16, 2)]), "+32768 -32768 +8192 -8192");
    assert_eq!(of_one(&[whole, unmap(24, 8), unmap(8, 8)]), "+32768");
    // A mapping over a part of it.
    assert_eq!(of_one(&[whole, map(16 * PAGE, 2 * PAGE, 0)]), "+32768 -32768 +24576 +8192");
    // A part of it moves.
    let begin = Event::Begin { address: 20 * PAGE, length: 4 * PAGE };
    assert_eq!(
        of_one(&[whole, begin, map(64 * PAGE, 5 * PAGE, 2)]),
        "+32768 -32768 +16384 +16384 +20480 -16384"
    );
}

#[test]
fn a_memory_file_that_moves_or_is_unmapped_in_part_is_the_same_buffer() {
    let map_file = |at: u64, replaces| Event::Map {
        address: at * PAGE,
        length: 8 * PAGE,
        by: 0,
        replaces,
        file: if replaces == 0 { 5 } else { 0 },
    };
    let unmap = |from: u64, pages: u64| Event::Unmap { address: from * PAGE, length: pages * PAGE };
    assert_eq!(
        of_one(&[
            Event::Resize { file: 5, size: 8 * PAGE, by: 0 },
            map_file(16, 0),
            Event::Close { file: 5 },
            unmap(18, 2),
            Event::Begin { address: 20 * PAGE, length: 4 * PAGE },
            map_file(32, 5),
            unmap(32, 8),
            allocate(1, 5000, 0),
            unmap(16, 2),
        ]),
        "+32768 +5000 -32768"
    );
}

#[test]
fn a_process_frees_its_chunks_when_it_ends_and_the_program_keeps_them() {
    let (child, sibling) = (71, 72);
    let events = [
        (1, 0, start(PROGRAM)),
        (1, 1, allocate(1, 10_000, 0)),
        (2, 2, start(child)),
        (2, 3, allocate(1, 20_000, 0)),
        (2, 3, map(PAGE, 30_000, 0)),
        (3, 4, start(sibling)),
        (3, 5, allocate(1, 40_000, 0)),
        (3, 6, Event::End),
        (1, 9, allocate(2, 50_000, 0)),
        (1, 10, Event::End),
    ];
    // The runner saw the ends of all three; that of the last is in the log already.
    let (trace, _) = merged(&events, &[(2, 7), (3, 8), (1, 11)]);
    assert_eq!(
        operations(&trace),
        "1+10000 3+20000 3+30000 5+40000 6-40000 7-20000 7-30000 9+50000"
    );
}

#[test]
fn an_event_behind_the_end_of_its_process_leaves_no_chunk_live() {
    // Process 3 reserved its slot first and wrote it last; meanwhile process 2 was killed.
    let events = [
        (1, 0, start(PROGRAM)),
        (2, 0, start(71)),
        (2, 1, allocate(0x2000, 8192, 0)),
        (3, 20, start(72)),
        (2, 10, allocate(0x9000, 12288, 0)),
        (3, 21, allocate(0x3000, 4096, 0)),
    ];
    let (trace, _) = merged(&events, &[(2, 15)]);
    assert_eq!(operations(&trace), "1+8192 15-8192 21+4096");
    let events = [(1, 0, start(PROGRAM)), (2, 0, start(71)), (2, 1, Event::End)];
    let late = (2, 2, allocate(0x2000, 8192, 0));
    let (trace, _) = merged(&[&events[..], &[late]].concat(), &[]);
    assert_eq!(operations(&trace), "");
}

#[test]
fn exec_frees_the_chunks_of_the_process_and_the_program_stays_the_program() {
    let events = [
        (1, 0, start(PROGRAM)),
        (1, 1, allocate(1, 10_000, 0)),
        (2, 2, start(PROGRAM)),
        (2, 3, allocate(1, 20_000, 0)),
        (2, 4, Event::End),
    ];
    assert_eq!(operations(&merged(&events, &[]).0), "1+10000 2-10000 3+20000");
    // The same number in another namespace is another process.
    let mut events = events;
    events[2].2 = Event::Start { pid: PROGRAM, namespace: 2 };
    assert_eq!(operations(&merged(&events, &[]).0), "1+10000 3+20000 4-20000");
}

#[test]
fn an_event_that_was_written_late_has_the_time_of_the_one_before_it() {
    let events = [(1, 5, allocate(1, 10_000, 0)), (1, 3, Event::Free { address: 1 })];
    assert_eq!(operations(&merged(&events, &[]).0), "5+10000 5-10000");
}

#[test]
fn requests_that_a_trace_can_not_have_are_counted_and_their_frees_left_out() {
    let mut odd = allocate(1, 5000, 0);
    if let Event::Allocate { alignment, .. } = &mut odd {
        *alignment = 3;
    }
    let (trace, losses) =
        merged(&[(1, 0, odd), (1, 1, Event::Free { address: 1 }), (1, 2, odd)], &[]);
    assert_eq!(trace.operations(), []);
    let reason = RecordError::Alignment { bytes: 3 };
    assert_eq!(losses, [Loss::LeftOut { requests: 2, reason }]);
}

#[test]
fn a_full_trace_says_where_it_ends() {
    let mut merge = Merge::new("a test", 4096, PROGRAM, 0, Names::new(), &HashMap::new());
    // What each operation beyond the limit gets.
    for time_us in [7, 8] {
        merge.output.time_us = time_us;
        merge.output.refused(RecordError::TooManyOperations);
    }
    let time = Duration::from_micros(7);
    let expected = Loss::TraceFull { time, reason: RecordError::TooManyOperations };
    assert_eq!(merge.finish().1, [expected]);
}

/// Small numbers, so that events meet, and the largest, so that sums overflow.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..12_u64, (0..12_u64).prop_map(|n| n * PAGE), Just(u64::MAX), any::<u64>()]
}

fn event() -> impl Strategy<Value = Event> {
    let n = number;
    prop_oneof![
        n().prop_map(|pid| start(pid as u32)),
        Just(Event::End),
        (n(), n(), n()).prop_map(|(address, size, replaces)| allocate(address, size, replaces)),
        n().prop_map(|address| Event::Free { address }),
        (n(), n()).prop_map(|(address, length)| Event::Begin { address, length }),
        (n(), any::<bool>()).prop_map(|(begun, kept)| Event::Settle { begun, kept }),
        (n(), n(), n(), 0..3_u64).prop_map(|(address, length, replaces, file)| Event::Map {
            address,
            length,
            by: 0,
            replaces,
            file
        }),
        (n(), n()).prop_map(|(address, length)| Event::Unmap { address, length }),
        (0..3_u64, n()).prop_map(|(file, size)| Event::Resize { file, size, by: 0 }),
        (0..3_u64).prop_map(|file| Event::Close { file }),
    ]
}

proptest! {
    /// A recorded program can write anything into the log.
    #[test]
    fn any_events_are_a_trace_and_all_chunks_end_with_their_processes(
        events in prop::collection::vec((1..3_u32, 0..50_u64, event()), 0..60)
    ) {
        // No process is the program, so that all ends free everything.
        let events: Vec<_> = events
            .into_iter()
            .filter(|(.., event)| !matches!(event, Event::Start { pid: PROGRAM, .. }))
            .collect();
        let (trace, _) = merged(&events, &[(1, 1000), (2, 1000)]);
        let mut text = Vec::new();
        trace.write(&mut text).unwrap();
        prop_assert_eq!(&Trace::read(&text[..]).unwrap(), &trace);
        let words = operations(&trace);
        prop_assert_eq!(words.matches('+').count(), words.matches('-').count());
    }
}
