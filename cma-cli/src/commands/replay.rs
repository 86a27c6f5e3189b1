//! `cma replay`: recorded traces on each allocator, with the resulting figures.

use crate::found_plugins::FoundPlugins;
use crate::host::Host;
use crate::options::{Options, ReplayArgs};
use crate::outcome::{CommandError, Outcome};
use crate::show::{BOLD, Column, DIM, Out, counted, plain, table, width, wrapped};
use cma_board::Board;
use cma_framework::config::Bytes;
use cma_framework::errors::{Limit, Reason};
use cma_framework::{AllocError, AllocatorState, Pages, Plugin, Region};
use cma_trace::{NamedReport, Report, Trace};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::iter;
use std::path::Path;

pub(crate) fn run(
    options: &Options,
    args: &ReplayArgs,
    out: &mut Out,
) -> Result<Outcome, CommandError> {
    let found = FoundPlugins::at_least_one(options)?;
    let mut outcome = found.report();
    let all = found.plugins.clone();
    let mut plugins = chosen(found.plugins, args.allocator.as_deref())?;
    let system = match options.of_a_system() {
        None => None,
        Some(option) if args.region.is_some() => {
            return Err(CommandError::RegionOfSystem { option });
        }
        Some(_) => {
            let (system, reported) = System::boot(options, &all)?;
            outcome = outcome.max(reported);
            if !system.takes_default {
                plugins.truncate(1);
            }
            Some(system)
        }
    };
    let mut gap = "";
    for path in &args.traces {
        let trace = match read(path) {
            Ok(trace) => trace,
            Err(error) => {
                outcome = outcome.max(error.report());
                continue;
            }
        };
        let name = path.display().to_string();
        let (reports, replayed, place) = match &system {
            Some(system) => {
                let (reports, replayed) = on_each(&trace, &name, &plugins, |plugin, progress| {
                    system.replay(&trace, plugin, progress)
                });
                (reports, replayed, system.place.clone())
            }
            None => {
                let usual = trace.usual_region_bytes();
                let region = args.region.map_or(usual, |size| Pages::covering(size).bytes());
                let (reports, replayed) = replay(&trace, &name, &plugins, region);
                (reports, replayed, one_region(region))
            }
        };
        outcome = outcome.max(replayed);
        if options.json {
            for report in reports {
                writeln!(out, "{}", serde_json::to_string(&report).map_err(io::Error::from)?)?;
            }
        } else {
            writeln!(out, "{gap}{BOLD}{}{BOLD:#}", plain(&shown(path).display().to_string()))?;
            wrapped(trace.source(), width()).iter().try_for_each(|line| writeln!(out, "{line}"))?;
            writeln!(out, "{}", summary(&trace, &place))?;
            write(out, 0, &reports)?;
            gap = "\n";
        }
    }
    Ok(outcome)
}

/// The system that the options describe, which is booted anew for each replay.
pub(crate) struct System<'a> {
    board: Board,
    plugins: &'a [Plugin],
    /// Whether a region takes the default allocator, so that the allocators differ.
    pub(crate) takes_default: bool,
    /// Its regions, in words.
    pub(crate) place: String,
}

impl<'a> System<'a> {
    /// Boots it once, and reports on standard error what is wrong with it.
    pub(crate) fn boot(
        options: &Options,
        plugins: &'a [Plugin],
    ) -> Result<(Self, Outcome), CommandError> {
        let host = Host::boot(options)?;
        let mut outcome = host.report_left_out();
        let regions = host.cma.regions();
        if regions.is_empty() {
            return Err(CommandError::NoRegion);
        }
        let takes_default = regions.iter().any(|region| {
            matches!(region.status().allocator, AllocatorState::Waiting { wanted: None, .. })
        });
        for plugin in plugins {
            outcome = outcome.max(host.register_one(plugin.clone()));
        }
        let bytes: u64 = regions.iter().map(|region| region.range().bytes()).sum();
        let place = match regions.len() {
            1 => one_region(bytes),
            n => format!("in {n} regions of {} together", Bytes(bytes)),
        };
        Ok((System { board: host.board, plugins, takes_default, place }, outcome))
    }

    /// Boots it anew with `default` as the default allocator.
    pub(crate) fn boot_again(&self, default: &Plugin) -> Result<Host, CommandError> {
        let others = self.plugins.iter().filter(|plugin| plugin.name() != default.name());
        Host::boot_again(&self.board, iter::once(default).chain(others))
    }

