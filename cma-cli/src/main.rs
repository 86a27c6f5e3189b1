//! `cma`, the host program: it describes a board's memory, loads allocator plug-ins while it runs,
//! and serves requests.
//!
//! Everything that another host would want too is in `cma-framework` and `cma-trace`; here is what
//! a command line and a terminal need.

mod commands;
mod failure;
mod host;
mod log;
mod notice;
mod options;
mod show;

use failure::{Failure, Outcome};
use options::{Cli, Command, Options};
use show::Out;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Started by itself, to find out in a process of its own whether a plug-in crashes.
    if let Some(code) = cma_framework::loader::trial_child() {
        return code;
    }
    let mut out = show::out();
    let outcome = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli.checked().and_then(|(options, command)| run(&options, command, &mut out)),
        Err(usage) => tell(&usage, &mut out),
    };
    let written = outcome.and_then(|outcome| out.flush().map(|()| outcome).map_err(Failure::from));
    let outcome = written.unwrap_or_else(Failure::report);
    log::finish();
    outcome.into()
}

/// Prints what the command line asked for, as `--help`, or says what is wrong with it.
fn tell(usage: &clap::Error, out: &mut Out) -> Result<Outcome, Failure> {
    if usage.use_stderr() {
        // What can't be said on standard error is lost; the exit status is not.
        let _ = usage.print();
        return Ok(Outcome::NotDone);
    }
    write!(out, "{}", usage.render().ansi())?;
    Ok(Outcome::Done)
}

fn run(options: &Options, command: Command, out: &mut Out) -> Result<Outcome, Failure> {
    match command {
        Command::Demo => commands::demo::run(options, out),
        Command::Plugins => commands::plugins::run(options, out),
        Command::Regions => commands::regions::run(options, out),
        Command::Check => commands::check::run(options, out),
        Command::Shell(how) => commands::shell::run(options, &how, out),
        Command::Replay(which) => commands::replay::run(options, &which, out),
        Command::Serve(how) => commands::serve::run(options, &how, out),
        Command::Get(what) => commands::get::run(&what, out),
        Command::Set(what) => commands::set::run(&what),
        Command::Tree(what) => commands::tree::run(&what, out),
    }
}
