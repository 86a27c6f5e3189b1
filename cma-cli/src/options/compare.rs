//! The arguments and the help of `cma compare`.

use super::values;
use clap::Args;
use std::path::PathBuf;

pub(super) const HELP: &str = "\
Each trace is run on each allocator: to find the smallest region in which it serves the trace (see \
`cma size --help`); in one region that is as large as the smallest of these, or as --region says, \
for the refused requests and the largest free range after each operation; and several times in a \
region of twice the peak (or more, if an allocator needs it), in turn, for the time of an operation.

Example:
  cma compare camera.trace --allocator best-fit --allocator bitmap";

#[derive(Args, Debug)]
pub(crate) struct CompareArgs {
    /// The traces: .trace, or .trace.gz; - is standard input
    #[arg(required = true, value_name = "TRACE")]
    pub(crate) traces: Vec<PathBuf>,

    /// An allocator: a name, with parameters or without, or the file of a plug-in; repeated, and
    /// all that are found without it
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) allocator: Vec<String>,

    /// The size of the region for refusals and free ranges
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    pub(crate) region: Option<u64>,

    /// How often the time is measured
    #[arg(long, value_name = "COUNT", default_value_t = 9, value_parser = runs)]
    pub(crate) runs: usize,
}

/// The number of runs.
fn runs(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=1000).contains(count));
    count.ok_or_else(|| "the number of runs is 1 to 1000".to_string())
}
