//! Every form of a line gives the same event, and a line that is none gives nothing.

use super::*;

fn event(text: &str) -> Event<'_> {
    parse(text.as_bytes(), 7).unwrap().unwrap_or_else(|| panic!("no event in {text:?}"))
}

#[test]
fn the_forms_of_the_kernel_of_trace_cmd_and_of_perf_are_read() {
    let fields = "name=reserved pfn=0x43d00 page=000000002bbee40a count=760 align=8 errorno=0";
    let expected = Event {
        line: 7,
        time_us: 2_533_003,
        task: b"camera",
        pid: 66,
        area: Some(b"reserved"),
        what: What::Finish { pages: 760, align_order: 8, first: Some(0x43d00) },
    };
    for head in [
        "          camera-66      [000] .N...     2.533003: cma_alloc_finish:",
        "          camera-66      [000]     2.533003: cma_alloc_finish:      ",
        "          camera-66      (     61) [001] d..2.     2.533003: cma_alloc_finish:",
        "          camera-66      (-------) [001] d..2.     2.533003: cma_alloc_finish:",
        "camera-66    [000] .....     2.533003123: cma_alloc_finish:     ",
        "          camera    66 [000]     2.533003:       cma:cma_alloc_finish:",
        "camera 61/66 [127] 2.533003: cma:cma_alloc_finish:",
        "camera 66 2.533003: cma:cma_alloc_finish:",
        "camera    66 [000]     2.533003:          1 cma:cma_alloc_finish:",
    ] {
        assert_eq!(event(&format!("{head} {fields}")), expected, "{head}");
    }
}

#[test]
fn names_of_threads_and_areas_may_contain_what_separates_fields() {
    let text = "kworker/0:1H-events-12 [000] d... 1.000000: cma_release: name=linux,cma at [0] pfn=1 page=0 count=3";
    let found = event(text);
    assert_eq!((found.task, found.pid), (&b"kworker/0:1H-events"[..], 12));
    assert_eq!(found.area, Some(&b"linux,cma at [0]"[..]));
    assert_eq!(found.what, What::Release { first: 1, pages: 3 });
    let found = event("Web Content 7/12 [000] 1.000000: cma:cma_release: name=a pfn=1 count=3");
    assert_eq!((found.task, found.pid), (&b"Web Content"[..], 12));
    let found = event("<...>-12 [000] d... 1.000000: cma_release: name=a pfn=1 count=3");
    assert_eq!(found.task, b"<...>");
    // An area whose name is that of an event.
    let found = event("a-1 [000] 1.000000: cma_release: name=cma_alloc_start: pfn=0x1 count=3");
    assert_eq!(found.area, Some(&b"cma_alloc_start:"[..]));
    let found = event("\u{e4}\u{20ac}-1 [000] 1.000000: cma_release: name=\u{e4} pfn=0x1 count=3");
    assert_eq!(found.task, "\u{e4}\u{20ac}".as_bytes());
}

#[test]
fn events_of_every_kernel_are_read() {
    let what = |text: &str| event(&format!("a-1 [000] 1.000000: {text}")).what;
    // Before 5.11: one event, without the area's name, and hexadecimal without 0x.
    let old = event("a-1 [000] .... 1.000000: cma_alloc: pfn=7ac00 page=ffff count=32 align=5");
    assert_eq!(old.area, None);
    assert_eq!(old.what, What::Finish { pages: 32, align_order: 5, first: Some(0x7ac00) });
    let refused = What::Finish { pages: 32, align_order: 5, first: None };
    for text in [
        "cma_alloc: pfn=ffffffffffffffff page=          (null) count=32 align=5",
        "cma_alloc: pfn=ffffffff page=00000000 count=32 align=5",
        // From 5.11 to 5.16 without an error; after a busy try the number is that of the try.
        "cma_alloc_finish: name=a pfn=7ac00 page=0000000000000000 count=32 align=5",
        "cma_alloc_finish: name=a pfn=0x7ac00 page=00000000(null) count=32 align=5",
        "cma_alloc_finish: name=a pfn=0xffffffffffffffff page=0 count=32 align=5 errorno=-12",
        "cma_alloc_finish: name=a pfn=0x7ac00 page=0 count=32 align=5 errorno=-16",
    ] {
        assert_eq!(what(text), refused, "{text}");
    }
    let start = What::Start { pages: 16, align_order: 4, at: None };
    assert_eq!(what("cma_alloc_start: name=a count=16 align=4"), start);
    let newer = "cma_alloc_start: name=a request_count=16 available_count=9 total_count=99 align=4";
    assert_eq!(what(newer), start);
    assert_eq!(
        what(
            "cma_alloc_at_start: name=a pfn=7f, request_count=16 available_count=9 total_count=99"
        ),
        What::Start { pages: 16, align_order: 0, at: Some(0x7f) }
    );
    assert_eq!(
        what("cma_alloc_busy_retry: name=a pfn=0x7f page=0 count=16 align=4"),
        What::Busy { first: 0x7f }
    );
}

#[test]
fn other_lines_are_no_events() {
    for text in [
        "",
        "# tracer: nop",
        "cpus=1",
        "  a-1 [000] .... 1.000000: sched_switch: prev_comm=cma_release next=b",
        "  a-1 [000] .... 1.000000: cma_alloc_info: name=a",
        "  a-1 [000] .... 1.000000: dma_alloc: cma_release",
        "[   12.075439] cma: __cma_alloc: reserved: alloc failed, req-size: 2025 pages, ret: -12",
        "        ffffffff812c cma_alloc+0x1a0 ([kernel.kallsyms])",
        "cma_release: name=a pfn=0x1 count=3",
        "a-1 [000] then: cma_release: name=a pfn=0x1 count=3",
    ] {
        assert_eq!(parse(text.as_bytes(), 1), Ok(None), "{text}");
    }
}

#[test]
fn an_event_that_cant_be_read_says_where_and_what_is_expected() {
    for (text, column, expected) in [
        ("a-1 [000] 1234: cma_release: pfn=1 count=3", 10, "a time in seconds, with a point: set"),
        ("[000] 1.000000: cma_release: pfn=1 count=3", 0, "a thread's name, its number"),
        ("a-x [000] 1.000000: cma_release: pfn=1 count=3", 0, "a thread's name, its number"),
        ("a-1 1.000000: cma_release: pfn=g count=3", 31, "pfn= and a page's number"),
        ("a-1 1.000000: cma_release: pfn=1 count=0", 39, "count= and a number of pages"),
        ("a-1 1.000000: cma_release: pfn=1", 32, "count= and a number of pages"),
        ("a-1 1.000000: cma_release: count=1", 34, "pfn= and a page's number"),
        ("a-1 1.000000: cma_alloc_start: count=1 align=52", 45, "align= and a power of two"),
        ("a-1 1.000000: cma_alloc_start: count=99999999999999999999", 37, "count= and a number"),
    ] {
        let fault = parse(text.as_bytes(), 1).expect_err(text);
        assert!(fault.expected.starts_with(expected), "{text}: {fault:?}");
        assert_eq!(fault.column, column, "{text}");
    }
}
