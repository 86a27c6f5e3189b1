//! Signals that this process passes on to the program that it has started.

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, getpgrp, getpid, getppid, kill_process, set_parent_process_death_signal,
};
use rustix::termios::tcgetpgrp;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use std::ffi::c_int;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::unix::process::CommandExt;
use std::panic::resume_unwind;
use std::process::{Child, Command, ExitStatus};
use std::thread::{self, sleep};
use std::time::Duration;

/// The signals, each with its name for rustix.
const PASSED_ON: [(c_int, Signal); 6] = [
    (SIGHUP, Signal::HUP),
    (SIGINT, Signal::INT),
    (SIGQUIT, Signal::QUIT),
    (SIGTERM, Signal::TERM),
    (SIGUSR1, Signal::USR1),
    (SIGUSR2, Signal::USR2),
];

/// The signals that come to this process, which no longer end it.
pub(super) struct PassedOn(Signals);

impl PassedOn {
    /// Starts a program, and keeps signals for it. A signal that comes before this process has the
    /// program as a child ends both, or this one alone; none is lost.
    pub(super) fn start(command: Command) -> io::Result<(PassedOn, Child)> {
        let (mut forked, has_forked) = io::pipe()?;
        let (permission, mut may_begin) = io::pipe()?;
        let mut command = waiting(command, has_forked, permission);
        thread::scope(|scope| {
            // It returns when the child has begun with the program.
            let start = move || command.spawn();
            let starting = thread::Builder::new().spawn_scoped(scope, start)?;
            // If there is no byte, there is no child.
            let _ = forked.read_exact(&mut [0]);
            let signals = PassedOn::take();
            // A child that has ended doesn't read it.
            let _ = may_begin.write_all(&[u8::from(signals.is_ok())]);
            let program = starting.join().unwrap_or_else(|panic| resume_unwind(panic));
            Ok((signals?, program?))
        })
    }

    /// From here on signals are kept for the program. One that is ignored stays so, also in the
    /// program.
    fn take() -> io::Result<PassedOn> {
        let ignored = ignored();
        let taken = PASSED_ON.iter().map(|(number, _)| *number);
        let taken = taken.filter(|number| ignored >> (number - 1) & 1 == 0);
        Ok(PassedOn(Signals::new(taken.chain([SIGCHLD]))?))
    }

    /// Passes signals on to `program` until it has ended.
    pub(super) fn until_ended(&mut self, program: &mut Child) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = program.try_wait()? {
                return Ok(status);
            }
            let came: Vec<c_int> = self.0.wait().collect();
            for (number, signal) in PASSED_ON {
                let by_terminal = [SIGINT, SIGQUIT].contains(&number) && has_terminal();
                if came.contains(&number) && !by_terminal {
                    // It has not been waited for, so the number is its own.
                    let pid = i32::try_from(program.id()).ok().and_then(Pid::from_raw);
                    // A program of another user, or one that has just ended, gets no signal.
                    pid.map(|pid| kill_process(pid, signal)).transpose().unwrap_or_default();
                }
            }
        }
    }

    /// Whether a signal comes within `time`.
    pub(super) fn came_within(&mut self, time: Duration) -> bool {
        sleep(time);
        self.0.pending().any(|signal| signal != SIGCHLD)
    }
}

/// The command, whose child says that it exists, and waits for the permission to begin with the
/// program. Signals have their usual effect on it until then. It ends with this process.
fn waiting(
    mut command: Command,
    mut has_forked: PipeWriter,
    mut permission: PipeReader,
) -> Command {
    let this = getpid();
    let wait = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if getppid() != Some(this) {
            return Err(Errno::CANCELED.into());
        }
        has_forked.write_all(&[1])?;
        let mut may_begin = [0];
        permission.read_exact(&mut may_begin)?;
        if may_begin == [0] {
            return Err(Errno::CANCELED.into());
        }
        Ok(set_parent_process_death_signal(None)?)
    };
    // SAFETY: the child of a process with threads may make system calls, which is all that this
    // does: it allocates nothing and takes no lock.
    unsafe { command.pre_exec(wait) };
    command
}

/// Whether this process is in the foreground of its terminal, which sends the signals of its keys
/// to the program, too.
fn has_terminal() -> bool {
    let foreground = File::open("/dev/tty").ok().and_then(|terminal| tcgetpgrp(terminal).ok());
    foreground == Some(getpgrp())
}

/// The ignored signals as a mask.
fn ignored() -> u64 {
    signals("SigIgn:")
}

/// The signals of a line of this process's status as a mask.
fn signals(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|text| text.strip_prefix(line));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::env;

    /// Makes the test the process that starts a program: it catches signals as long as it runs.
    const ROLE: &str = "CMA_TEST_STARTS_A_PROGRAM";

    fn caught() -> u64 {
        signals("SigCgt:") & PASSED_ON.iter().fold(0, |mask, (signal, _)| mask | 1 << (signal - 1))
    }

    #[test]
    fn a_child_catches_no_signal_that_is_kept_for_its_program() {
        if env::var_os(ROLE).is_none() {
            let name = thread::current().name().unwrap().to_string();
            let mut role = Command::new(env::current_exe().unwrap());
            let output = role.args([&name, "--exact"]).env(ROLE, "").output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            return;
        }
        let mut command = Command::new("true");
        // A child that catches a signal would lose it.
        let first = || if caught() == 0 { Ok(()) } else { Err(Errno::INTR.into()) };
        // SAFETY: nothing else uses the heap in the parent, which could have locked it.
        unsafe { command.pre_exec(first) };
        let (mut signals, mut program) = PassedOn::start(command).unwrap();
        assert_ne!(caught(), 0);
        assert!(signals.until_ended(&mut program).unwrap().success());

        let mut command = Command::new("true");
        // SAFETY: it does nothing.
        unsafe { command.pre_exec(|| Err(Errno::TOOBIG.into())) };
        let error = PassedOn::start(command).map(|_| ()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::TOOBIG.raw_os_error()));
    }
}
