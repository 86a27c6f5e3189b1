//! `cma get`: the text of an attribute.

use super::mounted::{Mounted, said};
use crate::failure::{Failure, Outcome};
use crate::options::Get;
use crate::show::Out;
use std::fs;
use std::io::Write;

pub(crate) fn run(what: &Get, out: &mut Out) -> Result<Outcome, Failure> {
    let file = Mounted::find(&what.server)?.attribute(&what.path)?;
    let text = fs::read(file)
        .map_err(|error| Failure::Attribute { path: what.path.clone(), reason: said(&error) })?;
    out.write_all(&text)?;
    Ok(Outcome::Done)
}
