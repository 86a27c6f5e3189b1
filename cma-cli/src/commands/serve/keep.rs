//! What outlives a server: `cma serve --keep` becomes the keeper, and starts `cma serve` as the
//! server, with the same arguments otherwise. A service manager that stores descriptors is a keeper
//! too.

use crate::log;
use crate::notice::Notice;
use crate::outcome::{CommandError, Outcome};
use crate::service::Service;
use cma_device_server::{Discard, Lasting, RecordedRegion};
use cma_keeper::{
    HANDED_OVER, KeeperProcess, Name, Program, RESTARTS, Report, ServiceManager, Store, Supervised,
    Supervision,
};
use cma_memory::{Port, RestoredRegion};
use rustix::fd::OwnedFd;
use rustix::fs::{MemfdFlags, memfd_create};
use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The option that makes the difference between keeper and server.
const OPTION: &str = "--keep";

/// The value of `--discard` that stands for records; all others are names of regions.
const DAMAGED: &str = "damaged";

/// Holds what a server with these settings leaves, and starts it again, until a signal ends both.
pub(super) fn run(service: &Service) -> Result<Outcome, CommandError> {
    let Some(socket) = &service.socket else { return Err(CommandError::NothingToKeep) };
    log::start_writer().map_err(CommandError::Serve)?;
    let program = env::current_exe().and_then(Program::open).map_err(CommandError::Serve)?;
    // It has no value, and no option takes it for one.
    let arguments = env::args_os().skip(1).filter(|argument| argument != OPTION);
    let supervised = Supervision::new(program)
        .arguments(arguments.collect::<Vec<OsString>>())
        .control(Some(control_path(&socket.path)))
        .run(&mut Store::of_process(), report);
    Ok(match supervised.map_err(CommandError::Keeper)? {
        Supervised::Ended(status) | Supervised::NotStarted(Some(status)) => {
            Outcome::of_program(status)
        }
        Supervised::NotStarted(None) => Outcome::NotDone,
        Supervised::EndedWithoutServer => Outcome::Done,
    })
}

/// Where the keeper of the server with that socket is asked for upgrades.
pub(crate) fn control_path(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".keeper");
    path.into()
}

fn report(report: &Report) {
    let text = format!("keeper: {report}");
    match report {
        Report::Upgrading { .. } | Report::Upgraded { .. } => Notice::advice(&text).report(),
        Report::NotStarted { .. } | Report::Died { next: None, .. } | Report::Held { .. } => {
            Notice::error(&text).report();
        }
        _ => Notice::warning(&text).report(),
    }
}

/// What may be lost, by the values of `--discard`.
pub(super) fn discard(values: &[String]) -> Discard {
    let mut discard = Discard::default();
    for value in values {
        match value.as_str() {
            DAMAGED => discard.damaged = true,
            region => discard.regions.push(region.to_string()),
        }
    }
    discard
}

/// What is to be reported of regions that may be lost, and that no server before this one had.
pub(super) fn unknown(lasting: &Lasting, discard: &Discard) -> Result<Vec<Notice>, CommandError> {
    if discard.regions.is_empty() {
        return Ok(Vec::new());
    }
    let recorded = lasting.regions().map_err(CommandError::Serve)?;
    let titles: Vec<_> = recorded.iter().map(RecordedRegion::title).collect();
    let unknown = discard.regions.iter().filter(|name| !titles.contains(name));
    let help = match titles.is_empty() {
        true => "it had none".to_string(),
        false => format!("it had {}", titles.join(", ")),
    };
    let notice = |name: &String| {
        let message = format!("--discard {name}: the server before this one had no such region");
        Notice::warning(&message).with_help(Some(help.clone()))
    };
    Ok(unknown.map(notice).collect())
}

/// The regions whose pages another server left, unless they may be lost. All others are made
/// from the configuration alone.
pub(super) fn restored(
    lasting: &Lasting,
    discard: &Discard,
) -> Result<Vec<RestoredRegion>, CommandError> {
    let recorded = lasting.regions().map_err(CommandError::Serve)?.into_iter();
    let kept = recorded.filter(|region| {
        let is_discarded = |name: &String| discard.regions.contains(name);
        !region.files.is_empty() && !region.name.as_ref().is_some_and(is_discarded)
    });
    Ok(kept
        .filter_map(|region| {
            let port = Port::of_kind(region.memory.as_deref())?;
            let RecordedRegion { name, range, files, .. } = region;
            Some(RestoredRegion { name, range, port, files })
        })
        .collect())
}

/// What keeps what this process leaves, and starts the next one.
#[derive(Debug)]
pub(super) struct Kept {
    by: By,
    restarts: u64,
    left: Left,
}

/// What a server before this one has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// It is not known yet, or this server has added to it.
    Unknown,
    Nothing,
    /// This server has not changed it.
    Something,
}

