//! `cma`, the host program: it describes a board's memory, loads allocator plug-ins at run time,
//! and serves requests.
//!
//! The parts that other hosts need too are in `cma-framework` and `cma-trace`; this crate has the
//! command line and the output on terminals. It is a library so that manual pages and completions
//! can be made of its [`grammar`].

mod commands;
mod contenders;
mod described;
mod found_plugins;
mod host;
mod known_board;
mod log;
mod new_file;
mod notice;
mod options;
mod outcome;
mod place_in_text;
mod service;
mod show;

use options::{Cli, Command, Options};
use outcome::{CommandError, NOT_EXECUTED, Outcome};
use show::Out;
use std::io::Write;
use std::process::ExitCode;

/// The program: carries out the command line of the process.
pub fn main() -> ExitCode {
    // To try a plug-in in a child process, the framework starts this program again.
    if let Some(code) = cma_framework::loader::trial_child() {
        return code;
    }
    let mut out = show::out();
    let outcome = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli.checked().and_then(|(options, command)| run(&options, command, &mut out)),
        Err(usage) => report_usage(&usage, Cli::names_exec(std::env::args_os()), &mut out),
    };
    let written =
        outcome.and_then(|outcome| out.flush().map(|()| outcome).map_err(CommandError::from));
    let outcome = written.unwrap_or_else(CommandError::report);
    log::flush();
    outcome.into()
}

/// The grammar of the command line, with the texts of `--help`.
pub fn grammar() -> clap::Command {
    Cli::grammar()
}

/// Prints the help or the version that was requested, or the error in the command line.
fn report_usage(
    usage: &clap::Error,
    is_exec: bool,
    out: &mut Out,
) -> Result<Outcome, CommandError> {
    if usage.use_stderr() {
        // If standard error can't be written, the exit status remains.
        let _ = usage.print();
        return Ok(if is_exec { Outcome::Program(NOT_EXECUTED) } else { Outcome::NotDone });
    }
    write!(out, "{}", usage.render().ansi())?;
    Ok(Outcome::Done)
}

fn run(options: &Options, command: Command, out: &mut Out) -> Result<Outcome, CommandError> {
    match command {
        Command::Demo => commands::demo::run(options, out),
        Command::Plugins => commands::plugins::run(options, out),
        Command::Regions => commands::regions::run(options, out),
        Command::Check => commands::check::run(options, out),
        Command::Import(args) => commands::import::run(options, &args, out),
        Command::Exec(args) => Ok(commands::exec::run(options, &args)),
        Command::Export(args) => commands::export::run(options, &args, out),
        Command::Shell(args) => commands::shell::run(options, &args, out),
        Command::Size(args) => commands::size::run(options, &args, out),
        Command::Compare(args) => commands::compare::run(options, &args, out),
        Command::Why(args) => commands::why::run(options, &args, out),
        Command::Replay(args) => commands::replay::run(options, &args, out),
        Command::Draw(args) => commands::draw::run(options, &args, out),
        Command::Record(args) => commands::record::run(options, &args),
        Command::Conform(args) => commands::conform::run(options, &args, out),
        Command::Serve(args) => commands::serve::run(options, &args, out),
        Command::Upgrade(args) => commands::upgrade::run(&args, out),
        Command::Get(args) => commands::get::run(&args, out),
        Command::Set(args) => commands::set::run(&args),
        Command::Top(args) => commands::top::run(options, &args),
        Command::Tree(args) => commands::tree::run(&args, out),
    }
}
