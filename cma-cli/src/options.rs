//! The command line: what can be said, and what `--help` says about it.

use crate::failure::Failure;
use crate::show::quoted;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use cma_framework::config::{Platform, parse_size};
use cma_memory::Choice;
use std::ffi::OsString;
use std::path::PathBuf;

/// Divides a board's contiguous memory among its devices, with allocators loaded at run time.
///
/// Without a command it shows itself at work. Unless --memory says otherwise the board's memory is
/// simulated: addresses only, so every board runs on any machine.
#[derive(Debug, Parser)]
#[command(name = "cma", version, max_term_width = 100, after_help = AFTER)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

const AFTER: &str = "\
Plug-ins (libcma_<name>_plugin.so) are looked for in each --plugin-dir, in the folders of CMA_PLUGIN_PATH, and where \
the program lies: its deps, ../lib/cma and its own folder.

Exit status: 0 done, 1 done but something was refused or found, 2 it could not be done.";

const REGIONS: &str =
    "Replace the board's regions: name=size[@start][/alignment][:allocator[(params)]];...";
const MAP: &str = "Replace the board's map: device[/type],...=region,...;...";

const MEMORY: &str = "What is behind the addresses: simulated (nothing), memfd, hugetlb, auto (the best of these), or by \
region: fw=memfd,b1=hugetlb,auto. Without it simulated, and memfd for serve --socket";

const LIMITS: &str = "How much others may have: chunks=64,bytes=1G for the connections that one process opened, user-chunks, user-bytes, user-connections, \
connections";

const RULES: &str = "Who may ask for which device or name which region: camera=uid:1000;video/frame=gid:44,uid:0;*,@*=*; \
without it everyone may everything";

/// Options that several commands take, before or behind the command. Which takes which:
/// [`Command::uses`].
#[derive(Args, Debug)]
#[command(next_help_heading = "Options of several commands")]
pub(crate) struct Options {
    /// The board whose memory, regions and map are used; goni without it
    #[arg(long, global = true, value_enum)]
    platform: Option<Board>,

    #[arg(long, global = true, value_name = "REGIONS", help = REGIONS)]
    pub(crate) cma: Option<String>,

    #[arg(long, global = true, value_name = "MAP", help = MAP)]
    pub(crate) map: Option<String>,

    #[arg(long, global = true, value_name = "MEMORY", help = MEMORY)]
    pub(crate) memory: Option<Choice>,

    /// Look for plug-ins here first; may be repeated, all before or all behind the command
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) plugin_dir: Vec<PathBuf>,

    /// Print JSON, one object a line (plugins, regions, check, replay)
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl Options {
    pub(crate) fn board(&self) -> &'static Platform {
        self.platform.unwrap_or(Board::Goni).platform()
    }

    /// The options that were given.
    fn given(&self) -> Vec<Shared> {
        let Options { platform, cma, map, memory, plugin_dir, json } = self;
        [
            (platform.is_some(), Shared::Platform),
            (cma.is_some(), Shared::Cma),
            (map.is_some(), Shared::Map),
            (memory.is_some(), Shared::Memory),
            (!plugin_dir.is_empty(), Shared::PluginDir),
            (*json, Shared::Json),
        ]
        .into_iter()
        .filter_map(|(given, option)| given.then_some(option))
        .collect()
    }
}

/// One of the [`Options`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shared {
    Platform,
    Cma,
    Map,
    Memory,
    PluginDir,
    Json,
}

impl Shared {
    const ALL: [Shared; 6] = [
        Shared::Platform,
        Shared::Cma,
        Shared::Map,
        Shared::Memory,
        Shared::PluginDir,
        Shared::Json,
    ];

    /// What clap calls it, which is the field's name.
    fn id(self) -> &'static str {
        match self {
            Shared::Platform => "platform",
            Shared::Cma => "cma",
            Shared::Map => "map",
            Shared::Memory => "memory",
            Shared::PluginDir => "plugin_dir",
            Shared::Json => "json",
        }
    }

    /// As it is written.
    pub(crate) fn written(self) -> String {
        format!("--{}", self.id().replace('_', "-"))
    }
}

/// What a command that boots a system uses.
const SYSTEM: &[Shared] =
    &[Shared::Platform, Shared::Cma, Shared::Map, Shared::Memory, Shared::PluginDir];

/// The options that the command of that name uses.
fn used_by(command: &str) -> &'static [Shared] {
    match command {
        "demo" | "shell" | "serve" => SYSTEM,
        "regions" | "check" => &Shared::ALL,
        "plugins" | "replay" => &[Shared::PluginDir, Shared::Json],
        _ => &[],
    }
}

