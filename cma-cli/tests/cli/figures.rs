//! The commands that print figures, as tables and as JSON.

use crate::{Run, TRACE, cma, folder, keys, run, value, written};
use std::fs;
use std::path::Path;

#[test]
fn plugins_lists_the_five_that_come_with_the_program_and_marks_the_default() {
    let Run { code, out, err } = run(&["plugins"]);
    assert_eq!((code, err.as_str()), (0, ""));
    for (name, file) in [
        ("best-fit", "libcma_best_fit_plugin.so"),
        ("bitmap", "libcma_bitmap_plugin.so"),
        ("buddy", "libcma_buddy_plugin.so"),
        ("packing", "libcma_packing_plugin.so"),
        ("tlsf", "libcma_tlsf_plugin.so"),
    ] {
        assert!(out.contains(name) && out.contains(file), "{out}");
    }
    assert_eq!(out.matches("the default").count(), 1);
    assert!(
        out.lines().nth(2).is_some_and(|line| line.contains("the default: it is found first")),
        "{out}"
    );
    let Run { code, out, .. } = run(&["plugins", "--json"]);
    assert_eq!(code, 0);
    assert_eq!(out.lines().count(), 5);
    for (n, line) in out.lines().enumerate() {
        assert_eq!(
            keys(line),
            ["name", "version", "description", "interface_version", "path", "default"]
        );
        assert_eq!(value(line, "default"), n == 0);
        assert!(Path::new(value(line, "path").as_str().expect("a text")).is_file());
    }
}

#[test]
fn regions_shows_each_region_and_those_that_got_no_memory() {
    let Run { code, out, err } = run(&["regions"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let b2: Vec<_> =
        out.lines().find(|l| l.starts_with("b2")).expect("b2").split_whitespace().collect();
    assert_eq!(b2, ["b2", "0x40000000", "16M", "16M", "16M", "0", "best-fit"]);
    let Run { code, out, .. } = run(&["--cma", "a=1M;huge=1G;b=1M:nobody", "regions"]);
    assert_eq!(code, 1);
    assert!(out.contains("huge: no region: no memory bank has 1G free in one piece"), "{out}");
    assert!(out.contains("waits for nobody"), "{out}");
}

#[test]
fn memory_is_chosen_by_region_and_a_wrong_choice_is_an_error() {
    let Run { out, .. } = run(&["--memory", "b1=memfd", "regions"]);
    let of =
        |name: &str| out.lines().find(|line| line.starts_with(name)).expect("a region").to_string();
    assert!(of("b1").ends_with("memfd, not physically contiguous"), "{out}");
    assert!(of("b2").ends_with("simulated"), "{out}");
    let Run { code, err, .. } = run(&["--memory", "b1=memfd,b9=memfd", "regions"]);
    assert_eq!(code, 2);
    assert!(err.contains("--memory: there is no region \"b9\""), "{err}");
    let Run { code, err, .. } = run(&["--memory", "hugetbl", "regions"]);
    assert_eq!(code, 2);
    assert!(err.contains("simulated, memfd, hugetlb or auto"), "{err}");
}

#[test]
fn regions_as_json_has_one_object_for_each_with_the_same_fields() {
    let Run { code, out, .. } = run(&["--json", "--cma", "a=1M@0x40000000;huge=1G", "regions"]);
    assert_eq!(code, 1);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 2);
    for line in &lines {
        let fields = [
            "name",
            "start",
            "size_bytes",
            "free_bytes",
            "largest_hole_bytes",
            "users",
            "waiters",
            "allocator",
            "memory",
            "contiguity",
            "problem",
        ];
        let object: serde_json::Map<_, _> =
            serde_json::from_str(line).expect("a line is an object");
        assert_eq!(object.len(), fields.len());
        assert!(fields.iter().all(|field| object.contains_key(*field)), "{line}");
    }
    assert_eq!(value(lines[0], "start"), "0x40000000");
    assert_eq!(value(lines[0], "allocator"), "best-fit");
    assert_eq!(value(lines[0], "problem"), serde_json::Value::Null);
    assert_eq!(value(lines[0], "memory"), "simulated");
    assert_eq!(value(lines[1], "memory"), serde_json::Value::Null);
    assert_eq!(value(lines[1], "size_bytes"), 1 << 30);
    assert!(value(lines[1], "problem").is_string());
}

#[test]
fn replay_as_json_has_exactly_the_documented_fields() {
    let folder = folder();
    let trace = written(&folder, "hand.trace", TRACE);
    let Run { code, out, err } = run(&["--json", "replay", "--region", "1M", &trace]);
    assert_eq!((code, err.as_str()), (0, ""));
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 5);
    for (line, allocator) in lines.iter().zip(["best-fit", "bitmap", "buddy", "packing", "tlsf"]) {
        assert_eq!(
            keys(line),
            [
                "trace",
                "allocator",
                "region_bytes",
                "ops",
                "failed",
                "waited",
                "refused",
                "peak_live_bytes",
                "live_bytes",
                "free_bytes",
                "largest_hole_bytes",
                "ns_per_op",
                "first_failure"
            ]
        );
        assert_eq!(value(line, "trace"), trace.as_str());
        assert_eq!(value(line, "allocator"), allocator);
        assert_eq!(value(line, "region_bytes"), 1 << 20);
        assert_eq!((value(line, "ops"), value(line, "failed")), (4.into(), 0.into()));
        assert_eq!(
            (value(line, "peak_live_bytes"), value(line, "live_bytes")),
            (12288.into(), 8192.into())
        );
        assert_eq!(value(line, "free_bytes"), (1 << 20) - 8192);
        assert!(value(line, "ns_per_op").as_f64().expect("a number") > 0.0);
        let ns_per_op = value(line, "ns_per_op").to_string();
        assert_eq!(ns_per_op.rsplit_once('.').expect("it has a decimal").1.len(), 1, "{line}");
        assert!(value(line, "first_failure").is_null(), "{line}");
    }
}

