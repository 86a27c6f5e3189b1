//! The arguments and the help of `cma why`.

use super::server::ServerArgs;
use super::values;
use clap::Args;
use std::path::PathBuf;

pub(super) const HELP: &str = "\
For each region: its reason, a picture of its addresses, its free ranges and what rules them out, \
the least chunks and the least owners whose leaving makes room, where a new instance of the \
allocator then places the request, and the owners of all chunks.

A trace is replayed as by cma replay, with one allocator, up to the first request that fails or to \
that of --op. The ages of chunks are those of the recording. Without a trace the last refused \
requests of a running server are explained, with the chunks that it has now.

Examples:
  cma why --region 1M camera.trace
  cma why --cma 'b1=1M;b2=2M' --map 'camera=b1;*=b1|b2' --json camera.trace";

#[derive(Args, Debug)]
pub(crate) struct WhyArgs {
    /// The trace: .trace, or .trace.gz; - is standard input
    #[arg(value_name = "TRACE", conflicts_with_all = ["mount", "connect"])]
    pub(crate) trace: Option<PathBuf>,

    /// The number of the operation, counted from 1, as cma replay reports it; the default is the
    /// first that fails
    #[arg(long, value_name = "N", requires = "trace", conflicts_with_all = ["mount", "connect"])]
    pub(crate) op: Option<u64>,

    /// The allocator; the default is the first that is found
    #[arg(long, value_name = "NAME", requires = "trace", conflicts_with_all = ["mount", "connect"])]
    pub(crate) allocator: Option<String>,

    /// The size of the region to replay in, such as 256M, without a system; the default is twice
    /// the trace's peak of live memory
    #[arg(long, value_name = "SIZE", value_parser = values::size, requires = "trace",
        conflicts_with_all = ["mount", "connect"])]
    pub(crate) region: Option<u64>,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}
