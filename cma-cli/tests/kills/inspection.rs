//! What everybody holds when something did not happen in time: the clients, the kernel's queues
//! between them and the server, the keeper, the journal, and the threads of keeper and server.

use crate::clients::Ground;
use crate::running::Running;
use cma_journal::{Contents, Mapped};
use rustix::process::Pid;
use std::fmt::Write;
use std::fs::{self, File};
use std::process::Command;

pub(crate) fn of(running: &Running, ground: &Ground) -> String {
    let mut text = String::from("clients:\n");
    for (number, client) in ground.clients.iter().enumerate() {
        let _ = writeln!(text, "  {number}: {client}");
    }
    let _ = writeln!(text, "sockets with unread messages (ss):\n{}", unread());
    let _ = writeln!(text, "the keeper has {:?}", running.holdings());
    let _ = writeln!(text, "the journal:\n{}", journal(running.keeper.id()));
    let _ = writeln!(text, "threads of the keeper:\n{}", threads(running.keeper.id()));
    match running.server() {
        None => text.push_str("no server runs\n"),
        Some(server) => {
            let server = Pid::as_raw(Some(server)).unsigned_abs();
            let _ = writeln!(text, "threads of the server:\n{}", threads(server));
        }
    }
    for path in ["regions/b1/waiters", "regions/b2/waiters", "regions/b1/chunks"] {
        let _ = writeln!(text, "{path}:\n{}", running.attribute(path).unwrap_or_default());
    }
    text
}

/// The Unix sockets of the machine in whose queues something is.
fn unread() -> String {
    let listed = match Command::new("ss").args(["-x", "-a", "-n", "-p"]).output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => return format!("unknown: {error}"),
    };
    let has_bytes = |line: &&str| {
        let mut columns = line.split_whitespace().skip(2);
        columns.by_ref().take(1).any(|bytes| bytes != "0")
    };
    listed.lines().filter(has_bytes).collect::<Vec<_>>().join("\n")
}

/// The records of the journal that a keeper has.
fn journal(keeper: u32) -> String {
    let files = fs::read_dir(format!("/proc/{keeper}/fd")).into_iter().flatten().flatten();
    let mut text = String::new();
    for path in files.map(|file| file.path()) {
        let is_journal = fs::read_link(&path)
            .is_ok_and(|target| target.to_string_lossy().starts_with("/memfd:cma:journal"));
        if !is_journal {
            continue;
        }
        let file = File::options().read(true).write(true).open(&path);
        let mapped = file
            .map_err(|error| error.to_string())
            .and_then(|file| Mapped::new(&file).map_err(|error| error.to_string()));
        match mapped.map(|mapped| Contents::read(&mapped)) {
            Ok(Ok(contents)) => {
                for damage in &contents.damage {
                    let _ = writeln!(text, "  damage: {damage}");
                }
                for (id, record) in &contents.records {
                    let _ = writeln!(text, "  {id}: {record:?}");
                }
            }
            Ok(Err(error)) => {
                let _ = writeln!(text, "  {error}");
            }
            Err(error) => {
                let _ = writeln!(text, "  {error}");
            }
        }
    }
    text
}

/// Where the threads of a process are.
fn threads(process: u32) -> String {
    let mut text = String::new();
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    for task in tasks.map(|task| task.path()) {
        let read =
            |file: &str| fs::read_to_string(task.join(file)).unwrap_or_default().trim().to_string();
        let status = read("status");
        let state = status.lines().find(|line| line.starts_with("State:")).unwrap_or_default();
        let _ = writeln!(
            text,
            "  {}, {}, in {}, system call {}",
            read("comm"),
            state.trim_start_matches("State:").trim(),
            read("wchan"),
            read("syscall"),
        );
    }
    text
}
