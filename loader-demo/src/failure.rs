//! How a command ends: what it was refused, what kept it from its work, and the exit status of both.

use crate::notice::{Notice, Place};
use cma_framework::config::{Bytes, ConfigError};
use cma_framework::loader::SearchPath;
use cma_framework::register::RegisterError;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

/// How a command went, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// All of it was done.
    Done,
    /// It was done, and something was refused or found.
    Refused,
    /// It could not be done.
    NotDone,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => ExitCode::SUCCESS,
            Outcome::Refused => ExitCode::from(1),
            Outcome::NotDone => ExitCode::from(2),
        }
    }
}

impl Outcome {
    /// [`Outcome::Refused`] if `any`.
    pub(crate) fn refused_if(any: bool) -> Self {
        if any { Outcome::Refused } else { Outcome::Done }
    }
}

/// What keeps a command from its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("standard output can't be written: {0}")]
    Output(#[from] io::Error),
    #[error("standard input can't be read: {0}")]
    Input(io::Error),
    #[error("{}", .1.mistake)]
    Config(Place, ConfigError),
    #[error("the defaults of {board} can't be used: {reason}")]
    Board { board: &'static str, reason: String },
    #[error("no allocator plug-in could be loaded")]
    NoPlugin { searched: SearchPath },
    #[error("there is no allocator \"{wanted}\"")]
    UnknownAllocator { wanted: String, known: Vec<String> },
    #[error("{}: {source}", path.display())]
    NoTrace { path: PathBuf, source: io::Error },
    #[error("{}: it is a folder, not a trace", path.display())]
    TraceFolder { path: PathBuf },
    #[error("{}: {reason}", path.display())]
    Trace { path: PathBuf, reason: cma_trace::ReadError },
    #[error("no replay in a region of {}: {reason}", Bytes(*region_bytes))]
    Replay { region_bytes: u64, reason: RegisterError },
    #[error("`cma {command}` prints no figures, so it has no --json")]
    NoFigures { command: &'static str },
}

impl Failure {
    /// Says on standard error what happened, and how the program ends. Somebody who reads no further (`cma demo | head`)
    /// needs no explanation.
    pub(crate) fn report(self) -> Outcome {
        if matches!(&self, Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe) {
            return Outcome::Done;
        }
        Notice::from(&self).report();
        Outcome::NotDone
    }

    fn help(&self) -> Option<String> {
        match self {
            Failure::NoPlugin { searched } => Some(name_a_folder(searched)),
            Failure::UnknownAllocator { known, .. } => Some(format!("loaded are: {}", known.join(", "))),
            Failure::TraceFolder { path } => {
                Some(format!("name the traces in it, as {}", path.join("*.trace.gz").display()))
            }
            Failure::NoFigures { .. } => Some("plugins, regions, check and replay have it".to_string()),
            _ => None,
        }
    }
}

/// What to do when no plug-in is found.
pub(crate) fn name_a_folder(searched: &SearchPath) -> String {
    let folders: Vec<_> = searched.folders().map(|(folder, _)| folder.display().to_string()).collect();
    format!("name a folder that holds some with --plugin-dir; searched: {}", folders.join(", "))
}

impl From<&Failure> for Notice {
    fn from(failure: &Failure) -> Self {
        let notice = Notice::error(&failure.to_string()).with_help(failure.help());
        match failure {
            Failure::Config(place, error) => notice.at(place, &error.text, &error.span),
            _ => notice,
        }
    }
}
