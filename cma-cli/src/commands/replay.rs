//! `cma replay`: recorded traces on each allocator, with the resulting figures.

use crate::found_plugins::FoundPlugins;
use crate::options::{Options, ReplayArgs};
use crate::outcome::{CommandError, Outcome};
use crate::show::{BOLD, Column, DIM, Out, counted, plain, table, width, wrapped};
use cma_framework::config::Bytes;
use cma_framework::{AllocError, Pages, Plugin};
use cma_trace::{NamedReport, Trace};
use indicatif::{ProgressBar, ProgressStyle};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

pub(crate) fn run(
    options: &Options,
    args: &ReplayArgs,
    out: &mut Out,
) -> Result<Outcome, CommandError> {
    let found = FoundPlugins::at_least_one(options)?;
    let mut outcome = found.report();
    let plugins = chosen(found.plugins, args.allocator.as_deref())?;
    for (n, path) in args.traces.iter().enumerate() {
        let trace = match read(path) {
            Ok(trace) => trace,
            Err(error) => {
                outcome = outcome.max(error.report());
                continue;
            }
        };
        let region =
            args.region.map_or(trace.usual_region_bytes(), |size| Pages::covering(size).bytes());
        let (reports, replayed) = replay(&trace, &path.display().to_string(), &plugins, region);
        outcome = outcome.max(replayed);
        if options.json {
            for report in reports {
                writeln!(out, "{}", serde_json::to_string(&report).map_err(io::Error::from)?)?;
            }
        } else {
            let gap = if n == 0 { "" } else { "\n" };
            writeln!(out, "{gap}{BOLD}{}{BOLD:#}", plain(&path.display().to_string()))?;
            wrapped(trace.source(), width()).iter().try_for_each(|line| writeln!(out, "{line}"))?;
            writeln!(out, "{}", summary(&trace, region))?;
            write(out, 0, &reports)?;
        }
    }
    Ok(outcome)
}

/// The plug-in of that name, or all of them.
fn chosen(plugins: Vec<Plugin>, wanted: Option<&str>) -> Result<Vec<Plugin>, CommandError> {
    let Some(wanted) = wanted else { return Ok(plugins) };
    match plugins.iter().find(|plugin| plugin.name() == wanted) {
        Some(plugin) => Ok(vec![plugin.clone()]),
        None => {
            let known = plugins.iter().map(|plugin| plugin.name().to_string()).collect();
            Err(CommandError::UnknownAllocator { wanted: wanted.to_string(), known })
        }
    }
}

fn read(path: &Path) -> Result<Trace, CommandError> {
    let unreadable = |reason| CommandError::Trace { path: path.to_path_buf(), reason };
    if path.is_dir() {
        return Err(CommandError::TraceFolder { path: path.to_path_buf() });
    }
    let file = File::open(path)
        .map_err(|source| CommandError::NoTrace { path: path.to_path_buf(), source })?;
    Trace::read(file).map_err(unreadable)
}

/// Replays `trace` on each of `plugins` in a region of its own. Errors are reported on standard
/// error.
pub(crate) fn replay(
    trace: &Trace,
    name: &str,
    plugins: &[Plugin],
    region_bytes: u64,
) -> (Vec<NamedReport>, Outcome) {
    let style = ProgressStyle::with_template("{msg:12} {wide_bar} {pos}/{len}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let (mut reports, mut outcome) = (Vec::new(), Outcome::Done);
    for plugin in plugins {
        let bar = ProgressBar::new(trace.figures().operations).with_style(style.clone());
        let bar = bar.with_message(plugin.name());
        let report =
            cma_trace::replay(trace, plugin, "", region_bytes, |done| bar.set_position(done));
        bar.finish_and_clear();
        match report {
            Ok(report) => {
                outcome = outcome.max(Outcome::refused_if(report.failed > 0));
                reports.push(report.named(name, plugin.name()));
            }
            Err(reason) => {
                let error = CommandError::Replay { region_bytes, reason };
                outcome = outcome.max(error.report());
            }
        }
    }
    (reports, outcome)
}

/// The operations, the peak and the region, in a line.
pub(crate) fn summary(trace: &Trace, region_bytes: u64) -> String {
    let peak = trace.peak_live().bytes();
    let figures = trace.figures();
    format!(
        "{}, at most {} and {} live, in a region of {}",
        counted(figures.operations, "operation"),
        counted(figures.peak_live_chunks, "chunk"),
        Bytes(peak),
        Bytes(region_bytes)
    )
}

/// The table, and below it the first failure of each allocator that had one.
pub(crate) fn write(out: &mut Out, indent: usize, reports: &[NamedReport]) -> io::Result<()> {
    use Column::{Left, Right};
    let columns = [
        Left("allocator"),
        Right("failed"),
        Right("largest hole"),
        Right("free"),
        Right("live"),
        Right("peak"),
        Right("ns/op"),
    ];
    let rows = reports.iter().map(|NamedReport { allocator, report, .. }| {
        vec![
            allocator.clone(),
            report.failed.to_string(),
            Bytes(report.largest_hole_bytes).to_string(),
            Bytes(report.free_bytes).to_string(),
            Bytes(report.live_bytes).to_string(),
            Bytes(report.peak_live_bytes).to_string(),
            format!("{:.0}", report.ns_per_op),
        ]
    });
    table(out, indent, &columns, rows)?;
    for NamedReport { allocator, report, .. } in reports {
        if let Some(failure) = &report.first_failure {
            writeln!(
                out,
                "{:indent$}{DIM}{allocator} failed first at {}{DIM:#}",
                "",
                described(failure)
            )?;
        }
    }
    Ok(())
}

/// A failed allocation in a line. There is one region, so its name is left out.
fn described(failure: &cma_trace::FailedRequest) -> String {
    let cma_trace::FailedRequest { operation, requester, size, alignment, error, .. } = failure;
    let reason = match error {
        AllocError::NoRegion(refusals) => {
            refusals.iter().map(|refusal| refusal.reason.to_string()).collect::<Vec<_>>().join("; ")
        }
        error => error.to_string(),
    };
    let size = Bytes(Pages::covering(*size).bytes());
    let aligned =
        if *alignment > 1 { format!(" aligned to {}", Bytes(*alignment)) } else { String::new() };
    format!("operation {operation}, {size}{aligned} for {requester}: {reason}")
}
