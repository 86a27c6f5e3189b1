//! How a command ends: what it was refused, what kept it from its work, and the exit status of
//! both.

use crate::notice::{Notice, Place};
use crate::show::plain;
use cma_device_server::BindError;
use cma_framework::config::{Bytes, ConfigError};
use cma_framework::errors::RegisterError;
use cma_framework::loader::SearchPath;
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
    #[error("{}", .1.kind)]
    Config(Place, ConfigError),
    #[error("{}", .1.kind)]
    Access(Place, cma_device_server::PolicyError),
    #[error(transparent)]
    Socket(#[from] BindError),
    #[error("{0}")]
    NotConnected(cma_client::Error),
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
    #[error("{option}: there is no region \"{name}\"")]
    NoSuchRegion { option: &'static str, name: String },
    #[error("no region got memory, so there is nothing to serve")]
    NoRegion,
    #[error("there is nowhere to serve at")]
    NoDoor,
    #[error(transparent)]
    Mount(#[from] cma_sysfs::MountError),
    #[error("--log: {0}")]
    Log(tracing_subscriber::filter::ParseError),
    #[error(
        "--log: \"{word}\" is no level: error, warn, info, debug, trace or off, or module=level"
    )]
    LogLevel { word: String },
    #[error("it can't be served: {0}")]
    Serve(io::Error),
    #[error("no server shows its attributes here")]
    NoServer,
    #[error("there are {} servers", .0.len())]
    Servers(Vec<PathBuf>),
    #[error("{}: no server shows its attributes there", .0.display())]
    NotServed(PathBuf),
    #[error("{}: the server that showed its attributes there is gone, and its mount is left", .0.display())]
    ServerGone(PathBuf),
    #[error("\"{}\" is a folder", plain(path))]
    AttributeFolder { path: String },
    #[error("{}: {reason}", plain(path))]
    Attribute { path: String, reason: String },
    #[error("`cma {command}` does not use {option}")]
    Unused { option: String, command: &'static str },
}

impl Failure {
    /// Says on standard error what happened, and how the program ends. Somebody who reads no
    /// further (`cma demo | head`) needs no explanation.
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
            Failure::NoDoor => Some(
                "name a folder for the attributes with --mount, a socket for chunks with --socket, or both"
                    .to_string(),
            ),
            Failure::Socket(BindError::System { path, source })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                let folder = path.parent().unwrap_or(path).display().to_string();
                Some(format!(
                    "make the folder, as with mkdir -p '{folder}', or name another path with --socket"
                ))
            }
            Failure::Socket(_) => Some("name another path with --socket".to_string()),
            Failure::NoSuchRegion { .. } => Some("`cma regions` lists them".to_string()),
            Failure::NoRegion => Some("--memory and --cma say what each region needs".to_string()),
            Failure::NotConnected(_) => Some("start one with `cma serve --socket PATH`".to_string()),
            Failure::NoServer => Some(
                "start one with `cma serve --mount DIR`, or name its folder with --mount or CMA_MOUNT"
                    .to_string(),
            ),
            Failure::Servers(folders) => {
                let folders: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
                Some(format!("name one with --mount or CMA_MOUNT: {}", folders.join(", ")))
            }
            Failure::NotServed(_) => Some("name the folder that `cma serve --mount` was given".to_string()),
            Failure::ServerGone(_) => Some("start it again; it removes the mount".to_string()),
            Failure::AttributeFolder { path } => Some(format!("`cma tree {path}` shows what is in it")),
            Failure::Unused { command: "shell --connect", .. } => {
                Some("leave it out: the server has regions, map and plug-ins of its own".to_string())
            }
            Failure::Unused { option, .. } if option == "--json" => {
                Some("leave it out: plugins, regions, check and replay have it".to_string())
            }
            Failure::Unused { command, .. } => {
                Some(format!("leave it out; `cma {command} --help` has its options"))
            }
            _ => None,
        }
    }
}

/// What to do when no plug-in is found.
pub(crate) fn name_a_folder(searched: &SearchPath) -> String {
    let folders: Vec<_> =
        searched.folders().map(|(folder, _)| folder.display().to_string()).collect();
    format!("name a folder that holds some with --plugin-dir; searched: {}", folders.join(", "))
}

impl From<&Failure> for Notice {
    fn from(failure: &Failure) -> Self {
        let notice = Notice::error(&failure.to_string()).with_help(failure.help());
        match failure {
            Failure::Config(place, error) => notice.at(place, &error.text, &error.span),
            Failure::Access(place, error) => notice.at(place, &error.text, &error.span),
            _ => notice,
        }
    }
}