impl Cli {
    /// Reads the command line.
    ///
    /// # Errors
    ///
    /// What clap says of it.
    pub(crate) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
        Cli::from_arg_matches(&Cli::described().try_get_matches_from(arguments)?)
    }

    /// The command line, where each command's help shows the options that the command uses.
    fn described() -> clap::Command {
        let mut all = Cli::command();
        let commands: Vec<_> =
            all.get_subcommands().map(|sub| sub.get_name().to_string()).collect();
        for name in commands {
            let unused = Shared::ALL.into_iter().filter(|option| !used_by(&name).contains(option));
            let hidden = all
                .get_arguments()
                .filter(|arg| unused.clone().any(|o| o.id() == arg.get_id().as_str()));
            let hidden: Vec<_> = hidden.map(|arg| arg.clone().hide(true)).collect();
            all = all.mut_subcommand(name, |sub| sub.args(hidden));
        }
        all
    }

    /// The command, unless options were given that it does not use.
    ///
    /// # Errors
    ///
    /// [`Failure::Unused`].
    pub(crate) fn checked(self) -> Result<(Options, Command), Failure> {
        let command = self.command.unwrap_or(Command::Demo);
        let used = command.uses();
        match self.options.given().into_iter().find(|option| !used.contains(option)) {
            Some(option) => {
                Err(Failure::Unused { option: option.written(), command: command.name() })
            }
            None => Ok((self.options, command)),
        }
    }
}

impl Command {
    /// As it is written, with what makes it use fewer options.
    fn name(&self) -> &'static str {
        match self {
            Command::Demo => "demo",
            Command::Plugins => "plugins",
            Command::Regions => "regions",
            Command::Check => "check",
            Command::Shell(Shell { connect: Some(_) }) => "shell --connect",
            Command::Shell(_) => "shell",
            Command::Replay(_) => "replay",
            Command::Serve(_) => "serve",
            Command::Get(_) => "get",
            Command::Set(_) => "set",
            Command::Tree(_) => "tree",
        }
    }

    /// The options that it uses.
    fn uses(&self) -> &'static [Shared] {
        used_by(self.name())
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the framework at work; this is also what happens without a command
    Demo,
    /// List the allocator plug-ins that are found
    Plugins,
    /// List the regions with their figures, also those that got no memory
    Regions,
    /// Look regions, map and choice of memory over: exits 0 when clean, 1 with warnings, 2 with
    /// errors
    #[command(after_help = CHECK)]
    Check,
    /// Allocate and free by hand, with commands from standard input
    #[command(after_help = SHELL)]
    Shell(Shell),
    /// Replay recorded traces on each allocator and measure it
    Replay(Replay),
    /// Serve until Ctrl-C or SIGTERM, so that others can see and change the running system
    #[command(after_help = SERVE)]
    Serve(Serve),
    /// Print an attribute of a running server
    Get(Get),
    /// Write to an attribute of a running server
    Set(Set),
    /// Draw the attributes of a running server with their values
    Tree(Tree),
}

const SERVE: &str = "\
Plug-ins that are put into a --plugin-dir, or a folder of CMA_PLUGIN_PATH, while it serves are loaded; one that calls itself like one \
that is there takes its place. Write a file beside it and rename it, or copy it: it is loaded when it is whole.";

const CHECK: &str = "\
Each allocator is tried on the place that its region would get. In pictures a place is name:line:column, where a long text has \
one rule or region a line, and columns count characters. With --json, start and end are byte offsets into the text; a \
clean configuration prints nothing.";

pub(crate) const SHELL: &str = "\
Commands, one a line:
  l, list                                      the live chunks, who has each, and in which region
  a, alloc <device>[/<type>] <size>[/<align>]  a chunk for a device, by the map
  A, afrom <regions> <size>[/<align>]          a chunk from the first of these regions that has room
  f, free [<num>]                              free a chunk, the newest without a number
  h, help, ?                                   these commands
  q, quit, exit                                free everything and end, as the end of input does
  # ...                                        a comment
  an empty line                                the last command again

A chunk is printed as \"number: size@start\". Each new chunk gets the next number, from 1; none is used twice. \
Sizes are decimal, 0x hex or 0 octal and take K, M, G, T, P, E. An alignment of 0 is none.";

