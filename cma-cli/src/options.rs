//! The command line: its grammar, and the texts of `--help`.

mod attributes;
mod common;
mod compare;
mod conform;
mod draw;
mod exec;
mod forms;
mod help;
mod record;
mod replay;
mod serve;
mod server;
mod shell;
mod size;
mod top;
mod upgrade;
pub(crate) mod values;
mod why;

use crate::outcome::CommandError;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use common::{CommonOption, used_by};
use std::ffi::OsString;

pub(crate) use attributes::{GetArgs, SetArgs, TreeArgs};
pub(crate) use common::Options;
pub(crate) use compare::CompareArgs;
pub(crate) use conform::ConformArgs;
pub(crate) use draw::{DrawArgs, DrawnAxis, DrawnTheme};
pub(crate) use exec::ExecArgs;
pub(crate) use forms::{ExportArgs, Form, ImportArgs};
pub(crate) use record::{DeviceName, RecordArgs};
pub(crate) use replay::ReplayArgs;
pub(crate) use serve::ServeArgs;
pub(crate) use server::ServerArgs;
pub(crate) use shell::{HELP as SHELL, ShellArgs};
pub(crate) use size::SizeArgs;
pub(crate) use top::TopArgs;
pub(crate) use upgrade::UpgradeArgs;
pub(crate) use why::WhyArgs;

/// Divides a board's contiguous memory among its devices, with allocators loaded at run time.
///
/// Without a command it runs the demo. Unless --memory says otherwise the board's memory is
/// simulated: addresses only, so every board runs on any machine.
#[derive(Debug, Parser)]
#[command(name = "cma", version, max_term_width = 100, after_help = AFTER)]
pub(crate) struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

const AFTER: &str = "\
Plug-ins (libcma_<name>_plugin.so) are searched for in each --plugin-dir, in the folders of \
CMA_PLUGIN_PATH, and beside the program: in its deps, ../lib/cma and its own folder.

Exit status: 0 success, 1 success except for requests refused or problems found, 2 error.

Example:
  cma --cma 'b1=32M;b2=16M:buddy' --map 'codec=b1;*=b1|b2' regions";

