//! What becomes of the events of a recording, in every order in which they can stand.

use super::*;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{self, Write};

/// An import of events, each with the thread and its time in milliseconds.
fn imported(events: &[(u32, u64, &str)]) -> Imported {
    import(text(events).as_bytes(), &ImportOptions::new("test")).unwrap()
}

fn text(events: &[(u32, u64, &str)]) -> String {
    let line = |(pid, ms, event): &(u32, u64, &str)| match event.strip_prefix('#') {
        Some(other) => format!("{other}\n"),
        None => format!(" t-{pid} [000] .... {}.{:03}000: {event}\n", ms / 1000, ms % 1000),
    };
    events.iter().map(line).collect()
}

fn operations(imported: &Imported) -> Vec<String> {
    let mut written = Vec::new();
    imported.trace.write(&mut written).unwrap();
    String::from_utf8(written).unwrap().lines().skip(3).map(String::from).collect()
}

fn warnings(imported: &Imported) -> Vec<String> {
    imported.warnings.iter().map(|warning| warning.to_string()).collect()
}

fn refusal(text: &str) -> String {
    import(text.as_bytes(), &ImportOptions::new("test")).expect_err(text).to_string()
}

const START: &str = "cma_alloc_start: name=r count=2 align=1";
const AT_16: &str = "cma_alloc_finish: name=r pfn=0x10 page=1 count=2 align=1 errorno=0";
const FREE_16: &str = "cma_release: name=r pfn=0x10 page=1 count=2";
const REFUSED: &str =
    "cma_alloc_finish: name=r pfn=0xffffffffffffffff page=0 count=2 align=1 errorno=-12";

#[test]
fn requests_have_the_time_of_their_last_search_and_refused_ones_stay_refused() {
    let imported = imported(&[
        (1, 10, START),
        (2, 11, START),
        (3, 12, START),
        (2, 13, "cma_alloc_busy_retry: name=r pfn=0x20 page=1 count=2 align=1"),
        (3, 14, REFUSED),
        (2, 15, "cma_alloc_finish: name=r pfn=0x22 page=1 count=2 align=1 errorno=0"),
        (1, 16, AT_16),
        (4, 17, FREE_16),
    ]);
    assert_eq!(
        operations(&imported),
        [
            "0 a 1 8192 8192 t-1 from=r",
            "2000 r 2 8192 8192 t-3 from=r",
            "3000 a 3 8192 8192 t-2 from=r",
            "7000 f 1",
        ]
    );
    assert!(imported.warnings.is_empty());
    assert_eq!(imported.regions[0].used, 0x10_000..0x24_000);
}

#[test]
fn a_chunk_that_is_released_and_was_never_allocated_lived_before_the_recording() {
    let imported = imported(&[
        (1, 10, START),
        (1, 11, AT_16),
        // Pages 8 to 16 are of before, and the chunk behind them is known.
        (1, 20, "cma_release: name=r pfn=0x8 page=1 count=10"),
        (1, 30, "cma_release: name=r pfn=0x40 page=1 count=1"),
    ]);
    assert_eq!(
        operations(&imported),
        [
            "0 a 1 32768 4096 unknown from=r at=0x8000",
            "0 a 2 4096 4096 unknown from=r at=0x40000",
            "0 a 3 8192 8192 t-1 from=r",
            "10000 f 1",
            "10000 f 3",
            "20000 f 2",
        ]
    );
    assert!(imported.warnings.is_empty());
}

#[test]
fn a_chunk_is_freed_with_its_last_part() {
    let imported = imported(&[
        (1, 10, "cma_alloc_start: name=r count=4 align=0"),
        (1, 11, "cma_alloc_finish: name=r pfn=0x10 page=1 count=4 align=0 errorno=0"),
        (1, 20, "cma_release: name=r pfn=0x11 page=1 count=1"),
        (2, 21, "cma_alloc_start: name=r count=1 align=0"),
        (2, 21, "cma_alloc_finish: name=r pfn=0x11 page=1 count=1 align=0 errorno=0"),
        (1, 30, "cma_release: name=r pfn=0x10 page=1 count=1"),
        // The rest, and another chunk.
        (1, 40, "cma_release: name=r pfn=0x11 page=1 count=3"),
    ]);
    assert_eq!(
        operations(&imported),
        ["0 a 1 16384 4096 t-1 from=r", "11000 a 2 4096 4096 t-2 from=r", "30000 f 2", "30000 f 1"]
    );
    assert_eq!(
        warnings(&imported),
        [
            "from line 3: 2 releases of a part of a chunk; the trace frees the chunk with its last part"
        ]
    );
}

