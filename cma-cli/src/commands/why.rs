//! `cma why`: why a request of a trace fails, or why a server refused its last ones.

use super::replay::{System, chosen, one_region, read, shown};
use super::running;
use crate::found_plugins::FoundPlugins;
use crate::options::{Options, WhyArgs};
use crate::outcome::{CommandError, Outcome};
use crate::show::{BOLD, Out, plain};
use cma_framework::{Pages, Plugin};
use cma_trace::{Action, FailedReplay, Trace, replay_to_failure, replay_to_failure_on};
use serde::Serialize;
use std::io::{self, Write};
use std::path::Path;

pub(crate) fn run(
    options: &Options,
    args: &WhyArgs,
    out: &mut Out,
) -> Result<Outcome, CommandError> {
    match &args.trace {
        Some(path) => explain_trace(options, args, path, out),
        None => explain_server(options, args, out),
    }
}

/// The last refusals of a running server, as it explains them.
fn explain_server(
    options: &Options,
    args: &WhyArgs,
    out: &mut Out,
) -> Result<Outcome, CommandError> {
    let server = running::find(&args.server)?;
    if options.json {
        out.write_all(server.read("why.json")?.as_bytes())?;
        return Ok(Outcome::Done);
    }
    let text = server.read("why")?;
    if text.is_empty() {
        writeln!(out, "no region has refused a request")?;
    }
    write_plain(out, &text)?;
    Ok(Outcome::Done)
}

/// A failed request of a trace: a line of JSON.
#[derive(Serialize)]
struct FailedRow {
    trace: String,
    /// The default allocator of the replay.
    allocator: String,
    operation: u64,
    time_us: u64,
    explanation: serde_json::Value,
}

/// A request of the trace at `path` that fails when the trace is replayed.
fn explain_trace(
    options: &Options,
    args: &WhyArgs,
    path: &Path,
    out: &mut Out,
) -> Result<Outcome, CommandError> {
    let found = FoundPlugins::at_least_one(options)?;
    let mut outcome = found.report();
    let all = found.plugins.clone();
    let plugins = chosen(found.plugins, args.allocator.as_deref())?;
    let Some(plugin) = plugins.first() else { return Ok(outcome) };
    let trace = read(path)?;
    check_operation(&trace, args.op)?;
    let (failed, setting) = match options.of_a_system() {
        Some(option) if args.region.is_some() => {
            return Err(CommandError::RegionOfSystem { option });
        }
        Some(_) => {
            let (system, reported) = System::boot(options, &all)?;
            outcome = outcome.max(reported);
            let host = system.boot_again(plugin)?;
            let failed = replay_to_failure_on(&host.cma, &trace, args.op);
            let setting = if system.takes_default {
                format!("with {} as the default allocator {}", plugin.name(), system.place)
            } else {
                system.place
            };
            (failed, setting)
        }
        None => {
            let usual = trace.usual_region_bytes();
            let region = args.region.map_or(usual, |size| Pages::covering(size).bytes());
            let failed = replay_to_failure(&trace, plugin, "", region, args.op)
                .map_err(|reason| CommandError::Replay { region_bytes: region, reason })?;
            (failed, format!("with {} {}", plugin.name(), one_region(region)))
        }
    };
    match failed {
        Some(failed) if options.json => write_json(out, &failed, path, plugin)?,
        Some(failed) => write_text(out, &failed, &setting)?,
        None if options.json => {}
        None => {
            let refused = recorded_refusals(&trace, args.op);
            let what = match args.op {
                Some(operation) => format!("operation {operation} is served"),
                None => "every request is served".to_string(),
            };
            writeln!(out, "{what}, {setting}")?;
            match (refused, args.op) {
                (0, _) => {}
                (_, Some(_)) => writeln!(out, "it was refused when the trace was recorded")?,
                (refused, None) => {
                    writeln!(out, "refused when the trace was recorded: {refused}")?;
                }
            }
            if args.region.is_none() && options.of_a_system().is_none() {
                writeln!(
                    out,
                    "the region has twice the peak of live memory; --region sets its size"
                )?;
            }
        }
    }
    Ok(outcome)
}

/// The requests that were refused when `trace` was recorded, of all or of operation `number`.
fn recorded_refusals(trace: &Trace, number: Option<u64>) -> usize {
    let numbered = (1..).zip(trace.operations());
    let asked = numbered.filter(|(n, _)| number.is_none_or(|number| number == *n));
    asked.filter(|(_, operation)| matches!(operation.action, Action::Refused { .. })).count()
}

/// Whether the operation that is asked about is a request.
fn check_operation(trace: &Trace, number: Option<u64>) -> Result<(), CommandError> {
    let Some(number) = number else { return Ok(()) };
    let operations = trace.operations();
    let index = number.checked_sub(1).and_then(|index| usize::try_from(index).ok());
    match index.and_then(|index| operations.get(index)) {
        None => Err(CommandError::NoOperation { number, operations: operations.len() }),
        Some(operation) => match operation.action {
            Action::Free { .. } => Err(CommandError::NoRequest { number }),
            Action::Allocate { .. } | Action::Refused { .. } => Ok(()),
        },
    }
}

fn write_text(out: &mut Out, failed: &FailedReplay, setting: &str) -> io::Result<()> {
    let (operation, micros) = (failed.failure.operation, failed.failure.time_us);
    let (seconds, millis) = (micros / 1_000_000, micros / 1000 % 1000);
    writeln!(
        out,
        "{BOLD}operation {operation}{BOLD:#} at {seconds}.{millis:03} s fails, {setting}",
    )?;
    write_plain(out, &failed.explain().to_string())
}

fn write_json(
    out: &mut Out,
    failed: &FailedReplay,
    path: &Path,
    plugin: &Plugin,
) -> io::Result<()> {
    let row = FailedRow {
        trace: shown(path).display().to_string(),
        allocator: plugin.name().to_string(),
        operation: failed.failure.operation,
        time_us: failed.failure.time_us,
        explanation: serde_json::from_str(&failed.explain().to_json())?,
    };
    writeln!(out, "{}", serde_json::to_string(&row)?)
}

/// `text` without commands to a terminal.
pub(super) fn write_plain(out: &mut impl Write, text: &str) -> io::Result<()> {
    text.lines().try_for_each(|line| writeln!(out, "{}", plain(line)))
}
