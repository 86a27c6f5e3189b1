//! The arguments and the help of `cma replay`.

use super::values;
use clap::Args;
use std::path::PathBuf;

pub(super) const HELP: &str = "\
Without options that describe a system, a trace is replayed in one region, with each allocator in \
turn. With one of --platform, --banks, --cma, --map or --memory it is replayed on that system: the \
map finds regions for the trace's devices, and each allocator in turn serves the regions that name \
none. A request that may wait does so in the trace's time.

Examples:
  cma replay --cma 'b1=32M;b2=16M' --map 'camera=b1;*=b1|b2' camera.trace
  zcat phone.trace.gz | cma replay --allocator best-fit --json -";

#[derive(Args, Debug)]
pub(crate) struct ReplayArgs {
    /// The traces: .trace, or .trace.gz; - is standard input
    #[arg(required = true, value_name = "TRACE")]
    pub(crate) traces: Vec<PathBuf>,

    /// Only this allocator
    #[arg(long, value_name = "NAME")]
    pub(crate) allocator: Option<String>,

    /// The size of the region to replay in, such as 256M, without a system; the default is twice
    /// the trace's peak of live memory
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    pub(crate) region: Option<u64>,
}