#[test]
fn pages_that_are_allocated_before_their_release_is_logged_are_freed_just_before() {
    let imported = imported(&[
        (1, 10, START),
        (1, 11, AT_16),
        (2, 20, START),
        (2, 21, AT_16),
        (1, 22, FREE_16), // of the first
        (3, 30, "cma_alloc_start: name=r count=1 align=0"),
        (2, 31, FREE_16),
        (3, 32, "cma_alloc_finish: name=r pfn=0x11 page=1 count=1 align=0 errorno=0"),
    ]);
    assert_eq!(
        operations(&imported),
        [
            "0 a 1 8192 8192 t-1 from=r",
            "10000 f 1",
            "10000 a 2 8192 8192 t-2 from=r",
            "21000 f 2",
            // It began before, and was served after the release.
            "21000 a 3 4096 4096 t-3 from=r",
        ]
    );
    assert!(imported.warnings.is_empty(), "{:?}", warnings(&imported));

    // Without that release the chunk is never freed twice.
    let imported =
        self::imported(&[(1, 10, START), (1, 11, AT_16), (2, 20, START), (2, 21, AT_16)]);
    assert_eq!(operations(&imported).len(), 3);
    let never = warnings(&imported);
    assert!(never[0].contains("its release is not in the recording"), "{never:?}");
}

#[test]
fn a_release_that_may_have_been_lost_is_not_awaited() {
    let imported = imported(&[
        (1, 10, START),
        (1, 11, AT_16),
        (0, 0, "#CPU:1 [LOST 5 EVENTS]"),
        (2, 20, START),
        (2, 21, AT_16),
        (2, 30, FREE_16), // of the second: that of the first was lost
        (3, 40, START),
        (3, 41, REFUSED),
    ]);
    assert_eq!(
        operations(&imported),
        [
            "0 a 1 8192 8192 t-1 from=r",
            "10000 f 1",
            "10000 a 2 8192 8192 t-2 from=r",
            "20000 f 2",
            "30000 r 3 8192 8192 t-3 from=r",
        ]
    );
    let found = warnings(&imported);
    assert!(found[0].starts_with("from line 3: 5 events of any kind were lost"), "{found:?}");
    assert!(found[1].starts_with("from line 5: 1 chunk was allocated in pages whose"), "{found:?}");
}

#[test]
fn lost_events_are_reported_in_every_form() {
    for (line, lost) in [
        ("CPU:0 [LOST 12 EVENTS]", 12),
        ("CPU:3 [7 EVENTS DROPPED]", 7),
        ("CPU:3 [EVENTS DROPPED]", 1),
        ("# entries-in-buffer/entries-written: 90/100   #P:1", 10),
        ("t 1 [000] 1.000000: PERF_RECORD_LOST lost 4", 4),
    ] {
        let imported = imported(&[(0, 0, &format!("#{line}")), (1, 10, START), (1, 11, AT_16)]);
        assert!(warnings(&imported)[0].starts_with("from line 1: "), "{line}");
        assert_eq!(imported.warnings.iter().next().unwrap().count(), lost, "{line}");
    }
    let all = "#".to_string() + "# entries-in-buffer/entries-written: 90/90   #P:1";
    assert!(imported(&[(0, 0, &all), (1, 10, START), (1, 11, AT_16)]).warnings.is_empty());
}

#[test]
fn a_double_release_changes_nothing() {
    let imported = imported(&[
        (1, 10, START),
        (1, 11, AT_16),
        (1, 20, FREE_16),
        (1, 21, FREE_16),
        (1, 22, FREE_16),
    ]);
    assert_eq!(operations(&imported), ["0 a 1 8192 8192 t-1 from=r", "10000 f 1"]);
    assert_eq!(
        warnings(&imported),
        ["from line 4: 2 releases have pages that were free already, which changes nothing"]
    );
}

#[test]
fn requests_without_a_start_or_without_an_end_are_found() {
    let imported = imported(&[
        (1, 10, AT_16), // began before the recording
        (2, 11, START),
        (2, 12, START),
        (3, 13, START),
    ]);
    assert_eq!(operations(&imported), ["0 a 1 8192 8192 t-1 from=r"]);
    let found = warnings(&imported);
    assert!(found[0].starts_with("from line 3: 1 request never ended"), "{found:?}");
    assert!(found[1].starts_with("up to line 4: 2 requests had not ended"), "{found:?}");
}

