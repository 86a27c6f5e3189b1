//! The arguments and the help of `cma upgrade`.

use clap::Args;
use std::path::PathBuf;

pub(super) const HELP: &str = "\
The server was started with `cma serve --keep`. It completes the requests in progress and ends, and \
the program that is now at its path continues it: chunks, connections and requests that wait. If \
that does not become ready within a minute, the old program is started again, and the reason is \
printed. A server that died too often is started, too. Only root and the server's user may do this.

Example:
  cma upgrade --socket cma.sock";

#[derive(Args, Debug)]
pub(crate) struct UpgradeArgs {
    /// The server's socket; the default is CMA_SOCKET, or else /run/cma/cma.sock
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,

    /// The program that continues it, in place of the one at the server's path
    #[arg(long, value_name = "PATH")]
    pub(crate) program: Option<PathBuf>,

    #[arg(long, value_name = "NAME", help = super::serve::DISCARD)]
    pub(crate) discard: Vec<String>,
}