impl Left {
    fn of(lasting: &Lasting) -> Self {
        if lasting.is_first_start() { Left::Nothing } else { Left::Something }
    }
}

#[derive(Debug)]
enum By {
    /// The process that has started this one.
    Keeper(KeeperProcess),
    /// The service manager that has.
    Manager {
        /// Until the server has taken what it has.
        store: Option<ServiceManager>,
    },
}

/// The name of the file in which the service manager's servers count their starts.
const STARTS: &str = "starts";

impl Kept {
    /// `None` if nothing keeps what it leaves. Called once, because it takes over what a service
    /// manager has passed.
    pub(super) fn of_this_process() -> Result<Option<Self>, CommandError> {
        if let Some(keeper) = KeeperProcess::from_stdin().map_err(CommandError::Kept)? {
            let count = env::var(RESTARTS).ok().and_then(|count| count.parse().ok());
            let (by, restarts) = (By::Keeper(keeper), count.unwrap_or(0));
            return Ok(Some(Kept { by, restarts, left: Left::Unknown }));
        }
        // SAFETY: `run` calls this once, and takes descriptors of the service manager in no other
        // way if this returns some.
        let store = unsafe { ServiceManager::from_environment() }.map_err(CommandError::Kept)?;
        Ok(store.map(|store| {
            let by = By::Manager { store: Some(store) };
            Kept { by, restarts: 0, left: Left::Unknown }
        }))
    }

    /// How often a server was started again.
    pub(super) fn restarts(&self) -> u64 {
        self.restarts
    }

    /// What a server before this one left, and the socket that the service manager has opened, if
    /// it has. Called once.
    pub(super) fn take(&mut self) -> Result<(Lasting, Option<OwnedFd>), CommandError> {
        let recover = |error| CommandError::Recover(Box::new(error));
        let ended = || CommandError::Kept(cma_keeper::KeeperError::Ended);
        match &mut self.by {
            By::Keeper(_) => {
                let keeper = KeeperProcess::from_stdin().map_err(CommandError::Kept)?;
                let lasting = Lasting::take(keeper.ok_or_else(ended)?).map_err(recover)?;
                self.left = Left::of(&lasting);
                Ok((lasting, None))
            }
            By::Manager { store } => {
                let store = store.take().ok_or_else(ended)?;
                let mut lasting = Lasting::take(store).map_err(recover)?;
                self.left = Left::of(&lasting);
                let others = lasting.take_others().into_iter();
                let (starts, sockets): (Vec<_>, Vec<_>) =
                    others.partition(|(name, _)| name.as_str() == STARTS);
                let starts = starts.into_iter().next().map(|(_, file)| File::from(file));
                self.restarts = restarts(&mut lasting, starts).map_err(CommandError::Serve)?;
                let count = sockets.len();
                let socket = sockets.into_iter().next().map(|(_, socket)| socket);
                if count > 1 { Err(CommandError::Sockets { count }) } else { Ok((lasting, socket)) }
            }
        }
    }

    /// The server serves. A keeper that has ended needn't know it.
    pub(super) fn ready(&mut self) {
        self.left = Left::Unknown;
        if let By::Keeper(keeper) = &self.by {
            let _ = keeper.ready();
        }
    }

    /// How a server ends that has failed. A keeper gets the reason, for who waits for an upgrade.
    /// A service manager that may have something is to start a server again.
    pub(super) fn failed(self, error: CommandError) -> Result<Outcome, CommandError> {
        if let By::Keeper(keeper) = &self.by {
            let _ = keeper.failed(&error.to_string());
        }
        let starts_again = matches!(self.by, By::Manager { .. }) && self.left != Left::Nothing;
        if !starts_again && self.left != Left::Something {
            return Err(error);
        }
        let outcome = error.report();
        if self.left == Left::Something {
            let held = "what the server before this one left is held for the next one";
            Notice::advice(held).report();
        }
        Ok(if starts_again { handed_over() } else { outcome })
    }
}

/// How often a server was started again, which the file has that the service manager keeps.
fn restarts(lasting: &mut Lasting, starts: Option<File>) -> io::Result<u64> {
    let Some(file) = starts else {
        let file = File::from(memfd_create(STARTS, MemfdFlags::CLOEXEC)?);
        file.write_all_at(&0u64.to_ne_bytes(), 0)?;
        let name = Name::new(STARTS).map_err(io::Error::other)?;
        lasting.put_other(&name, &file).map_err(io::Error::other)?;
        return Ok(0);
    };
    let mut count = [0; 8];
    file.read_exact_at(&mut count, 0)?;
    let count = u64::from_ne_bytes(count).saturating_add(1);
    file.write_all_at(&count.to_ne_bytes(), 0)?;
    Ok(count)
}

/// How a server ends that another one continues.
pub(super) fn handed_over() -> Outcome {
    Outcome::Program(HANDED_OVER)
}
