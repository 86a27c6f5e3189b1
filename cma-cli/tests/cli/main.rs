//! The program as a process: output, messages and exit status of each command.

mod bad_input;
mod boards;
mod check;
mod configuration;
mod conform;
mod demo;
mod device;
mod draw;
mod exec;
mod figures;
mod in_c;
mod keep;
mod kernel;
mod libcma;
mod loading;
mod log;
mod plugins;
mod record;
mod serve;
mod server;
mod service;
mod shell;
mod sizing;
mod terminal;
mod top;
mod why;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The output and the exit status of a run.
struct Run {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Run {
            code: output.status.code().expect("the program ended by itself"),
            out: String::from_utf8(output.stdout).expect("its output is text"),
            err: String::from_utf8(output.stderr).expect("its messages are text"),
        }
    }
}

/// The program with an empty environment, so that no variable adds a folder or a server.
fn cma(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cma"));
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Run {
    cma(args).output().expect("the program starts").into()
}

fn shell(options: &[&str], input: &[u8]) -> Run {
    let mut command = cma(options);
    let mut child = command
        .arg("shell")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    child.stdin.take().expect("it is piped").write_all(input).expect("the program reads");
    child.wait_with_output().expect("the program ends").into()
}

/// The keys of a JSON object without nested ones, in order.
fn keys(line: &str) -> Vec<&str> {
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(line)
        .expect("a line is an object");
    let mut keys: Vec<_> = line.split("\":").filter_map(|part| part.rsplit('"').next()).collect();
    keys.pop();
    keys
}

fn value(line: &str, key: &str) -> serde_json::Value {
    serde_json::from_str::<serde_json::Value>(line).expect("a line is JSON")[key].clone()
}

/// Four operations; 12 KiB live at the peak, 8 KiB at the end.
const TRACE: &str = "# cma-trace 1\n# source: made by hand\n# ops: 4  peak-live-bytes: 12288  peak-live-chunks: 2\n\
    0 a 1 8192 1 camera/frame\n1 a 2 4096 4096 codec\n2 f 1\n3 a 3 100 1 codec\n";

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("there is space for temporary files")
}

/// Copies the program to `place`. Another process writes the copy: a process that another test
/// starts would inherit this one's descriptor, and no file that is open for writing can be started.
fn copy_program(place: &Path) {
    let copy = Command::new("cp").arg(env!("CARGO_BIN_EXE_cma")).arg(place).status();
    assert!(copy.expect("cp starts").success(), "the program can be copied");
}

fn written(folder: &tempfile::TempDir, name: &str, content: &str) -> String {
    let path = folder.path().join(name);
    fs::write(&path, content).expect("a temporary file can be written");
    path.display().to_string()
}

/// The underlined part of the last excerpt in `out`.
fn underlined(out: &str) -> String {
    let lines: Vec<&str> = out.lines().collect();
    let line = lines
        .iter()
        .rposition(|line| line.contains('┬') || line.contains('▲'))
        .expect("something is underlined");
    let marked = |c: char| matches!(c, '─' | '┬' | '▲');
    lines[line - 1]
        .chars()
        .zip(lines[line].chars())
        .filter(|(_, mark)| marked(*mark))
        .map(|(c, _)| c)
        .collect()
}
