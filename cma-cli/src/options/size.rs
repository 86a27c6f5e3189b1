//! The arguments and the help of `cma size`.

use super::forms::Form;
use super::values;
use clap::Args;
use cma_framework::DmaAddr;
use std::path::PathBuf;

pub(super) const HELP: &str = "\
All devices of a trace share one region, or each has its own, or --map groups them: a request goes \
to the first region of its rule.

A larger region can fail where a smaller one serves, so the region that is shown is the smallest \
size from which every larger size that was tried serves the trace. Tried are: twice the peak, or \
its doubles until the trace is served; from there down, steps of 1/128 of that until one fails; \
above that, steps 16 times smaller; and so on, down to a page. No request waits, and one that the \
recorded system refused has to be served, too.

The peak is the most memory that is live at a time: no region can be smaller. The offline layout is \
computed with the whole trace known: the chunks are sorted, by the order that is shown, and each \
gets the lowest place that is free in its whole life; those that end above the peak are then moved \
to the front, and the best of several rounds is shown. No allocator can be expected to reach it.

With --as, several traces get regions that are large enough for each of them, with the allocator \
that needs least.

With --learn, one or several recordings of a program teach packing, and the file is a profile of \
it: text, with a comment on each recording. A search compares choices of packing's numbers on \
copies of the recordings that differ a little. It takes seconds to minutes. The profile is used \
while requests are like those of the recordings. If no choice is clearly better, it has the \
numbers that packing has without a profile.

Examples:
  cma size camera.trace
  cma size --per-device --margin 10 --as options camera.trace
  cma size --allocator bitmap --map 'camera/frame=frames;*=rest' --json camera.trace
  cma size --learn camera.profile camera.trace";

#[derive(Args, Debug)]
pub(crate) struct SizeArgs {
    /// The traces: .trace, or .trace.gz; - is standard input
    #[arg(required = true, value_name = "TRACE")]
    pub(crate) traces: Vec<PathBuf>,

    /// Only this allocator: a name, with parameters or without, or the file of a plug-in; may be
    /// repeated
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) allocator: Vec<String>,

    /// A region for each device
    #[arg(long)]
    pub(crate) per_device: bool,

    /// The start of the region; the default is 4G, or what the limits of the requests need
    #[arg(long, value_name = "ADDRESS", value_parser = values::page_address)]
    pub(crate) at: Option<DmaAddr>,

    /// Show the size with so many percent more, and check that it is served
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) margin: u32,

    /// Learn from these recordings of one program which numbers of the allocator packing suit it,
    /// and write them to this file, for packing(profile=FILE)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["allocator", "per_device", "margin", "form"])]
    pub(crate) learn: Option<PathBuf>,

    /// Print the regions and their map in this form
    #[arg(long = "as", value_name = "FORM", value_enum)]
    pub(crate) form: Option<Form>,
}
