//! `cma top`: a running server, or a trace in slow motion, on the terminal.

use super::{replay, running};
use crate::contenders::Contender;
use crate::notice::Notice;
use crate::options::{Options, TopArgs};
use crate::outcome::{CommandError, Outcome};
use cma_framework::{PAGE_SIZE, PageRange, Pages};
use cma_top::{Closed, ClosedBy, Error, Replay};
use cma_trace::REGION_START;
use signal_hook::low_level::emulate_default_handler;
use std::path::Path;

pub(crate) fn run(options: &Options, args: &TopArgs) -> Result<Outcome, CommandError> {
    let closed = match &args.trace {
        Some(trace) => cma_top::replay(prepared(options, args, trace)?),
        None => cma_top::server(running::find(&args.server)?),
    };
    let Closed { by, panics } = closed.map_err(|error| match error {
        Error::Server(error) => CommandError::Running(error),
        error => CommandError::Top(error),
    })?;
    for panic in panics {
        Notice::warning(&panic).report();
    }
    if let ClosedBy::Signal(signal) = by {
        // Ends the process as if the signal had not been caught, so that its parent sees that.
        emulate_default_handler(signal).map_err(|error| CommandError::Top(error.into()))?;
    }
    Ok(Outcome::Done)
}

/// The replay that the options describe.
fn prepared(options: &Options, args: &TopArgs, path: &Path) -> Result<Replay, CommandError> {
    let (contenders, _) = Contender::chosen(options, args.allocator.as_slice())?;
    let Some(Contender { allocator, .. }) = contenders.into_iter().next() else {
        unreachable!("without an allocator there is an error");
    };
    let trace = replay::read(path)?;
    let name = replay::shown(path).file_name().map(Path::new);
    let bytes = args.region.unwrap_or_else(|| trace.usual_region_bytes());
    let region =
        PageRange::from_pages(REGION_START.get() / PAGE_SIZE, Pages::covering(bytes).get());
    Ok(Replay {
        name: name.unwrap_or(path).display().to_string(),
        trace,
        allocator,
        region,
        speed: args.speed,
    })
}
