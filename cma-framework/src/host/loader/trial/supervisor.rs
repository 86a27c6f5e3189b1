//! The supervisor: the process that starts the subject of a trial, limits its time, and kills every
//! process that the plug-in has started.

use super::super::LoadFailure;
use super::super::library::one_line;
use super::message::{self, Order, Verdict};
use super::report::{Progress, Report};
use super::subject::limit_resource;
use super::{Deadline, this_program};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::process::{Pid, PidfdFlags, Resource, Signal, getpid, pidfd_open, set_child_subreaper};
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{self, Child, ExitStatus, Stdio};
use std::time::Duration;

/// Makes the trial of the plug-in whose copy is the first of `descriptors`, sends the verdict to
/// `host`, and does the same for every further order, until the host closes its end.
pub(super) fn run(
    host: &OwnedFd,
    mut descriptors: Vec<OwnedFd>,
    mut limit: Duration,
    mut memory: u64,
) -> io::Result<()> {
    loop {
        let verdict = match &descriptors[..] {
            [copy, ..] => supervise(host, copy, limit, memory).unwrap_or_else(Verdict::NoTrial),
            [] => Verdict::NoTrial(io::Error::other("the copy of the plug-in did not arrive")),
        };
        message::send_verdict(host, &verdict)?;
        match Order::next(host)? {
            Some((Order::Supervise { limit: next_limit, memory: next_memory }, next)) => {
                (descriptors, limit, memory) = (next, next_limit, next_memory);
            }
            _ => return Ok(()),
        }
    }
}

fn supervise(host: &OwnedFd, copy: &OwnedFd, limit: Duration, memory: u64) -> io::Result<Verdict> {
    // A process that the plug-in has started becomes a child of this process when its parent ends.
    set_child_subreaper(Some(getpid()))?;
    // A crash is an expected result, which needs no core dump.
    limit_resource(Resource::Core, 0)?;
    let report = Report::new()?;
    let (ours, theirs) = message::pair()?;
    Order::TryOut { memory, supervisor: process::id() }
        .send(&ours, &[copy.as_fd(), report.as_fd()])?;
    let (output, their_output) = io::pipe()?;
    // The panic that the subject provokes would write a backtrace, which nobody sees and which
    // takes longer than all the rest.
    let mut subject = this_program()
        .env_remove("RUST_BACKTRACE")
        .stdin(theirs)
        .stdout(Stdio::null())
        .stderr(their_output)
        .process_group(0)
        .spawn()?;
    let mut output = OutputTail { pipe: output, is_open: true, text: Vec::new() };
    let in_time = watch(&subject, &mut output, host, limit);
    if !matches!(in_time, Ok(true)) {
        let _ = subject.kill();
    }
    let status = subject.wait();
    cma_descendants::end_descendants();
    let last_output = output.last_line();
    if !in_time? {
        return Ok(Verdict::Refused(LoadFailure::Endless { limit, last_output }));
    }
    Ok(verdict(status?, report.read(limit)?, last_output))
}

/// The verdict on a plug-in whose subject has ended by itself.
fn verdict(status: ExitStatus, progress: Progress, last_output: String) -> Verdict {
    match (status.signal().map(Signal::from_named_raw), progress) {
        (Some(Some(Signal::ABORT)), Progress::PanicExpected) => {
            Verdict::Refused(LoadFailure::AbortsOnPanic)
        }
        (Some(_), _) => {
            let signal = name_of(status.signal().unwrap_or_default());
            Verdict::Refused(LoadFailure::Crashed { signal, last_output })
        }
        (None, Progress::Verdict(verdict)) => verdict,
        (None, _) => {
            Verdict::Refused(LoadFailure::Ended { code: status.code().unwrap_or(-1), last_output })
        }
    }
}

/// Waits for at most `limit` until `subject` ends. Reads its output meanwhile, so that a full pipe
/// doesn't block it. Returns whether it has ended in time.
fn watch(
    subject: &Child,
    output: &mut OutputTail,
    host: &OwnedFd,
    limit: Duration,
) -> io::Result<bool> {
    let end = pidfd_open(Pid::from_child(subject), PidfdFlags::empty())?;
    let deadline = Deadline::after(limit);
    loop {
        let Ok(remaining) = deadline.remaining() else { return Ok(false) };
        let mut watched = [
            PollFd::new(&end, PollFlags::IN),
            PollFd::new(host, PollFlags::empty()),
            PollFd::new(&output.pipe, PollFlags::IN),
        ];
        let watched = if output.is_open { &mut watched[..] } else { &mut watched[..2] };
        match poll(watched, remaining.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let has = |at: usize| watched.get(at).is_some_and(|fd| !fd.revents().is_empty());
        let (has_ended, host_is_gone, has_written) = (has(0), has(1), has(2));
        if has_ended {
            return Ok(true);
        } else if host_is_gone {
            return Err(io::ErrorKind::BrokenPipe.into());
        } else if has_written {
            output.read()?;
        }
    }
}

/// The end of the subject's standard error.
struct OutputTail {
    pipe: PipeReader,
    is_open: bool,
    text: Vec<u8>,
}

impl OutputTail {
    const LENGTH: usize = 4096;

    /// Reads once.
    fn read(&mut self) -> io::Result<()> {
        let mut block = [0; Self::LENGTH];
        let count = self.pipe.read(&mut block)?;
        self.is_open = count > 0;
        self.text.extend_from_slice(&block[..count]);
        self.text.drain(..self.text.len().saturating_sub(Self::LENGTH));
        Ok(())
    }

    /// Reads the rest and returns the last line.
    fn last_line(mut self) -> String {
        // At most the capacity of a pipe, without blocking: a process that could not be killed may
        // still hold the write end.
        const MOST: usize = 1 << 20;
        let _ = ioctl_fionbio(&self.pipe, true);
        for _ in 0..MOST / Self::LENGTH {
            if !self.is_open || self.read().is_err() {
                break;
            }
        }
        let text = String::from_utf8_lossy(&self.text);
        one_line(text.trim_end().lines().next_back().unwrap_or_default())
    }
}

/// The name of `signal`: `SIGSEGV` for 11.
fn name_of(signal: i32) -> String {
    let name = match Signal::from_named_raw(signal) {
        Some(Signal::ABORT) => "SIGABRT",
        Some(Signal::BUS) => "SIGBUS",
        Some(Signal::FPE) => "SIGFPE",
        Some(Signal::ILL) => "SIGILL",
        Some(Signal::KILL) => "SIGKILL",
        Some(Signal::SEGV) => "SIGSEGV",
        Some(Signal::SYS) => "SIGSYS",
        Some(Signal::TRAP) => "SIGTRAP",
        _ => return format!("signal {signal}"),
    };
    name.to_string()
}
