//! Work in a child process, with limits of its time and its memory.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, WaitOptions, getpid, getppid, getrlimit,
    kill_process_group, pidfd_open, set_parent_process_death_signal, setpgid, setrlimit, waitpid,
};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// How a child process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With this exit code.
    Exit(i32),
    /// By this signal.
    Signal(i32),
    /// It was killed at the end of its time.
    OutOfTime,
}

/// The exit code of a child that has done its work. A plug-in that calls `exit` could use it too:
/// whether the work is done is on the tape.
pub(crate) const WORKED: i32 = 0;

/// The last bytes of standard error that are kept.
const TAIL: usize = 16 << 10;

/// Runs `work` in a child process, and kills what that leaves in its process group. The child's
/// output on standard output is dropped; the end of that on standard error is returned.
///
/// # Errors
///
/// The process can't be started or watched.
pub(crate) fn run(time: Duration, memory: u64, work: impl FnOnce()) -> io::Result<(End, String)> {
    let (reader, writer) = io::pipe()?;
    let parent = getpid();
    // SAFETY: the child runs `work` and ends with `_exit`, and never returns from here. The C
    // library makes its own locks usable in the child; this process has no other thread that holds
    // one that `work` takes.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(reader);
            let set_up = set_up(parent, &writer, memory);
            drop(writer);
            let worked = set_up.is_ok() && catch_unwind(AssertUnwindSafe(work)).is_ok();
            // SAFETY: ends this process, without the exit handlers of its parent.
            unsafe { libc::_exit(if worked { WORKED } else { 101 }) }
        }
        pid => {
            drop(writer);
            let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData)?;
            // The child does the same: whoever is first.
            let _ = setpgid(Some(pid), Some(pid));
            watch(pid, reader, time)
        }
    }
}

/// Makes this process, a new child, ready to run code that may do anything.
fn set_up(parent: Pid, output: &PipeWriter, memory: u64) -> io::Result<()> {
    setpgid(None, None)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(parent) {
        return Err(io::Error::other("the parent has ended"));
    }
    limit(Resource::Data, memory)?;
    // A crash is an expected result.
    limit(Resource::Core, 0)?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(output)?;
    Ok(())
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let Rlimit { current, maximum } = getrlimit(resource);
    let within = |limit: Option<u64>| Some(limit.map_or(most, |limit| limit.min(most)));
    Ok(setrlimit(resource, Rlimit { current: within(current), maximum: within(maximum) })?)
}

/// Waits for the end of `pid`, and reads its output meanwhile.
fn watch(pid: Pid, mut output: PipeReader, time: Duration) -> io::Result<(End, String)> {
    let mut tail = Vec::new();
    let watched = wait(pid, &mut output, &mut tail, time);
    // Before the child is reaped, so that the group's number is not another's.
    let _ = kill_process_group(pid, Signal::KILL);
    let status = loop {
        match waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => break status,
            Ok(None) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    };
    let end = match (watched?, status.terminating_signal(), status.exit_status()) {
        (false, _, _) => End::OutOfTime,
        (true, Some(signal), _) => End::Signal(signal),
        (true, None, code) => End::Exit(code.unwrap_or(-1)),
    };
    Ok((end, String::from_utf8_lossy(&tail).into_owned()))
}

/// Whether `pid` ended within `time`.
fn wait(pid: Pid, output: &mut PipeReader, tail: &mut Vec<u8>, time: Duration) -> io::Result<bool> {
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let deadline = Instant::now() + time;
    let mut is_open = true;
    // What the child has left behind may write for ever.
    let mut reads_after_end = 0;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let left: Option<Timespec> = left.try_into().ok();
        let mut watched =
            [PollFd::new(&process, PollFlags::IN), PollFd::new(&*output, PollFlags::IN)];
        let of_interest = if is_open { &mut watched[..] } else { &mut watched[..1] };
        match poll(of_interest, left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [ended, written] = watched.map(|fd| !fd.revents().is_empty());
        if is_open && written && reads_after_end < 64 {
            reads_after_end += u32::from(ended);
            let mut block = [0; 4096];
            let count = output.read(&mut block)?;
            is_open = count > 0;
            tail.extend_from_slice(&block[..count]);
            tail.drain(..tail.len().saturating_sub(TAIL));
        } else if ended {
            return Ok(true);
        }
    }
}
