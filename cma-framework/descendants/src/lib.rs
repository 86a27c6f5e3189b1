//! Kills all descendants of this process, which is a child subreaper: a process whose parent ends
//! becomes a child of this process, in any process group or session. The trial of a plug-in and the
//! examination of an allocator end so.

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use std::fs;
use std::io;
use std::path::Path;
use std::process;
use std::time::{Duration, Instant};

/// The time limit. A process that this one may not kill, because it has changed its user, remains.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Kills and reaps every descendant. It never sleeps: a process that forks and exits repeatedly is
/// a child only for a short time, and on a loaded machine a sleeping thread wakes late.
pub fn end_descendants() {
    let end = Instant::now() + TIME_LIMIT;
    while Instant::now() < end {
        for child in children() {
            let _ = kill_process(child, Signal::KILL);
        }
        // Reap all zombies before listing the children again: they are listed, too, and listing
        // thousands of them takes longer than the living process needs to fork and exit.
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

/// Checks that `/proc` shows processes by the numbers that this process has for them.
///
/// # Errors
///
/// `/proc` is not mounted, or it is that of another PID namespace, as after `unshare --pid` without
/// `--mount-proc`.
pub fn check_proc() -> io::Result<()> {
    let shown = fs::read_link("/proc/self")?;
    if shown.as_os_str() == process::id().to_string().as_str() {
        return Ok(());
    }
    Err(io::Error::other("it is that of another PID namespace"))
}

/// The children of this process. None without its own `/proc`: the numbers in another one are those
/// of other processes.
fn children() -> Vec<Pid> {
    if check_proc().is_err() {
        return Vec::new();
    }
    let pids = children_from_task_lists().unwrap_or_else(|_| children_from_all_processes());
    pids.into_iter().filter_map(Pid::from_raw).collect()
}

/// The children according to `/proc/self/task/*/children`, which not every kernel has
/// (`CONFIG_PROC_CHILDREN`).
fn children_from_task_lists() -> io::Result<Vec<i32>> {
    let mut children = Vec::new();
    for thread in fs::read_dir("/proc/self/task")? {
        let pids = fs::read_to_string(thread?.path().join("children"))?;
        children.extend(pids.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    Ok(children)
}

/// The processes whose `stat` names this one as the parent.
fn children_from_all_processes() -> Vec<i32> {
    let own_pid = process::id().to_string();
    let is_child = |process: &Path| {
        // pid (name) state parent ...; the name may contain any character.
        let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
        stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1))
            == Some(own_pid.as_str())
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = processes
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())));
    processes.filter(|(_, path)| is_child(path)).map(|(pid, _)| pid).collect()
}

#[cfg(test)]
mod tests;