#[test]
fn clocks_may_differ_by_ten_milliseconds_and_no_more() {
    let imported = imported(&[(1, 100, START), (1, 90, AT_16), (2, 101, FREE_16)]);
    assert_eq!(operations(&imported), ["0 a 1 8192 8192 t-1 from=r", "1000 f 1"]);
    assert_eq!(
        warnings(&imported),
        [
            "from line 2: 1 event has a time before the line above, by up to 10 ms; they have its time"
        ]
    );
    assert_eq!(
        refusal(&text(&[(1, 100, START), (1, 89, AT_16)])),
        "line 2: expected a time of 0.100000 s or later, found 0.089000: is this more than one recording?"
    );
}

#[test]
fn names_that_a_map_cant_have_are_changed() {
    let text = "kworker/0:1-7 [000] 1.000000: cma_alloc_finish: name=linux,cma (x) pfn=1 page=1 count=1 align=0 errorno=0\n";
    let imported = import(text.as_bytes(), &ImportOptions::new("test")).unwrap();
    assert_eq!(operations(&imported), ["0 a 1 4096 4096 kworker_0:1-7 from=linux_cma__x_"]);
}

#[test]
fn sizes_are_in_pages_of_the_kernel() {
    let options = ImportOptions { page_size: 16 << 10, ..ImportOptions::new("test") };
    let events =
        text(&[(1, 10, START), (1, 11, AT_16), (1, 12, "cma_release: name=r pfn=0x9 count=1")]);
    let imported = import(events.as_bytes(), &options).unwrap();
    assert_eq!(
        operations(&imported),
        ["0 a 1 16384 4096 unknown from=r at=0x24000", "0 a 2 32768 32768 t-1 from=r", "2000 f 1"]
    );
    for page_size in [0, 1, 2048, 5000, 1 << 21] {
        let options = ImportOptions { page_size, ..ImportOptions::new("test") };
        let error = import(events.as_bytes(), &options).unwrap_err();
        assert!(matches!(error, ImportError::Option { .. }), "{page_size}");
    }
}

#[test]
fn input_without_an_event_is_refused_with_a_reason() {
    assert!(refusal("").starts_with("none of its 0 lines is an event"));
    assert!(refusal("# tracer: nop\ncpus=1\n").starts_with("none of its 2 lines is an event"));
    let of_trace_cmd = [&b"\x17\x08\x44tracing6\0\0"[..], &[0; 100_000]].concat();
    let of_perf = [&b"PERFILE2\n"[..], &[0; 100]].concat();
    for (bytes, command) in [(of_trace_cmd, "trace-cmd report"), (of_perf, "perf script")] {
        let error = import(&bytes[..], &ImportOptions::new("")).unwrap_err();
        assert!(error.to_string().contains(command), "{error}");
    }
}

#[test]
fn an_event_that_is_cut_or_beyond_the_address_space_is_refused_with_its_line() {
    let events = text(&[(1, 10, START), (1, 11, AT_16)]);
    assert_eq!(
        refusal(events.trim_end_matches(" align=1 errorno=0\n").trim_end_matches('2')),
        "line 2, column 74: expected count= and a number of pages, 1 or more, found \"\""
    );
    for (event, expected) in [
        ("cma_release: pfn=fffffffffffff count=1", "line 1: 1 pages from page 0xfffffffffffff on"),
        ("cma_release: pfn=0 count=18446744073709551615", "line 1: 18446744073709551615 pages"),
        (
            "cma_alloc_finish: pfn=0 page=1 count=99999999999999999 align=0",
            "line 1: 99999999999999999 pages",
        ),
    ] {
        assert!(refusal(&text(&[(1, 1, event)])).starts_with(expected), "{event}");
    }
}

fn compressed(text: &[u8]) -> Vec<u8> {
    let mut output = GzEncoder::new(Vec::new(), Compression::fast());
    output.write_all(text).unwrap();
    output.finish().unwrap()
}

#[test]
fn compressed_recordings_read_the_same_and_a_truncated_one_is_refused() {
    let events = text(&[(1, 10, START), (1, 11, AT_16), (1, 20, FREE_16)]);
    let options = ImportOptions::new("test");
    let plain = import(events.as_bytes(), &options).unwrap();
    let packed = compressed(events.as_bytes());
    assert_eq!(import(&packed[..], &options).unwrap().trace, plain.trace);
    for end in 2..packed.len() {
        let error = import(&packed[..end], &options).unwrap_err();
        assert!(matches!(error, ImportError::Read(ReadError::Truncated { .. })), "{end}: {error}");
    }
}

