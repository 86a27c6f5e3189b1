//! The demo as a user runs it.

use std::fs;
use std::process::{Command, Output};

fn demo() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loader-demo"));
    command.env_clear();
    command
}

/// Exit status, standard output and standard error.
fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("the demo starts");
    let text = |bytes| String::from_utf8(bytes).expect("its output is text");
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn every_step_of_a_host_is_taken_in_order() {
    let (code, out, err) = run(&mut demo());
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let mut rest = out.as_str();
    for step in [
        "region b1 at 0x30100000+0x2000000: waits for the default\n",
        "best-fit",
        "   now serves fw, b1, b2\n",
        "s3c-mfc5/f   firmware       512K/128K  0x30000000 in fw\n",
        "s3c-fimc.0   one page more  23868K     ENOMEM\n",
        "   b1: fragmented: 23944K free, the largest hole is 23864K\n",
        "   b2: too small: 23868K requested of a region of 16M\n",
        "b1: best-fit -> bitmap: 4 live chunks adopted\n",
        "b1: bitmap -> buddy: 4 live chunks adopted\n",
        "b1: buddy -> packing: 4 live chunks adopted\n",
        "b1: packing -> tlsf: 4 live chunks adopted\n",
        "all 6 chunks are freed: every region is one hole again\n",
    ] {
        let at = rest.find(step).unwrap_or_else(|| panic!("\"{step}\" is missing in\n{out}"));
        rest = &rest[at + step.len()..];
    }
    assert_eq!(rest, "");
}

#[test]
fn a_file_that_is_no_plugin_is_reported_and_the_others_are_loaded() {
    let folder = tempfile::tempdir().expect("there is space for temporary files");
    let file = folder.path().join("libcma_x_plugin.so");
    fs::write(&file, "text").expect("a temporary file can be written");
    let (code, out, err) = run(demo().arg(folder.path()));
    assert_eq!((code, err.as_str()), (Some(1), ""), "{out}");
    let report = format!("not loaded: {}", file.display());
    let line = out.lines().find(|line| line.starts_with(&report)).expect("the file is reported");
    let remedy = line.rsplit("; ").next().unwrap_or_default();
    assert_eq!(line.matches(remedy).count(), 1, "the remedy is there once: {line}");
    assert!(out.contains("all 6 chunks are freed"), "{out}");
}

#[test]
fn without_any_plugin_the_demo_ends_with_an_error() {
    let folder = tempfile::tempdir().expect("there is space for temporary files");
    let alone = folder.path().join("loader-demo");
    // Another process writes the copy: a process that another test starts would inherit this one's
    // descriptor, and a file that is open for writing can't be started.
    let copy = Command::new("cp").arg(env!("CARGO_BIN_EXE_loader-demo")).arg(&alone).status();
    assert!(copy.expect("cp starts").success(), "the demo can be copied");
    let (code, out, err) = run(Command::new(&alone).env_clear());
    assert_eq!(code, Some(2), "{out}");
    assert!(err.contains("no allocator plug-in was found"), "{err}");
}

#[test]
fn an_option_is_an_error_because_there_is_none() {
    let (code, out, err) = run(demo().arg("--help"));
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert_eq!(err, "usage: loader-demo [PLUGIN FOLDER]...\n");
}