#[test]
fn replay_reads_compressed_traces_and_takes_one_allocator() {
    let folder = folder();
    let packed = folder.path().join("demo.trace.gz");
    fs::write(&packed, cma_trace::DEMO).expect("a temporary file can be written");
    let packed = packed.display().to_string();
    let Run { code, out, err } = run(&["replay", "--allocator", "buddy", &packed]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("buddy") && !out.contains("bitmap"), "{out}");
}

#[test]
fn replay_counts_failures_and_reports_the_reason_of_the_first() {
    let folder = folder();
    let trace = written(&folder, "hand.trace", TRACE);
    let Run { code, out, .. } = run(&["replay", "--region", "8K", &trace]);
    assert_eq!(code, 1);
    assert!(
        out.contains(
            "best-fit failed first at operation 2, 4K aligned to 4K for codec: full: 0 of 8K free"
        ),
        "{out}"
    );
}

#[test]
fn replay_as_json_has_the_first_failure_with_the_reason_of_each_region() {
    let folder = folder();
    let trace = written(&folder, "hand.trace", TRACE);
    let system = ["--cma", "a=12K;b=4K@0x40000000", "--map", "*/frame=b,a;*=a"];
    let served =
        run(&[&system[..], &["--json", "replay", "--allocator", "buddy", &trace]].concat());
    assert_eq!((served.code, served.err.as_str()), (0, ""), "{}", served.out);
    let limited = TRACE.replace("camera/frame\n", "camera/frame below=256M\n");
    let trace = written(&folder, "limited.trace", &limited);
    let Run { code, out, err } =
        run(&[&system[..], &["--json", "replay", "--allocator", "buddy", &trace]].concat());
    assert_eq!((code, err.as_str(), out.lines().count()), (1, "", 1));
    let failure = value(&out, "first_failure");
    assert_eq!(
        (&failure["operation"], &failure["requester"], &failure["limits"]),
        (&1.into(), &"camera/frame".into(), &"below=256M".into())
    );
    let refusals: Vec<(&str, &str)> = failure["refusals"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|of| (of["region"].as_str().expect("a name"), of["reason"].as_str().expect("a text")))
        .collect();
    let [("b", b), ("a", a)] = refusals[..] else { panic!("{refusals:?}") };
    assert!(b.starts_with("too small: 8K") && a.starts_with("no place"), "{refusals:?}");
}

