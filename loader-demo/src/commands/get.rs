//! `cma get`: the text of an attribute.

use super::mounted::{Mounted, said};
use crate::failure::{Failure, Outcome};
use crate::options::{Get, Options};
use crate::show::Out;
use std::fs;
use std::io::Write;

pub(crate) fn run(options: &Options, what: &Get, out: &mut Out) -> Result<Outcome, Failure> {
    if options.json {
        return Err(Failure::NoFigures { command: "get" });
    }
    let file = Mounted::find(&what.server)?.attribute(&what.path)?;
    let text = fs::read(file)
        .map_err(|error| Failure::Attribute { path: what.path.clone(), reason: said(&error) })?;
    out.write_all(&text)?;
    Ok(Outcome::Done)
}
