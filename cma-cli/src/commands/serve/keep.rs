//! What outlives a server: `cma serve --keep` becomes the keeper, and starts `cma serve` as the
//! server, with the same arguments otherwise.

use crate::log;
use crate::notice::Notice;
use crate::outcome::{CommandError, Outcome};
use crate::service::Service;
use cma_device_server::{Discard, Lasting, RecordedRegion};
use cma_keeper::{
    HANDED_OVER, KeeperProcess, Program, RESTARTS, Report, Store, Supervised, Supervision,
};
use cma_memory::{Port, RestoredRegion};
use std::env;
use std::ffi::OsString;
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

/// The keeper that has started this process.
#[derive(Debug)]
pub(super) struct Kept(KeeperProcess);

impl Kept {
    /// `None` if no keeper has.
    pub(super) fn of_this_process() -> Result<Option<Self>, CommandError> {
        Ok(KeeperProcess::from_stdin().map_err(CommandError::Kept)?.map(Kept))
    }

    /// How often a server of this keeper was started again.
    pub(super) fn restarts(&self) -> u64 {
        env::var(RESTARTS).ok().and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    /// What a server before this one left.
    pub(super) fn lasting(&self) -> Result<Lasting, CommandError> {
        let keeper = KeeperProcess::from_stdin().map_err(CommandError::Kept)?;
        let keeper = keeper.ok_or(CommandError::Kept(cma_keeper::KeeperError::Ended))?;
        Lasting::take(keeper).map_err(|error| CommandError::Recover(Box::new(error)))
    }

    /// The server serves. A keeper that has ended needn't know it.
    pub(super) fn ready(&self) {
        let _ = self.0.ready();
    }

    /// Why the server ends, for who waits for an upgrade.
    pub(super) fn failed(&self, error: &CommandError) {
        let _ = self.0.failed(&error.to_string());
    }
}

/// How a server ends that another one continues.
pub(super) fn handed_over() -> Outcome {
    Outcome::Program(HANDED_OVER)
}
