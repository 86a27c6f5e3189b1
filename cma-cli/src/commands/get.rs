//! `cma get`: the text of an attribute.

use super::server_mount::{ServerMount, read_error};
use crate::options::GetArgs;
use crate::outcome::{CommandError, Outcome};
use crate::show::Out;
use std::fs;
use std::io::Write;

pub(crate) fn run(args: &GetArgs, out: &mut Out) -> Result<Outcome, CommandError> {
    let file = ServerMount::find(&args.server)?.attribute(&args.path)?;
    let text = fs::read(file).map_err(|error| CommandError::Attribute {
        path: args.path.clone(),
        reason: read_error(&error),
    })?;
    out.write_all(&text)?;
    Ok(Outcome::Done)
}
