//! `cma size`: the smallest region in which each allocator serves recorded traces.

mod board;
mod learn;

use super::export;
use super::replay::{read, shown};
use crate::contenders::Contender;
use crate::described::{GIVE_BANKS, config_error};
use crate::notice::Notice;
use crate::options::{Form, Options, SizeArgs};
use crate::outcome::{CommandError, Outcome};
use crate::show::{BOLD, Column, DIM, Out, counted, plain, table, width, wrapped};
use cma_analysis::{
    Demand, Group, Grouping, Layout, Moment, NoDemand, Smallest, Unserved, serves, smallest_region,
};
use cma_framework::config::{Bytes, Map};
use cma_framework::{DmaAddr, PAGE_SIZE, Pages};
use cma_trace::Trace;
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use serde::Serialize;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) fn run(
    options: &Options,
    args: &SizeArgs,
    out: &mut Out,
) -> Result<Outcome, CommandError> {
    if let Some(path) = &args.learn {
        return learn::run(options, args, path, out);
    }
    let grouping = match &options.map {
        Some(_) if args.per_device => return Err(CommandError::TwoGroupings),
        Some(map) => Grouping::Map(Map::parse(map).map_err(|error| config_error("--map", error))?),
        None if args.per_device => Grouping::PerDevice,
        None => Grouping::Shared,
    };
    let (contenders, mut outcome) = Contender::chosen(options, &args.allocator)?;
    let mut traces = Vec::new();
    for path in &args.traces {
        match read(path) {
            Ok(trace) => traces.push((shown(path).display().to_string(), trace)),
            Err(error) => outcome = outcome.max(error.report()),
        }
    }
    let mut groups = Vec::new();
    for (name, trace) in &traces {
        match divided(name, trace, &grouping) {
            Ok(divided) => groups.extend(divided),
            Err(error) => outcome = outcome.max(error.report()),
        }
    }
    let mut demands = Vec::new();
    for part in &groups {
        match part.demand(args.at) {
            Ok(demand) => demands.push((part, demand)),
            Err(error) => outcome = outcome.max(error.report()),
        }
    }
    if let Some(at) = args.at
        && let Some(two) = demands.iter().find(|(part, _)| part.group.name != groups[0].group.name)
    {
        let region = two.0.group.name.clone().unwrap_or_default();
        return Err(CommandError::SeveralRegionsAt { at, region });
    }
    let sized = search(demands, &contenders);
    for part in &sized {
        let failed = part.regions.iter().any(Result::is_err);
        outcome = outcome.max(Outcome::refused_if(failed));
        outcome = outcome.max(part.warn_of_margin(&contenders, args.margin));
    }
    if let Some(form) = args.form {
        if sized.is_empty() {
            return Ok(outcome);
        }
        let (board, reported) = board::of(&sized, &contenders, &grouping, args)?;
        if form == Form::Toml {
            let help = format!("state them in the file, or {GIVE_BANKS} with it");
            Notice::warning("the board has no memory banks").with_help(Some(help)).report();
        }
        return Ok(outcome.max(reported).max(export::print(&board, form, out)?));
    }
    if options.json {
        for row in sized.iter().flat_map(|part| part.rows(&contenders, args.margin)) {
            writeln!(out, "{}", serde_json::to_string(&row).map_err(io::Error::from)?)?;
        }
        return Ok(outcome);
    }
    let mut gap = "";
    for (name, trace) in &traces {
        // The same trace may be named twice.
        let parts: Vec<_> =
            sized.iter().filter(|part| std::ptr::eq(part.trace, name.as_str())).collect();
        if !parts.is_empty() {
            write!(out, "{gap}")?;
            write_trace(name, trace, &parts, &contenders, args.margin, out)?;
            gap = "\n";
        }
    }
    Ok(outcome)
}

/// A part of a trace, for a region of its own.
struct Part<'t> {
    /// The name of the trace.
    trace: &'t str,
    group: Group<'t>,
}

/// The parts of a trace.
fn divided<'t>(
    name: &'t str,
    trace: &'t Trace,
    grouping: &Grouping,
) -> Result<Vec<Part<'t>>, CommandError> {
    match grouping.split(trace) {
        Ok(groups) => Ok(groups.into_iter().map(|group| Part { trace: name, group }).collect()),
        Err(unmatched) => Err(CommandError::NoRuleFor { trace: name.to_string(), unmatched }),
    }
}

impl Part<'_> {
    fn demand(&self, at: Option<DmaAddr>) -> Result<Demand<'_>, CommandError> {
        Demand::of(&self.group.trace, at).map_err(|reason| no_demand(self.trace, reason))
    }
}

/// A trace that can't be sized.
pub(super) fn no_demand(trace: &str, reason: NoDemand) -> CommandError {
    CommandError::NoDemand { trace: trace.to_string(), reason }
}

/// The sizes for a part of a trace.
struct Sized<'t> {
    trace: &'t str,
    /// The region's or the device's name.
    group: Option<&'t str>,
    demand: Demand<'t>,
    layout: Option<Layout>,
    /// In the order of the allocators.
    regions: Vec<Result<Smallest, Unserved>>,
}

