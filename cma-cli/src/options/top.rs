//! The arguments and the help of `cma top`.

use super::server::ServerArgs;
use super::values;
use clap::Args;
use std::path::PathBuf;

pub(super) const HELP: &str = "\
The keys are in the last line of the screen. A server that ends is shown as gone until it is back. \
Without --speed, a trace takes a minute; a speed of 1 is that of the recording. NO_COLOR turns \
colours off.

Examples:
  cma top --mount mount
  cma top camera.trace --allocator buddy --speed 0.001";

#[derive(Args, Debug)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,

    /// Execute this trace in one region in place of watching a server: .trace, or .trace.gz; - is
    /// standard input
    #[arg(value_name = "TRACE", conflicts_with_all = ["mount", "connect"])]
    pub(crate) trace: Option<PathBuf>,

    /// The allocator that serves the trace, by name or as the file of a plug-in; the default is the
    /// first that is found
    #[arg(long, value_name = "NAME", requires = "trace")]
    pub(crate) allocator: Option<String>,

    /// The size of the trace's region, such as 256M; the default is twice the trace's peak of live
    /// memory
    #[arg(long, value_name = "SIZE", value_parser = values::size, requires = "trace")]
    pub(crate) region: Option<u64>,

    /// How many times as fast as it was recorded the trace is executed, such as 0.1
    #[arg(long, value_name = "N", value_parser = values::speed, requires = "trace")]
    pub(crate) speed: Option<f64>,
}
