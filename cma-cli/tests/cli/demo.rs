//! `cma demo`, which is what runs without a command.

use crate::{Run, cma, run};

#[test]
fn without_a_command_and_with_an_empty_environment_the_demo_runs_to_its_end() {
    let Run { code, out, err } =
        cma(&[]).current_dir("/").output().expect("the program starts").into();
    assert_eq!((code, err.as_str()), (0, ""));
    let sections: Vec<_> = out.lines().filter(|line| line.starts_with(char::is_numeric)).collect();
    assert_eq!(sections.len(), 6, "{out}");
    let at =
        |text: &str| out.find(text).unwrap_or_else(|| panic!("\"{text}\" is missing in\n{out}"));
    assert!(at("waits for the default") < at("now serves fw, b1, b2"), "regions come first");
    assert!(at("0x30000000 in fw") < at("ENOMEM"));
    assert!(at("b1: fragmented: 23944K free, the largest hole is 23864K") < at("b2: too small"));
    assert!(at("b2: too small") < at("4 live chunks adopted"));
    for allocator in ["best-fit", "bitmap", "buddy", "packing", "tlsf"] {
        let row = out
            .lines()
            .find(|line| line.trim_start().starts_with(allocator) && line.contains("217M"));
        assert!(row.is_some(), "no row of {allocator} in the table in\n{out}");
    }
    assert!((50..=85).contains(&out.lines().count()), "{} lines", out.lines().count());
}

#[test]
fn the_demo_serves_codec_and_camera_on_every_board() {
    for board in ["aquila", "goni", "galaxy-s2"] {
        let Run { code, out, err } = run(&["--platform", board, "demo"]);
        assert_eq!((code, err.as_str()), (0, ""), "{board}");
        assert!(out.contains("s3c-mfc") && out.contains("s3c-fimc.0"), "{out}");
        assert!(out.contains("all 6 chunks are freed"), "{out}");
    }
}

#[test]
fn the_demo_calls_memory_simulated_only_if_no_region_has_any() {
    for (memory, is_simulated) in [("simulated", true), ("memfd", false)] {
        let Run { code, out, err } = run(&["--memory", memory, "demo"]);
        assert_eq!((code, err.as_str()), (0, ""), "{memory}");
        assert_eq!(out.contains("simulated"), is_simulated, "{memory}: {out}");
    }
}

#[test]
fn the_demo_shows_each_region_binding_to_the_allocator_it_waits_for() {
    let Run { code, out, .. } = run(&[
        "--cma",
        "late=8M:buddy;early=8M:bitmap;any=8M",
        "--map",
        "*=late,early,any",
        "demo",
    ]);
    assert_eq!(code, 0);
    for (waits, serves) in [
        ("waits for buddy", "now serves late"),
        ("waits for bitmap", "now serves early"),
        ("waits for the default", "now serves any"),
    ] {
        assert!(out.contains(waits) && out.contains(serves), "{waits}, {serves}:\n{out}");
    }
}

#[test]
fn the_demo_requests_by_any_map_and_reports_refusals_in_its_exit_status() {
    let Run { code, out, .. } = run(&["--cma", "tiny=1M", "--map", "lens/raw=tiny", "demo"]);
    assert_eq!(code, 1);
    assert!(out.contains("lens/raw") && out.contains("tiny: full:"), "{out}");
    let Run { code, out, .. } = run(&["--map", "", "demo"]);
    assert_eq!(code, 1);
    assert!(out.contains("ENOENT") && out.contains("no rule of the map matches"), "{out}");
    let Run { code, out, .. } = run(&["--cma", "gone=1M:nobody", "--map", "*=gone", "demo"]);
    assert_eq!(code, 1);
    assert!(out.contains("\"nobody\", which is not registered"), "{out}");
}

#[test]
fn an_allocator_that_refuses_its_region_is_reported_consistently() {
    let Run { code, out, .. } = run(&["--cma", "a=8M:buddy(foo=1)", "--map", "*=a", "demo"]);
    assert_eq!(code, 1);
    let lines: Vec<_> = out.lines().map(str::trim).collect();
    let buddy = lines.iter().position(|line| line.starts_with("buddy ")).expect("it is found");
    assert!(lines[buddy + 1].starts_with("refuses a: "), "{out}");
    assert!(lines[buddy + 1].contains("unknown parameter \"foo\""), "{out}");
    assert!(!lines[buddy + 2].contains("no region waits"), "{out}");
    assert!(out.contains("no region is in use") && !out.contains("freed"), "{out}");
}

#[test]
fn the_demo_counts_one_chunk_as_one() {
    let Run { out, .. } = run(&["--cma", "a=512K", "--map", "x=a", "demo"]);
    assert!(
        out.contains("1 live chunk adopted") && out.contains("the one chunk is freed"),
        "{out}"
    );
}
