//! Finding the running server that a command is about.

use crate::options::ServerArgs;
use cma_running::{Error, Server};
use std::env;
use std::path::PathBuf;

/// The variable that names the folder of the attributes when the command line doesn't.
const VARIABLE: &str = "CMA_MOUNT";

/// The server that the command line or the environment names, or else the only one whose attributes
/// are mounted.
pub(crate) fn find(args: &ServerArgs) -> Result<Server, Error> {
    if let Some(socket) = &args.connect {
        return Server::connect(socket);
    }
    mounted(args.mount.as_ref())
}

/// The same, with its attributes mounted.
pub(crate) fn mounted(mount: Option<&PathBuf>) -> Result<Server, Error> {
    let variable = || env::var_os(VARIABLE).filter(|folder| !folder.is_empty()).map(PathBuf::from);
    match mount.cloned().or_else(variable) {
        Some(folder) => Server::mount(&folder),
        None => Server::only(),
    }
}
