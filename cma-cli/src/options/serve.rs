//! The arguments and the help of `cma serve`.

use super::values;
use clap::Args;
use cma_metrics::Endpoint;
use std::path::PathBuf;

pub(super) const HELP: &str = "\
A plug-in that is put into a --plugin-dir, or a folder of CMA_PLUGIN_PATH, while the server runs is \
loaded; one with the name of a registered allocator replaces it. Copy the file, or write it \
elsewhere and rename it: it is loaded when it is complete.

With --config, SIGHUP has the file read again: map, rules, limits and the allocators of regions \
change at once, and what needs a restart is reported. A wrong file changes nothing.

With --keep this process is the keeper, and the server is a process that it starts. It holds the \
socket, the connections and the memory of chunks. Signals to it reach the server. After ten starts \
in a row a server that dies is not started again until the keeper gets SIGHUP, or is asked for an \
upgrade. A recording, and mounted attributes, begin anew with each server.

Examples:
  cma serve --socket cma.sock --limits chunks=64,bytes=1G --rules 'camera=uid:0;*,@*=*'
  cma serve --config cma.toml";

const LIMITS: &str = "Limits, such as chunks=64,bytes=1G: chunks and bytes apply to the connections \
that one process opened, user-chunks, user-bytes and user-connections to a user, connections to \
the server";

const RULES: &str = "Which users may request for which device, or name which region: \
camera=uid:1000;video/frame=group:video,user:root;*,@*=*; without it all users may request everything";

pub(super) const DISCARD: &str = "What may be lost if it can't be continued: damaged, for records \
that are damaged, or a region, with its chunks; may be repeated";

#[derive(Args, Clone, Debug)]
pub(crate) struct ServeArgs {
    /// Mount the attributes on this folder, which must exist and be empty
    #[arg(long, value_name = "DIR")]
    pub(crate) mount: Option<PathBuf>,

    /// Serve chunks to other processes that connect to this socket
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,

    /// The socket's permissions, in octal: users with write permission may connect; the default is
    /// 660
    #[arg(long, value_name = "MODE", value_parser = values::mode, requires = "socket",
        conflicts_with = "config")]
    pub(crate) socket_mode: Option<u32>,

    /// The socket's group, by name or number; the default is that of the server
    #[arg(long, value_name = "GROUP", value_parser = values::group, requires = "socket",
        conflicts_with = "config")]
    pub(crate) socket_group: Option<u32>,

    /// Serve the figures to a monitoring system: unix:PATH, or an address of this machine and a
    /// port, as 127.0.0.1:9797
    #[arg(long, value_name = "ENDPOINT")]
    pub(crate) metrics: Option<Endpoint>,

    #[arg(
        long,
        value_name = "LIMITS",
        default_value = "",
        hide_default_value = true,
        help = LIMITS,
        requires = "socket",
        conflicts_with = "config"
    )]
    pub(crate) limits: String,

    #[arg(long, value_name = "RULES", help = RULES, requires = "socket",
        conflicts_with = "config")]
    pub(crate) rules: Option<String>,

    /// Have a keeper, which starts the server again when it dies or is upgraded, with the chunks of
    /// its clients
    #[arg(long, conflicts_with = "discard")]
    pub(crate) keep: bool,

    #[arg(long, value_name = "NAME", help = DISCARD)]
    pub(crate) discard: Vec<String>,

    /// Record the requests, refusals and frees to this file, as a trace; an existing file is
    /// replaced
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,

    /// The events to log on standard error: error, warn, info, debug, trace, or by module; the
    /// default is RUST_LOG, or else info
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log: Option<String>,
}

impl ServeArgs {
    /// The first option that was given although the file of --config says the same.
    pub(super) fn besides_config(&self) -> Option<String> {
        let ServeArgs { mount, socket, limits, rules, metrics, .. } = self;
        let given = [
            (mount.is_some(), "--mount"),
            (socket.is_some(), "--socket"),
            (!limits.is_empty(), "--limits"),
            (rules.is_some(), "--rules"),
            (metrics.is_some(), "--metrics"),
        ];
        given.into_iter().find_map(|(given, option)| given.then(|| option.to_string()))
    }
}
