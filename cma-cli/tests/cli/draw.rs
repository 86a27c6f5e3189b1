//! `cma draw`: pictures of traces and of servers, and what goes wrong.

use crate::{Run, TRACE, folder, run, written};
use std::fs;

/// The start of a file.
fn start(path: &str) -> Vec<u8> {
    fs::read(path).expect("the picture is there").into_iter().take(8).collect()
}

#[test]
fn a_trace_is_drawn_as_svg_and_png_with_a_line_for_each_allocator() {
    let folder = folder();
    let trace = written(&folder, "a.trace", TRACE);
    for (name, magic) in [("a.svg", &b"<svg "[..]), ("a.png", &b"\x89PNG\r\n"[..])] {
        let picture = folder.path().join(name).display().to_string();
        let Run { code, out, err } = run(&[
            "draw",
            &trace,
            "-o",
            &picture,
            "--allocator",
            "best-fit",
            "--allocator",
            "tlsf",
            "--region",
            "12K",
        ]);
        assert_eq!((code, err.as_str()), (0, ""));
        assert_eq!(out, "best-fit: 0 requests refused\ntlsf: 0 requests refused\n");
        assert!(start(&picture).starts_with(magic), "{name}");
    }
}

#[test]
fn a_moment_of_a_trace_is_drawn_and_one_outside_it_is_refused() {
    let folder = folder();
    let trace = written(&folder, "a.trace", TRACE);
    let picture = folder.path().join("a.svg").display().to_string();
    let Run { code, out, .. } = run(&["draw", &trace, "-o", &picture, "--at", "1us"]);
    assert_eq!(code, 0);
    assert!(out.contains("2 chunks in 2 MiB"), "{out}");
    fs::remove_file(&picture).expect("it is there");
    let Run { code, err, .. } = run(&["draw", &trace, "-o", &picture, "--at", "1s"]);
    assert_eq!(code, 2);
    assert!(err.contains("--at: the trace ends earlier, at 3us"), "{err}");
    assert!(!folder.path().join("a.svg").exists());
}

#[test]
fn a_picture_that_cant_be_written_is_named_and_an_old_one_stays() {
    let folder = folder();
    let trace = written(&folder, "a.trace", TRACE);
    let old = written(&folder, "old.svg", "old");
    for (path, reason) in [
        ("/nonexistent/a.svg", "No such file"),
        ("/proc/a.svg", "can't be written"),
        ("/tmp", "ends with .svg or .png"),
        ("a.jpg", "ends with .svg or .png"),
    ] {
        let Run { code, err, .. } = run(&["draw", &trace, "-o", path]);
        assert_eq!(code, 2, "{path}");
        assert!(err.contains(path) && err.contains(reason), "{err}");
        assert!(err.contains("help: ") && !err.contains(".cma-new-"), "{err}");
    }
    let Run { code, err, .. } = run(&["draw", &trace, "-o", &old, "--size", "1200x250"]);
    assert_eq!(code, 2);
    assert!(err.contains("--size: panels of this width need a height of"), "{err}");
    assert_eq!(fs::read_to_string(&old).expect("it is there"), "old");
    let Run { code, err, .. } = run(&["draw", &trace, "-o", &old, "--allocator", "none"]);
    assert_eq!(code, 2);
    assert!(err.contains("there is no allocator \"none\""), "{err}");
    let Run { code, .. } = run(&["draw", &trace, "-o", &old, "--mount", "x"]);
    assert_eq!(code, 2);
    let inner = folder.path().join("folder.svg");
    fs::create_dir(&inner).expect("a folder");
    let path = inner.display().to_string();
    let Run { code, err, .. } = run(&["draw", &trace, "-o", &path]);
    assert!(code == 2 && err.contains("is a directory"), "{err}");
    // Nothing else is in the folder: no part of a picture.
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 3);
    assert_eq!(fs::read_dir(&inner).expect("a folder").count(), 0);
}
