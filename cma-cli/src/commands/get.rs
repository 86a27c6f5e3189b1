//! `cma get`: the text of an attribute.

use super::running;
use crate::options::GetArgs;
use crate::outcome::{CommandError, Outcome};
use crate::show::Out;
use std::io::Write;

pub(crate) fn run(args: &GetArgs, out: &mut Out) -> Result<Outcome, CommandError> {
    let text = running::find(&args.server)?.read(&args.path)?;
    out.write_all(text.as_bytes())?;
    Ok(Outcome::Done)
}
