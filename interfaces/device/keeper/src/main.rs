//! `cma-keeper [--starts N] COMMAND...`: holds descriptors for a server, and starts it again when
//! it dies.

use cma_keeper::{Backoff, Store, SuperviseError, Supervised, supervise};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::SIGHUP;
use signal_hook::iterator::Signals;
use std::env;
use std::ffi::OsString;
use std::io::{Write, stderr};
use std::process::{Command, ExitCode};
use std::time::Duration;

/// The starts in a row, after deaths, after which the server is left alone, unless it is told
/// another number.
const STARTS: u32 = 10;

const USAGE: &str = "usage: cma-keeper [--starts NUMBER] COMMAND [ARGUMENT...]";

/// Writes a line for people. One that can't be written is lost.
fn say(line: &str) {
    let _ = writeln!(stderr(), "cma-keeper: {line}");
}

fn main() -> ExitCode {
    let Some((starts, mut command)) = arguments(env::args_os().skip(1)) else {
        say(USAGE);
        return ExitCode::from(2);
    };
    // From now on it is no reason to end. The other signals end the process.
    let mut signals = match Signals::new([SIGHUP]) {
        Ok(signals) => signals,
        Err(error) => {
            say(&format!("signals can't be received: {error}"));
            return ExitCode::FAILURE;
        }
    };
    // Each chunk of the server is a descriptor.
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let mut store = Store::default();
    loop {
        let report = |status, next: Option<Duration>| match next {
            Some(time) => {
                say(&format!("the server died ({status}); starting it in {} ms", time.as_millis()));
            }
            None => say(&format!("the server died ({status}) after {starts} starts in a row")),
        };
        match supervise(&mut command, Backoff::new(starts), &mut store, report) {
            Ok(Supervised::Finished) => return ExitCode::SUCCESS,
            Ok(Supervised::GivenUp { .. }) => {}
            Err(error) => {
                say(&error.to_string());
                let first_start = store.names().next().is_none();
                if first_start && matches!(error, SuperviseError::Start { .. }) {
                    return ExitCode::FAILURE;
                }
            }
        }
        signals.pending().for_each(drop);
        let count = store.names().count();
        say(&format!(
            "{count} descriptors are held; SIGHUP starts the server again, SIGTERM ends this \
             process and releases them"
        ));
        let _ = signals.forever().next();
    }
}

/// The number of starts, and the server.
fn arguments(mut arguments: impl Iterator<Item = OsString>) -> Option<(u32, Command)> {
    let mut starts = STARTS;
    let mut program = arguments.next()?;
    if program == "--starts" {
        starts = arguments.next()?.to_str()?.parse().ok()?;
        program = arguments.next()?;
    }
    let mut command = Command::new(program);
    command.args(arguments);
    Some((starts, command))
}