#[derive(Args, Debug)]
pub(crate) struct Shell {
    /// Ask the server that listens on this socket (`cma serve --socket`), in place of a system of
    /// one's own
    #[arg(long, value_name = "PATH")]
    pub(crate) connect: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Replay {
    /// The traces: .trace, or .trace.gz
    #[arg(required = true, value_name = "TRACE")]
    pub(crate) traces: Vec<PathBuf>,

    /// Only this allocator
    #[arg(long, value_name = "NAME")]
    pub(crate) allocator: Option<String>,

    /// The size of the region to replay in, as 256M; without it twice what is live at the trace's
    /// peak
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) region: Option<u64>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Serve {
    /// Mount the attributes on this folder, which must be there and empty
    #[arg(long, value_name = "DIR")]
    pub(crate) mount: Option<PathBuf>,

    /// Give chunks to other processes that connect to this socket
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,

    /// The socket's permissions, in octal: who may write may connect
    #[arg(long, value_name = "MODE", default_value = "666", value_parser = mode, requires = "socket")]
    pub(crate) socket_mode: u32,

    #[arg(long, value_name = "LIMITS", default_value = "", hide_default_value = true, help = LIMITS, requires = "socket")]
    pub(crate) limits: String,

    #[arg(long, value_name = "RULES", help = RULES, requires = "socket")]
    pub(crate) rules: Option<String>,

    /// What to say on standard error: error, warn, info, debug, trace, or by module; without it
    /// RUST_LOG, or else info
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log: Option<String>,
}

/// Which server is meant.
#[derive(Args, Debug)]
pub(crate) struct Server {
    /// Where its attributes are mounted; without it CMA_MOUNT, or else the only place there is
    #[arg(long, value_name = "DIR")]
    pub(crate) mount: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Get {
    #[command(flatten)]
    pub(crate) server: Server,

    /// The attribute, as map or regions/b1/free
    #[arg(value_name = "PATH")]
    pub(crate) path: String,
}

#[derive(Args, Debug)]
pub(crate) struct Set {
    #[command(flatten)]
    pub(crate) server: Server,

    /// The attribute, as map or regions/b1/alloc
    #[arg(value_name = "PATH")]
    pub(crate) path: String,

    /// What to write; an empty text clears the map, and gives a region the default allocator
    #[arg(value_name = "VALUE", allow_hyphen_values = true)]
    pub(crate) value: String,
}

#[derive(Args, Debug)]
pub(crate) struct Tree {
    #[command(flatten)]
    pub(crate) server: Server,

    /// The folder to begin with, as regions/b1
    #[arg(value_name = "PATH", default_value = "")]
    pub(crate) path: String,
}

/// A whole argument that is a size.
fn size(text: &str) -> Result<u64, String> {
    match parse_size(text) {
        Ok((0, _)) => Err("a region of size 0".to_string()),
        Ok((size, taken)) if taken == text.len() => Ok(size),
        Ok((_, taken)) => {
            Err(format!("\"{}\" is left over behind the size", quoted(&text[taken..])))
        }
        Err((mistake, _)) => Err(mistake.to_string()),
    }
}

/// Permissions in octal.
fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| "permissions are three octal digits, as 660".to_string())
}

/// The boards that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Board {
    Aquila,
    Goni,
    GalaxyS2,
}

impl Board {
    pub(crate) fn platform(self) -> &'static Platform {
        match self {
            Board::Aquila => &cma_platform_aquila::PLATFORM,
            Board::Goni => &cma_platform_goni::PLATFORM,
            Board::GalaxyS2 => &cma_platform_galaxy_s2::PLATFORM,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::described().debug_assert();
    }

    #[test]
    fn every_option_is_used_by_a_command_and_known_to_clap() {
        let all = Cli::command();
        for option in Shared::ALL {
            let known = all.get_arguments().find(|arg| arg.get_id().as_str() == option.id());
            assert_eq!(
                known.and_then(clap::Arg::get_long).map(|long| format!("--{long}")),
                Some(option.written())
            );
            assert!(
                all.get_subcommands().any(|sub| used_by(sub.get_name()).contains(&option)),
                "{option:?}"
            );
        }
    }

    #[test]
    fn a_size_is_the_whole_argument() {
        assert_eq!(size("256M"), Ok(256 << 20));
        assert_eq!(size("8MiB"), Ok(8 << 20));
        assert!(size("256MB").unwrap_err().contains("M or MiB"));
        for wrong in ["8X", "8MM"] {
            assert!(size(wrong).unwrap_err().contains("K, M, G, T, P or E"), "{wrong}");
        }
        assert!(size("8M x").unwrap_err().contains("\" x\" is left over"));
        assert!(size("8.5M").unwrap_err().contains("whole numbers"));
        assert!(size("0").is_err());
        assert!(size("").is_err());
        assert!(size("x").is_err());
    }
}
