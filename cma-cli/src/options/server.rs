//! Which running server a command is about.

use clap::Args;
use std::path::PathBuf;

pub(super) const MOUNT: &str = "The folder of the server's attributes; the default is CMA_MOUNT, or else the \
only mount there is";

/// Selects one of the running servers.
#[derive(Args, Debug)]
pub(crate) struct ServerArgs {
    #[arg(long, value_name = "DIR", help = MOUNT)]
    pub(crate) mount: Option<PathBuf>,

    /// Read the server that listens on this socket (`cma serve --socket`), as root or as the user
    /// that it runs as
    #[arg(long, value_name = "PATH", conflicts_with = "mount")]
    pub(crate) connect: Option<PathBuf>,
}
