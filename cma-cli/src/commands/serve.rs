//! `cma serve`: a system that runs until a signal ends it, and its front ends: the mounted
//! attributes and the socket for chunks.

mod front_ends;
mod keep;
mod manager;
mod plugin_arrivals;
mod recording;
mod reload;
mod shutdown;
mod socket;

use crate::described::Description;
use crate::found_plugins::FoundPlugins;
use crate::host::Host;
use crate::log;
use crate::notice::Notice;
use crate::options::{Options, ServeArgs};
use crate::outcome::{CommandError, Outcome};
use crate::service::{Service, log_levels};
use crate::show::{BOLD, Out, counted, plain};
use cma_framework::keep_time;
use cma_memory::Port;
use front_ends::FrontEnds;
use keep::Kept;
pub(crate) use keep::control_path;
use manager::{ServiceManager, inherited_socket};
use recording::ServerRecording;
use reload::Configuration;
use shutdown::{Request, ShutdownMonitor};
use std::env;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// The interval at which the server checks that its mount and its socket still exist.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

pub(crate) fn run(
    options: &Options,
    args: &ServeArgs,
    out: &mut Out,
) -> Result<Outcome, CommandError> {
    if args.keep {
        return keep::run(&configuration(options, args)?.1);
    }
    let mut kept = Kept::of_this_process()?;
    match (serve_kept(options, args, out, &mut kept), kept) {
        (Err(error), Some(kept)) => kept.failed(error),
        (ended, _) => ended,
    }
}

/// What is served, and how.
fn configuration(
    options: &Options,
    args: &ServeArgs,
) -> Result<(Description, Service), CommandError> {
    Ok(match &options.config {
        Some(file) => {
            let (description, service) = Description::configured(file)?;
            (description, service.with_options(args))
        }
        None => (Description::of(options)?, Service::of_options(args)?),
    })
}

fn serve_kept(
    options: &Options,
    args: &ServeArgs,
    out: &mut Out,
    kept: &mut Option<Kept>,
) -> Result<Outcome, CommandError> {
    let (lasting, inherited) = match kept {
        Some(kept) => {
            let (lasting, socket) = kept.take()?;
            (Some((lasting, keep::discard(&args.discard))), socket)
        }
        None => (None, inherited_socket()?),
    };
    let (description, service) = configuration(options, args)?;
    if service.mount.is_none() && service.socket.is_none() && inherited.is_none() {
        return Err(CommandError::NoFrontEnd);
    }
    let plugin_dir = [&options.plugin_dir[..], &service.plugin_dirs].concat();
    let options = &Options { plugin_dir, ..options.clone() };
    let configuration = options
        .config
        .clone()
        .map(|file| Configuration::new(file, args, &description.read.board, &service));
    let filter = log_filter(&service)?;
    log::start_writer().map_err(CommandError::Serve)?;
    // Before anything is opened that the shutdown has to close.
    let shutdown = ShutdownMonitor::start(kept.is_some()).map_err(CommandError::Serve)?;
    if lasting.is_none() && !args.discard.is_empty() {
        return Err(CommandError::NothingToDiscard);
    }
    let _time = keep_time().map_err(CommandError::Serve)?;
    // Before the search for plug-ins, so that none arrives unnoticed in between.
    let (folders, arrivals) = plugin_arrivals::watch(options).map_err(CommandError::Serve)?;
    let serves_chunks = service.socket.is_some() || inherited.is_some();
    let port = if serves_chunks { Port::Memfd } else { Port::Simulated };
    let restored =
        lasting.as_ref().map(|(lasting, discard)| keep::restored(lasting, discard)).transpose()?;
    let unused = lasting.as_ref().map(|(lasting, discard)| keep::unknown(lasting, discard));
    unused.transpose()?.into_iter().flatten().for_each(|notice| notice.report());
    let host = Host::boot_described(description, options, port, restored.unwrap_or_default())?;
    let left_out = host.report_left_out();
    if host.cma.regions().is_empty() {
        return Err(CommandError::NoRegion);
    }
    // The log starts here: regions without memory are reported already. With its internal errors
    // enabled, tracing-subscriber would report a failed write by `eprintln!`, which panics when
    // standard error fails too.
    let log = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    let log = log.with_writer(log::EventWriters);
    // journald has the time and the priority of each line.
    match log::is_journal() {
        true => log.with_ansi(false).with_level(false).without_time().init(),
        false => log.init(),
    }
    let outcome = left_out.max(host.register(FoundPlugins::present(options)));
    // Before the first request can come.
    let recording = ServerRecording::start(&host, &service)?;
    let restarts = kept.as_ref().map_or(0, Kept::restarts);
    let mut front_ends =
        FrontEnds::open(&host.cma, &service, inherited, lasting, restarts, &shutdown)?;
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
    let mut manager = ServiceManager::new();
    let status = format!("{regions}, {allocators}");
    manager.ready(&status);
    if let Some(kept) = kept {
        kept.ready();
    }
    let end = serve(&host, configuration, &mut front_ends, &mut manager, &shutdown, &status);
    manager.stopping();
    front_ends.close(end).map_err(CommandError::Serve)?;
    // Closing has freed what clients had.
    let recorded = recording.finish();
    Ok(match end {
        End::ForGood => outcome.max(recorded),
        End::HandOver => keep::handed_over(),
    })
}

/// How a server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    ForGood,
    /// The next one continues it.
    HandOver,
}

/// Serves until the shutdown is requested, or no front end is left.
fn serve(
    host: &Host,
    mut configuration: Option<Configuration>,
    front_ends: &mut FrontEnds,
    manager: &mut ServiceManager,
    shutdown: &ShutdownMonitor,
    status: &str,
) -> End {
    let interval = manager.interval().map_or(CHECK_INTERVAL, |longest| longest.min(CHECK_INTERVAL));
    loop {
        match (shutdown.request_within(interval), &mut configuration) {
            (Some(Request::Shutdown), _) => return End::ForGood,
            (Some(Request::HandOver), _) => return End::HandOver,
            (Some(Request::Reload), Some(configuration)) => {
                manager.reloading();
                configuration.reload(&host.cma, front_ends.socket());
                manager.ready(status);
            }
            (Some(Request::Reload), None) => {
                tracing::info!("SIGHUP ignored: there is no configuration file to read again");
            }
            (None, _) => {}
        }
        front_ends.report_lost();
        if !front_ends.are_open() {
            Notice::warning("no front end is left, so the server ends").report();
            return End::ForGood;
        }
        manager.works();
    }
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
fn log_filter(service: &Service) -> Result<EnvFilter, CommandError> {
    let variable = || env::var(EnvFilter::DEFAULT_ENV).ok().filter(|filter| !filter.is_empty());
    let filter = service.log.clone().or_else(variable).unwrap_or_else(|| "info".to_string());
    log_levels(&filter)?;
    EnvFilter::try_new(filter).map_err(CommandError::Log)
}