impl Cli {
    /// Reads the command line.
    ///
    /// # Errors
    ///
    /// Those of clap, which include the requests for help and version.
    pub(crate) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
        Cli::from_arg_matches(&Cli::grammar().try_get_matches_from(arguments)?)
    }

    /// Whether the command is `exec`, also on a command line with an error.
    pub(crate) fn names_exec(arguments: impl IntoIterator<Item = OsString>) -> bool {
        let read = Cli::grammar().ignore_errors(true).try_get_matches_from(arguments);
        read.is_ok_and(|matches| matches.subcommand_name() == Some("exec"))
    }

    /// The grammar, in which each command's help shows only the options that the command uses.
    pub(crate) fn grammar() -> clap::Command {
        let mut all = Cli::command();
        let commands: Vec<_> =
            all.get_subcommands().map(|sub| sub.get_name().to_string()).collect();
        for name in commands {
            let unused =
                CommonOption::ALL.into_iter().filter(|option| !used_by(&name).contains(option));
            let hidden = all
                .get_arguments()
                .filter(|arg| unused.clone().any(|option| option.id() == arg.get_id().as_str()));
            let hidden: Vec<_> = hidden.map(|arg| arg.clone().hide(true)).collect();
            all = all.mut_subcommand(name, |sub| sub.args(hidden));
        }
        all
    }

    /// The options and the command.
    ///
    /// # Errors
    ///
    /// [`CommandError::UnusedOption`] if an option was given that the command doesn't use,
    /// [`CommandError::BesidesConfig`] for one that contradicts the file of --config.
    pub(crate) fn checked(self) -> Result<(Options, Command), CommandError> {
        let command = self.command.unwrap_or(Command::Demo);
        let used = command.uses();
        match self.options.given().into_iter().find(|option| !used.contains(option)) {
            Some(option) => {
                Err(CommandError::UnusedOption { option: option.flag(), command: command.name() })
            }
            None => match self.options.besides_config().or_else(|| {
                let Command::Serve(args) = &command else { return None };
                self.options.config.as_ref().and_then(|_| args.besides_config())
            }) {
                Some(option) => Err(CommandError::BesidesConfig { option }),
                None => Ok((self.options, command)),
            },
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a tour of the framework; this is also what happens without a command
    #[command(after_help = help::DEMO)]
    Demo,
    /// List the allocator plug-ins that are found
    #[command(after_help = help::PLUGINS)]
    Plugins,
    /// List the regions with their figures, and those that got no memory
    #[command(after_help = help::REGIONS)]
    Regions,
    /// Check regions, map and choice of memory: exits 0 when clean, 1 with warnings, 2 with errors
    #[command(after_help = help::CHECK)]
    Check,
    /// Print a board in another form: TOML, options, kernel parameters, a device tree
    #[command(after_help = forms::IMPORT)]
    Import(ImportArgs),
    /// Print the system that the options describe, in one of these forms
    #[command(after_help = forms::EXPORT)]
    Export(ExportArgs),
    /// Run a program that inherits chunks as descriptors, from a server or a system of its own
    #[command(after_help = exec::HELP)]
    Exec(ExecArgs),
    /// Allocate and free interactively, with commands from standard input
    #[command(after_help = SHELL)]
    Shell(ShellArgs),
    /// Find the smallest region in which each allocator serves recorded traces
    #[command(after_help = size::HELP)]
    Size(SizeArgs),
    /// Compare allocators on recorded traces: memory, refusals, free ranges, speed
    #[command(after_help = compare::HELP)]
    Compare(CompareArgs),
    /// Replay recorded traces on each allocator and measure it
    #[command(after_help = replay::HELP)]
    Replay(ReplayArgs),
    /// Draw what an allocator did with a trace, or a running server, as a picture
    #[command(after_help = draw::HELP)]
    Draw(DrawArgs),
    /// Explain why a request of a trace fails, or why a running server refused its last ones
    #[command(after_help = why::HELP)]
    Why(WhyArgs),
    /// Run a program and record its big buffers as a trace, or read what a kernel recorded
    #[command(after_help = record::HELP)]
    Record(RecordArgs),
    /// Check that a plug-in keeps every guarantee of an allocator
    #[command(after_help = conform::HELP)]
    Conform(ConformArgs),
    /// Serve until Ctrl-C or SIGTERM, so that other processes can inspect, change and use the
    /// system
    #[command(after_help = serve::HELP)]
    Serve(ServeArgs),
    /// Continue a running server with another program, or with a new version of its own
    #[command(after_help = upgrade::HELP)]
    Upgrade(UpgradeArgs),
    /// Print an attribute of a running server
    #[command(after_help = attributes::GET)]
    Get(GetArgs),
    /// Write to an attribute of a running server
    #[command(after_help = attributes::SET)]
    Set(SetArgs),
    /// Watch a running server, or a trace in slow motion, on the terminal: regions with their
    /// holes, owners, rates, waiters, refusals
    #[command(after_help = top::HELP)]
    Top(TopArgs),
    /// Draw the attributes of a running server with their values
    #[command(after_help = attributes::TREE)]
    Tree(TreeArgs),
}

impl Command {
    /// Its name, with the option that makes it use fewer of the common ones.
    fn name(&self) -> &'static str {
        match self {
            Command::Demo => "demo",
            Command::Plugins => "plugins",
            Command::Regions => "regions",
            Command::Check => "check",
            Command::Import(_) => "import",
            Command::Export(_) => "export",
            Command::Exec(ExecArgs { socket: Some(_), .. }) => "exec --socket",
            Command::Exec(_) => "exec",
            Command::Shell(ShellArgs { connect: Some(_) }) => "shell --connect",
            Command::Shell(_) => "shell",
            Command::Size(_) => "size",
            Command::Compare(_) => "compare",
            Command::Replay(_) => "replay",
            Command::Draw(_) => "draw",
            Command::Why(WhyArgs { trace: None, .. }) => "why --connect",
            Command::Why(_) => "why",
            Command::Record(_) => "record",
            Command::Conform(_) => "conform",
            Command::Serve(_) => "serve",
            Command::Upgrade(_) => "upgrade",
            Command::Get(_) => "get",
            Command::Set(_) => "set",
            Command::Top(_) => "top",
            Command::Tree(_) => "tree",
        }
    }

    /// The common options that it uses.
    fn uses(&self) -> &'static [CommonOption] {
        used_by(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_consistent() {
        Cli::grammar().debug_assert();
    }

    #[test]
    fn every_common_option_is_known_to_clap_and_used_by_a_command() {
        let all = Cli::command();
        for option in CommonOption::ALL {
            let known = all.get_arguments().find(|arg| arg.get_id().as_str() == option.id());
            assert_eq!(
                known.and_then(clap::Arg::get_long).map(|long| format!("--{long}")),
                Some(option.flag())
            );
            assert!(
                all.get_subcommands().any(|sub| used_by(sub.get_name()).contains(&option)),
                "{option:?}"
            );
        }
    }
}
