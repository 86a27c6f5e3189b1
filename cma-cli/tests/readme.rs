//! The sessions of shell that README.md shows: what is printed there is what the programs print
//! today.
//!
//! Each block with a line that starts with `$ cma` is typed into one shell, and what comes is
//! compared line by line. A command with `&` behind it is a server, whose words come when they
//! come. Paths of the README are replaced by ones in a temporary folder.

use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What is typed behind a `$`, what is typed into the program that it starts, and what is printed.
#[derive(Debug, Default)]
struct Step {
    command: String,
    input: String,
    prints: String,
}

/// The sessions of the README.
fn sessions() -> Vec<Vec<Step>> {
    let readme =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let blocks =
        readme.split("\n```text\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    let uses_cma = |block: &&str| block.lines().any(|line| line.starts_with("$ cma "));
    blocks.filter(uses_cma).map(steps).collect()
}

fn steps(block: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in block.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { command: command.to_string(), ..Step::default() });
            continue;
        }
        let step = steps.last_mut().unwrap();
        // Requests to the shell of the program, which prints no prompt.
        let is_typed = step.command.contains(" shell") && line.starts_with("a ");
        let text = if is_typed { &mut step.input } else { &mut step.prints };
        writeln!(text, "{line}").unwrap();
    }
    steps
}

/// A library that a build has put beside the test.
fn library(name: &str) -> PathBuf {
    let library = std::env::current_exe().unwrap().with_file_name(name);
    assert!(library.exists(), "{} is not there", library.display());
    library
}

/// The folder in which a session runs: `bin/cma`, and what the README says is there.
fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    for folder in ["bin", "build", "run"] {
        fs::create_dir(place.path().join(folder)).unwrap();
    }
    symlink(env!("CARGO_BIN_EXE_cma"), place.path().join("bin/cma")).unwrap();
    let revised = place.path().join("build/libcma_revised_plugin.so");
    fs::copy(library("libcma_fixture_revision_one.so"), revised).unwrap();
    place
}

/// Runs a session, and returns what each step printed.
fn run(session: &[Step], place: &Path) -> Vec<String> {
    let mut script = String::from("shopt -s expand_aliases\n");
    for (number, Step { command, input, .. }) in session.iter().enumerate() {
        let command = command.replace("/run/", &format!("{}/run/", place.display()));
        fs::write(place.join(format!("in{number}")), input).unwrap();
        if let Some(server) = command.strip_suffix(" &") {
            // It is ready when it has said all that the README says, and its socket or mount is
            // there.
            let lines = session[number].prints.lines().count();
            writeln!(script, "{server} > out{number} &\nserver=$!").unwrap();
            writeln!(
                script,
                "for i in $(seq 200); do [ -e run/cma/map -o -S run/cma.sock ] && [ $(wc -l < out{number}) -ge {lines} ] && break; \
                 kill -0 $server || break; sleep 0.05; done"
            )
            .unwrap();
        } else {
            writeln!(script, "{{ {command}\n}} < in{number} > out{number} 2>&1").unwrap();
        }
    }
    script.push_str("[ -z \"$server\" ] || { kill $server; wait $server; } 2> /dev/null\n");
    let path = format!("{}/bin:{}", place.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("timeout")
        .args(["-k", "5", "60", "bash"])
        .current_dir(place)
        .env("PATH", path)
        .env_remove("CMA_MOUNT")
        .env_remove("CMA_PLUGIN_PATH")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    shell.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let status = shell.wait().unwrap();
    assert_ne!(status.code(), Some(124), "the session hangs:\n{script}");
    let printed =
        |number| fs::read_to_string(place.join(format!("out{number}"))).unwrap_or_default();
    (0..session.len()).map(|number| as_shown(&printed(number), place)).collect()
}

/// Output as a reader sees it: with the README's paths, and from a shell at a terminal.
fn as_shown(printed: &str, place: &Path) -> String {
    let shown = printed.replace(&format!("{}/run/", place.display()), "/run/");
    let mut lines = String::new();
    for line in shown.lines() {
        let line = match line.strip_prefix("bash: line ").and_then(|rest| rest.split_once(": ")) {
            Some((_, words)) => format!("bash: {words}"),
            None => line.to_string(),
        };
        writeln!(lines, "{}", line.trim_end()).unwrap();
    }
    lines
}

/// Why sessions with `word` can't be run on this machine; said where the test harness doesn't keep
/// it.
fn skipped(session: &[Step]) -> bool {
    let serves = |option: &str| session.iter().any(|step| step.command.contains(option));
    let is_root = rustix::process::geteuid().is_root();
    let why = if serves("--mount") && !(is_root && Path::new("/dev/fuse").exists()) {
        "a session with a mount runs as root with /dev/fuse"
    } else if serves("gid:44,uid:0") && !is_root {
        "a session whose rules name root runs as root"
    } else {
        return false;
    };
    std::io::stderr().write_all(format!("SKIPPED: {why}\n").as_bytes()).unwrap();
    true
}

#[test]
fn the_sessions_of_the_readme_are_what_the_program_prints() {
    let sessions = sessions();
    assert!(sessions.len() >= 3, "the README has a session for each way to use it");
    for mut session in sessions {
        if skipped(&session) {
            continue;
        }
        // A program of the reader's.
        session.retain(|step| !step.command.contains("./a-program"));
        let place = place();
        for (step, printed) in session.iter().zip(run(&session, place.path())) {
            assert_eq!(printed, step.prints, "$ {}", step.command);
        }
    }
}
