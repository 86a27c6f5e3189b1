//! A plug-in in C, built as its Makefile says, in the commands that take plug-ins.

use crate::device::SocketServer;
use crate::{Run, TRACE, cma, folder, run, shell, value, written};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A folder with the example of the guide, built; `None` without a compiler and make.
fn next_fit() -> Option<TempDir> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for tool in ["cc", "make"] {
        if Command::new(tool).arg("--version").output().is_err() {
            writeln!(std::io::stderr(), "SKIPPED: there is no {tool}").expect("it is open");
            return None;
        }
    }
    let folder = folder();
    for file in ["Makefile", "next_fit.c"] {
        fs::copy(root.join("docs/my-allocator-c").join(file), folder.path().join(file))
            .expect("a file can be copied");
    }
    let include = root.join("cma-api/include").canonicalize().expect("it is there");
    let made = Command::new("make")
        .args(["-s", "-C"])
        .arg(folder.path())
        .arg(format!("INCLUDE={}", include.display()))
        .output()
        .expect("make runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Some(folder)
}

fn path(folder: &TempDir) -> String {
    folder.path().display().to_string()
}

#[test]
fn it_is_listed_and_serves_traces_and_requests() {
    let Some(folder) = next_fit() else { return };
    let (dir, trace) = (path(&folder), written(&folder, "hand.trace", TRACE));
    let file = folder.path().join("libcma_next_fit_plugin.so").display().to_string();
    let Run { code, out, err } = run(&["--plugin-dir", &dir, "--json", "plugins"]);
    assert_eq!(code, 0, "{err}");
    let first = out.lines().next().expect("a plug-in");
    assert_eq!(value(first, "name"), "next-fit");
    assert_eq!(value(first, "interface_version"), "C 1");
    for command in [
        &["replay", "--allocator", "next-fit", &trace][..],
        &["size", "--allocator", &file, &trace],
        &["compare", "--runs", "1", "--allocator", "next-fit", "--allocator", "best-fit", &trace],
        &["why", "--allocator", "next-fit", "--region", "8K", &trace],
    ] {
        let Run { out, err, .. } = run(&[&["--plugin-dir", &dir], command].concat());
        assert!(out.contains("next-fit") || out.contains("16K"), "{command:?}: {out}{err}");
        assert!(!err.contains("error"), "{command:?}: {err}");
    }
    let options = ["--plugin-dir", &dir, "--cma", "b=1M:next-fit", "--map", "*=b"];
    let Run { code, out, err } = shell(&options, b"a cam 4K\nf 1\na cam 4K\n");
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.ends_with("  2: 0x1000@0x30001000\n"), "{out}");
}

#[test]
fn a_server_loads_it_when_it_arrives_and_adopts_what_is_live() {
    let Some(folder) = next_fit() else { return };
    let dir = crate::folder();
    let server = SocketServer::of(
        &["--cma", "r=1M", "--map", "*=r", "--plugin-dir", &path(&dir)],
        &["--log", "info"],
    );
    let get = |attribute: &str| {
        let socket = server.socket().display().to_string();
        run(&["get", "--connect", &socket, attribute]).out
    };
    let library = "libcma_next_fit_plugin.so";
    fs::copy(folder.path().join(library), dir.path().join(library)).expect("it can be copied");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !get("allocators").contains("next-fit") {
        assert!(Instant::now() < deadline, "{}", get("allocators"));
        sleep(Duration::from_millis(50));
    }
    drop(server);
}

#[test]
fn a_crash_in_it_is_shown_with_the_calls_before() {
    let Some(folder) = next_fit() else { return };
    let source = fs::read_to_string(folder.path().join("next_fit.c")).expect("it is there");
    let broken = source.replacen("    a->live--;\n", "    abort();\n", 1);
    assert_ne!(source, broken);
    fs::write(folder.path().join("next_fit.c"), broken).expect("it can be written");
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cma-api/include");
    let library = folder.path().join("libcma_next_fit_plugin.so").display().to_string();
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-o", &library, "-I"])
        .arg(include)
        .arg(folder.path().join("next_fit.c"))
        .status();
    assert!(made.expect("there is cc").success());
    let only = "a_region_fills_page_by_page_and_empties_in_any_order";
    let Run { code, out, err } =
        cma(&["conform", &library, "--only", only]).output().expect("it starts").into();
    assert_eq!(code, 1, "{err}");
    assert!(out.contains("it crashed with signal 6 (SIGABRT) in call 2: free 0x0+0x1000"), "{out}");
    assert!(!out.contains("as a test:"), "a test in Rust does not load it: {out}");
}
