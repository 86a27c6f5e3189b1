//! `cma upgrade`: another program continues a running server.

use super::serve::control_path;
use crate::options::UpgradeArgs;
use crate::outcome::{CommandError, Outcome};
use crate::show::{Out, plain};
use std::env;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The server's path where `CMA_SOCKET` is not set, as in the preload library.
const SOCKET: &str = "/run/cma/cma.sock";

pub(crate) fn run(args: &UpgradeArgs, out: &mut Out) -> Result<Outcome, CommandError> {
    let named = || env::var_os("CMA_SOCKET").filter(|path| !path.is_empty());
    let socket = args.socket.clone().or(named().map(PathBuf::from)).unwrap_or(SOCKET.into());
    // The keeper has another working folder.
    let program = args.program.as_deref().map(std::path::absolute).transpose();
    let program = program.map_err(CommandError::Serve)?;
    let arguments = args.discard.iter().map(|name| OsString::from(format!("--discard={name}")));
    let arguments: Vec<_> = arguments.collect();
    let upgraded =
        cma_keeper::upgrade(&control_path(&socket), program.as_deref().map(Path::new), &arguments);
    let text = upgraded.map_err(|error| CommandError::Upgrade { socket, error })?;
    writeln!(out, "{}", plain(&text))?;
    Ok(Outcome::Done)
}
