//! Plug-ins that are checked, in words and as JSON, and those that can't be.

use crate::{Run, run, value};
use std::path::PathBuf;

/// A library that cargo puts beside the test.
fn library(name: &str) -> String {
    let this = std::env::current_exe().expect("a test has a file");
    let path: PathBuf = this.with_file_name(name);
    assert!(path.exists(), "{} is not there", path.display());
    path.display().to_string()
}

fn misbehaving(params: &str) -> String {
    format!("{}({params})", library("libcma_fixture_misbehaving.so"))
}

const ONE: &str = "a_region_fills_page_by_page_and_empties_in_any_order";

#[test]
fn a_plugin_that_keeps_a_guarantee_has_status_0() {
    let Run { code, out, err } =
        run(&["conform", "--placing", "best-fit", "best-fit", "--only", ONE]);
    assert_eq!((code, out.as_str()), (0, "best-fit: the guarantee is kept\n"), "{err}");
    let params = "buddy(max-order=3)";
    let Run { code, out, err } = run(&["conform", params, "--only", ONE]);
    assert_eq!((code, out.as_str()), (0, "buddy(max-order=3): the guarantee is kept\n"), "{err}");
}

#[test]
fn a_violation_has_status_1_with_the_calls_and_a_test() {
    let plugin = misbehaving("free=refuse");
    let Run { code, out, err } = run(&["conform", &plugin, "--only", ONE]);
    assert_eq!(code, 1, "{err}");
    let words = "a region fills page by page and empties in any order: it refused to free the live \
                 chunk 0x0+0x1000\n    region 0x0+0x1000\n    1. allocate 0x1000 aligned 0x1000 -> \
                 0x0+0x1000\n    2. free 0x0+0x1000\n";
    assert!(out.starts_with(words), "{out}");
    assert!(out.contains("let chunk_1 = allocator.allocate(&request(1, alignment(12)))?"), "{out}");
    assert!(out.ends_with("1 of 1 guarantees broken\n"), "{out}");
}

#[test]
fn a_plugin_that_crashes_or_ends_its_process_does_not_end_the_command() {
    for (params, what) in [
        ("end=segv,after=1", "it crashed with signal 11 (SIGSEGV) in call 2: allocate"),
        ("end=exit", "it ended the process with exit code 0 in call 1: allocate"),
    ] {
        let Run { code, out, err } = run(&[
            "conform",
            &misbehaving(params),
            "--only",
            ONE,
            "--only",
            "regions_are_independent",
        ]);
        assert_eq!(code, 1, "{params}: {err}");
        assert!(out.contains(what) && out.contains("2 of 2 guarantees broken"), "{params}: {out}");
    }
}

#[test]
fn what_a_plugin_prints_is_not_in_the_output() {
    let plugin = misbehaving("print=stdout");
    let Run { code, out, err } = run(&["conform", &plugin, "--only", ONE]);
    assert_eq!((code, out), (0, format!("{plugin}: the guarantee is kept\n")), "{err}");
}

#[test]
fn json_has_an_object_for_each_guarantee() {
    let plugin = misbehaving("place=outside");
    let params = "unknown_parameters_are_refused_by_name";
    let Run { code, out, err } =
        run(&["conform", &plugin, "--only", ONE, "--only", params, "--json"]);
    assert_eq!(code, 1, "{err}");
    let lines: Vec<_> = out.lines().collect();
    let [broken, kept] = lines[..] else { panic!("{out}") };
    assert_eq!(
        (value(broken, "kept"), value(broken, "violation")),
        (false.into(), "Outside".into())
    );
    assert_eq!(value(broken, "calls").as_array().map(Vec::len), Some(1), "{broken}");
    assert_eq!(
        (value(broken, "region_start"), value(broken, "region_bytes")),
        (0.into(), 4096.into())
    );
    assert_eq!((value(kept, "guarantee"), value(kept, "kept")), (params.into(), true.into()));
}

#[test]
fn the_guarantees_are_listed_and_an_unknown_one_is_an_error() {
    let Run { code, out, .. } = run(&["conform", "--list"]);
    assert_eq!((code, out.lines().count()), (0, 24), "{out}");
    assert!(out.lines().any(|line| line == ONE), "{out}");
    let Run { code, err, .. } = run(&["conform", "best-fit", "--only", "nothing"]);
    assert!(code == 2 && err.contains("`cma conform --list` lists them"), "{err}");
    let Run { code, err, .. } = run(&["conform"]);
    assert!(code == 2 && err.contains("PLUGIN"), "{err}");
}

#[test]
fn a_file_that_is_no_plugin_and_an_unknown_allocator_are_errors() {
    let this_file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/conform.rs");
    let Run { code, out, err } = run(&["conform", this_file]);
    assert!(code == 2 && out.is_empty() && err.contains("no ELF library"), "{err}");
    let Run { code, err, .. } = run(&["conform", "nothing"]);
    assert!(code == 2 && err.contains("loaded are: best-fit"), "{err}");
    let Run { code, err, .. } = run(&["conform", &library("libcma_fixture_panics.so")]);
    assert!(code == 2 && err.contains("panic"), "{err}");
}