#[test]
fn replay_on_a_system_uses_its_regions_map_and_allocators() {
    let folder = folder();
    let trace = written(&folder, "hand.trace", TRACE);
    // The codec's regions do not exist on this board, so its requests have no rule.
    let Run { code, out, .. } =
        run(&["--cma", "a=1M;b=3M", "--map", "camera/frame=a", "replay", &trace]);
    assert_eq!(code, 1);
    assert!(out.contains("12K live, in 2 regions of 4M together\n"), "{out}");
    for allocator in ["best-fit", "bitmap", "buddy", "packing", "tlsf"] {
        let failure =
            format!("{allocator} failed first at operation 2, 4K aligned to 4K for codec: ");
        assert!(out.contains(&failure) && out.contains("no rule"), "{out}");
    }
    // Every region names its allocator, so there is one replay.
    let named = ["--cma", "a=8K:buddy;b=3M:tlsf", "--map", "*/frame=a;*=a,b", "--json", "replay"];
    let Run { code, out, err } = run(&[&named[..], &[&trace]].concat());
    assert_eq!((code, err.as_str(), out.lines().count()), (0, "", 1));
    assert_eq!(value(&out, "allocator"), "buddy,tlsf");
    assert_eq!(value(&out, "region_bytes"), (3 << 20) + 8192);
    let banks = ["--banks", "2M@0x40000000", "--cma", "a=1M", "--map", "*=a", "--json", "replay"];
    let Run { code, out, .. } = run(&[&banks[..], &[&trace]].concat());
    assert_eq!(
        (code, value(out.lines().next().expect("a line"), "region_bytes")),
        (0, (1 << 20).into())
    );
    // A board, with its own map: no rule for these devices but the last one.
    let Run { code, out, .. } = run(&["--platform", "goni", "replay", &trace]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("in 3 regions of 49M together"), "{out}");
}

#[test]
fn replay_without_a_system_says_how_to_replay_limits_that_need_one() {
    let folder = folder();
    let limited = |limit: &str| {
        let text = format!(
            "# cma-trace 1\n# source: made by hand\n# ops: 1  peak-live-bytes: 4096  \
             peak-live-chunks: 1\n0 a 1 4096 1 cam {limit}\n"
        );
        written(&folder, "limited.trace", &text)
    };
    for limit in ["below=4G", "at=0x40000000"] {
        let trace = limited(limit);
        let Run { code, out, .. } = run(&["replay", &trace]);
        assert_eq!(code, 1, "{out}");
        let text = out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("has its region at 0x100000000: give the regions"), "{limit}: {out}");
        // It is said once, not for each allocator, and not if a system is given.
        assert_eq!(text.matches("--banks").count(), 1, "{out}");
        let Run { code, out, .. } =
            run(&["replay", "--cma", "r=64M@0x40000000", "--map", "*=r", &trace]);
        assert_eq!((code, out.contains("--banks")), (0, false), "{out}");
    }
    let Run { code, out, .. } = run(&["replay", &limited("boundary=4K")]);
    assert_eq!((code, out.contains("--banks")), (0, false), "{out}");
}

#[test]
fn replay_checks_the_options_of_a_system() {
    let folder = folder();
    let trace = written(&folder, "hand.trace", TRACE);
    for (options, message) in [
        (&["--cma", "x==1"][..], "--cma"),
        (&["--map", "a=b;c"], "--map"),
        (&["--memory", "zz=memfd"], "--memory: there is no region \"zz\""),
        (&["--cma", ""], "no region got memory"),
        (&["--cma", "a=1M", "--region", "1M"], "--region and --cma contradict each other"),
        (&["--platform", "goni", "--region", "1M"], "--region and --platform contradict"),
        (&["--banks", "1M@0;x"], "--banks"),
    ] {
        let Run { code, out, err } = run(&[&["replay"], options, &[&trace]].concat());
        assert_eq!((code, out.as_str()), (2, ""), "{options:?}");
        assert!(err.contains(message), "{options:?}: {err}");
    }
    let Run { code, err, .. } = run(&["--cma", "a=1M;huge=1E", "--map", "*=a", "replay", &trace]);
    assert_eq!(code, 1);
    assert_eq!(err.matches("there is no region \"huge\"").count(), 1, "{err}");
}

#[test]
fn replay_reads_standard_input_in_place_of_a_file() {
    let folder = folder();
    let trace = written(&folder, "hand.trace", TRACE);
    let replay = |input: &str, options: &[&str]| -> Run {
        let input = fs::File::open(input).expect("it was written");
        cma(&[options, &["replay", "-"]].concat())
            .stdin(input)
            .output()
            .expect("the program starts")
            .into()
    };
    let Run { code, out, err } = replay(&trace, &[]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("standard input\nmade by hand\n"), "{out}");
    let Run { out, .. } = replay(&trace, &["--json"]);
    assert_eq!(value(out.lines().next().expect("a line"), "trace"), "-");
    let Run { code, err, .. } = replay(&written(&folder, "notes.txt", "hello\n"), &[]);
    assert_eq!(code, 2);
    assert!(err.contains("standard input: not a trace"), "{err}");
}

