//! The program `cma-keeper`, with a server that dies.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use cma_keeper::{Keeper, KeeperProcess, Name};
use std::env;
use std::fs::File;
use std::io::{Read, stdin};
use std::os::fd::AsFd;
use std::os::unix::process::parent_id;
use std::process::{Command, Output, Stdio, abort, exit};

const DEATHS: &str = "CMA_KEEPER_TEST_DEATHS";

/// The server: each run stores one descriptor more, and finds those of all runs before. It dies
/// that many times, and then ends.
#[test]
#[ignore = "the server of the other tests, which start it"]
fn server() {
    let Some(deaths) = env::var(DEATHS).ok().map(|text| text.parse::<usize>().unwrap()) else {
        println!("skipped: no test has started this process as a server");
        return;
    };
    let mut keeper = KeeperProcess::from_stdin().unwrap().unwrap();
    let runs = keeper.take().unwrap();
    for (number, (name, _)) in runs.iter().enumerate() {
        assert_eq!(name.as_str(), format!("run-{number}"));
    }
    if runs.len() == deaths {
        exit(0);
    }
    let name = Name::new(format!("run-{}", runs.len())).unwrap();
    keeper.put(&name, File::open("/dev/null").unwrap()).unwrap();
    // A child that has the server's socket and lives as long as the keeper doesn't hide its death.
    let socket = stdin().as_fd().try_clone_to_owned().unwrap();
    let keeper = parent_id();
    let script = format!("while kill -0 {keeper}; do sleep 0.1; done");
    let mut child = Command::new("sh");
    child.args(["-c", &script]).stdin(socket).stdout(Stdio::null()).stderr(Stdio::null());
    child.spawn().unwrap();
    abort();
}

fn keeper() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cma-keeper"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_server_that_dies_is_started_again_with_its_descriptors() {
    let mut keeper = keeper();
    keeper.arg(env::current_exe().unwrap());
    keeper.args(["--exact", "server", "--ignored", "--nocapture"]).env(DEATHS, "3");
    let mut running = keeper.spawn().unwrap();
    let status = running.wait().unwrap();
    let mut report = vec![0; 64 << 10];
    let length = running.stderr.take().unwrap().read(&mut report).unwrap();
    let report = String::from_utf8_lossy(&report[..length]);
    assert!(status.success(), "{status}: {report}");
    assert!(report.contains("the server died (signal: 6 (SIGABRT)"), "{report}");
}

#[test]
fn a_server_that_always_dies_is_given_up_until_a_signal_comes() {
    let mut running = keeper().args(["--starts", "2", "sh", "-c", "exit 3"]).spawn().unwrap();
    let mut report = String::new();
    let mut stderr = running.stderr.take().unwrap();
    let mut bytes = [0; 4096];
    let mut read_until_given_up = || {
        report.clear();
        while !report.contains("SIGHUP") {
            let length = stderr.read(&mut bytes).unwrap();
            assert!(length > 0, "it ended: {report}");
            report += str::from_utf8(&bytes[..length]).unwrap();
        }
        report.clone()
    };
    let report = read_until_given_up();
    assert!(report.contains("died (exit status: 3) after 2 starts in a row"), "{report}");
    let pid = rustix::process::Pid::from_child(&running);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    assert_eq!(read_until_given_up(), report, "it tried again");
    assert!(running.try_wait().unwrap().is_none(), "it holds what it has");
    running.kill().unwrap();
    running.wait().unwrap();
}

#[test]
fn a_program_that_does_not_exist_is_reported() {
    let output = keeper().arg("/nonexistent/server").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let found = text(&output);
    assert!(found.contains("/nonexistent/server can't be started: No such file"), "{found}");
}

#[test]
fn a_wrong_command_line_starts_nothing() {
    for arguments in [&[][..], &["--starts"], &["--starts", "3"], &["--starts", "many", "true"]] {
        let output = keeper().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output).contains("usage: cma-keeper"), "{arguments:?}");
    }
}
