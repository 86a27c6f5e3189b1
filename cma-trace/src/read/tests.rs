//! Traces are read, all other input is refused, and every error has its place and reason.

use super::*;
use crate::Limits;
use crate::format::MAX_LINE;
use crate::trace::{Action, Requester};
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use std::io::{self, Write};

const SMALL: &str = "# cma-trace 1
# source: a test
# ops: 5  peak-live-bytes: 12288  peak-live-chunks: 2
0 a 7 4096 1 vdec/frame
0 a 9 8192 65536 host
3 f 7
4 a 8 100 64 vdec/frame
9 f 9
";

/// The small trace with line number `line` replaced by `text`.
fn with_line(line: usize, text: &str) -> String {
    let mut lines: Vec<&str> = SMALL.lines().collect();
    lines[line - 1] = text;
    lines.join("\n") + "\n"
}

fn compressed(text: &[u8]) -> Vec<u8> {
    let mut output = GzEncoder::new(Vec::new(), Compression::fast());
    output.write_all(text).unwrap();
    output.finish().unwrap()
}

fn refusal(text: &str) -> String {
    Trace::read(text.as_bytes()).expect_err(text).to_string()
}

#[test]
fn a_trace_reads_the_same_whether_it_is_compressed_or_not() {
    let trace = Trace::read(SMALL.as_bytes()).unwrap();
    assert_eq!(Trace::read(&compressed(SMALL.as_bytes())[..]).unwrap(), trace);
    assert_eq!(trace.source(), "a test");
    let requester = |device: &str, kind: Option<&str>| Requester {
        device: device.into(),
        kind: kind.map(String::from),
        from: None,
    };
    assert_eq!(trace.requesters(), [requester("vdec", Some("frame")), requester("host", None)]);
    let actions: Vec<_> =
        trace.operations().iter().map(|operation| (operation.time_us, operation.action)).collect();
    assert_eq!(
        actions,
        [
            (0, Action::Allocate { size: 4096, alignment: 1, requester: 0, limits: 0 }),
            (0, Action::Allocate { size: 8192, alignment: 65536, requester: 1, limits: 0 }),
            (3, Action::Free { chunk: 0 }),
            (4, Action::Allocate { size: 100, alignment: 64, requester: 0, limits: 0 }),
            (9, Action::Free { chunk: 1 }),
        ]
    );
    assert_eq!(trace.peak_live().get(), 3);
}

