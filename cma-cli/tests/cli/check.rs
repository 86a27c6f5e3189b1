//! `cma check`: errors and warnings in regions and map, their underlining, and the exit status.

use crate::{Run, keys, run, underlined, value};

#[test]
fn check_exits_with_0_when_clean_1_with_warnings_and_2_with_errors() {
    let Run { code, out, .. } = run(&["check"]);
    assert_eq!((code, out.as_str()), (0, "regions and map are clean\n"));
    let Run { code, out, .. } = run(&["--platform", "galaxy-s2", "check"]);
    assert_eq!(code, 1);
    assert!(
        out.contains("there is no region \"mfc\"") && out.contains("0 errors, 1 warning"),
        "{out}"
    );
    assert_eq!(run(&["--map", "a==b", "check"]).code, 2);
}

#[test]
fn check_underlines_every_kind_of_finding() {
    let map_of = |map| ["--cma", "b1=32M;b2=16M@0x40000000", "--map", map, "check"];
    for (args, code, place, what) in [
        (map_of("a=b1;b=b2;;c=b1"), 2, ";", "there is nothing between"),
        (map_of("a=b1,b2;b"), 2, " ", "expected '='"),
        (map_of("a=b1,b2;c=b9,b1"), 1, "b9", "there is no region \"b9\""),
        (map_of("cam*=b1;camera=b2"), 1, "camera", "this rule never matches"),
        (map_of("*=b1"), 1, "b2", "no rule of the map names region \"b2\""),
        (["--cma", "b1=1M:foo", "--map", "*=b1", "check"], 1, "foo", "no allocator \"foo\""),
        (
            ["--cma", "b1=1M@1G;b2=1M@1G", "--map", "*=b1,b2", "check"],
            2,
            "1G",
            "overlaps region \"b1\"",
        ),
        (["--cma", "b1=1", "--map", "*=b1", "check"], 1, "1", "will have 4K"),
        (
            ["--cma", "b1=8M@0x30001000/1M", "--map", "*=b1", "check"],
            1,
            "0x30001000",
            "will start at 0x30100000",
        ),
        (
            ["--cma", "b1=1M:buddy(foo=1)", "--map", "*=b1", "check"],
            2,
            "foo=1",
            "unknown parameter \"foo\"",
        ),
        (["--cma", "b1=1M", "--map", "*=b1,b1", "check"], 1, "b1", "a second time"),
        (
            ["--cma", "b1=1M", "--map", "x=b2;*=b1", "check"],
            1,
            "x=b2",
            "names no configured region",
        ),
        (
            ["--cma", "b1=1G", "--map", "*=b1", "check"],
            2,
            "1G",
            "there is no memory for region \"b1\"",
        ),
        (["--cma", "b1=0", "--map", "*=b1", "check"], 2, "0", "is not allowed"),
        (["--cma", "b1", "--map", "*=b1", "check"], 2, " ", "expected '='"),
    ] {
        let run = run(&args);
        assert_eq!(run.code, code, "{args:?}\n{}", run.out);
        assert!(run.out.contains(what), "{args:?}\n{}", run.out);
        assert_eq!(underlined(&run.out), place, "{args:?}\n{}", run.out);
    }
}

#[test]
fn check_reports_both_texts_when_both_are_malformed() {
    let Run { code, out, .. } = run(&["--cma", "a=1M/3K", "--map", "a=b*", "check"]);
    assert_eq!(code, 2);
    assert!(
        out.contains("[--cma:1:6]") && out.contains("[--map:1:3]") && out.contains("2 errors"),
        "{out}"
    );
}

#[test]
fn a_long_text_is_shown_with_one_rule_a_line_and_the_place_underlined() {
    let rule = "device-number-one=b1;device-number-two=b1;device-number-three=b1;";
    let Run { code, out, .. } = run(&["--map", &format!("{rule}odd=b1,b2*;last=b1"), "check"]);
    assert_eq!(code, 2);
    assert!(out.contains("[--map:4:8]"), "{out}");
    assert_eq!(underlined(&out), "b2*");
}

