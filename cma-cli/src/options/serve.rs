//! The arguments and the help of `cma serve`.

use super::values;
use clap::Args;
use std::path::PathBuf;

pub(super) const HELP: &str = "\
A plug-in that is put into a --plugin-dir, or a folder of CMA_PLUGIN_PATH, while the server runs is \
loaded; one with the name of a registered allocator replaces it. Copy the file, or write it \
elsewhere and rename it: it is loaded when it is complete.

Example:
  cma serve --socket cma.sock --limits chunks=64,bytes=1G --rules 'camera=uid:0;*,@*=*'";

const LIMITS: &str = "Limits, such as chunks=64,bytes=1G: chunks and bytes apply to the connections \
that one process opened, user-chunks, user-bytes and user-connections to a user, connections to \
the server";

const RULES: &str = "Which users may request for which device, or name which region: \
camera=uid:1000;video/frame=gid:44,uid:0;*,@*=*; without it all users may request everything";

#[derive(Args, Clone, Debug)]
pub(crate) struct ServeArgs {
    /// Mount the attributes on this folder, which must exist and be empty
    #[arg(long, value_name = "DIR")]
    pub(crate) mount: Option<PathBuf>,

    /// Serve chunks to other processes that connect to this socket
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,

    /// The socket's permissions, in octal: users with write permission may connect
    #[arg(
        long,
        value_name = "MODE",
        default_value = "666",
        value_parser = values::mode,
        requires = "socket"
    )]
    pub(crate) socket_mode: u32,

    #[arg(
        long,
        value_name = "LIMITS",
        default_value = "",
        hide_default_value = true,
        help = LIMITS,
        requires = "socket"
    )]
    pub(crate) limits: String,

    #[arg(long, value_name = "RULES", help = RULES, requires = "socket")]
    pub(crate) rules: Option<String>,

    /// Record the requests, refusals and frees to this file, as a trace; an existing file is
    /// replaced
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,

    /// The events to log on standard error: error, warn, info, debug, trace, or by module; the
    /// default is RUST_LOG, or else info
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log: Option<String>,
}
