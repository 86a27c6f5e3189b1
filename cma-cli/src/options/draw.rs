//! The arguments and the help of `cma draw`.

use super::server::ServerArgs;
use super::values;
use clap::{Args, ValueEnum};
use cma_draw::{Moment, Size};
use std::path::PathBuf;

pub(super) const HELP: &str = "\
The picture of a trace shows addresses over time. Each chunk is a rectangle in the colour of its \
device; chunks smaller than a pixel are added up. Refused requests are marks above, and live bytes, \
free bytes and the largest free range are curves below. The dashed line is at the first refusal, or \
else where most free memory is outside the largest free range; beside it is the region at that \
moment, with the sizes of its free ranges and a bar as high as the refused request.

With --at, and without a trace, the picture shows the region, or each region of the server, at one \
moment. TIME is a time of the trace as 500us, 40ms, 12.5s or 2m, an operation as op:1200, counted \
from 1, or one of refusal (the first) and worst (the worst fragmentation).

Examples:
  cma draw phone.trace.gz -o phone.svg --region 320M
  cma draw phone.trace.gz -o phone.png --allocator best-fit --allocator tlsf --theme dark
  cma draw camera.trace -o camera.svg --at 20us --size 800x400
  cma draw camera.trace -o camera.png --axis operations";

#[derive(Args, Debug)]
pub(crate) struct DrawArgs {
    /// The trace: .trace, or .trace.gz; - is standard input. Without one, a running server is drawn
    #[arg(value_name = "TRACE", conflicts_with_all = ["mount", "connect"])]
    pub(crate) trace: Option<PathBuf>,

    /// The picture to write, .svg or .png; a file that is there is replaced
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,

    #[command(flatten)]
    pub(crate) server: ServerArgs,

    /// The allocator, as in `cma=`, or the file of a plug-in; may be repeated for a panel each, on
    /// one scale. The default is the first one that is found
    #[arg(long, value_name = "NAME", requires = "trace")]
    pub(crate) allocator: Vec<String>,

    /// The size of the region, such as 256M; the default is twice the trace's peak of live memory
    #[arg(long, value_name = "SIZE", requires = "trace", value_parser = values::size)]
    pub(crate) region: Option<u64>,

    /// Draw the region at this moment
    #[arg(long, value_name = "TIME", requires = "trace", value_parser = values::moment)]
    pub(crate) at: Option<Moment>,

    /// What the horizontal axis shows
    #[arg(long, value_name = "WHAT", requires = "trace", conflicts_with = "at", value_enum)]
    pub(crate) axis: Option<DrawnAxis>,

    /// Width and height in pixels; the default is 1200 wide, and as high as the panels need
    #[arg(long, value_name = "WIDTHxHEIGHT")]
    pub(crate) size: Option<Size>,

    /// The colours
    #[arg(long, value_enum, default_value_t = DrawnTheme::Light)]
    pub(crate) theme: DrawnTheme,
}

/// What the horizontal axis of a picture shows.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum DrawnAxis {
    /// The recorded time
    Time,
    /// The operations, all equally wide: for traces with long idle times
    Operations,
}

/// The colours of a picture.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum DrawnTheme {
    /// Dark on white
    Light,
    /// Light on nearly black
    Dark,
}