#[test]
fn input_that_is_not_a_trace_is_refused_at_its_first_line() {
    assert_eq!(refusal(""), "not a trace: it is empty");
    assert!(refusal("#!/bin/sh\n").ends_with("found \"#!/bin/sh\""));
    assert!(refusal("it's \"\x1b\n").ends_with(r#"found "it's \"\u{1b}""#));
    assert!(matches!(Trace::read(&[0xff; 100_000][..]), Err(ReadError::NotATrace { .. })));
    assert_eq!(
        refusal(&with_line(1, "# cma-trace 2")),
        "expected version 1 of the trace format, found \"2\""
    );
}

#[test]
fn every_error_is_reported_with_its_place() {
    for (line, text, expected) in [
        (
            2,
            "# origin: x",
            "line 3, column 3: expected \"source:\" and a description of the recording, found \"ops:\"",
        ),
        (3, "# ops: five", "line 3, column 8: expected the number of operations, found \"five\""),
        (
            3,
            "0 a 7 4096 1 vdec",
            "line 3, column 1: expected \"# ops: N  peak-live-bytes: N  peak-live-chunks: N\", found \"0\"",
        ),
        (4, "", "line 4, column 1: expected a time in microseconds, found \"\""),
        (
            4,
            "-1 a 7 4096 1 vdec",
            "line 4, column 1: expected a time in microseconds, found \"-1\"",
        ),
        (
            4,
            "0 m 7 4096 1 vdec",
            "line 4, column 3: expected a, f or r: an allocation, a free or a refusal, found \"m\"",
        ),
        (
            4,
            "0 a x 4096 1 vdec",
            "line 4, column 5: expected the id of the request, a number, found \"x\"",
        ),
        (
            4,
            "0 a 7 18446744073709551616 1 vdec",
            "line 4, column 7: expected a size in bytes, found \"18446744073709551616\"",
        ),
        (4, "0 a 7 0 1 vdec", "line 4: expected a size of 1 byte or more, found 0"),
        (4, "0 a 7 4096 3 vdec", "line 4: expected an alignment that is a power of two, found 3"),
        (4, "0 a 7 4096 0 vdec", "line 4: expected an alignment that is a power of two, found 0"),
        (
            4,
            "0 a 7 4096 1",
            "line 4: expected device or device/type, up to 255 bytes without white space, found \"\"",
        ),
        (
            4,
            "0 a 7 4096 1 vdec/",
            "line 4: expected device or device/type, up to 255 bytes without white space, found \"vdec/\"",
        ),
        (
            4,
            "0 a 7 4096 1 a/b/c",
            "line 4: expected device or device/type, up to 255 bytes without white space, found \"a/b/c\"",
        ),
        (
            4,
            "0 a 7 4096 1 it's/a/b",
            "line 4: expected device or device/type, up to 255 bytes without white space, found \"it's/a/b\"",
        ),
        (
            4,
            "0 a 7 4096 1 vdec x",
            "line 4, column 19: expected a limit: above=, below=, boundary=, at= or wait=, found \"x\"",
        ),
        (
            4,
            "0 a 7 4096 1 vdec  below=4X wait=1s",
            "line 4, column 26: a number has at most one suffix: K, M, G, T, P or E, for powers of 1024, found \"4X\"",
        ),
        (
            4,
            "0 a 7 4096 1 vdec below=4G above=5G",
            "line 4, column 19: below=0x100000000 contradicts above=0x140000000: nothing lies between them, found \"below=4G\"",
        ),
        (
            4,
            "0 a 7 8193 1 vdec below=4G boundary=8K",
            "line 4, column 28: boundary=8K contradicts the size: a chunk of 12K crosses a multiple of it anywhere, found \"boundary=8K\"",
        ),
        (4, "0 a 7 0 1 vdec below=4G", "line 4: expected a size of 1 byte or more, found 0"),
        (
            4,
            "0 a 7 4096 3 vdec below=4G",
            "line 4: expected an alignment that is a power of two, found 3",
        ),
        (
            3,
            "# ops: 5 below",
            "line 3, column 10: expected \"# ops: N  peak-live-bytes: N  peak-live-chunks: N\", found \"below\"",
        ),
        (7, "4 f 8 wait=1s", "line 7, column 7: expected the end of the line, found \"wait=1s\""),
        (
            4,
            "0 a 7 18446744073709551615 1 vdec",
            "line 4: 18446744073709551615 more bytes, rounded up to pages, exceed a 64-bit address space",
        ),
        (5, "0 a 7 4096 1 vdec", "line 5: expected a new id, found 7, which was used before"),
        (
            7,
            "2 a 8 100 64 vdec",
            "line 7: expected a time of 3 us or later, found 2: operations are in order of time",
        ),
        (7, "4 f 7", "line 7: expected the id of a live chunk, found 7, which was freed before"),
        (7, "4 f 1", "line 7: expected the id of a live chunk, found 1, which was never allocated"),
    ] {
        assert_eq!(refusal(&with_line(line, text)), expected);
    }
}

#[test]
fn an_allocation_may_have_limits() {
    let text = with_line(5, "0 a 9 8192 65536 host  above=1G below=4G boundary=16M wait=2s ");
    let trace = Trace::read(text.as_bytes()).unwrap();
    let [Limits::NONE, limits] = *trace.limits() else { panic!("{:?}", trace.limits()) };
    let expected = ChunkRequest::parse("8K/64K above=1G below=4G boundary=16M wait=2s").unwrap();
    assert_eq!(limits.request(8192, 65536), expected);
    let limits: Vec<u16> = trace
        .operations()
        .iter()
        .filter_map(|operation| match operation.action {
            Action::Allocate { limits, .. } => Some(limits),
            Action::Free { .. } | Action::Refused { .. } => None,
        })
        .collect();
    assert_eq!(limits, [0, 1, 0]);
    let mut written = Vec::new();
    trace.write(&mut written).unwrap();
    let line = "\n0 a 2 8192 65536 host above=1G below=4G boundary=16M wait=2s\n";
    assert!(String::from_utf8(written).unwrap().contains(line));
}

#[test]
fn a_refused_request_is_kept_and_takes_no_place_among_the_chunks() {
    let text = with_line(5, "0 a 9 8192 65536 host\n2 r 5 12288 4096 host  from=a,b|c below=4G");
    let text = text.replace("ops: 5", "ops: 6");
    let trace = Trace::read(text.as_bytes()).unwrap();
    assert_eq!(trace.refused(), 1);
    let refused = trace.operations()[2];
    assert_eq!(
        refused.action,
        Action::Refused { size: 12288, alignment: 4096, requester: 2, limits: 1 }
    );
    assert_eq!(trace.requesters()[2].from.as_deref(), Some("a,b|c"));
    assert_eq!(trace.figures().peak_live_bytes, 12288);
    let mut written = Vec::new();
    trace.write(&mut written).unwrap();
    let written = String::from_utf8(written).unwrap();
    let lines: Vec<_> = written.lines().skip(5).collect();
    assert_eq!(
        lines,
        ["2 r 3 12288 4096 host from=a,b|c below=4G", "3 f 1", "4 a 4 100 64 vdec/frame", "9 f 2"]
    );
    assert_eq!(Trace::read(written.as_bytes()).unwrap(), trace);
}

#[test]
fn comments_anywhere_after_the_first_line_make_no_difference() {
    let trace = Trace::read(SMALL.as_bytes()).unwrap();
    for line in 1..=SMALL.lines().count() {
        for comment in ["#", "# a note", "#no space", "  # indented", "# op: 3", "## source: x"] {
            let mut lines: Vec<&str> = SMALL.lines().collect();
            lines.insert(line, comment);
            assert_eq!(Trace::read(lines.join("\n").as_bytes()).unwrap(), trace, "{lines:?}");
        }
    }
    // Bytes that are not UTF-8, and behind the header a word of the header.
    let mut text = SMALL.as_bytes().to_vec();
    text.extend(b"# \xff\n# ops: 7\n");
    assert_eq!(Trace::read(&text[..]).unwrap(), trace);
    let long = format!("{SMALL}#{}\n", "x".repeat(MAX_LINE));
    assert_eq!(refusal(&long), "line 9: expected up to 4096 bytes, found more");
    assert!(refusal(&format!("# note\n{SMALL}")).starts_with("not a trace"));
}

#[test]
fn a_header_that_contradicts_the_operations_is_refused() {
    for figures in [
        "# ops: 6  peak-live-bytes: 12288  peak-live-chunks: 2",
        "# ops: 5  peak-live-bytes: 12287  peak-live-chunks: 2",
        "# ops: 5  peak-live-bytes: 12288  peak-live-chunks: 3",
    ] {
        let error = refusal(&with_line(3, figures));
        assert_eq!(
            error,
            format!(
                "expected \"{}\", from the header, found \"ops: 5  peak-live-bytes: 12288  peak-live-chunks: 2\"",
                &figures[2..]
            )
        );
    }
}

#[test]
fn a_trace_truncated_anywhere_is_refused() {
    for end in 0..SMALL.len() - 1 {
        // Losing a digit of the last id would go unnoticed, but that id has a single digit.
        assert!(Trace::read(&SMALL.as_bytes()[..end]).is_err(), "truncated at {end}");
    }
    let packed = compressed(SMALL.as_bytes());
    for end in 2..packed.len() {
        let error = Trace::read(&packed[..end]).unwrap_err();
        assert!(matches!(error, ReadError::Truncated { .. }), "truncated at {end}: {error:?}");
    }
}

#[test]
fn bytes_after_compressed_data_are_not_reported_as_truncation() {
    let packed = compressed(SMALL.as_bytes());
    for after in ["x", "x\n", "\0\0\0", SMALL] {
        let error = Trace::read(&[&packed, after.as_bytes()].concat()[..]).unwrap_err();
        assert!(matches!(error, ReadError::LeftOver { .. }), "{after:?}: {error}");
    }
    // Several members form one text.
    let (start, end) = SMALL.split_at(SMALL.len() / 2);
    let members = [compressed(start.as_bytes()), compressed(end.as_bytes())].concat();
    assert_eq!(Trace::read(&members[..]).unwrap(), Trace::read(SMALL.as_bytes()).unwrap());
}

#[test]
fn compressed_data_that_is_damaged_is_refused() {
    let packed = compressed(SMALL.as_bytes());
    for at in 10..packed.len() {
        let mut damaged = packed.clone();
        damaged[at] ^= 0x10;
        let error = Trace::read(&damaged[..]).expect_err("damaged data was read");
        // The damage is reported, not the text error that it causes.
        let damage = matches!(error, ReadError::Damaged { .. } | ReadError::Truncated { .. });
        assert!(damage, "byte {at}: {error}");
        assert!(!error.to_string().ends_with("line 0"), "no cause: {error}");
    }
}

#[test]
fn a_text_error_in_undamaged_compressed_data_is_reported_as_such() {
    let error =
        Trace::read(&compressed(with_line(4, "0 m 7 4096 1 vdec").as_bytes())[..]).unwrap_err();
    assert!(matches!(error, ReadError::Field { line: 4, .. }), "{error}");
}

#[test]
fn a_read_error_is_reported_with_the_last_line_read() {
    struct Fails;
    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("gone"))
        }
    }
    let error = Trace::read(SMALL.as_bytes().chain(Fails)).unwrap_err();
    assert!(matches!(&error, ReadError::Io { line: 8, .. }), "{error:?}");
    assert!(error.to_string().ends_with("gone"), "{error}");
}

