//! `cma-keeper [OPTIONS] COMMAND...`: holds descriptors for a server, and starts it again when it
//! dies.
//!
//! `--starts` is the limit of starts in a row after deaths, `--control` the socket for upgrades,
//! `--hand-over` and `--ready` the times of an upgrade ([`Supervision::times`]).

use cma_keeper::{Backoff, Program, Store, Supervision};
use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{Write, stderr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "usage: cma-keeper [--starts NUMBER] [--control SOCKET] COMMAND [ARGUMENT...]";

/// Writes a line for people. One that can't be written is lost.
fn say(line: &str) {
    let _ = writeln!(stderr(), "cma-keeper: {line}");
}

fn main() -> ExitCode {
    let Some(asked) = Asked::from(env::args_os().skip(1)) else {
        say(USAGE);
        return ExitCode::from(2);
    };
    let program = match Program::open(&asked.program) {
        Ok(program) => program,
        Err(error) => {
            say(&format!("{} can't be started: {error}", PathBuf::from(asked.program).display()));
            return ExitCode::FAILURE;
        }
    };
    let supervision = Supervision::new(program)
        .arguments(asked.arguments)
        .backoff(Backoff::new(asked.starts))
        .control(asked.control)
        .times(asked.hand_over, asked.ready);
    match supervision.run(&mut Store::of_process(), |report| say(&report.to_string())) {
        Ok(supervised) => supervised.exit_code(),
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// The command line.
struct Asked {
    starts: u32,
    control: Option<PathBuf>,
    hand_over: Duration,
    ready: Duration,
    program: OsString,
    arguments: Vec<OsString>,
}

impl Asked {
    fn from(mut arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let mut asked = Asked {
            starts: Backoff::STARTS,
            control: None,
            hand_over: Supervision::HAND_OVER,
            ready: Supervision::READY,
            program: OsString::new(),
            arguments: Vec::new(),
        };
        loop {
            asked.program = arguments.next()?;
            match asked.program.to_str() {
                Some("--starts") => asked.starts = arguments.next()?.to_str()?.parse().ok()?,
                Some("--control") => asked.control = Some(arguments.next()?.into()),
                Some("--hand-over") => asked.hand_over = seconds(&arguments.next()?)?,
                Some("--ready") => asked.ready = seconds(&arguments.next()?)?,
                _ => break,
            }
        }
        asked.arguments = arguments.collect();
        Some(asked)
    }
}

fn seconds(text: &OsStr) -> Option<Duration> {
    Duration::try_from_secs_f64(text.to_str()?.parse().ok()?).ok()
}
