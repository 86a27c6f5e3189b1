//! Watching the processes of a recording: when each ends, also by a signal.

use crate::log::{ProcessId, Words};
use cma_record_log::{MOST_WATCHED, header};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use rustix::time::{ClockId, Timespec, clock_gettime};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use std::collections::HashMap;
use std::ffi::c_int;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// How often new processes are looked for. A process that ends within this time has its end noticed
/// so much later.
const INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// `CLOCK_MONOTONIC` in nanoseconds, as in the log.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// What was seen of the processes.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// When each process that ended did so, by number.
    pub(crate) ended: HashMap<u32, u64>,
    /// How many still run, without the program itself.
    pub(crate) running: usize,
}

/// The signals that are passed on to the program, each with the end of a socket that becomes
/// readable when this process gets it.
#[derive(Debug)]
pub(crate) struct PassedOn(Vec<(Signal, UnixStream)>);

/// Watches until the other end of `stop` is closed. Signals are passed on to the program.
pub(crate) fn watch(
    words: &Words,
    program: Pid,
    signals: &PassedOn,
    stop: &UnixStream,
) -> io::Result<Seen> {
    let mut ended = HashMap::new();
    let mut known = 0;
    let mut unknown: Vec<u32> = Vec::new();
    let mut watched: Vec<(u32, Pid, OwnedFd)> = Vec::new();
    let mut is_last = false;
    loop {
        // The program can write anything into the log.
        let count = words.get(header::PROCESSES)?.min(MOST_WATCHED.into()) as u32;
        unknown.extend(known + 1..=count);
        known = count.max(known);
        for number in std::mem::take(&mut unknown) {
            match words.process_id(number)? {
                None => unknown.push(number),
                Some(ProcessId::NotWatched) => {}
                Some(ProcessId::Known(id)) => {
                    let Some(pid) = Pid::from_raw(id) else { continue };
                    match pidfd_open(pid, PidfdFlags::empty()) {
                        Ok(process) => watched.push((number, pid, process)),
                        Err(rustix::io::Errno::SRCH) => {
                            ended.insert(number, now_ns());
                        }
                        // Too many descriptors: its end is not noticed.
                        Err(_) => {}
                    }
                }
            }
        }
        let sockets = signals.0.iter().map(|(_, socket)| socket).chain([stop]);
        let mut polled: Vec<PollFd<'_>> =
            sockets.map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
        let others = polled.len();
        polled.extend(watched.iter().map(|(.., process)| PollFd::new(process, PollFlags::IN)));
        let timeout = if is_last { Timespec { tv_sec: 0, tv_nsec: 0 } } else { INTERVAL };
        // An interrupted wait reports nothing.
        let _ = poll(&mut polled, Some(&timeout));
        let ready: Vec<bool> = polled.iter().map(|polled| !polled.revents().is_empty()).collect();
        let (of_sockets, of_processes) = ready.split_at(others);
        let now = now_ns();
        let mut is_over = of_processes.iter().copied();
        watched.retain(|(number, ..)| {
            let is_over = is_over.next().unwrap_or(false);
            if is_over {
                ended.insert(*number, now);
            }
            !is_over
        });
        if is_last {
            let others = watched.iter().filter(|(_, pid, _)| *pid != program);
            return Ok(Seen { ended, running: others.count() });
        }
        let passed_on = signals.0.iter().zip(of_sockets).filter(|(_, is_ready)| **is_ready);
        for ((signal, socket), _) in passed_on {
            // The socket has a byte for each signal that came.
            let _ = { socket }.read(&mut [0; 64]);
            // A program that has ended meanwhile needs no signal.
            let _ = kill_process(program, *signal);
        }
        // Once more, for the processes that ended last.
        is_last = of_sockets.last().copied().unwrap_or(false);
    }
}

/// Keeps signals from ending this process before the recording is written: SIGINT and SIGQUIT,
/// which a terminal sends to the program, too, and those that are passed on. A signal that is
/// ignored stays so, also in the program.
pub(crate) fn take_signals() -> io::Result<PassedOn> {
    let ignored = ignored_signals();
    let is_ignored = |signal: c_int| ignored >> (signal - 1) & 1 != 0;
    for signal in [SIGINT, SIGQUIT].into_iter().filter(|signal| !is_ignored(*signal)) {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    let mut passed_on = Vec::new();
    for (number, signal) in [(SIGTERM, Signal::TERM), (SIGHUP, Signal::HUP)] {
        if !is_ignored(number) {
            let (ours, handlers) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            signal_hook::low_level::pipe::register(number, handlers)?;
            passed_on.push((signal, ours));
        }
    }
    Ok(PassedOn(passed_on))
}

/// The ignored signals as a mask.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Log;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    #[test]
    fn any_number_of_processes_in_the_log_takes_bounded_time_and_memory() {
        let log = Log::new(4096, false).unwrap();
        let file = File::options().write(true).open(log.path()).unwrap();
        file.write_all_at(&u64::MAX.to_ne_bytes(), 8 * header::PROCESSES as u64).unwrap();
        let (stop, stopped) = UnixStream::pair().unwrap();
        drop(stop);
        let program = rustix::process::getpid();
        let seen = watch(&log.words().unwrap(), program, &PassedOn(Vec::new()), &stopped).unwrap();
        assert_eq!((seen.ended.len(), seen.running), (0, 0));
    }
}
