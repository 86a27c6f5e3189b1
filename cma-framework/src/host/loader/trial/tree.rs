//! Ending all that descends from this process, which is a subreaper: what a child leaves behind
//! when it ends becomes a child of this process, whatever process group or session it is in.

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use std::fs;
use std::io;
use std::path::Path;
use std::process;
use std::time::{Duration, Instant};

/// How long it is tried. What this process may not kill, because it runs for another user by now,
/// is left.
const PATIENCE: Duration = Duration::from_secs(10);

/// Kills and reaps every descendant. It never sleeps: of a process that goes on as its own child,
/// again and again, only few are met between two steps, and on a machine with much to do whoever
/// sleeps comes back late.
pub(super) fn end_descendants() {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        for child in children() {
            let _ = kill_process(child, Signal::KILL);
        }
        // All that have ended are reaped before the next look: they are children, too, and a look
        // at thousands of them takes longer than the living one needs to fork and exit.
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

/// The children of this process.
fn children() -> Vec<Pid> {
    let told = children_as_told().unwrap_or_else(|_| children_as_found());
    told.into_iter().filter_map(Pid::from_raw).collect()
}

/// What the kernel tells of each thread's children, where it is built to.
fn children_as_told() -> io::Result<Vec<i32>> {
    let mut children = Vec::new();
    for thread in fs::read_dir("/proc/self/task")? {
        let told = fs::read_to_string(thread?.path().join("children"))?;
        children.extend(told.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    Ok(children)
}

/// Who of all processes names this one as its parent.
fn children_as_found() -> Vec<i32> {
    let me = process::id().to_string();
    let is_child = |process: &Path| {
        // pid (name) state parent ...; the name may have anything in it.
        let about = fs::read_to_string(process.join("stat")).unwrap_or_default();
        about.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1))
            == Some(me.as_str())
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = processes
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())));
    processes.filter(|(_, path)| is_child(path)).map(|(pid, _)| pid).collect()
}

#[cfg(test)]
mod tests;
