//! The arguments and the help of `cma get`, `cma set` and `cma tree`.

use super::server::{MOUNT, ServerArgs};
use clap::Args;
use std::path::PathBuf;

pub(super) const GET: &str = "\
Example:
  cma get regions/b1/free";

#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,

    /// The attribute, such as map or regions/b1/free
    #[arg(value_name = "PATH")]
    pub(crate) path: String,
}

pub(super) const SET: &str = "\
Example:
  cma set map '*=b1|b2'";

#[derive(Args, Debug)]
pub(crate) struct SetArgs {
    #[arg(long, value_name = "DIR", help = MOUNT)]
    pub(crate) mount: Option<PathBuf>,

    /// The attribute, such as map or regions/b1/alloc
    #[arg(value_name = "PATH")]
    pub(crate) path: String,

    /// The text to write; an empty one clears the map, and selects the default allocator for a
    /// region
    #[arg(value_name = "VALUE", allow_hyphen_values = true)]
    pub(crate) value: String,
}

pub(super) const TREE: &str = "\
Example:
  cma tree regions/b1";

#[derive(Args, Debug)]
pub(crate) struct TreeArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,

    /// The folder to begin with, such as regions/b1
    #[arg(value_name = "PATH", default_value = "")]
    pub(crate) path: String,
}
