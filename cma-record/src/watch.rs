//! Watching the processes of a recording: when each ends, also by a signal.

use crate::log::{ProcessId, Words};
use cma_record_log::header;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use rustix::time::{ClockId, Timespec, clock_gettime};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// Watches until `stop`. SIGTERM and SIGHUP are passed on to the program.
pub(crate) fn watch(
    words: &Words,
    program: Pid,
    signals: &mut Signals,
    stop: &AtomicBool,
) -> io::Result<Seen> {
    let mut ended = HashMap::new();
    let mut known = 0;
    let mut unknown: Vec<u32> = Vec::new();
    let mut watched: Vec<(u32, Pid, OwnedFd)> = Vec::new();
    loop {
        let last = stop.load(Ordering::Acquire);
        let count = u32::try_from(words.get(header::PROCESSES)?).unwrap_or(u32::MAX);
        unknown.extend(known + 1..=count.max(known));
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
        let mut polled: Vec<PollFd<'_>> =
            watched.iter().map(|(.., process)| PollFd::new(process, PollFlags::IN)).collect();
        let timeout = if last { Timespec { tv_sec: 0, tv_nsec: 0 } } else { INTERVAL };
        // An interrupted wait reports no end.
        let _ = poll(&mut polled, Some(&timeout));
        let over: Vec<bool> = polled.iter().map(|polled| !polled.revents().is_empty()).collect();
        let now = now_ns();
        let mut over = over.into_iter();
        watched.retain(|(number, ..)| {
            let is_over = over.next().unwrap_or(false);
            if is_over {
                ended.insert(*number, now);
            }
            !is_over
        });
        if last {
            let others = watched.iter().filter(|(_, pid, _)| *pid != program);
            return Ok(Seen { ended, running: others.count() });
        }
        for signal in signals.pending().filter(|signal| matches!(*signal, SIGTERM | SIGHUP)) {
            let signal = if signal == SIGTERM { Signal::TERM } else { Signal::HUP };
            // A program that has ended meanwhile needs no signal.
            let _ = kill_process(program, signal);
        }
    }
}

/// Keeps SIGINT and SIGQUIT, which a terminal sends to the program, too, from ending the runner
/// before its recording is written. Signals that are ignored stay so, also in the program.
pub(crate) fn take_signals() -> io::Result<Signals> {
    let ignored = ignored_signals();
    Signals::new([SIGINT, SIGQUIT, SIGTERM, SIGHUP].into_iter().filter(|signal| {
        let bit = u32::try_from(signal - 1).unwrap_or(0);
        ignored >> bit & 1 == 0
    }))
}

/// The ignored signals as a mask.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