#[test]
fn a_line_without_an_end_is_refused_after_its_first_64_kib() {
    const PLENTY: u64 = 1 << 30;
    let start = text(&[(1, 10, START)]);
    let mut input = start.as_bytes().chain(io::repeat(b'x').take(PLENTY));
    let error = import(&mut input, &ImportOptions::new("")).unwrap_err();
    assert_eq!(error.to_string(), "line 2: expected up to 65536 bytes, found more");
    let (_, rest) = input.into_inner();
    assert!(PLENTY - rest.limit() < 1 << 17);
    // A small compressed input that expands to one long line, or to many empty ones.
    let bomb = compressed(&vec![b' '; 8 << 20]);
    assert!(import(&bomb[..], &ImportOptions::new("")).is_err());
    let lines = compressed(&vec![b'\n'; 1 << 20]);
    let error = import(&lines[..], &ImportOptions::new("")).unwrap_err();
    assert!(matches!(error, ImportError::NoEvents { lines: 1_048_576 }), "{error}");
}

#[test]
fn endless_requests_are_refused() {
    let starts = (0..u32::MAX).map(|pid| text(&[(pid, 1, START)]));
    let text: String = starts.take((1 << 16) + 1).collect();
    assert_eq!(refusal(&text), "line 65537: more than 65536 requests have begun and not ended");
}

#[test]
fn endless_areas_are_refused() {
    let start = |n| format!("cma_alloc_start: name=r{n} count=2 align=1");
    let text: String = (0..2000).map(|n| text(&[(1, 1, &start(n))])).collect();
    assert_eq!(refusal(&text), "line 1025: more than 1024 areas are named");
}

const LIST: &str = "cma: number of available pages: 4@2+1@8+6@10=> 11 free of 16 total pages\n";

fn log(text: &str) -> KernelLog {
    KernelLog::read(text.as_bytes()).unwrap()
}

#[test]
fn the_taken_ranges_of_a_list_are_chunks() {
    let options = ImportOptions { start: Some(0x10_0000), ..ImportOptions::new("state") };
    let imported = state(&log(LIST), &options).unwrap();
    assert_eq!(
        operations(&imported),
        [
            "0 a 1 8192 4096 unknown at=0x100000",
            "0 a 2 8192 4096 unknown at=0x106000",
            "0 a 3 4096 4096 unknown at=0x109000",
        ]
    );
    assert_eq!(imported.regions[0].range, Some(0x10_0000..0x11_0000));
    // The last list of each area counts, and its name is in the line before.
    let text = format!(
        "[    0.000000] cma: Reserved 1 MiB at 0x0000000000200000 on node -1\n\
         [    1.0] cma: __cma_alloc: linux,cma: alloc failed, req-size: 9 pages, ret: -12\n\
         [    1.000001] {LIST}\
         [    1.2] cma: __cma_alloc: linux,cma: alloc failed, req-size: 9 pages, ret: -12\n\
         [    2.000001] cma: number of available pages: => 0 free of 256 total pages\n"
    );
    let imported = state(&log(&text), &ImportOptions::new("state")).unwrap();
    assert_eq!(operations(&imported), ["0 a 1 1048576 4096 unknown from=linux_cma at=0x200000"]);
    let text = text.replace(
        "cma: Reserved 1 MiB at 0x0000000000200000 on node -1",
        "Reserved memory: created CMA memory pool at 0x0000000000300000, size 1 MiB",
    );
    let imported = state(&log(&text), &ImportOptions::new("state")).unwrap();
    assert_eq!(operations(&imported), ["0 a 1 1048576 4096 unknown from=linux_cma at=0x300000"]);
}

