//! `cma regions`: the regions with their figures, and the early regions that did not become one.

use crate::found_plugins::FoundPlugins;
use crate::host::Host;
use crate::options::Options;
use crate::outcome::{CommandError, Outcome};
use crate::show::{BAD, Column, Out, table};
use cma_framework::config::Bytes;
use cma_framework::{AllocatorState, EarlyHandle, Region};
use cma_memory::Port;
use serde::Serialize;
use std::io::{self, Write};

/// A region's figures. An early region that got no memory has a size and a problem.
#[derive(Debug, Serialize)]
struct RegionRow {
    name: Option<String>,
    start: Option<String>,
    size_bytes: u64,
    free_bytes: Option<u64>,
    largest_hole_bytes: Option<u64>,
    users: Option<u32>,
    /// The number of requests that wait for it.
    waiters: Option<usize>,
    allocator: Option<String>,
    /// The port of its memory; `None` for an early region that got none.
    memory: Option<&'static str>,
    /// Whether its memory is physically contiguous, as far as known; `None` without memory.
    contiguity: Option<String>,
    /// The reason why it can't serve.
    problem: Option<String>,
    /// The same in a word or two.
    #[serde(skip)]
    problem_in_short: Option<String>,
}

impl From<&Region> for RegionRow {
    fn from(region: &Region) -> Self {
        let status = region.status();
        let (problem_in_short, problem) = match &status.allocator {
            AllocatorState::Attached(_) => (None, None),
            AllocatorState::Waiting { wanted, failure: Some(failure) } => (
                Some(format!("{} refused", wanted.as_deref().unwrap_or("the default"))),
                Some(failure.clone()),
            ),
            AllocatorState::OutOfService { allocator, reason } => (
                Some(format!("{allocator} is out of service")),
                Some(format!("{allocator} is out of service: {reason}")),
            ),
            waits => (Some(waits.to_string()), Some(waits.to_string())),
        };
        // The allocator knows the holes.
        let (allocator, largest_hole_bytes) = match status.allocator {
            AllocatorState::Attached(name) => (name, Some(status.largest_hole_bytes)),
            _ => (None, None),
        };
        let backing = region.backing();
        RegionRow {
            name: region.name().map(String::from),
            start: Some(region.range().start().to_string()),
            size_bytes: region.range().bytes(),
            free_bytes: Some(status.free_bytes),
            largest_hole_bytes,
            users: Some(status.users),
            waiters: Some(status.waiters),
            allocator,
            memory: Some(backing.as_ref().map_or(Port::Simulated.name(), |backing| backing.kind)),
            contiguity: backing.map(|backing| backing.contiguity.to_string()),
            problem,
            problem_in_short,
        }
    }
}

impl From<(EarlyHandle, String)> for RegionRow {
    fn from((early, reason): (EarlyHandle, String)) -> Self {
        RegionRow {
            name: early.description().name.clone(),
            start: early.reserved().map(|range| range.start().to_string()),
            size_bytes: early.description().size,
            free_bytes: None,
            largest_hole_bytes: None,
            users: None,
            waiters: None,
            allocator: None,
            memory: None,
            contiguity: None,
            problem: Some(reason),
            problem_in_short: None,
        }
    }
}

impl RegionRow {
    /// The cells of the table, the last of them only with `with_memory`.
    fn cells(self, with_memory: bool) -> Vec<String> {
        let or_dash = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_string());
        let mut cells = vec![
            or_dash(self.name),
            or_dash(self.start),
            Bytes(self.size_bytes).to_string(),
            or_dash(self.free_bytes.map(|bytes| Bytes(bytes).to_string())),
            or_dash(self.largest_hole_bytes.map(|bytes| Bytes(bytes).to_string())),
            or_dash(self.users.map(|users| users.to_string())),
            or_dash(self.allocator.or(self.problem_in_short)),
        ];
        if with_memory {
            let known = self.contiguity.map(|known| format!(", {known}")).unwrap_or_default();
            cells.push(format!("{}{known}", or_dash(self.memory.map(String::from))));
        }
        cells
    }
}

pub(crate) fn run(options: &Options, out: &mut Out) -> Result<Outcome, CommandError> {
    let host = Host::boot(options)?;
    let left_out = host.report_left_out();
    let outcome = left_out.max(host.register(FoundPlugins::on_path(options)));
    let rows: Vec<RegionRow> = host.cma.regions().iter().map(RegionRow::from).collect();
    let has_problem = rows.is_empty()
        || rows.iter().any(|row| row.problem.is_some())
        || !host.left_out().is_empty();
    if options.json {
        for row in rows.into_iter().chain(host.left_out().into_iter().map(RegionRow::from)) {
            writeln!(out, "{}", serde_json::to_string(&row).map_err(io::Error::from)?)?;
        }
    } else {
        write(&host, 0, out)?;
    }
    Ok(outcome.max(Outcome::refused_if(has_problem)))
}

/// The table, and below it the early regions that did not become regions.
pub(crate) fn write(host: &Host, indent: usize, out: &mut Out) -> io::Result<()> {
    use Column::{Left, Right};
    let mut columns = vec![
        Left("region"),
        Left("start"),
        Right("size"),
        Right("free"),
        Right("largest hole"),
        Right("users"),
        Left("allocator"),
    ];
    let regions = host.cma.regions();
    let with_memory = regions.iter().any(|region| region.backing().is_some());
    if with_memory {
        columns.push(Left("memory"));
    }
    if regions.is_empty() && host.left_out().is_empty() {
        writeln!(out, "{:indent$}there is no region", "")?;
    }
    table(
        out,
        indent,
        &columns,
        regions.iter().map(|region| RegionRow::from(region).cells(with_memory)),
    )?;
    for (early, reason) in host.left_out() {
        let name = early.description().name.as_deref().unwrap_or("-");
        writeln!(out, "{:indent$}{BAD}{name}: no region: {reason}{BAD:#}", "")?;
    }
    Ok(())
}
