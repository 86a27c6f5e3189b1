//! Options, colour, terminals and pipes.

use crate::{Run, cma, run, shell};
use std::fs;
use std::process::Stdio;

#[test]
fn wrong_options_exit_with_2_and_help_with_0() {
    for args in [&["--bogus"][..], &["bogus"], &["replay"], &["--cma"]] {
        let Run { code, out, err } = run(args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}");
        assert!(err.contains("error:"), "{err}");
    }
    for args in
        [&["--help"][..], &["-h"], &["--version"], &["shell", "--help"], &["help", "replay"]]
    {
        let Run { code, err, .. } = run(args);
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
    }
}

#[test]
fn options_stand_before_or_behind_the_command() {
    let before = run(&["--platform", "aquila", "--json", "regions"]);
    let behind = run(&["regions", "--json", "--platform", "aquila"]);
    assert_eq!((before.code, before.out), (behind.code, behind.out));
}

#[test]
fn a_command_without_figures_has_no_json() {
    for command in ["demo", "shell"] {
        let Run { code, out, err } = run(&["--json", command]);
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(err.contains("does not use --json"), "{err}");
    }
}

#[test]
fn output_in_a_pipe_is_plain() {
    for args in [
        &["demo"][..],
        &["plugins"],
        &["regions"],
        &["--platform", "galaxy-s2", "check"],
        &["--map", "==", "demo"],
    ] {
        let Run { out, err, .. } = run(args);
        assert!(!out.contains('\x1b') && !err.contains('\x1b'), "{args:?}");
    }
    let forced: Run =
        cma(&["demo"]).env("CLICOLOR_FORCE", "1").output().expect("the program starts").into();
    assert!(forced.out.contains("\x1b[1m"), "there is colour to leave out");
    let forced = ["CLICOLOR_FORCE", "NO_COLOR"].map(|name| (name, "1"));
    let refused: Run = cma(&["demo"]).envs(forced).output().expect("the program starts").into();
    assert!(!refused.out.contains('\x1b'), "NO_COLOR is heeded");
}

#[test]
fn control_characters_in_a_configuration_text_are_replaced() {
    let Run { code, out, .. } = run(&["--map", "a\x1b[2J=b1", "check"]);
    assert_eq!(code, 2);
    assert!(out.contains("a\u{fffd}[2J=b1"), "{out}");
    let Run { err, .. } = shell(&[], b"\x1b[2J\n");
    assert!(!err.contains('\x1b'), "{err}");
}

#[test]
fn a_closed_pipe_is_no_error() {
    for args in [&["demo"][..], &["regions"], &["plugins"]] {
        let mut child = cma(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        drop(child.stdout.take());
        let Run { code, err, .. } = child.wait_with_output().expect("the program ends").into();
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
    }
}

#[test]
fn unwritable_output_is_an_error() {
    let full = fs::File::options().write(true).open("/dev/full").expect("the system has /dev/full");
    let Run { code, err, .. } =
        cma(&["regions"]).stdout(full).output().expect("the program starts").into();
    assert_eq!(code, 2);
    assert!(err.contains("standard output can't be written"), "{err}");
}
