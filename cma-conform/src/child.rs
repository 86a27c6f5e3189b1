//! Work in a child process, with limits of its time and its memory.
//!
//! Two processes are started. The *keeper* runs none of the work. It starts the *subject*, which
//! does, limits its time, and kills every process that this leaves behind: it is a child
//! subreaper, so each of them becomes its child, whatever its group or session. It also notices
//! the end of the process that started it. A plug-in that kills its parent kills the keeper.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, WaitOptions, WaitStatus, getpid, getppid, getrlimit,
    kill_process, kill_process_group, pidfd_open, set_child_subreaper,
    set_parent_process_death_signal, setrlimit, setsid, waitpid,
};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use std::fs::{self, File};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
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
    /// Its keeper was killed, and so was it.
    Unwatched,
}

/// The exit code of a child that has done its work. A plug-in that calls `exit` could use it too:
/// whether the work is done is on the tape.
pub(crate) const WORKED: i32 = 0;

/// The last bytes of standard error that are kept.
const TAIL: usize = 16 << 10;

/// Runs `work` in a child process, and kills every process that this leaves behind. The child's
/// output on standard output is dropped; the end of that on standard error is returned.
///
/// # Errors
///
/// A process can't be started or watched.
pub(crate) fn run(time: Duration, memory: u64, work: impl FnOnce()) -> io::Result<(End, String)> {
    let (reader, writer) = io::pipe()?;
    // The child takes them, and this process then has its own.
    let mut ends = Some((reader, writer));
    let keeper = fork(|| {
        let Some((reader, writer)) = ends.take() else { return };
        drop(reader);
        keep(writer, time, memory, work);
    })?;
    let mut report = Vec::new();
    let read = ends.map_or(Ok(0), |(reader, writer)| {
        drop(writer);
        reader.take(2 * TAIL as u64).read_to_end(&mut report)
    });
    reap(keeper)?;
    read?;
    from_report(&report)
}

/// Starts a child process that runs `work` and ends.
fn fork(work: impl FnOnce()) -> io::Result<Pid> {
    // SAFETY: the child runs `work` and ends with `_exit`, and never returns from here. The C
    // library makes its own locks usable in the child; this process has no other thread that holds
    // one that `work` takes.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let worked = catch_unwind(AssertUnwindSafe(work)).is_ok();
            // SAFETY: ends this process, without the exit handlers of its parent.
            unsafe { libc::_exit(if worked { WORKED } else { 101 }) }
        }
        pid => Ok(Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData)?),
    }
}

/// Waits for the end of the child `pid`.
fn reap(pid: Pid) -> io::Result<WaitStatus> {
    loop {
        match waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(status),
            Ok(None) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The keeper: starts a subject that runs `work`, and writes to `report` how it ended.
fn keep(report: PipeWriter, time: Duration, memory: u64, work: impl FnOnce()) {
    let mut report = Some(report);
    let outcome = keep_subject(&mut report, time, memory, work);
    if let Some(mut report) = report {
        // Without a reader there is nobody to tell.
        let _ = report.write_all(&to_report(outcome));
    }
}

fn keep_subject(
    report: &mut Option<PipeWriter>,
    time: Duration,
    memory: u64,
    work: impl FnOnce(),
) -> io::Result<(End, String)> {
    // A signal from the terminal doesn't end it before it has cleaned up.
    setsid()?;
    set_child_subreaper(Some(getpid()))?;
    let (reader, writer) = io::pipe()?;
    let mut ends = Some((reader, writer));
    let keeper = getpid();
    let subject = fork(|| {
        // The subject has no descriptor of the keeper's.
        drop(report.take());
        let Some((reader, writer)) = ends.take() else { return };
        drop(reader);
        set_up(keeper, &writer, memory).expect("a new process can be set up");
        drop(writer);
        work();
    })?;
    let (Some((mut output, writer)), Some(report)) = (ends, report) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    drop(writer);
    let mut tail = Vec::new();
    let watched = watch(subject, report, &mut output, &mut tail, time);
    // Before it is reaped, so that the numbers are not another's. It may have left its group.
    let _ = kill_process_group(subject, Signal::KILL);
    let _ = kill_process(subject, Signal::KILL);
    let status = reap(subject)?;
    cma_descendants::end_descendants();
    let end = match (watched?, status.terminating_signal(), status.exit_status()) {
        (false, _, _) => End::OutOfTime,
        (true, Some(signal), _) => End::Signal(signal),
        (true, None, code) => End::Exit(code.unwrap_or(-1)),
    };
    Ok((end, String::from_utf8_lossy(&tail).into_owned()))
}

/// Makes this process, a new child of `keeper`, ready to run code that may do anything.
fn set_up(keeper: Pid, output: &PipeWriter, memory: u64) -> io::Result<()> {
    // It can't enter the keeper's group, and has no terminal.
    setsid()?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(keeper) {
        return Err(io::Error::other("the keeper has ended"));
    }
    limit(Resource::Data, memory)?;
    // Shared memory is no data: should the machine run out of it, this process is to go first.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
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

/// Whether `subject` ended within `time`. Reads its output meanwhile, so that a full pipe doesn't
/// block it.
fn watch(
    subject: Pid,
    report: &PipeWriter,
    output: &mut PipeReader,
    tail: &mut Vec<u8>,
    time: Duration,
) -> io::Result<bool> {
    let process = pidfd_open(subject, PidfdFlags::empty())?;
    let deadline = Instant::now() + time;
    let mut is_open = true;
    // What the subject has left behind may write for ever.
    let mut reads_after_end = 0;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let left: Option<Timespec> = left.try_into().ok();
        let mut watched = [
            PollFd::new(&process, PollFlags::IN),
            // An error when the reader is gone.
            PollFd::new(report, PollFlags::empty()),
            PollFd::new(&*output, PollFlags::IN),
        ];
        let of_interest = if is_open { &mut watched[..] } else { &mut watched[..2] };
        match poll(of_interest, left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [ended, reader_is_gone, written] = watched.map(|fd| !fd.revents().is_empty());
        if reader_is_gone {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
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

/// The kind of a report, a number, and a text.
fn to_report(outcome: io::Result<(End, String)>) -> Vec<u8> {
    let (kind, number, text) = match outcome {
        Ok((End::Exit(code), text)) => (b'e', code, text),
        Ok((End::Signal(signal), text)) => (b's', signal, text),
        Ok((End::OutOfTime, text)) => (b't', 0, text),
        Ok((End::Unwatched, text)) => (b'u', 0, text),
        Err(error) => (b'x', 0, error.to_string()),
    };
    [&[kind], number.to_ne_bytes().as_slice(), text.as_bytes()].concat()
}

/// The outcome that the keeper has written; a keeper that was killed has written nothing.
fn from_report(report: &[u8]) -> io::Result<(End, String)> {
    let Some(([kind, number @ ..], text)) = report.split_first_chunk::<5>() else {
        return Ok((End::Unwatched, String::new()));
    };
    let (number, text) = (i32::from_ne_bytes(*number), String::from_utf8_lossy(text).into_owned());
    match kind {
        b'e' => Ok((End::Exit(number), text)),
        b's' => Ok((End::Signal(number), text)),
        b't' => Ok((End::OutOfTime, text)),
        b'u' => Ok((End::Unwatched, text)),
        _ => Err(io::Error::other(text)),
    }
}
