//! Files that are no plug-in, missing folders, and duplicate plug-ins.

use crate::{Run, TRACE, cma, copy_program, folder, run, value, written};
use std::fs;
use std::process::Command;

#[test]
fn a_text_file_named_like_a_plugin_is_reported_and_the_others_are_loaded() {
    let folder = folder();
    let file = written(&folder, "libcma_x_plugin.so", "hello\n");
    let dir = folder.path().display().to_string();
    let Run { code, out, err } = run(&["--plugin-dir", &dir, "plugins"]);
    assert_eq!(code, 1);
    assert_eq!(out.matches("interface ").count(), 5);
    assert!(
        err.contains(&file)
            && err.contains("no ELF library")
            && err.contains("help: name a plug-in"),
        "{err}"
    );
    for command in ["demo", "regions", "check", "shell"] {
        let Run { code, err, .. } = run(&["--plugin-dir", &dir, command]);
        assert_eq!(code, 1, "{command}");
        assert!(err.contains(&file), "{command}: {err}");
    }
}

#[test]
fn a_missing_plugin_dir_is_reported_and_the_others_are_searched() {
    let Run { code, out, err } = run(&["--plugin-dir", "/nonexistent", "plugins"]);
    assert_eq!(code, 1);
    assert!(out.contains("best-fit"));
    assert!(err.contains("/nonexistent") && err.contains("create it, or name another"), "{err}");
    let run: Run = cma(&["plugins"])
        .env("CMA_PLUGIN_PATH", "/absent")
        .output()
        .expect("the program starts")
        .into();
    assert_eq!(run.code, 1);
    assert!(run.err.contains("/absent") && run.err.contains("CMA_PLUGIN_PATH"), "{}", run.err);
}

#[test]
fn the_first_of_two_plugins_with_one_name_is_used_and_every_command_reports_it() {
    let folder = folder();
    let found = run(&["--json", "plugins"]);
    let buddy = found.out.lines().nth(2).map(|line| value(line, "path")).expect("a third plug-in");
    let buddy = buddy.as_str().expect("a path");
    let other = folder.path().join("libcma_another_plugin.so");
    fs::copy(buddy, &other).expect("a plug-in can be copied");
    let (dir, other) = (folder.path().display().to_string(), other.display().to_string());
    let trace = written(&folder, "hand.trace", TRACE);
    for command in [&["plugins"][..], &["regions"], &["check"], &["replay", &trace]] {
        let Run { code, err, .. } = run(&[&["--plugin-dir", &dir], command].concat());
        assert_eq!(code, 1, "{command:?}");
        let expected = format!(
            "{buddy}: not used: its allocator is named \"buddy\", as is that of {other}, which is found first"
        );
        assert!(err.contains(&expected), "{command:?}: {err}");
    }
    let Run { out, .. } = run(&["--plugin-dir", &dir, "--json", "plugins"]);
    let first = out.lines().next().expect("a plug-in");
    assert_eq!((value(first, "path"), value(first, "default")), (other.into(), true.into()));
    assert_eq!(out.lines().count(), 5);
    let Run { out, .. } = run(&["--plugin-dir", &dir, "--json", "replay", &trace]);
    assert_eq!(out.matches("\"buddy\"").count(), 1, "{out}");
}

#[test]
fn a_plugin_that_hides_another_of_the_same_file_name_is_marked() {
    let folder = folder();
    let found = run(&["--json", "plugins"]);
    let buddy = found.out.lines().nth(2).map(|line| value(line, "path")).expect("a third plug-in");
    let buddy = buddy.as_str().expect("a path");
    assert!(!run(&["plugins"]).out.contains("in place of"), "no folder hides it");
    fs::copy(buddy, folder.path().join("libcma_buddy_plugin.so")).expect("a plug-in can be copied");
    let Run { code, out, .. } =
        run(&["--plugin-dir", &folder.path().display().to_string(), "plugins"]);
    assert_eq!(code, 0);
    assert!(
        out.lines().nth(2).is_some_and(|line| line.trim() == format!("in place of {buddy}")),
        "{out}"
    );
}

#[test]
fn a_plugin_dir_without_a_plugin_is_reported_with_another_library_in_it() {
    let folder = folder();
    let dir = folder.path().display().to_string();
    let Run { code, out, err } = run(&["--plugin-dir", &dir, "plugins"]);
    assert_eq!(code, 1);
    assert!(out.contains("best-fit"), "{out}");
    assert!(err.contains(&format!("{dir}: no plug-in is in this folder")), "{err}");
    assert!(!err.contains("there is"), "{err}");
    written(&folder, "libmy_crate_plugin.so", "");
    for command in ["plugins", "regions", "check", "demo"] {
        let Run { code, err, .. } = run(&["--plugin-dir", &dir, command]);
        assert_eq!(code, 1, "{command}");
        assert!(
            err.contains(
                "there is libmy_crate_plugin.so; a plug-in's file is named libcma_<name>_plugin.so"
            ),
            "{command}: {err}"
        );
    }
}

#[test]
fn a_program_without_plugins_lists_the_folders_searched() {
    let folder = folder();
    let alone = folder.path().join("cma");
    copy_program(&alone);
    for command in ["plugins", "demo", "shell"] {
        let run: Run =
            Command::new(&alone).arg(command).env_clear().output().expect("the copy starts").into();
        assert_eq!(run.code, 2, "{command}");
        let here = folder.path().display().to_string();
        assert!(run.err.contains("no allocator plug-in") && run.err.contains(&here), "{}", run.err);
        // As after `cargo install`: where the libraries are, and where they belong.
        let copied = "copy target/release/deps/libcma_*_plugin.so of the repository";
        let place = format!("to {here}/../lib/cma, or");
        let help = &run.err;
        assert!(help.contains(copied) && help.contains(&place), "{}", run.err);
    }
    let trace = folder.path().join("trace");
    let run: Run = Command::new(&alone)
        .args(["record", "-o", &trace.display().to_string(), "--", "true"])
        .env_clear()
        .output()
        .expect("the copy starts")
        .into();
    assert_eq!(run.code, 2, "{}", run.err);
    let copied = "copy target/release/deps/libcma_record_preload.so of the repository";
    assert!(run.err.contains(copied), "{}", run.err);
    for command in ["regions", "check"] {
        let run: Run =
            Command::new(&alone).arg(command).env_clear().output().expect("the copy starts").into();
        assert_eq!(run.code, 1, "{command}");
        assert!(run.err.contains("no allocator plug-in was found"), "{command}: {}", run.err);
    }
}