#[test]
fn check_as_json_has_the_text_and_the_place() {
    let map = "cam*=b1,fw,b2;camera=b2";
    let Run { code, out, .. } = run(&["--json", "--map", map, "check"]);
    assert_eq!(code, 1);
    assert_eq!(
        keys(out.trim_end()),
        ["severity", "message", "help", "text", "start", "end", "found"]
    );
    assert_eq!((value(&out, "text"), value(&out, "found")), ("map".into(), "camera".into()));
    assert_eq!((value(&out, "start"), value(&out, "end")), (14.into(), 20.into()));
}

#[test]
fn a_malformed_text_stops_every_command_and_its_place_is_underlined() {
    for command in ["demo", "regions", "shell"] {
        let Run { code, out, err } = run(&["--map", "x=b1;a=b=c", command]);
        assert_eq!((code, out.as_str()), (2, ""), "{command}");
        assert!(err.contains("a rule has one '='"), "{err}");
        assert_eq!(underlined(&err), "=", "{err}");
        let Run { code, err, .. } = run(&["--cma", "x=1M@banana", command]);
        assert_eq!(code, 2);
        assert!(err.contains("expected a number") && err.contains("[--cma:1:6]"), "{err}");
    }
}

#[test]
fn an_allocator_that_would_refuse_its_region_is_an_error_even_without_memory_for_the_region() {
    let regions = "a=8M:buddy(foo=1);b=4E:bitmap(x);c=8M:buddy(max-order=3)";
    let Run { code, out, .. } = run(&["--json", "--cma", regions, "--map", "*=a,b,c", "check"]);
    assert_eq!(code, 2);
    let found: Vec<_> = out.lines().map(|line| value(line, "found")).collect();
    assert_eq!(found, ["4E", "foo=1", "x"], "{out}");
    assert!(
        value(out.lines().nth(1).expect("a line"), "message")
            .as_str()
            .is_some_and(|m| m.contains("buddy"))
    );
}

#[test]
fn long_texts_and_many_findings_are_cut() {
    let long = format!("*={}x y", "b1,".repeat(22_000));
    let Run { code, out, err } = run(&["--map", &long, "check"]);
    assert_eq!((code, err.as_str()), (2, ""));
    assert_eq!(underlined(&out), "x y");
    assert!(out.contains("[--map:1:66003]") && out.len() < 2000, "{out}");

    let unknown: String = (0..2000).map(|n| format!(",u{n}")).collect();
    let map = format!("*=fw,b1,b2{unknown}");
    let Run { code, out, .. } = run(&["--map", &map, "check"]);
    assert_eq!(code, 1);
    assert!(out.contains("... and 1960 more; --json has all\n0 errors, 2000 warnings"), "{out}");
    assert!(out.len() < 64 << 10);
    assert_eq!(run(&["--json", "--map", &map, "check"]).out.lines().count(), 2000);
}

#[test]
fn findings_in_the_boards_own_map_are_one_warning() {
    let Run { code, out, .. } = run(&["--cma", "mine=8M", "check"]);
    assert_eq!(code, 1);
    assert!(
        out.contains("the map of goni, in force without --map") && out.contains("give --map too"),
        "{out}"
    );
    assert!(!out.contains("[map of goni"), "{out}");
    assert!(out.contains("0 errors, 2 warnings"), "{out}");
}

#[test]
fn columns_are_counted_in_characters_and_json_in_bytes() {
    let Run { out, .. } = run(&["--cma", "日本=8M;b=8X", "check"]);
    assert!(out.contains("[--cma:1:9]"), "{out}");
    let Run { out, .. } = run(&["--json", "--cma", "日本=8M;b=8X", "check"]);
    assert_eq!(value(&out, "end"), 14, "{out}");
    assert!(run(&["check", "--help"]).out.contains("byte offsets"));
}