/// Finds the sizes, on all cores, with the progress on the terminal.
fn search<'t>(
    demands: Vec<(&'t Part<'t>, Demand<'t>)>,
    contenders: &[Contender],
) -> Vec<Sized<'t>> {
    let style = ProgressStyle::with_template("{msg:24} {wide_bar} {pos}/{len}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new((demands.len() * (contenders.len() + 1)) as u64).with_style(style);
    let tried = AtomicU64::new(0);
    let on_tried = || {
        let tried = tried.fetch_add(1, Ordering::Relaxed) + 1;
        bar.set_message(format!("{} tried", counted(tried, "size")));
    };
    let size = |(part, demand): (&'t Part<'t>, Demand<'t>)| {
        let (layout, regions) = rayon::join(
            || {
                let layout = demand.offline();
                bar.inc(1);
                layout
            },
            || {
                let found = contenders.par_iter().map(|contender| {
                    let found = smallest_region(&demand, &contender.allocator, &on_tried);
                    bar.inc(1);
                    found
                });
                found.collect()
            },
        );
        let group = part.group.name.as_deref();
        Sized { trace: part.trace, group, demand, layout, regions }
    };
    let sized = demands.into_par_iter().map(size).collect();
    bar.finish_and_clear();
    sized
}

/// `pages` and `percent` more, in whole pages.
fn with_margin(pages: Pages, percent: u32) -> Pages {
    let more = (u128::from(pages.get()) * u128::from(percent)).div_ceil(100);
    Pages::new(pages.get().saturating_add(u64::try_from(more).unwrap_or(u64::MAX)))
}

/// `pages` as a multiple of the peak.
fn overhead(pages: Pages, demand: &Demand<'_>) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a ratio for display")]
    let ratio = pages.get() as f64 / demand.peak().pages.get() as f64;
    ratio
}

impl Sized<'_> {
    /// Warns of an allocator that fails in its smallest region with the margin: a margin is no
    /// size that the search has tried.
    fn warn_of_margin(&self, contenders: &[Contender], margin: u32) -> Outcome {
        if margin == 0 {
            return Outcome::Done;
        }
        let found = contenders.iter().zip(&self.regions);
        let found = found.filter_map(|(contender, found)| Some((contender, found.as_ref().ok()?)));
        let failed: Vec<_> = found
            .par_bridge()
            .filter_map(|(contender, found)| {
                let pages = with_margin(found.region.pages(), margin);
                let reason = serves(&self.demand, &contender.allocator, pages).err()?;
                Some(format!(
                    "{}: {} does not serve it in {}, its smallest region with the margin: {reason}",
                    self.title(),
                    contender.name,
                    Bytes(pages.bytes())
                ))
            })
            .collect();
        for message in &failed {
            let help = "give another --margin: a larger region can fail where a smaller one serves";
            Notice::warning(message).with_help(Some(help.to_string())).report();
        }
        Outcome::refused_if(!failed.is_empty())
    }

    /// The trace and the group, for messages.
    fn title(&self) -> String {
        match self.group {
            Some(group) => format!("{}, {group}", self.trace),
            None => self.trace.to_string(),
        }
    }

    fn rows<'a>(
        &'a self,
        contenders: &'a [Contender],
        margin: u32,
    ) -> impl Iterator<Item = SizeRow<'a>> {
        contenders.iter().zip(&self.regions).map(move |(contender, found)| {
            let region = found.as_ref().ok().map(|found| found.region.pages());
            SizeRow {
                trace: self.trace,
                group: self.group,
                allocator: &contender.name,
                peak_live_bytes: self.demand.peak().pages.bytes(),
                offline_bytes: self.layout.as_ref().map(|layout| layout.pages.bytes()),
                region_bytes: region.map(Pages::bytes),
                overhead: region.map(|pages| (overhead(pages, &self.demand) * 1e4).round() / 1e4),
                with_margin_bytes: region.map(|pages| with_margin(pages, margin).bytes()),
                region_start: self.demand.start().get(),
                resolution_bytes: PAGE_SIZE,
                sizes_tried: found.as_ref().ok().map(|found| found.tried),
                largest_tried_bytes: match found {
                    Ok(found) => found.largest.bytes(),
                    Err(unserved) => unserved.largest.bytes(),
                },
                peak_operation: self.demand.peak().operation as u64 + 1,
                peak_time_us: self.demand.peak().time_us,
                offline_order: self.layout.as_ref().map(|layout| layout.order.to_string()),
                offline_operation: self.layout.as_ref().map(|l| l.moment.operation as u64 + 1),
                error: found.as_ref().err().map(ToString::to_string),
            }
        })
    }
}