#[test]
fn a_list_tells_what_lived_throughout_a_recording() {
    fn options(log: Option<&KernelLog>) -> ImportOptions<'_> {
        ImportOptions { start: Some(0x1_0000), log, ..ImportOptions::new("test") }
    }
    let release = "cma_release: name=r pfn=0x16 page=1 count=1";
    let events = text(&[(1, 10, START), (1, 11, AT_16), (1, 20, FREE_16), (1, 30, release)]);
    // Without a time it is the state at the start: pages 0x10 and 0x11 are free.
    let start = log("cma: number of available pages: 6@0+8@8=> 14 free of 16 total pages");
    let expected = [
        "0 a 1 4096 4096 unknown from=r at=0x16000",
        "0 a 2 4096 4096 unknown from=r at=0x17000",
        "0 a 3 8192 8192 t-1 from=r",
        "10000 f 3",
        "20000 f 1",
    ];
    let imported = import(events.as_bytes(), &options(Some(&start))).unwrap();
    assert_eq!(operations(&imported), expected);
    // At its time, the chunk of the recording is taken too, or the released page is free.
    for (time, list) in [
        ("0.015000", "4@2+8@8=> 12 free of 16 total pages"),
        ("0.035000", "7@0+8@8=> 15 free of 16 total pages"),
    ] {
        let later = log(&format!("[    {time}] cma: number of available pages: {list}"));
        let imported = import(events.as_bytes(), &options(Some(&later))).unwrap();
        let mut found = operations(&imported);
        found.sort();
        let mut expected = expected;
        expected.sort_unstable();
        assert_eq!(found, expected, "{list}");
    }
    // The first list within the recording counts, and none before it.
    let old = "[    0.005000] cma: number of available pages: => 0 free of 16 total pages\n";
    let later =
        "[    0.015000] cma: number of available pages: 4@2+8@8=> 12 free of 16 total pages";
    let imported =
        import(events.as_bytes(), &options(Some(&log(&format!("{old}{later}"))))).unwrap();
    assert_eq!(operations(&imported).len(), 5);
    assert!(imported.warnings.is_empty());
    let imported = import(events.as_bytes(), &options(Some(&log(old)))).unwrap();
    assert_eq!(operations(&imported).len(), 4);
    let found = warnings(&imported);
    assert!(
        found[0].starts_with("line 1 of the log: 1 list of free pages is of a time"),
        "{found:?}"
    );
    // A page that is released was taken, also if a list before the event has it as free: its bits
    // are cleared before the event.
    let free = log("cma: number of available pages: 16@0=> 16 free of 16 total pages");
    let imported = import(events.as_bytes(), &options(Some(&free))).unwrap();
    assert_eq!(operations(&imported).len(), 4);
    assert!(imported.warnings.is_empty());
}

#[test]
fn a_list_that_contradicts_itself_is_refused_with_its_place() {
    let refusal = |list: &str| {
        let text = format!("first line\ncma: number of available pages: {list}");
        KernelLog::read(text.as_bytes()).expect_err(list).to_string()
    };
    for (list, expected) in [
        (
            "4@2+1@6=> 5 free of 16 total pages",
            "line 2, column 37: expected a free range behind the one before, with a taken page between them, found \"1@6=>\"",
        ),
        ("4@2+1@1=> 5 free of 16 total pages", "line 2, column 37: expected a free range behind"),
        ("0@2=> 0 free of 16 total pages", "line 2, column 33: expected a free range behind"),
        (
            "4@2=> 5 free of 16 total pages",
            "line 2, column 39: expected the sum of the free ranges, found \"5\"",
        ),
        ("4@2=> 4 free of 5 total pages", "line 2, column 49: expected a number of all pages that"),
        ("=> 0 free of 0 total pages", "line 2, column 46: expected a number of all pages that"),
        ("4@2=> 4 free", "line 2, column 40: expected \"free of\""),
        ("4@", "line 2, column 35: expected the first page of the free range, found \"\""),
        ("4", "line 2, column 34: expected @ and"),
        ("4@2 ", "line 2, column 36: expected + and the next free range, or =>"),
        ("x", "line 2, column 33: expected a free range: PAGES@FIRST, found \"x\""),
        ("", "line 2, column 33: expected a free range: PAGES@FIRST, found \"\""),
        ("1@18446744073709551615=> 1 free of 1 total pages", "line 2, column 33: expected a free"),
    ] {
        assert!(refusal(list).starts_with(expected), "{list}: {}", refusal(list));
    }
    let error = KernelLog::read(&b"nothing\n"[..]).unwrap_err();
    assert!(matches!(error, ImportError::NoFreeList));
}

#[test]
fn an_area_without_a_start_or_a_name_is_asked_for() {
    let error = state(&log(LIST), &ImportOptions::new("")).unwrap_err().to_string();
    assert!(error.starts_with("the log does not say where the area of 64K starts"), "{error}");
    // Two areas of that size.
    let two = "cma: Reserved 1 MiB at 0x100000\ncma: Reserved 1 MiB at 0x300000\n\
               number of available pages: => 0 free of 256 total pages";
    assert!(state(&log(two), &ImportOptions::new("")).is_err());
    let options = ImportOptions { start: Some(0x10_0800), ..ImportOptions::new("") };
    assert!(matches!(state(&log(LIST), &options), Err(ImportError::Option { .. })));

    let other = "cma_alloc_finish: name=s pfn=0x90 page=1 count=2 align=1 errorno=0";
    let events = text(&[(1, 10, START), (1, 11, AT_16), (1, 12, other)]);
    let list = log(&format!("[  1.000000] {LIST}"));
    let options =
        ImportOptions { start: Some(0x1_0000), log: Some(&list), ..ImportOptions::new("") };
    let error = import(events.as_bytes(), &options).unwrap_err().to_string();
    assert!(
        error.starts_with("the list of free pages does not say of which area it is: r, s"),
        "{error}"
    );
}
