//! The shell sessions of README.md and the guide print what the documents show.
//!
//! Each block with a line that starts with `$ cma` is typed into one shell, and its output is
//! compared line by line. A command that ends with `&` is a server, which prints its lines while
//! the next commands run. Paths below `/run` are replaced by ones in a temporary folder. In a shown
//! output, a line `...` stands for any lines, and `...` in a line for any text.

use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A command behind a `$`, the input of the program that it starts, and the expected output.
#[derive(Debug, Default)]
struct Step {
    command: String,
    input: String,
    prints: String,
}

/// The documents, from the root of the repository.
const DOCUMENTS: [&str; 3] = ["README.md", "docs/guide/board.md", "docs/guide/operator.md"];

/// The chapter whose commands build a plug-in.
const ALLOCATOR: &str = "docs/guide/allocator.md";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The sessions of a document.
fn sessions(document: &str) -> Vec<Vec<Step>> {
    let text = fs::read_to_string(repository().join(document)).unwrap();
    let blocks = text.split("\n```text\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    let uses_cma = |block: &&str| block.lines().any(|line| line.starts_with("$ cma "));
    blocks.filter(uses_cma).map(steps).collect()
}

/// Whether `printed` matches `shown`, in which `...` stands for any text.
fn is_as_shown(printed: &str, shown: &str) -> bool {
    let mut parts = shown.split("...");
    let Some(mut rest) = printed.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn three_dots_stand_for_any_text_and_nothing_else_does() {
    assert!(is_as_shown("a\nb\nc\n", "a\n...\nc\n"));
    assert!(is_as_shown("mine 0 12\n", "mine 0 ...\n"));
    assert!(is_as_shown("a\n", "a\n"));
    for printed in ["a\nb\nd\n", "b\nc\n", "a\nc", ""] {
        assert!(!is_as_shown(printed, "a\n...\nc\n"), "{printed}");
    }
    assert!(!is_as_shown("a\nb\n", "a\n"));
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
        let is_typed = step.command.contains(" shell")
            && (line == "l" || ["a ", "f "].iter().any(|command| line.starts_with(command)));
        let text = if is_typed { &mut step.input } else { &mut step.prints };
        writeln!(text, "{line}").unwrap();
    }
    steps
}

/// A library that cargo puts beside the test.
fn library(name: &str) -> PathBuf {
    let library = std::env::current_exe().unwrap().with_file_name(name);
    assert!(library.exists(), "{} is not there", library.display());
    library
}

/// The folder in which a session runs, with `bin/cma` and the files that the documents mention.
fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    for folder in ["bin", "build", "run"] {
        fs::create_dir(place.path().join(folder)).unwrap();
    }
    symlink(env!("CARGO_BIN_EXE_cma"), place.path().join("bin/cma")).unwrap();
    for folder in ["cma-trace", "platforms"] {
        symlink(repository().join(folder), place.path().join(folder)).unwrap();
    }
    let revised = place.path().join("build/libcma_revised_plugin.so");
    fs::copy(library("libcma_fixture_revision_one.so"), revised).unwrap();
    place
}

/// Runs a session, and returns what each step printed.
fn run(session: &[Step], place: &Path) -> Vec<String> {
    let mut script = String::from("shopt -s expand_aliases\n");
    for (number, Step { command, input, .. }) in session.iter().enumerate() {
        let command = command.replace("/run/", &format!("{}/run/", place.display()));
        // A reader's machine is idle; this one may have other tests to run.
        let command = command.replace("sleep 1;", "sleep 10;");
        fs::write(place.join(format!("in{number}")), input).unwrap();
        if let Some(server) = command.strip_suffix(" &") {
            // The server is ready when it has printed as many lines as the document shows, and its
            // socket or mount exists.
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

/// The output with the documents' paths, and with messages as those of an interactive shell.
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

/// Whether the session can't be run on this machine. The reason goes to standard error directly,
/// past the test harness, which captures `eprintln!`.
fn skipped(session: &[Step]) -> bool {
    let serves = |option: &str| session.iter().any(|step| step.command.contains(option));
    let is_root = rustix::process::geteuid().is_root();
    let why = if serves("--mount") && !(is_root && Path::new("/dev/fuse").exists()) {
        "a session with a mount runs as root with /dev/fuse"
    } else if serves("dtc ") && Command::new("dtc").arg("--version").output().is_err() {
        "dtc is not installed"
    } else if serves("gid:44,uid:0") && !is_root {
        "a session whose rules name root runs as root"
    } else {
        return false;
    };
    std::io::stderr().write_all(format!("SKIPPED: {why}\n").as_bytes()).unwrap();
    true
}

#[test]
fn the_sessions_in_the_documents_print_what_they_show() {
    for document in DOCUMENTS {
        let sessions = sessions(document);
        assert!(!sessions.is_empty(), "{document} shows no session");
        for mut session in sessions {
            if skipped(&session) {
                continue;
            }
            // The reader's own program.
            session.retain(|step| !step.command.contains("./a-program"));
            let place = place();
            assert_prints(document, &session, &run(&session, place.path()));
        }
    }
}

fn assert_prints(document: &str, session: &[Step], printed: &[String]) {
    for (Step { command, prints, .. }, printed) in session.iter().zip(printed) {
        assert!(
            is_as_shown(printed, prints),
            "{document}: $ {command}\nprints\n{printed}\nand the document shows\n{prints}"
        );
    }
}

/// The chapter for authors of allocators: its commands copy, test and build the allocator, and then
/// the program finds it.
#[test]
fn a_copied_allocator_passes_its_tests_and_is_loaded() {
    let text = fs::read_to_string(repository().join(ALLOCATOR)).unwrap();
    let commands = text.split("\n```sh\n").nth(1).unwrap().split("\n```").next().unwrap();
    let place = place();
    symlink(repository(), place.path().join("contiguous")).unwrap();
    // The versions of the workspace, which are on this machine, and a folder that stays.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("my-allocator");
    fs::create_dir_all(&target).unwrap();
    let entered = "cd my-allocator\n";
    assert!(commands.contains(entered), "{commands}");
    let prepared = format!(
        "{entered}rm -rf target && ln -s {} target && cp ../contiguous/Cargo.lock .\n",
        target.display()
    );
    let output = Command::new("bash")
        .args(["-e", "-c", &commands.replace(entered, &prepared)])
        .current_dir(place.path())
        .env("CARGO_NET_OFFLINE", "true")
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{commands}\n{log}");
    let tests = String::from_utf8_lossy(&output.stdout);
    assert!(tests.contains("test result: ok. 50 passed"), "{tests}");

    let sessions = sessions(ALLOCATOR);
    assert_eq!(sessions.len(), 3);
    symlink("../bin", place.path().join("my-allocator/bin")).unwrap();
    for session in &sessions[..2] {
        let printed = run(session, &place.path().join("my-allocator"));
        assert_prints(ALLOCATOR, session, &printed);
    }
}

/// The section on C in the same chapter.
#[test]
fn a_copied_allocator_in_c_is_built_checked_and_loaded() {
    for tool in ["cc", "make"] {
        if Command::new(tool).arg("--version").output().is_err() {
            std::io::stderr()
                .write_all(format!("SKIPPED: there is no {tool}\n").as_bytes())
                .unwrap();
            return;
        }
    }
    let place = place();
    symlink(repository(), place.path().join("contiguous")).unwrap();
    let session = sessions(ALLOCATOR).pop().unwrap();
    assert!(session.iter().any(|step| step.command.contains("make")));
    assert_prints(ALLOCATOR, &session, &run(&session, place.path()));
}