/// The number of bytes read from `input` until it is refused.
fn bytes_read(input: impl Read) -> u64 {
    const PLENTY: u64 = 1 << 30;
    let mut input = input.take(PLENTY);
    Trace::read(&mut input).unwrap_err();
    PLENTY - input.limit()
}

#[test]
fn endless_invalid_input_is_refused_after_a_few_kilobytes() {
    const FEW: u64 = 64 << 10;
    assert!(bytes_read(io::repeat(b'x')) < FEW);
    for line in 1..=SMALL.lines().count() {
        let start: String = SMALL.split_inclusive('\n').take(line).collect();
        let start = start.trim_end().as_bytes();
        assert!(
            bytes_read(start.chain(io::repeat(b' '))) < FEW,
            "line {line} never ends in spaces"
        );
        assert!(bytes_read(start.chain(io::repeat(b'0'))) < FEW, "line {line} never ends in zeros");
        assert!(
            bytes_read(start.chain(io::repeat(b'\n'))) < FEW,
            "nothing but ends of lines after line {line}"
        );
    }
    // A small compressed input that expands to a large text.
    let bomb = compressed(&vec![b' '; 64 << 20]);
    assert!(matches!(Trace::read(&bomb[..]), Err(ReadError::NotATrace { .. })));
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Trace::read(&bytes[..]);
        let _ = Trace::read(&[&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0][..], &bytes].concat()[..]);
        let _ = Trace::read(&[SMALL.as_bytes(), &bytes].concat()[..]);
    }

    #[test]
    fn a_trace_read_after_random_edits_is_valid(
        cuts in proptest::collection::vec((any::<proptest::sample::Index>(), 0..4usize, "[ -~\n]{0,3}"), 1..4),
    ) {
        let mut text = SMALL.to_string();
        for (at, gone, new) in cuts {
            let at = at.index(text.len());
            let end = (at + gone).min(text.len());
            text.replace_range(at..end, &new);
        }
        if let Ok(trace) = Trace::read(text.as_bytes()) {
            let mut written = Vec::new();
            trace.write(&mut written).unwrap();
            prop_assert_eq!(Trace::read(&written[..]).unwrap(), trace);
        }
    }
}
