//! `cma serve`: a system that runs until it is told to end, and the doors through which others see and change it.

mod arriving;
mod device;

use crate::failure::{Failure, Outcome};
use crate::host::{Found, Host};
use crate::notice::Notice;
use crate::options::{Options, Serve};
use crate::show::{BOLD, Out, counted, plain};
use cma_framework::{Cma, keep_time};
use cma_memory::Port;
use cma_sysfs::Sysfs;
use device::Device;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;
use std::{env, fs, process, thread};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// How often the doors are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How long closing the doors may take. It takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn run(options: &Options, how: &Serve, out: &mut Out) -> Result<Outcome, Failure> {
    if options.json {
        return Err(Failure::NoFigures { command: "serve" });
    }
    if how.mount.is_none() && how.socket.is_none() {
        return Err(Failure::NoDoor);
    }
    let log = log_filter(how)?;
    // Before there is anything that has to be put in order at the end.
    let told = told_to_end().map_err(Failure::Serve)?;
    let _time = keep_time().map_err(Failure::Serve)?;
    // Before anything is looked for, so that nothing arrives unseen in between.
    let (folders, arrivals) = arriving::watch(options).map_err(Failure::Serve)?;
    let port = if how.socket.is_some() { Port::Memfd } else { Port::Simulated };
    let host = Host::boot_on(options, port)?;
    let left_out = host.report_left_out();
    if host.cma.regions().is_empty() {
        return Err(Failure::NoRegion);
    }
    // From here on: what kept a region from its memory is said already.
    tracing_subscriber::fmt().with_env_filter(log).with_writer(io::stderr).init();
    let outcome = left_out.max(host.register(Found::so_far(options)));
    let doors = Doors::open(&host.cma, how)?;
    let (regions, allocators) = (host.cma.regions().len(), host.cma.allocators().len());
    let (regions, allocators) = (counted(regions, "region"), counted(allocators, "allocator"));
    writeln!(out, "{BOLD}{}{BOLD:#}: {regions}, {allocators}", host.board.name)?;
    doors.tell(out)?;
    for folder in folders {
        writeln!(out, "plug-ins may arrive in {}", plain(&folder.display().to_string()))?;
    }
    out.flush()?;
    arriving::take_in(host.cma.clone(), arrivals).map_err(Failure::Serve)?;
    while told.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        if !doors.are_open() {
            Notice::warning("somebody else has closed the doors: it ends").report();
            break;
        }
    }
    end_anyway(told, how.clone()).map_err(Failure::Serve)?;
    doors.close().map_err(Failure::Serve)?;
    Ok(outcome)
}

/// Ends the process when it is told so once more, or when closing takes too long: a request that is stuck in its allocator would keep it for
/// ever.
fn end_anyway(told: Receiver<()>, how: Serve) -> io::Result<()> {
    let end = move || {
        let _ = told.recv_timeout(PATIENCE);
        Notice::warning("a request is stuck in its allocator: it ends without it").report();
        if let Some(folder) = &how.mount {
            let _ = cma_sysfs::detach(folder);
        }
        if let Some(socket) = &how.socket {
            let _ = fs::remove_file(socket);
        }
        process::exit(1);
    };
    thread::Builder::new().name("end".to_string()).spawn(end).map(|_| ())
}

/// The ways in from outside.
struct Doors {
    sysfs: Option<Sysfs>,
    device: Option<Device>,
}

impl Doors {
    fn open(cma: &Cma, how: &Serve) -> Result<Doors, Failure> {
        // First what can be wrong without anybody else's doing.
        let device = Device::open(cma, how)?;
        let mount = |folder| Sysfs::mount(cma.attributes(), folder);
        Ok(Doors { sysfs: how.mount.as_deref().map(mount).transpose()?, device })
    }

    /// Says where they are.
    fn tell(&self, out: &mut Out) -> io::Result<()> {
        if let Some(sysfs) = &self.sysfs {
            writeln!(out, "attributes: {}", plain(&sysfs.path().display().to_string()))?;
        }
        if let Some(device) = &self.device {
            writeln!(out, "chunks: {}", plain(&device.path().display().to_string()))?;
        }
        Ok(())
    }

    /// Whether there is one through which somebody can come.
    fn are_open(&self) -> bool {
        self.sysfs.as_ref().is_some_and(Sysfs::is_mounted)
            || self.device.as_ref().is_some_and(Device::is_open)
    }

    fn close(self) -> io::Result<()> {
        let device = self.device.map_or(Ok(()), Device::close);
        self.sysfs.map_or(Ok(()), Sysfs::unmount).and(device)
    }
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

/// Receives when somebody tells this process to end.
fn told_to_end() -> io::Result<Receiver<()>> {
    let (tell, told) = channel();
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::Builder::new().name("signals".to_string()).spawn(move || {
        // Nobody listens any more to a second one.
        signals.forever().try_for_each(|_| tell.send(()))
    })?;
    Ok(told)
}
