//! What becomes of files that are no plug-in, of missing folders and of plug-ins that are there twice.

use crate::{Run, cma, folder, run, value, written};
use std::fs;
use std::process::Command;

#[test]
fn a_text_file_named_like_a_plugin_is_reported_and_the_rest_goes_on() {
    let folder = folder();
    let file = written(&folder, "libcma_x_plugin.so", "hello\n");
    let dir = folder.path().display().to_string();
    let Run { code, out, err } = run(&["--plugin-dir", &dir, "plugins"]);
    assert_eq!(code, 1);
    assert_eq!(out.matches("interface ").count(), 3);
    assert!(
        err.contains(&file) && err.contains("no ELF library") && err.contains("help: name a plug-in"),
        "{err}"
    );
    for command in ["demo", "regions", "check", "shell"] {
        let Run { code, err, .. } = run(&["--plugin-dir", &dir, command]);
        assert_eq!(code, 1, "{command}");
        assert!(err.contains(&file), "{command}: {err}");
    }
}

#[test]
fn a_missing_plugin_dir_is_reported_and_the_rest_goes_on() {
    let Run { code, out, err } = run(&["--plugin-dir", "/nonexistent", "plugins"]);
    assert_eq!(code, 1);
    assert!(out.contains("best-fit"));
    assert!(err.contains("/nonexistent") && err.contains("create it, or name another"), "{err}");
    let run: Run =
        cma(&["plugins"]).env("CMA_PLUGIN_PATH", "/absent").output().expect("the program starts").into();
    assert_eq!(run.code, 1);
    assert!(run.err.contains("/absent") && run.err.contains("CMA_PLUGIN_PATH"), "{}", run.err);
}

#[test]
fn an_allocator_that_is_found_twice_is_registered_once() {
    let folder = folder();
    let found = run(&["--json", "plugins"]);
    let best_fit = value(found.out.lines().next().expect("a plug-in"), "path");
    let other = folder.path().join("libcma_another_plugin.so");
    fs::copy(best_fit.as_str().expect("a path"), other).expect("a plug-in can be copied");
    let Run { code, out, err } = run(&["--plugin-dir", &folder.path().display().to_string(), "regions"]);
    assert_eq!(code, 1);
    assert!(err.contains("allocator \"best-fit\" is registered already"), "{err}");
    assert!(out.contains("best-fit"), "{out}");
}

#[test]
fn a_program_without_plugins_says_where_it_looked() {
    let folder = folder();
    let alone = folder.path().join("cma");
    fs::copy(env!("CARGO_BIN_EXE_cma"), &alone).expect("the program can be copied");
    for command in ["plugins", "demo", "shell"] {
        let run: Run =
            Command::new(&alone).arg(command).env_clear().output().expect("the copy starts").into();
        assert_eq!(run.code, 2, "{command}");
        let here = folder.path().display().to_string();
        assert!(run.err.contains("no allocator plug-in") && run.err.contains(&here), "{}", run.err);
    }
    let run: Run = Command::new(&alone).arg("regions").env_clear().output().expect("the copy starts").into();
    assert_eq!(run.code, 1);
    assert!(run.out.contains("waits for the default"), "{}", run.out);
}