/// One line of JSON.
#[derive(Serialize)]
struct SizeRow<'a> {
    trace: &'a str,
    group: Option<&'a str>,
    allocator: &'a str,
    peak_live_bytes: u64,
    offline_bytes: Option<u64>,
    region_bytes: Option<u64>,
    /// `region_bytes` divided by `peak_live_bytes`, to four decimals.
    overhead: Option<f64>,
    with_margin_bytes: Option<u64>,
    region_start: u64,
    resolution_bytes: u64,
    sizes_tried: Option<u64>,
    largest_tried_bytes: u64,
    /// Counted from 1.
    peak_operation: u64,
    peak_time_us: u64,
    offline_order: Option<String>,
    /// Counted from 1.
    offline_operation: Option<u64>,
    error: Option<String>,
}

fn write_trace(
    name: &str,
    trace: &Trace,
    parts: &[&Sized<'_>],
    contenders: &[Contender],
    margin: u32,
    out: &mut Out,
) -> io::Result<()> {
    writeln!(out, "{BOLD}{}{BOLD:#}", plain(name))?;
    wrapped(&plain(trace.source()), width()).iter().try_for_each(|line| writeln!(out, "{line}"))?;
    writeln!(out, "{}", counted(trace.figures().operations, "operation"))?;
    for part in parts {
        let requesters = part.demand.trace().requesters();
        let title = part.group.map(|group| format!("{}: ", plain(group))).unwrap_or_default();
        let peak = part.demand.peak();
        let peak_text = format!(
            "{title}peak {} in {} {}: {}",
            Bytes(peak.pages.bytes()),
            counted(peak.chunks, "chunk"),
            moment(peak),
            owners(peak, requesters)
        );
        let offline = match &part.layout {
            Some(layout) => format!(
                "{title}offline {}, {:.3} of the peak, by {}; decided {}, with {} live",
                Bytes(layout.pages.bytes()),
                overhead(layout.pages, &part.demand),
                layout.order,
                moment(&layout.moment),
                Bytes(layout.moment.pages.bytes()),
            ),
            None => format!(
                "{title}no offline layout: too many chunks, or limits that leave one no place"
            ),
        };
        for text in [peak_text, offline] {
            wrapped(&text, width()).iter().try_for_each(|line| writeln!(out, "{line}"))?;
        }
        let start = part.demand.start();
        if start != cma_trace::REGION_START {
            writeln!(out, "{title}its region starts at {start}")?;
        }
    }
    write_table(parts, contenders, margin, out)?;
    let note = format!(
        "region: the smallest size from which every larger size that was tried serves the trace; \
         exact to {}",
        Bytes(PAGE_SIZE)
    );
    for line in wrapped(&note, width()) {
        writeln!(out, "{DIM}{line}{DIM:#}")?;
    }
    Ok(())
}

fn write_table(
    parts: &[&Sized<'_>],
    contenders: &[Contender],
    margin: u32,
    out: &mut Out,
) -> io::Result<()> {
    use Column::{Left, Right};
    let grouped = parts.iter().any(|part| part.group.is_some());
    let mut columns = vec![Left("allocator"), Right("region"), Right("of the peak")];
    if grouped {
        columns.insert(0, Left("group"));
    }
    if margin > 0 {
        columns.push(Right("with margin"));
    }
    let mut failed = Vec::new();
    let mut rows = Vec::new();
    for part in parts {
        for (contender, found) in contenders.iter().zip(&part.regions) {
            let mut row = Vec::new();
            if grouped {
                row.push(plain(part.group.unwrap_or_default()));
            }
            row.push(contender.name.clone());
            match found {
                Ok(found) => {
                    let pages = found.region.pages();
                    row.push(Bytes(pages.bytes()).to_string());
                    row.push(format!("{:.3}", overhead(pages, &part.demand)));
                    row.push(Bytes(with_margin(pages, margin).bytes()).to_string());
                }
                Err(unserved) => {
                    row.extend(["-", "-", "-"].map(String::from));
                    let group = part.group.map(|group| format!("{group}, ")).unwrap_or_default();
                    failed.push(format!("{group}{}: {unserved}", contender.name));
                }
            }
            row.truncate(columns.len());
            rows.push(row);
        }
    }
    table(out, 0, &columns, rows)?;
    failed.iter().try_for_each(|line| writeln!(out, "{DIM}{}{DIM:#}", plain(line)))
}

/// A moment of a trace, in words.
fn moment(moment: &Moment) -> String {
    #[allow(clippy::cast_precision_loss, reason = "a time for display")]
    let seconds = moment.time_us as f64 / 1e6;
    format!("after operation {} ({seconds:.3} s)", moment.operation + 1)
}

/// The requesters that have most of the memory, in words.
fn owners(moment: &Moment, requesters: &[cma_trace::Requester]) -> String {
    const SHOWN: usize = 4;
    let shown = moment.holdings.iter().take(SHOWN).map(|holding| {
        let requester = &requesters[usize::from(holding.requester)];
        format!("{} {}", plain(&requester.to_string()), Bytes(holding.pages.bytes()))
    });
    let mut shown: Vec<_> = shown.collect();
    if let Some(others @ 1..) = moment.holdings.len().checked_sub(SHOWN) {
        shown.push(counted(others as u64, "other"));
    }
    shown.join(", ")
}
