//! `cma export`: prints the system that the options describe, in a form for other programs.

use crate::described::Description;
use crate::notice::Notice;
use crate::options::{ExportArgs, Form, Options};
use crate::outcome::{CommandError, Outcome};
use crate::show::Out;
use cma_board::{Board, command_line, device_tree, options, toml_file};
use std::io::Write;

pub(crate) fn run(
    options: &Options,
    args: &ExportArgs,
    out: &mut Out,
) -> Result<Outcome, CommandError> {
    let description = Description::of(options)?;
    description.warn_of_overlaps();
    print(&description.system(options)?, args.form, out)
}

/// Prints the board in that form. What the form can't express is reported on standard error.
pub(super) fn print(board: &Board, form: Form, out: &mut Out) -> Result<Outcome, CommandError> {
    let (text, notes) = match form {
        Form::Toml => (toml_file::write(board), Vec::new()),
        Form::Options => options::write(board),
        Form::Cmdline => command_line::write(board),
        Form::CmdlineV4 => command_line::write_v4(board),
        Form::Dts => device_tree::write(board),
    };
    for note in notes {
        Notice::warning(&note.to_string()).with_help(note.remedy).report();
    }
    // A command line may have nothing to say.
    if !text.is_empty() {
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(Outcome::Done)
}
