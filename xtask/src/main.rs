//! `cargo xtask TASK`: the project's commands by name.

use std::env;
use std::io::{self, Write};
use std::process::{Command, ExitCode};
use xtask::{columns, files, imports, root};

/// A task that is one command, run in the repository's root. Arguments of the task follow it.
struct Task {
    name: &'static str,
    does: &'static str,
    command: &'static [&'static str],
}

const fn task(name: &'static str, does: &'static str, command: &'static [&'static str]) -> Task {
    Task { name, does, command }
}

const TASKS: [Task; 17] = [
    task("ci", "everything that must pass before a change lands", &["bash", ".ci/run"]),
    task(
        "lint",
        "clippy, as in ci",
        &["cargo", "clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"],
    ),
    task("test", "every test", &["cargo", "test", "--workspace", "--locked"]),
    task("doc", "the documentation of every crate", &["cargo", "doc", "--workspace", "--no-deps"]),
    task(
        "deny",
        "licences, sources and banned crates of the dependencies",
        &["cargo", "deny", "check", "licenses", "bans", "sources"],
    ),
    task(
        "fuzz",
        "the fuzz targets: [TARGET...] [--seconds N] [--seed S]",
        &["cargo", "run", "--quiet", "--release", "--package", "cma-fuzz", "--"],
    ),
    task(
        "blobs",
        "imports and checks the device trees of Debian's arm64 kernel: [FOLDER]",
        &["bash", "xtask/blobs.sh"],
    ),
    task(
        "real-programs",
        "runs chunks through QEMU, DPDK, GStreamer, libavcodec and Python, which it installs",
        &["bash", "xtask/real-programs.sh"],
    ),
    task(
        "kills",
        "kills a server under clients, as often as asked: --help",
        &["cargo", "test", "--release", "--package", "cma-cli", "--test", "kills", "--"],
    ),
    task(
        "restart",
        "how long clients wait when their server is killed: [--chunks N] [--memory M] [--rounds N]",
        &["cargo", "bench", "--package", "cma-cli", "--bench", "restart", "--"],
    ),
    task(
        "table",
        "the speed table of docs/performance.md, in under five minutes",
        &["cargo", "bench", "--package", "cma-benches", "--bench", "table"],
    ),
    task(
        "instructions",
        "builds target/release/rounds for callgrind",
        &["cargo", "build", "--release", "--package", "cma-benches", "--bin", "rounds"],
    ),
    task(
        "install-c",
        "builds libcma and installs it: [--prefix P] [--destdir D] [--libdir L]",
        &["sh", "interfaces/c/install.sh"],
    ),
    task(
        "packages",
        "builds the Debian packages and tries them in a clean Debian root: [--no-trial]",
        &["bash", "xtask/packages.sh"],
    ),
    task(
        "documents",
        "writes manual pages of cma and completions for shells: FOLDER",
        &["cargo", "run", "--quiet", "--package", "cma-documents", "--"],
    ),
    task(
        "header",
        "writes interfaces/c/include/cma.h",
        &[
            "env",
            "CMA_WRITE_HEADER=1",
            "cargo",
            "test",
            "--quiet",
            "--package",
            "cma-c",
            "--test",
            "header",
        ],
    ),
    task(
        "miri",
        "the crates that Miri can run; needs a nightly toolchain with miri and rust-src",
        // An allocator that panicked is leaked on purpose: its state may be inconsistent.
        &[
            "env",
            "MIRIFLAGS=-Zmiri-ignore-leaks",
            "cargo",
            "+nightly",
            "miri",
            "test",
            "--package",
            "cma-bits",
            "--package",
            "cma-api",
        ],
    ),
];

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let name = arguments.next().unwrap_or_default();
    match name.to_str() {
        Some("columns") => return report(wide_lines()),
        Some("imports") => return report(import_cycles()),
        _ => {}
    }
    let Some(task) = TASKS.iter().find(|task| name == task.name) else {
        if !name.is_empty() && name != "--help" {
            return fail(&format!("there is no task {}; `cargo xtask` lists them", name.display()));
        }
        return usage();
    };
    let [program, fixed @ ..] = task.command else { return ExitCode::FAILURE };
    let status = root().and_then(|root| {
        Command::new(program).args(fixed).args(arguments).current_dir(root).status()
    });
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => {
            ExitCode::from(status.code().and_then(|code| code.try_into().ok()).unwrap_or(1))
        }
        Err(error) => fail(&format!("{program} can't be run: {error}")),
    }
}

/// The lines of comments and of prose that are too wide.
fn wide_lines() -> io::Result<Vec<String>> {
    let root = root()?;
    let wide = columns::check(&root, &files(&root)?)?;
    Ok(wide.iter().map(ToString::to_string).collect())
}

/// The import cycles of the crates.
fn import_cycles() -> io::Result<Vec<String>> {
    let cycles = imports::cycles(&root()?)?;
    Ok(cycles.iter().map(|(folder, cycle)| format!("{}: {cycle}", folder.display())).collect())
}

/// Reports the findings of a check, and fails if there are any.
fn report(found: io::Result<Vec<String>>) -> ExitCode {
    match found {
        Ok(found) if found.is_empty() => ExitCode::SUCCESS,
        Ok(found) => fail(&found.join("\n")),
        Err(error) => fail(&error.to_string()),
    }
}

fn usage() -> ExitCode {
    let mut text = String::from("usage: cargo xtask TASK [ARGUMENT...]\n");
    text.push_str("  columns       comments and prose that are wider than 100 columns\n");
    text.push_str("  imports       import cycles\n");
    for Task { name, does, .. } in &TASKS {
        text.push_str(&format!("  {name:13} {does}\n"));
    }
    fail(text.trim_end())
}

fn fail(message: &str) -> ExitCode {
    // A message that can't be written is lost; the exit status is not.
    let _ = writeln!(io::stderr(), "{message}");
    ExitCode::FAILURE
}
