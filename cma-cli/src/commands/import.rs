//! `cma import`: prints a board that is described in one form in another.

use crate::commands::export;
use crate::described::Description;
use crate::options::{ImportArgs, Options};
use crate::outcome::{CommandError, Outcome};
use crate::show::Out;

pub(crate) fn run(
    options: &Options,
    args: &ImportArgs,
    out: &mut Out,
) -> Result<Outcome, CommandError> {
    let mut description = Description::named(&args.source)?;
    description.replace_banks(options.banks.as_deref())?;
    description.report_notes();
    export::print(&description.read.board, args.form, out)
}
