//! `cma draw`: pictures of a trace, or of a running server.

use super::replay::read;
use super::running;
use crate::contenders::Contender;
use crate::new_file::NewFile;
use crate::options::{DrawArgs, DrawnAxis, DrawnTheme, Options};
use crate::outcome::{CommandError, Outcome};
use crate::show::{Out, plain};
use cma_analysis::{Allocator, usual_start};
use cma_draw::{Axis, Format, History, Layout, Scene, Size, Style, Theme};
use cma_framework::errors::{InvalidRegion, RegisterError};
use cma_framework::{PageRange, Pages};
use cma_trace::Trace;
use std::io::Write;
use std::path::Path;

pub(crate) fn run(
    options: &Options,
    args: &DrawArgs,
    out: &mut Out,
) -> Result<Outcome, CommandError> {
    let path = &args.output;
    let format = Format::of_path(path)
        .map_err(|reason| CommandError::PictureFormat { path: path.clone(), reason })?;
    let (scene, lines, outcome) = match &args.trace {
        Some(trace) => of_trace(options, args, trace)?,
        None => of_server(args)?,
    };
    NewFile::create(path)
        .and_then(|file| file.write(|mut file| scene.write(format, &mut file)))
        .map_err(|source| CommandError::Picture { path: path.clone(), source })?;
    for line in lines {
        writeln!(out, "{}", plain(&line))?;
    }
    Ok(outcome)
}

/// A picture, and what is said about it.
type Drawn = (Scene, Vec<String>, Outcome);

fn of_trace(options: &Options, args: &DrawArgs, path: &Path) -> Result<Drawn, CommandError> {
    let trace = read(path)?;
    let (mut contenders, outcome) = Contender::chosen(options, &args.allocator)?;
    if args.allocator.is_empty() {
        contenders.truncate(1);
    }
    let style = style(args, contenders.len());
    let histories = contenders
        .iter()
        .map(|it| history(args, &trace, &it.allocator))
        .collect::<Result<Vec<_>, _>>()?;
    let Some(moment) = args.at else {
        let lines = histories.iter().map(cma_draw::summary).collect();
        return Ok((cma_draw::timeline(&histories, &style)?, lines, outcome));
    };
    let mut layouts = Vec::new();
    for history in &histories {
        layouts.push(history.layout_at(history.operation_at(moment)?));
    }
    let title = if trace.source().is_empty() { "a trace" } else { trace.source() };
    let scene = cma_draw::rows(&layouts, title, &style)?;
    Ok((scene, layouts.iter().map(Layout::heading).collect(), outcome))
}

fn history<'t>(
    args: &DrawArgs,
    trace: &'t Trace,
    allocator: &Allocator,
) -> Result<History<'t>, CommandError> {
    let size = args.region.unwrap_or_else(|| trace.usual_region_bytes());
    let pages = Pages::covering(size);
    let no_region =
        |reason: RegisterError| CommandError::Replay { region_bytes: pages.bytes(), reason };
    // Where the trace's limits leave most of it, as `cma size` has it.
    let start = usual_start(trace.limits());
    let range = PageRange::from_bytes(start, pages.bytes())
        .ok_or_else(|| InvalidRegion::PastTheTop { start, size: pages.bytes() })
        .map_err(|reason| no_region(reason.into()))?;
    History::of(trace, allocator, range).map_err(no_region)
}

fn of_server(args: &DrawArgs) -> Result<Drawn, CommandError> {
    let server = running::find(&args.server)?;
    let state = server.state()?;
    let layouts: Vec<_> = state.regions.iter().filter_map(Layout::of_region).collect();
    if layouts.is_empty() {
        return Err(CommandError::NothingToDraw { server: server.to_string() });
    }
    let style = style(args, layouts.len());
    let scene = cma_draw::rows(&layouts, &format!("the server at {server}, now"), &style)?;
    let unread = state.regions.len() - layouts.len();
    let lines = layouts.iter().map(Layout::heading).collect();
    Ok((scene, lines, Outcome::refused_if(unread > 0)))
}

fn style(args: &DrawArgs, panels: usize) -> Style {
    Style {
        size: args.size.unwrap_or_else(|| Size::usual(panels)),
        theme: match args.theme {
            DrawnTheme::Light => Theme::Light,
            DrawnTheme::Dark => Theme::Dark,
        },
        axis: match args.axis {
            None | Some(DrawnAxis::Time) => Axis::Time,
            Some(DrawnAxis::Operations) => Axis::Operations,
        },
    }
}