    /// Replays `trace` with `default` as the default allocator. The report names that, or all
    /// allocators if no region takes the default.
    fn replay(
        &self,
        trace: &Trace,
        default: &Plugin,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(String, Report), CommandError> {
        let host = self.boot_again(default)?;
        let report = cma_trace::replay_on(&host.cma, trace, progress);
        let name = if self.takes_default {
            default.name().to_string()
        } else {
            attached(&host.cma.regions())
        };
        Ok((name, report))
    }
}

/// The names of the allocators of `regions`, each once; `-` for none.
fn attached(regions: &[Region]) -> String {
    let names: BTreeSet<String> = regions
        .iter()
        .filter_map(|region| match region.status().allocator {
            AllocatorState::Attached(name) => name,
            _ => None,
        })
        .collect();
    if names.is_empty() { "-".to_string() } else { Vec::from_iter(names).join(",") }
}

/// A single region, in words.
pub(crate) fn one_region(bytes: u64) -> String {
    format!("in a region of {}", Bytes(bytes))
}

/// The plug-in of that name, or all of them.
pub(crate) fn chosen(
    plugins: Vec<Plugin>,
    wanted: Option<&str>,
) -> Result<Vec<Plugin>, CommandError> {
    let Some(wanted) = wanted else { return Ok(plugins) };
    match plugins.iter().find(|plugin| plugin.name() == wanted) {
        Some(plugin) => Ok(vec![plugin.clone()]),
        None => {
            let known = plugins.iter().map(|plugin| plugin.name().to_string()).collect();
            Err(CommandError::UnknownAllocator { wanted: wanted.to_string(), known })
        }
    }
}

/// The path of standard input in place of a file's.
const STANDARD_INPUT: &str = "-";

/// `path` as it is shown.
pub(super) fn shown(path: &Path) -> &Path {
    if path == Path::new(STANDARD_INPUT) { Path::new("standard input") } else { path }
}

/// The trace at `path`, or on standard input.
pub(super) fn read(path: &Path) -> Result<Trace, CommandError> {
    let unreadable = |reason| CommandError::Trace { path: shown(path).to_path_buf(), reason };
    if path == Path::new(STANDARD_INPUT) {
        return Trace::read(io::stdin().lock()).map_err(unreadable);
    }
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
    on_each(trace, name, plugins, |plugin, progress| {
        let report = cma_trace::replay(trace, plugin, "", region_bytes, progress)
            .map_err(|reason| CommandError::Replay { region_bytes, reason })?;
        Ok((plugin.name().to_string(), report))
    })
}

/// Runs `replay` with each of `plugins`, with its progress on the terminal. It returns the name of
/// the allocator and its report.
fn on_each(
    trace: &Trace,
    name: &str,
    plugins: &[Plugin],
    replay: impl Fn(&Plugin, &mut dyn FnMut(u64)) -> Result<(String, Report), CommandError>,
) -> (Vec<NamedReport>, Outcome) {
    let style = ProgressStyle::with_template("{msg:12} {wide_bar} {pos}/{len}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let (mut reports, mut outcome) = (Vec::new(), Outcome::Done);
    for plugin in plugins {
        let bar = ProgressBar::new(trace.figures().operations).with_style(style.clone());
        let bar = bar.with_message(plugin.name());
        let replayed = replay(plugin, &mut |done| bar.set_position(done));
        bar.finish_and_clear();
        match replayed {
            Ok((allocator, report)) => {
                outcome = outcome.max(Outcome::refused_if(report.failed > 0));
                reports.push(report.named(name, allocator));
            }
            Err(error) => outcome = outcome.max(error.report()),
        }
    }
    (reports, outcome)
}

/// The operations and the peak, and `place`, where they were replayed, in a line.
pub(crate) fn summary(trace: &Trace, place: &str) -> String {
    let peak = trace.peak_live().bytes();
    let figures = trace.figures();
    let refused = match trace.refused() {
        0 => String::new(),
        refused => format!(" ({} refused when recorded)", counted(refused, "request")),
    };
    format!(
        "{}{refused}, at most {} and {} live, {place}",
        counted(figures.operations, "operation"),
        counted(figures.peak_live_chunks, "chunk"),
        Bytes(peak)
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
    let failures = reports.iter().filter_map(|named| named.report.first_failure.as_ref());
    if failures.into_iter().any(needs_a_system) {
        let help = format!(
            "These limits need the addresses of a system, and a replay without one has its region at \
             {}: give the regions of the recording, as in --cma 'r=64M@0x40000000', and its memory \
             by --banks or --platform.",
            cma_trace::REGION_START
        );
        for line in wrapped(&help, width().saturating_sub(indent)) {
            writeln!(out, "{:indent$}{DIM}{line}{DIM:#}", "")?;
        }
    }
    Ok(())
}

/// Whether the limits of a request leave no place in the region of a replay without a system.
fn needs_a_system(failure: &cma_trace::FailedRequest) -> bool {
    let outside = |reason: &Reason| {
        matches!(reason, Reason::NoPlace { limit: Limit::Window(_), .. } | Reason::Elsewhere { .. })
    };
    match &failure.error {
        AllocError::NoRegion(refusals) => refusals
            .iter()
            .any(|refusal| refusal.region == cma_trace::REGION && outside(&refusal.reason)),
        _ => false,
    }
}

/// A failed allocation in a line. The region of a replay without a system has no name that a user
/// gave, so it is left out.
fn described(failure: &cma_trace::FailedRequest) -> String {
    let cma_trace::FailedRequest { operation, requester, size, alignment, limits, error, .. } =
        failure;
    let reason = match error {
        AllocError::NoRegion(refusals) => match refusals.iter().as_slice() {
            [only] if only.region == cma_trace::REGION => only.reason.to_string(),
            _ => refusals.to_string(),
        },
        error => error.to_string(),
    };
    let size = Bytes(Pages::covering(*size).bytes());
    let aligned =
        if *alignment > 1 { format!(" aligned to {}", Bytes(*alignment)) } else { String::new() };
    format!("operation {operation}, {size}{aligned} for {requester}{limits}: {reason}")
}
