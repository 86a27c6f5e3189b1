//! `cma serve`: a system that runs until a signal ends it, and its front ends: the mounted
//! attributes and the socket for chunks.

mod front_ends;
mod plugin_arrivals;
mod recording;
mod shutdown;
mod socket;

use crate::found_plugins::FoundPlugins;
use crate::host::Host;
use crate::log;
use crate::notice::Notice;
use crate::options::{Options, ServeArgs};
use crate::outcome::{CommandError, Outcome};
use crate::show::{BOLD, Out, counted, plain};
use cma_framework::keep_time;
use cma_memory::Port;
use front_ends::FrontEnds;
use recording::ServerRecording;
use shutdown::ShutdownMonitor;
use std::env;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// The interval at which the server checks that its mount and its socket still exist.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

pub(crate) fn run(
    options: &Options,
    args: &ServeArgs,
    out: &mut Out,
) -> Result<Outcome, CommandError> {
    if args.mount.is_none() && args.socket.is_none() {
        return Err(CommandError::NoFrontEnd);
    }
    let filter = log_filter(args)?;
    log::start_writer().map_err(CommandError::Serve)?;
    // Before anything is opened that the shutdown has to close.
    let shutdown = ShutdownMonitor::start().map_err(CommandError::Serve)?;
    let _time = keep_time().map_err(CommandError::Serve)?;
    // Before the search for plug-ins, so that none arrives unnoticed in between.
    let (folders, arrivals) = plugin_arrivals::watch(options).map_err(CommandError::Serve)?;
    let port = if args.socket.is_some() { Port::Memfd } else { Port::Simulated };
    let host = Host::boot_on(options, port)?;
    let left_out = host.report_left_out();
    if host.cma.regions().is_empty() {
        return Err(CommandError::NoRegion);
    }
    // The log starts here: regions without memory are reported already. With its internal errors
    // enabled, tracing-subscriber would report a failed write by `eprintln!`, which panics when
    // standard error fails too.
    let log = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    log.with_writer(|| log::EventWriter).init();
    let outcome = left_out.max(host.register(FoundPlugins::present(options)));
    // Before the first request can come.
    let recording = ServerRecording::start(&host, args)?;
    let mut front_ends = FrontEnds::open(&host.cma, args, &shutdown)?;
    let (regions, allocators) = (host.cma.regions().len(), host.cma.allocators().len());
    let (regions, allocators) = (counted(regions, "region"), counted(allocators, "allocator"));
    let head = format!("{BOLD}{}{BOLD:#}: {regions}, {allocators}", host.board.title());
    // A supervisor that waits for standard output finds earlier warnings on standard error.
    log::flush();
    match report_ready(&head, &front_ends, &recording, &folders, out) {
        // The process that started the server may stop reading. The server runs on.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        reported => reported?,
    }
    plugin_arrivals::load_in_background(host.cma.clone(), arrivals).map_err(CommandError::Serve)?;
    while !shutdown.is_requested_within(CHECK_INTERVAL) {
        front_ends.report_lost();
        if !front_ends.are_open() {
            Notice::warning("no front end is left, so the server ends").report();
            break;
        }
    }
    front_ends.close().map_err(CommandError::Serve)?;
    // Closing has freed what clients had.
    Ok(outcome.max(recording.finish()))
}

/// Reports on standard output that the server is ready, and where.
fn report_ready(
    head: &str,
    front_ends: &FrontEnds,
    recording: &ServerRecording,
    folders: &[PathBuf],
    out: &mut Out,
) -> io::Result<()> {
    writeln!(out, "{head}")?;
    front_ends.print(out)?;
    recording.print(out)?;
    for folder in folders {
        writeln!(out, "watched for plug-ins: {}", plain(&folder.display().to_string()))?;
    }
    out.flush()
}

/// The filter of the log: --log, or else `RUST_LOG`, or else `info`.
fn log_filter(args: &ServeArgs) -> Result<EnvFilter, CommandError> {
    let variable = || env::var(EnvFilter::DEFAULT_ENV).ok().filter(|filter| !filter.is_empty());
    let filter = args.log.clone().or_else(variable).unwrap_or_else(|| "info".to_string());
    // EnvFilter takes a single word for a module: a misspelt level would disable everything else.
    let is_misspelt = |word: &&str| !word.contains('=') && word.parse::<LevelFilter>().is_err();
    if let Some(word) = filter.split(',').map(str::trim).find(is_misspelt) {
        return Err(CommandError::LogLevel { word: word.to_string() });
    }
    EnvFilter::try_new(filter).map_err(CommandError::Log)
}
