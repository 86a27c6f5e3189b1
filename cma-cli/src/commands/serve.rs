//! `cma serve`: a system that runs until it is told to end, and the doors through which others see
//! and change it.

mod arriving;
mod device;
mod doors;
mod ending;

use crate::failure::{Failure, Outcome};
use crate::host::{Found, Host};
use crate::log;
use crate::notice::Notice;
use crate::options::{Options, Serve};
use crate::show::{BOLD, Out, counted, plain};
use cma_framework::keep_time;
use cma_memory::Port;
use doors::Doors;
use ending::Ending;
use std::env;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// How often the server looks whether its mount and its socket are still there.
const LOOK: Duration = Duration::from_millis(500);

pub(crate) fn run(options: &Options, how: &Serve, out: &mut Out) -> Result<Outcome, Failure> {
    if how.mount.is_none() && how.socket.is_none() {
        return Err(Failure::NoDoor);
    }
    let filter = log_filter(how)?;
    log::serve().map_err(Failure::Serve)?;
    // Before there is anything that has to be put in order at the end.
    let ending = Ending::prepare().map_err(Failure::Serve)?;
    let _time = keep_time().map_err(Failure::Serve)?;
    // Before anything is looked for, so that nothing arrives unseen in between.
    let (folders, arrivals) = arriving::watch(options).map_err(Failure::Serve)?;
    let port = if how.socket.is_some() { Port::Memfd } else { Port::Simulated };
    let host = Host::boot_on(options, port)?;
    let left_out = host.report_left_out();
    if host.cma.regions().is_empty() {
        return Err(Failure::NoRegion);
    }
    // From here on: what kept a region from its memory is said already. The writer can't fail, and
    // must not: where one does, tracing-subscriber calls `eprintln!`, which panics in its turn.
    let log = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    log.with_writer(|| log::Line).init();
    let outcome = left_out.max(host.register(Found::so_far(options)));
    let mut doors = Doors::open(&host.cma, how, &ending)?;
    let (regions, allocators) = (host.cma.regions().len(), host.cma.allocators().len());
    let (regions, allocators) = (counted(regions, "region"), counted(allocators, "allocator"));
    let head = format!("{BOLD}{}{BOLD:#}: {regions}, {allocators}", host.board.name);
    // Whoever waits for standard output finds what went wrong before it on standard error.
    log::finish();
    match tell(&head, &doors, &folders, out) {
        // A server outlives whoever started it and reads no further.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        told => told?,
    }
    arriving::take_in(host.cma.clone(), arrivals).map_err(Failure::Serve)?;
    while !ending.is_told_within(LOOK) {
        doors.report_gone();
        if !doors.are_open() {
            Notice::warning("nobody can reach this server any more, so it ends").report();
            break;
        }
    }
    doors.close().map_err(Failure::Serve)?;
    Ok(outcome)
}

/// Says on standard output that it serves, and where.
fn tell(head: &str, doors: &Doors, folders: &[PathBuf], out: &mut Out) -> io::Result<()> {
    writeln!(out, "{head}")?;
    doors.tell(out)?;
    for folder in folders {
        writeln!(out, "plug-ins may arrive in {}", plain(&folder.display().to_string()))?;
    }
    out.flush()
}

/// What the framework reports goes to standard error.
fn log_filter(how: &Serve) -> Result<EnvFilter, Failure> {
    let variable = || env::var(EnvFilter::DEFAULT_ENV).ok().filter(|filter| !filter.is_empty());
    let filter = how.log.clone().or_else(variable).unwrap_or_else(|| "info".to_string());
    // A word alone would be taken for a module, and a misspelt level would silence the rest.
    let is_misspelt = |word: &&str| !word.contains('=') && word.parse::<LevelFilter>().is_err();
    if let Some(word) = filter.split(',').map(str::trim).find(is_misspelt) {
        return Err(Failure::LogLevel { word: word.to_string() });
    }
    EnvFilter::try_new(filter).map_err(Failure::Log)
}