#[test]
fn replay_skips_a_file_that_is_no_trace_and_replays_the_next() {
    let folder = folder();
    let (text, trace) =
        (written(&folder, "notes.txt", "hello\n"), written(&folder, "hand.trace", TRACE));
    let empty = written(&folder, "empty.trace", "");
    let Run { code, out, err } = run(&["replay", &text, &empty, "/nonexistent.trace", &trace]);
    assert_eq!(code, 2);
    assert!(err.contains("empty.trace: not a trace: it is empty"), "{err}");
    assert!(err.contains("notes.txt: not a trace: expected \"# cma-trace 1\""), "{err}");
    assert!(err.contains("/nonexistent.trace: No such file"), "{err}");
    assert!(out.contains("made by hand"), "{out}");
}

#[test]
fn replay_lists_the_allocators_when_one_is_unknown() {
    let folder = folder();
    let trace = written(&folder, "hand.trace", TRACE);
    let Run { code, out, err } = run(&["replay", "--allocator", "foo", &trace]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(
        err.contains("there is no allocator \"foo\"")
            && err.contains("best-fit, bitmap, buddy, packing, tlsf"),
        "{err}"
    );
}

#[test]
fn replay_in_an_impossible_region_is_refused() {
    let folder = folder();
    let trace = written(&folder, "hand.trace", TRACE);
    for size in ["0", "12MB", "", "17E", "x"] {
        assert_eq!(run(&["replay", "--region", size, &trace]).code, 2, "{size}");
    }
    let Run { code, out, err } = run(&["replay", "--region", "15E", &trace]);
    assert_eq!(code, 2);
    assert!(err.contains("no replay in a region of 15E"), "{err}");
    assert!(!out.contains("largest hole"), "a table without rows has no head: {out}");
}

#[test]
fn replay_of_a_folder_or_a_damaged_file_is_an_error() {
    let folder = folder();
    let path = folder.path().display().to_string();
    let Run { code, err, .. } = run(&["replay", &path]);
    assert_eq!(code, 2);
    assert!(err.contains("it is a folder, not a trace") && err.contains("*.trace.gz"), "{err}");
    let mut packed = cma_trace::DEMO.to_vec();
    let middle = packed.len() / 2;
    packed[middle..middle + 100].fill(0xaa);
    let file = folder.path().join("damaged.trace.gz");
    fs::write(&file, packed).expect("a temporary file can be written");
    let Run { code, err, .. } = run(&["replay", &file.display().to_string()]);
    assert_eq!(code, 2);
    assert!(err.contains("the compressed data is damaged after line"), "{err}");
}

#[test]
fn replay_wraps_the_source_and_counts_in_the_singular() {
    let folder = folder();
    let source = "word ".repeat(60);
    let text = format!(
        "# cma-trace 1\n# source: {source}\n# ops: 1  peak-live-bytes: 8192  peak-live-chunks: 1\n0 a 1 8192 1 x\n"
    );
    let Run { code, out, .. } = run(&["replay", &written(&folder, "long.trace", &text)]);
    assert_eq!(code, 0);
    assert!(out.lines().skip(1).all(|line| line.chars().count() <= 100), "{out}");
    assert!(out.contains("\n1 operation, at most 1 chunk and 8K live, in"), "{out}");
}

#[test]
fn regions_reports_a_long_refusal_once() {
    let Run { code, out, err } = run(&["--cma", "a=8M:buddy(foo=1)", "--map", "*=a", "regions"]);
    assert_eq!(code, 1);
    assert!(err.contains("unknown parameter \"foo\""), "{err}");
    assert!(out.contains("buddy refused") && !out.contains("foo"), "{out}");
    let Run { out, .. } = run(&["--json", "--cma", "a=8M:buddy(foo=1)", "--map", "*=a", "regions"]);
    assert!(
        value(&out, "problem").as_str().is_some_and(|problem| problem.contains("foo")),
        "{out}"
    );
}

#[test]
fn a_table_without_regions_has_no_head() {
    let Run { code, out, err } = run(&["--cma", "", "regions"]);
    assert_eq!((code, out.as_str()), (1, "there is no region\n"));
    assert!(err.contains("no region is configured"), "{err}");
}

#[test]
fn an_error_in_a_suffix_lists_the_valid_ones() {
    for (size, expected) in
        [("8X", "K, M, G, T, P or E"), ("8MB", "M or MiB"), ("8.5M", "whole numbers")]
    {
        let Run { code, err, .. } = run(&["replay", "--region", size, "x"]);
        assert_eq!(code, 2);
        assert!(err.contains(expected), "{err}");
    }
}
