//! The command line: what can be said, and what `--help` says about it.

use crate::show::quoted;
use clap::{Args, Parser, Subcommand, ValueEnum};
use cma_framework::config::{Platform, parse_size};
use cma_memory::Choice;
use std::path::PathBuf;

/// Divides a board's contiguous memory among its devices, with allocators loaded at run time.
///
/// Without a command it shows itself at work. Unless --memory says otherwise the board's memory is simulated: addresses only, so every board runs on any machine.
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

const REGIONS: &str = "Replace the board's regions: name=size[@start][/alignment][:allocator[(params)]];...";
const MAP: &str = "Replace the board's map: device[/type],...=region,...;...";

const MEMORY: &str = "What is behind the addresses: simulated (nothing), memfd, hugetlb, auto (the best of these), or by \
region: fw=memfd,b1=hugetlb,auto. Without it simulated, and memfd for serve --socket";

const LIMITS: &str = "How much others may have: chunks=64,bytes=1G for the connections that one process opened, user-chunks, user-bytes, user-connections, \
connections";

const RULES: &str = "Who may ask for which device or name which region: camera=uid:1000;video/frame=gid:44,uid:0;*,@*=*; \
without it everyone may everything";

/// What holds for every command.
#[derive(Args, Debug)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Options {
    /// The board whose memory, regions and map are used
    #[arg(long, global = true, value_enum, default_value_t = Board::Goni)]
    pub(crate) platform: Board,

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

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the framework at work; this is also what happens without a command
    Demo,
    /// List the allocator plug-ins that are found
    Plugins,
    /// List the regions with their figures, also those that got no memory
    Regions,
    /// Look regions and map over: exits 0 when clean, 1 with warnings, 2 with errors
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
  l, list                                      the live chunks
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
    /// Ask the server that listens on this socket (`cma serve --socket`), in place of a system of one's own
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

    /// The size of the region to replay in, as 256M; without it twice what is live at the trace's peak
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

    /// What to say on standard error: error, warn, info, debug, trace, or by module; without it RUST_LOG, or else info
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
        Ok((_, taken)) => Err(format!("\"{}\" is left over behind the size", quoted(&text[taken..]))),
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
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_size_is_the_whole_argument() {
        assert_eq!(size("256M"), Ok(256 << 20));
        for wrong in ["256MB", "8MiB", "8X", "8MM"] {
            assert!(size(wrong).unwrap_err().contains("K, M, G, T, P or E"), "{wrong}");
        }
        assert!(size("8M x").unwrap_err().contains("\" x\" is left over"));
        assert!(size("8.5M").unwrap_err().contains("whole numbers"));
        assert!(size("0").is_err());
        assert!(size("").is_err());
        assert!(size("x").is_err());
    }
}
