//! The arguments and the help of `cma import` and `cma export`, and the forms they print.

use clap::{Args, ValueEnum};

pub(super) const IMPORT: &str = "\
A kernel's command line may be the whole of /proc/cmdline: the words cma=, hugetlb_cma= and cma.map= \
are read, and the others ignored. What the form can't express is reported on standard error.

Examples:
  cma import 'console=ttyS0 cma=64M@0-1G quiet' --banks '4G@0' > board.toml
  cma import board.toml --as options";

#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// A file as --platform takes it, a kernel's command line as text, or the name of a board
    #[arg(value_name = "FILE|COMMAND LINE")]
    pub(crate) source: String,

    /// The form to print
    #[arg(long = "as", value_name = "FORM", value_enum, default_value_t = Form::Toml)]
    pub(crate) form: Form,
}

pub(super) const EXPORT: &str = "\
What the form can't express is reported on standard error.

Example:
  cma export --cma 'fw=1M;rest=32M@0-1G' --map 'codec/fw=fw;*=rest' --as dts > board.dts";

#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// The form to print
    #[arg(long = "as", value_name = "FORM", value_enum)]
    pub(crate) form: Form,
}

/// A form of a board's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// A file for --platform
    Toml,
    /// --banks, --cma, --map and --memory, for a shell
    Options,
    /// The parameters cma= and hugetlb_cma= of Linux
    Cmdline,
    /// The parameters cma= and cma.map= of the patch series of 2010
    CmdlineV4,
    /// Device-tree source
    Dts,
}
